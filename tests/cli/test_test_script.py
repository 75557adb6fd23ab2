"""test-script: unit tests of auth scripts, and repl: the prompt beside it."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from authlua.cli import main

ROOT = Path(__file__).parents[2]

SCRIPT = """
local users = { alice = "pass" }
function database(name) return users[name] end
function script_init() initialised = true return 0 end
function auth_passdb_lookup(req)
  local stored = database(req.user)
  if not stored then return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, "no such user" end
  return dovecot.auth.PASSDB_RESULT_OK, { password = "{PLAIN}" .. stored, allow_nets = "10.0.0.0/8", n = 1 }
end
function auth_password_verify(req, password)
  req:log_info("asked for " .. req.user)
  return req:password_verify("{PLAIN}" .. (database(req.user) or ""), password) == 1
    and dovecot.auth.PASSDB_RESULT_OK or dovecot.auth.PASSDB_RESULT_PASSWORD_MISMATCH, {}
end
function auth_userdb_lookup(req)
  if req.user == "broken" then return 7, {} end
  return dovecot.auth.USERDB_RESULT_OK, { home = "/h/" .. req.user, from = req.rip, before = req.passdb.x }
end
function auth_userdb_iterate() return pairs { alice = 1 } end
"""


@pytest.fixture
def tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs tests of that script; exit code and output."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "auth.lua").write_text(SCRIPT)

    def run(tests: str, *options: str) -> tuple[int, str]:
        file = tmp_path / "auth_test.lua"
        file.write_text(tests)
        code = main(["test-script", file.name, *options])
        return code, capsys.readouterr().out

    return run


GOOD = """
script "auth.lua"
function test_results_are_judged()
  local result, fields, text = passdb_lookup { user = "alice" }
  equal("OK", result)
  equal({ password = "{PLAIN}pass", allow_nets = "10.0.0.0/8", n = "1" }, fields)
  equal(nil, text)
  equal({ "USER_UNKNOWN", {}, "no such user" }, { passdb_lookup { user = "mallory" } })
  equal("OK", (password_verify({ user = "alice" }, "pass")))
  equal("PASSWORD_MISMATCH", (password_verify({ user = "alice" }, "wrong")))
end
function test_a_request_has_what_it_was_given()
  local req = request { user = "bob", rip = "192.0.2.7", service = "imap", passdb = { x = "y" }, secured = true,
    session = "S", skip_password_check = true, password = "p" }
  equal("bob", req.user)
  equal("192.0.2.7", req.remote_ip)
  equal({ "imap", "secured", "S", "p" }, { req.service, req.secured, req.session, req.password })
  equal(true, req.skip_password_check)
  local result, fields = userdb_lookup(req)
  equal({ home = "/h/bob", from = "192.0.2.7", before = "y" }, fields)
end
function test_errors_are_errors()
  fails(function() userdb_lookup { user = "broken" } end, "expected one of the constants of dovecot.auth, got 7")
  fails(function() request { nonsense = 1 } end, "no member 'nonsense' can be set")
  fails(function() request "x" end, "expected a table")
  database = function() error("no connection", 0) end
  equal("no connection", fails(function() passdb_lookup { user = "alice" } end))
end
function test_each_has_a_state_of_its_own()
  assert(initialised)
  equal("OK", (passdb_lookup { user = "alice" }))
  equal({ "alice" }, userdb_iterate())
end
"""


def test_tests_that_pass(tested):
    """In the order of the file; exit status 0."""
    names = re.findall(r"function (test_\w+)", GOOD)
    assert tested(GOOD) == (
        0, "".join(["auth_test.lua\n", *(f"  ok    {name}\n" for name in names), "4 passed, 0 failed\n"])
    )  # fmt: skip
    assert tested(GOOD, "-k", "errors")[1].endswith("\n  ok    test_errors_are_errors\n1 passed, 0 failed\n")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('equal("OK", (passdb_lookup { user = "mallory" }))', 'auth_test.lua:3: expected "OK", got "USER_UNKNOWN"'),
        ("equal({ a = { 1 } }, { a = { 2 } })", "auth_test.lua:3: expected { a = { 1 } }, got { a = { 2 } }"),
        ("fails(function() end)", "auth_test.lua:3: expected an error, and there was none"),
        ("fails(error, 'x')", 'auth_test.lua:3: expected an error with "x", got nil'),
        ("assert(false, 'why')", "auth_test.lua:3: why"),
        ("passdb_lookup = nil passdb_lookup()", "auth_test.lua:3: attempt to call"),
    ],
)
def test_a_test_that_fails_says_where(tested, body: str, problem: str):
    """With the traceback, and what was logged; exit status 1, and the others run."""
    code, output = tested(f'script "auth.lua"\nfunction test_bad()\n{body} end\nfunction test_good() end\n')
    assert code == 1
    assert output.startswith(f"auth_test.lua\n  FAIL  test_bad\n        {problem}")
    assert "stack traceback:" in output
    assert output.endswith("  ok    test_good\n1 passed, 1 failed\n")


def test_what_was_logged_is_shown_with_a_failure(tested):
    """And only then."""
    test = 'script "auth.lua"\nfunction test_x() print("note") password_verify({ user = "a" }, "b") assert(%s) end'
    assert "        info: note\n        info: db-lua: asked for a\n" in tested(test % "false")[1]
    assert "info" not in tested(test % "true")[1]


def test_a_file_that_is_no_test_is_told(tested, tmp_path: Path):
    """What does not load is 65; where nothing is tested nothing is proved."""
    code, output = tested("function test_x(")
    assert (code, "auth_test.lua:1: " in output) == (65, True)
    code, output = tested('script "none.lua"')
    assert (code, "none.lua: No such file or directory" in output) == (65, True)
    code, output = tested('script "."')
    assert (code, "Is a directory" in output) == (65, True)
    code, output = tested("x = 1")
    assert (code, "there is no test" in output) == (1, True)


def test_the_dialect_is_read_off_the_script(tested, tmp_path: Path):
    """Also of one that the tests load; the option decides otherwise."""
    test = 'script "new.lua"\nfunction test_x() equal(%s, type(dovecot.gettimeofday)) end'
    (tmp_path / "new.lua").write_text("function auth_passdb_get_cache_key() return '%{user}' end")
    assert tested(test % "'function'")[0] == 0
    assert tested(test % "'nil'", "--dialect", "2.3")[0] == 0
    (tmp_path / "new.lua").write_text("function auth_passdb_lookup(req) return 1, 'a=' .. req.rip end")
    old = 'script "new.lua"\nfunction test_x() equal(nil, dovecot["tab" .. "escape"]) end'
    assert tested(old)[0] == 0
    assert tested(old, "--dialect", "2.4")[0] == 1


def test_the_example_tests_the_example():
    """conf/example_test.lua, and the tests in the howto."""
    command = [sys.executable, "-m", "authlua", "test-script", "conf/example_test.lua"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.endswith("3 passed, 0 failed\n")) == (0, True)


def test_the_howto_shows_what_one_sees(tested):
    """Its tests, run on a script that they fit."""
    tests, output = re.findall(
        r"```lua\n-- auth_test.lua\n(.*?)```\n\n```\n\$ [^\n]*\n(.*?)```",
        (ROOT / "docs/howto/testing-scripts.md").read_text(), re.DOTALL,
    )[0]  # fmt: skip
    assert tested(tests) == (0, output)


# -- the prompt


def repl(lines: str, *options: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "authlua", "repl", *options], input=lines, capture_output=True, text=True, cwd=ROOT
    )
    return done.returncode, done.stdout, done.stderr


def test_lines_are_evaluated(tmp_path: Path):
    """Expressions, statements, statements of several lines; state lasts; print goes where the log goes."""
    (tmp_path / "auth.lua").write_text(SCRIPT)
    code, output, log = repl(
        "1 + 1\nx = 5\nx, 'a', nil\nfor i = 1, 2 do\n  x = x + i\nend\nx\n{ 1, a = 'b', [true] = { 'c' } }\n"
        "req = request{ user = 'alice', service = 'imap' }\nreq:var_expand('%u %s')\npassdb_lookup(req)\n"
        "dovecot.auth.PASSDB_RESULT_OK, type(dovecot.http.client)\nprint('hello')\n",
        "--script", str(tmp_path / "auth.lua"),
    )  # fmt: skip
    assert output.splitlines() == [
        "2", "5\ta\tnil", "8", '{ 1, [true] = { "c" }, a = "b" }', "alice imap",
        'OK\t{ allow_nets = "10.0.0.0/8", n = "1", password = "{PLAIN}pass" }', "1.0\tfunction",
    ]  # fmt: skip
    assert (code, log) == (0, "info: hello\n")


@pytest.mark.parametrize("lines", ["nil + 1\n", "x = = 1\n", "for i = 1, 2 do\n"])
def test_a_line_that_fails_is_told(lines: str):
    """The others are evaluated all the same; 1 says that something failed."""
    code, output, log = repl("1\n" + lines)
    assert (code, output) == (1, "1\n")
    assert "stdin" in log


def test_a_script_that_cannot_be_read_is_told(tmp_path: Path):
    """Instead of a prompt."""
    code, output, log = repl("1\n", "--script", str(tmp_path))
    assert (code, output) == (65, "")
    assert "Is a directory" in log


def test_a_terminal_gets_a_prompt():
    """And its line ends with Ctrl-D, with status 0 whatever failed."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "authlua", "repl", "--dialect", "2.4"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT) as process:
        os.close(theirs)
        seen = b""
        for line in (b"type(dovecot.base64)\n", b"nil + 1\n", b"\x04"):
            while not seen.endswith(b"> "):
                seen += os.read(ours, 1000)
            os.write(ours, line)
            if line != b"\x04":
                seen += b"|"
        assert process.wait(60) == 0
    os.close(ours)
    assert b"table" in seen
    assert b"attempt to perform arithmetic" in seen
