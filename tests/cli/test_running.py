"""reload, cache-flush and status: speaking to the running server over its control socket."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from authlua.cli import main
from authlua.conformance.raw import PATIENCE, RawConnection

SCRIPT = Path(__file__).parent.parent / "reference" / "auth.lua"


@pytest.fixture
def config(tmp_path):
    """The configuration of a server that runs."""
    shutil.copy(SCRIPT, tmp_path / "auth.lua")
    path = tmp_path / "authlua.toml"
    path.write_text('[server]\nbase_dir = "run"\n[[passdb]]\nscript = "auth.lua"\n[[userdb]]\nscript = "auth.lua"\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "authlua", "serve", "-c", str(path)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if " ready" in line:
            break
    yield path
    process.terminate()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def ask(config: Path, *argv: str) -> int:
    return main([*argv, "-c", str(config)])


def test_status_tells_how_the_server_is(config, capsys):
    """For people in columns, for programs as JSON."""
    assert ask(config, "status") == 0
    assert "  pid " in capsys.readouterr().out
    assert ask(config, "status", "--json") == 0
    assert isinstance(json.loads(capsys.readouterr().out)["pid"], int)


def test_a_reload_brings_the_changed_script(config, capsys):
    """Who asks after it hears the new one."""
    script = config.parent / "auth.lua"
    script.write_text(script.read_text().replace("/srv/mail/ok", "/srv/new/ok"))
    assert ask(config, "reload") == 0
    with RawConnection.connect(config.parent / "run" / "auth-master") as master:
        master.handshake(minor=1)
        [line] = master.ask("USER\t1\tok@x\tservice=imap")
    assert b"home=/srv/new/ok" in line


def test_a_reload_that_fails_says_why_and_changes_nothing(config, capsys):
    """The old script serves on."""
    (config.parent / "auth.lua").write_text("function auth_passdb_lookup(\n")
    assert ask(config, "reload") != 0
    assert "auth.lua" in capsys.readouterr().err
    client = config.parent / "run" / "auth-client"
    assert main(["test-auth", "ok@x", "pass", "--socket", str(client)]) == 0


def test_a_flush_tells_how_many_entries_went(config, capsys):
    """There is no cache yet, so none did."""
    assert ask(config, "cache-flush") == 0
    assert ask(config, "cache-flush", "ok@x") == 0
    assert capsys.readouterr().out == "0 entries flushed\n" * 2


def test_a_server_that_is_not_there_is_69(tmp_path, capsys):
    """And the path says which server was asked."""
    (tmp_path / "auth.lua").touch()
    config = tmp_path / "authlua.toml"
    config.write_text('[server]\nbase_dir = "run"\n[[passdb]]\nscript = "auth.lua"\n[[userdb]]\nscript = "auth.lua"\n')
    for command in ("reload", "status", "cache-flush"):
        assert ask(config, command) == 69
        assert f"{tmp_path}/run/control" in capsys.readouterr().err


def test_without_a_control_listener_nobody_can_be_asked(tmp_path, capsys):
    """The configuration is what has to change."""
    (tmp_path / "auth.lua").touch()
    config = tmp_path / "authlua.toml"
    config.write_text('[[passdb]]\nscript = "auth.lua"\n[[listener]]\nkind = "client"\npath = "c"\n')
    assert ask(config, "status") == 78
    assert "control" in capsys.readouterr().err
