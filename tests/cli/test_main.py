"""The command line as a whole: help, usage, exit codes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from authlua import __version__
from authlua.cli import COMMANDS, command_parser, main, module
from authlua.errors import AuthluaError, ConfigError, ScriptError, Unreachable

ROOT = Path(__file__).parent.parent.parent
MANUAL = ROOT / "docs" / "reference" / "authlua.8.md"


def left(*argv: str) -> int:
    """The exit code of ``authlua argv…``."""
    try:
        return main(argv)
    except SystemExit as exit:
        return int(exit.code or 0)


def test_help_names_every_command_with_its_line(capsys):
    """The one page that leads to all others."""
    assert left("--help") == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert re.search(rf"^  {command} +{re.escape(module(command).HELP)}$", text, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_takes_a_configuration(command, capsys):
    """``-c`` means the same everywhere."""
    assert left(command, "--help") == 0
    assert "-c FILE, --config FILE" in capsys.readouterr().out


def test_help_loads_nothing_heavy():
    """Start-up time is part of the interface: a help text needs no event loop, no Lua and no configuration."""
    heavy = ["trio", "structlog", "lupa", "tomllib", "bcrypt", "authlua.config", "authlua.server"]
    code = f"""
import sys
from authlua.cli import main
try: main(["--help"])
except SystemExit: pass
sys.exit(" ".join(name for name in {heavy} if name in sys.modules) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_version_is_told(capsys):
    """As the package says."""
    assert left("--version") == 0
    assert capsys.readouterr().out == f"authlua {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["tst-auth"], "authlua: no command 'tst-auth', did you mean test-auth?; see authlua --help\n"),
        ([], "authlua: the following arguments are required: command; see authlua --help\n"),
        (
            ["test-lookup", "u", "--rip", "999.1.1.1"],
            "authlua test-lookup: argument --rip: expected an IP address, not '999.1.1.1'; "
            "see authlua test-lookup --help\n",
        ),
        (
            ["test-auth", "u", "-x", "=v"],
            "authlua test-auth: argument -x: expected KEY=VALUE or a flag, not '=v'; see authlua test-auth --help\n",
        ),
        (["status", "--jsn"], "authlua status: unrecognized arguments: --jsn; see authlua status --help\n"),
        (
            ["test-lookup", "u", "-c", "x", "--socket", "y"],
            "authlua test-lookup: argument --socket: not allowed with argument -c/--config; "
            "see authlua test-lookup --help\n",
        ),
    ],
)
def test_wrong_usage_is_told_in_one_line(argv, line, capsys):
    """What is wrong and where to read on, exit 64."""
    assert left(*argv) == 64
    assert capsys.readouterr().err == line


BOTH = ["authlua status: ValueError: a", "authlua status: b"]


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (ConfigError(["a: b", "c: d"]), 78, ["authlua status: a: b", "authlua status: c: d"]),
        (ScriptError("x.lua:1: bad"), 65, ["authlua status: x.lua:1: bad"]),
        (Unreachable("gone"), 69, ["authlua status: gone"]),
        (AuthluaError("other"), 70, ["authlua status: other"]),
        (ZeroDivisionError("oops"), 70, ["authlua status: ZeroDivisionError: oops"]),
        (ExceptionGroup("all", [ValueError("a"), ExceptionGroup("two", [AuthluaError("b")])]), 70, BOTH),
    ],
)
def test_each_error_has_its_code_and_no_traceback(error, code, lines, monkeypatch, capsys):
    """The owner of the error is told, nobody else's business is shown."""

    def run(args):
        raise error

    monkeypatch.setattr(module("status"), "run", run)
    assert left("status") == code
    assert capsys.readouterr().err.splitlines() == lines
    assert left("status", "--debug") == code
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error():
    """``authlua config | head -1`` ends quietly."""
    command = f"{sys.executable} -m authlua config --script conf/example.lua | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_closed_standard_streams_go_to_nobody(tmp_path):
    """What is opened next must not get their numbers, and with them the log's lines."""
    code = f"""
import os
from authlua.cli import main
code = main(["config", "--script", "conf/example.lua"])
os.write(1, b"lost")
with open({str(tmp_path / "seen")!r}, "w") as seen:
    print(code, *(os.readlink(f"/proc/self/fd/{{fd}}") for fd in range(3)), seen.fileno() > 2, file=seen)
"""
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    subprocess.run(command, cwd=ROOT, check=True)
    assert (tmp_path / "seen").read_text() == "0 /dev/null /dev/null /dev/null True\n"


def test_a_wrong_configuration_binds_nothing(tmp_path, capsys):
    """All problems, one a line, exit 78."""
    config = tmp_path / "authlua.toml"
    config.write_text("[server]\nbase_dir = 'run'\n[auth]\nverbos = true\nfailure_delay = 'soon'\n")
    assert left("serve", "-c", str(config)) == 78
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert all(line.startswith(f"authlua serve: {config}: ") for line in lines)
    assert not (tmp_path / "run").exists()


def test_a_script_that_does_not_load_binds_nothing(tmp_path):
    """The server does not start, and whoever starts it is told why: exit 65."""
    (tmp_path / "auth.lua").write_text("\nerror('no database')\n")
    config = tmp_path / "authlua.toml"
    section = "script = 'auth.lua'\n"
    config.write_text(f"[server]\nbase_dir = 'run'\n[[passdb]]\n{section}[[userdb]]\n{section}")
    command = [sys.executable, "-m", "authlua", "serve", "-c", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 65
    start = f"authlua serve: passdb-lua: initialization failed: lua_pcall({tmp_path}/auth.lua) failed: "
    line = done.stderr.splitlines()[0]
    assert line.startswith(start)
    assert line.endswith("auth.lua:2: no database")
    assert not any(path.is_socket() for path in tmp_path.glob("run/*"))


def test_the_configuration_may_be_named_by_the_environment(tmp_path, monkeypatch, capsys):
    """``-c``, then ``$AUTHLUA_CONFIG``."""
    monkeypatch.setenv("AUTHLUA_CONFIG", str(tmp_path / "nosuch.toml"))
    assert left("config") == 78
    assert "nosuch.toml: No such file" in capsys.readouterr().err


def test_a_directory_for_sockets_goes_with_a_script(capsys):
    """Where a configuration says it, an option that nobody heeds would mislead."""
    assert left("serve", "--base-dir", "elsewhere") == 64
    assert "server.base_dir" in capsys.readouterr().err


def test_sockets_are_in_the_first_runtime_directory(monkeypatch, capsys):
    """Systemd may have made several."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/one:/run/two")
    assert left("config", "--script", str(ROOT / "conf" / "example.lua")) == 0
    assert 'base_dir = "/run/one"' in capsys.readouterr().out


def test_config_prints_what_is_in_effect(tmp_path, capsys):
    """What is printed is a configuration."""
    (tmp_path / "auth.lua").touch()
    assert left("config", "--script", str(tmp_path / "auth.lua")) == 0
    printed = tmp_path / "printed.toml"
    printed.write_text(capsys.readouterr().out)
    assert left("config", "-c", str(printed)) == 0
    assert capsys.readouterr().out == printed.read_text()


def test_the_manual_names_every_command_and_every_option():
    """A command that is not in authlua(8) does not exist for an admin at 3 a.m."""
    sections = dict(re.findall(r"^### authlua ([\w-]+)\n(.*?)(?=^##)", MANUAL.read_text(), re.MULTILINE | re.DOTALL))
    assert set(sections) == set(COMMANDS)
    for command, text in sections.items():
        everywhere = {"-h", "--help", "-c", "--config", "--debug"}
        options = {option for action in command_parser(command)._actions for option in action.option_strings}
        assert set(re.findall(r"`(-{1,2}[\w-]+)", text)) == options - everywhere, command


def test_the_manual_names_every_exit_code():
    """What scripts around the command depend on."""
    text = MANUAL.read_text()
    codes = (ROOT / "authlua" / "cli" / "__init__.py").read_text()
    for code in ["0", "1", *re.findall(r"^EX_\w+ = (\d+)$", codes, re.MULTILINE)]:
        assert re.search(rf"^\| {code} \|", text, re.MULTILINE), code


def test_json_is_utf_8_whatever_the_bytes(capsysbinary):
    """Bytes that are not UTF-8 are shown, not sent on."""
    from authlua.cli.output import json_fields, say_json

    say_json(json_fields([("a", "é\udcff"), ("flag", None)]))
    assert json.loads(capsysbinary.readouterr().out) == {"a": "é\\xff", "flag": ""}
