"""reload, cache-flush and status: speaking to the running server over its control socket."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
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
    with serving(path):
        yield path


@contextmanager
def serving(path):
    """A server with that configuration, until the block is left."""
    process = subprocess.Popen(
        [sys.executable, "-m", "authlua", "serve", "-c", str(path)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if " ready" in line:
            break
    try:
        yield
    finally:
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
    assert ask(config, "reload") == 65
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


WHO = """
function auth_passdb_lookup(req)
  local status = io.open("/proc/self/status"):read("a")
  local _, _, code = os.execute("exit 3")
  return dovecot.auth.PASSDB_RESULT_OK, {
    password = "{PLAIN}pass", uids = status:match("Uid:%s*([^\\n]*)"), gids = status:match("Gid:%s*([^\\n]*)"),
    groups = status:match("Groups:%s*([^\\n]*)"), ended = tostring(code),
  }
end
"""


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become others: run the tests as root")
@pytest.mark.parametrize("use_worker", ["true", "false"])
def test_scripts_have_no_more_rights_than_the_server_keeps(capsys, use_worker):
    """``server.user``: nobody runs a script as root, not even a worker, which is forked from a process that is root."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    (place / "who.lua").write_text(WHO)
    user = pwd.getpwnam("nobody")
    config = place / "authlua.toml"
    database = f'script = "who.lua"\nuse_worker = {use_worker}\n'
    config.write_text(f'[server]\nbase_dir = "run"\nuser = "nobody"\n[[passdb]]\n{database}[[userdb]]\n{database}')
    with serving(config):
        socket = place / "run" / "auth-client"
        assert main(["test-auth", "t", "pass", "--json", "--socket", str(socket)]) == 0
    shutil.rmtree(place)
    fields = json.loads(capsys.readouterr().out)["fields"]
    assert fields["uids"].split() == [str(user.pw_uid)] * 4
    assert fields["gids"].split() == [str(user.pw_gid)] * 4
    assert fields["groups"].split() == [str(user.pw_gid)]
    assert fields["ended"] == "3"
