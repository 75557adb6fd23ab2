"""``authlua conformance``, as an administrator runs it."""

from pathlib import Path

import pytest

from authlua.cli import main
from authlua.conformance.profiles import PROFILES
from authlua.conformance.servers import Authlua
from tests.conformance.test_models import model


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["2.3", "2.4"])
def test_authlua_conforms(dialect: str, capsys: pytest.CaptureFixture[str]):
    """Our own server passes, in both dialects."""
    with Authlua(PROFILES["plain"], dialect, delays=True) as server:
        options = [text for kind in ("login", "master", "userdb") for text in (f"--{kind}", str(server.sockets[kind]))]
        code = main(["conformance", "--socket", str(server.sockets["client"]), *options, "--sessions", "40"])
    report = capsys.readouterr().out
    assert (code, report.splitlines()[-1]) == (0, "CONFORMING"), report


@pytest.mark.slow
def test_a_broken_rule_is_told_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """The report names the rule and what came instead; the exit code is 1."""
    monkeypatch.setattr("authlua.conformance.raw.PATIENCE", 2.0)
    with model("temp", tmp_path) as path:
        code = main(["conformance", "--socket", str(path), "--seconds", "0"])
    report = capsys.readouterr().out
    assert code == 1
    assert "FAIL 85-temporary-failure: A temporary failure says code=temp_fail, not temp." in report


def test_nobody_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A socket that is not there is 69, as for every command."""
    assert main(["conformance", "--socket", str(tmp_path / "none")]) == 69
    assert "no such socket" in capsys.readouterr().err


def test_the_script_can_be_had(capsys: pytest.CaptureFixture[str]):
    """Who tests a server can give it the script."""
    assert main(["conformance", "--print-script"]) == 0
    assert "function auth_passdb_lookup(request)" in capsys.readouterr().out
