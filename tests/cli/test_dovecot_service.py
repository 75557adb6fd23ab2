"""dovecot-service: a real Dovecot starts authlua in the place of its own auth process, and reads its log."""

import sys
from pathlib import Path

import pytest

from tests.reference.dovecot import Dovecot23, why_not

SCRIPT = Path(__file__).parent.parent / "reference" / "auth.lua"


@pytest.mark.dovecot
def test_dovecot_understands_the_log(tmp_path):
    """Each line comes with its level and as one line, whatever a user calls themselves."""
    if reason := why_not("2.3"):
        pytest.skip(reason)
    config = tmp_path / "authlua.toml"
    config.write_text(
        f"[auth]\nusername_chars = ''\nfailure_delay = 0\n"
        f"[[passdb]]\nscript = '{SCRIPT}'\n[[userdb]]\nscript = '{SCRIPT}'\n"
    )
    command = tmp_path / "auth"
    command.write_text(f"#!/bin/sh\nexec {sys.executable} -m authlua dovecot-service -c {config}\n")
    command.chmod(0o755)
    tmp_path.parent.chmod(0o755)
    with Dovecot23(SCRIPT, extra=f"service auth {{\n  executable = {command}\n}}\n") as dovecot:
        assert dovecot.run("doveadm", "auth", "test", "int@x\nauth: Info: forged", "pass").returncode != 0
        log = dovecot.wait_for_log("auth_request_finished")
    assert "auth: Info: ready pid=" in log
    assert "auth: Error: lua(int@x\\nauth: info: forged): db-lua: the database is down" in log
    assert [line for line in log.splitlines() if "forged" in line and "int@x" not in line] == []
