"""What an installed Python package adds for scripts: the example package, really built and installed."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua.api import module
from authlua.wishes import Compute, Sleep
from tests.lua.conftest import Bench, computing, login, now

EXTENSION = Path(__file__).with_name("extension")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the package in it, as pip leaves it: what its wheel holds."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", os.fspath(target)]
    subprocess.run(command, check=True, capture_output=True, cwd=EXTENSION)
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


@pytest.fixture
def extended(installed: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench in a Python that has the package."""
    monkeypatch.syspath_prepend(installed)
    _forget()
    yield bench
    _forget()
    sys.modules.pop("authlua_example", None)


def _forget() -> None:
    module._found.cache_clear()
    module._brought.cache_clear()


@pytest.mark.parametrize("version", ["5.1", "5.4", "5.5", "luajit"])
@pytest.mark.parametrize("place", ["dovecot.example", "require 'example.tools'"])
def test_a_package_adds_a_table(extended: Bench, version: str, place: str):
    """Functions of every kind, and values; the same table each time it is asked for."""
    body = f"""
    local example = {place}
    assert(example == {place})
    local user, domain = example.split("alice@example.org")
    local counted = example.count {{ "one", "three" }}
    local fine, problem = pcall(example.network, "nonsense")
    local bad, argument = pcall(example.shout, print)
    return example.version, example.limits.most, example.limits.names[2], example.shout("ä\\255"), user, domain,
      counted.words[2], counted.characters, example.network("127.0.0.1"), problem, argument, example.nonsense
    """
    # 5.1 has no positions in errors that are not its own; here nobody has
    assert extended.evaluate(body, version=version) == (
        "1.0 3 b Ä\udcff alice example.org three 8 loopback network: 'nonsense' does not appear to be an IPv4 or IPv6 "
        "address an argument is a function, a coroutine or a userdata, which is nothing for Python nil"
    )


def test_a_package_adds_a_module_in_lua(extended: Bench):
    """It is run when it is required, once."""
    body = "local g = require 'example.greetings' return g.of('you'), g == require 'example.greetings'"
    assert extended.evaluate(body) == "hello, YOU true"


def test_a_function_that_waits_holds_nobody_up(extended: Bench):
    """It wishes, as all that waits; where Lua cannot wait, it is done on the spot."""
    passdb = extended.passdb(
        """
        function auth_passdb_lookup(req)
          if req.user == "pause" then dovecot.example.pause(0.25) return 1, {} end
          local address
          if req.user == "there" then
            ("x"):gsub("x", function() address = dovecot.example.resolve("127.0.0.1") end)
          else
            address = dovecot.example.resolve("127.0.0.1")
          end
          return 1, { address = address }
        end
        """
    )
    for user, wishes in (("here", 1), ("there", 0)):
        reply, count = computing(passdb.lookup(login(user)))
        assert (dict(reply.fields), count) == ({"address": "127.0.0.1"}, wishes)
    call = passdb.lookup(login("pause"))
    wish = call.send(None)
    assert isinstance(wish, Sleep)
    assert wish.seconds == 0.25
    with pytest.raises(StopIteration):
        call.send(None)


def test_a_function_that_fails_while_it_waits(extended: Bench):
    """A failure of what it waited for is the package's bug unless it says otherwise; the script's call alone fails."""
    passdb = extended.passdb("function auth_passdb_lookup() dovecot.example.resolve('x') end")
    call = passdb.lookup(login())
    assert isinstance(call.send(None), Compute)
    with pytest.raises(OSError, match="no such host"):
        call.throw(OSError("no such host"))
    assert passdb.busy == 0


def test_a_bug_of_a_package_is_not_the_scripts(extended: Bench):
    """It is raised as what it is, with its traceback, even when the script catches errors."""
    passdb = extended.passdb("function auth_passdb_lookup() pcall(dovecot.example.broken) return 1, {} end")
    with pytest.raises(RuntimeError, match="a bug of the package"):
        now(passdb.lookup(login()))


def test_a_file_of_the_admin_comes_before_a_package(extended: Bench, tmp_path: Path):
    """``package.path`` is searched first."""
    (tmp_path / "example").mkdir()
    (tmp_path / "example/tools.lua").write_text("return 'a file'")
    assert extended.evaluate("return (require 'example.tools')", path=[f"{tmp_path}/?.lua"]) == "a file"


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ("dovecot.bad = no_such_module:X", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("dovecot.bad = os:sep", "expected a mapping or a path, got '/'"),
    ],
)
def test_a_package_that_cannot_be_loaded_is_named(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata: str, problem: str
):
    """In the script that asks for it, and in no other."""
    info = tmp_path / "bad-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[authlua.lua_modules]\n{metadata}\n")
    monkeypatch.syspath_prepend(tmp_path)
    _forget()
    assert bench.evaluate("return type(dovecot.auth)") == "table"
    passdb = bench.passdb("function auth_passdb_lookup() return dovecot.bad end", Dialect.V2_4)
    with pytest.raises(ScriptError) as caught:
        now(passdb.lookup(login()))
    assert problem in str(caught.value)
    _forget()


def test_nobody_notices_packages_that_are_not_there(bench: Bench):
    """A name that nobody brings is nil, and `require` says what Lua says."""
    _forget()
    assert bench.evaluate("return dovecot.nonsense, dovecot[5], rawget(dovecot, 'nonsense')") == "nil nil nil"
    missing = bench.evaluate("return select(2, pcall(require, 'nonsense'))")
    assert missing is not None
    assert missing.startswith("module 'nonsense' not found:\n\tno field package.preload['nonsense']")
    assert "authlua" not in missing


def test_the_command_sees_an_installed_package(installed: Path, tmp_path: Path):
    """Nothing has to be configured."""
    script = tmp_path / "auth.lua"
    script.write_text(
        "function auth_passdb_lookup(req) return dovecot.auth.PASSDB_RESULT_OK,"
        " { password = 'x', said = require('example.greetings').of(req.user) } end\n"
        "function auth_userdb_lookup(req) return dovecot.auth.USERDB_RESULT_OK,"
        " { home = dovecot.example.resolve('127.0.0.1') } end\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "authlua", "test-lookup", "--script", script, "alice"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.fspath(installed)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "hello, ALICE" in done.stdout
    assert "home  127.0.0.1" in done.stdout
