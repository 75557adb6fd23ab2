"""One Lua state: versions, modules, coroutines, wishes, memory, and Python out of reach."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authlua.dialect import Dialect
from authlua.errors import ConfigError, ScriptError
from authlua.lua import ScriptOptions, load_passdb
from authlua.lua.runtime import VERSIONS, search_paths
from authlua.results import PassdbResult
from authlua.secret import Secret
from authlua.wishes import Compute
from tests.lua.conftest import Bench, computing, login, now

EVERY_LUA = pytest.mark.parametrize("version", VERSIONS)
WAITS = pytest.mark.parametrize("version", [version for version in VERSIONS if version != "5.1"])
SLOW = "{PBKDF2}$1$salt$1$c0d0ff2d4ddac2ba29faa2b23d1f3d2cd6ba4fd3"
"""A hash that is not computed on the spot; of no password in these tests."""


@EVERY_LUA
def test_every_lua_runs_a_script(bench: Bench, version: str):
    """Members, methods, tables, errors and constants work from 5.1 to 5.5 and on LuaJIT."""
    passdb = bench.passdb(
        """
        function auth_passdb_lookup(req)
          if req.user == "bad" then error("boom") end
          req:event():add_int("n", "7"):append_log_prefix("p: "):log_info("from " .. _VERSION)
          assert(dovecot.has_flag(6, 2) and dovecot.set_flag(4, 1) == 5 and dovecot.clear_flag(7, 2) == 5)
          return dovecot.auth.PASSDB_RESULT_OK, { ip = req.rip, n = 42, b = true, x = req:var_expand("%u/%d") }
        end
        """,
        version=version,
    )
    reply = now(passdb.lookup(login("a@b", rip="192.0.2.1")))
    assert (
        reply.result,
        dict(reply.fields),
    ) == (PassdbResult.OK, {"ip": "192.0.2.1", "n": "42", "b": "yes", "x": "a@b/b"})
    number = "5.1" if version == "luajit" else version
    assert ("info", f"p: from Lua {number}", {"n": 7}) == (*bench.lines[0][:2], bench.lines[0].fields)
    with pytest.raises(ScriptError, match=r"auth\.lua:3: boom\nstack traceback:\n") as caught:
        now(passdb.lookup(login("bad")))
    assert "[authlua]" not in str(caught.value)
    assert reply.result == now(passdb.lookup(login("again@b"))).result


def test_an_unknown_lua_is_the_admins_error(bench: Bench):
    """The versions there are stand in the message."""
    with pytest.raises(ConfigError, match=r"expected one of 5\.1, .*, luajit, got '6'"):
        bench.passdb("", version="6")


@pytest.mark.parametrize(("version", "number"), [("5.1", "5.1"), ("5.4", "5.4"), ("luajit", "5.1")])
def test_modules_are_searched_where_debian_puts_them(version: str, number: str):
    """The given templates come first; the script's directory is not searched."""
    path, cpath = search_paths(version, ["/x/?.lua"], ["/y/?.so"])
    assert path.startswith(f"/x/?.lua;/usr/local/share/lua/{number}/?.lua;")
    assert f";/usr/share/lua/{number}/?/init.lua;" in path
    assert cpath.startswith(f"/y/?.so;/usr/local/lib/lua/{number}/?.so;")
    assert f"/usr/lib/lua/{number}/?.so;" in cpath


def test_a_module_in_a_configured_directory_is_found(bench: Bench, tmp_path):
    """``[lua] path`` works; without it the script's neighbours are no modules."""
    (tmp_path / "friend.lua").write_text("return { name = 'friend' }")
    assert bench.evaluate("return require('friend').name", path=[f"{tmp_path}/?.lua"]) == "friend"
    assert bench.evaluate("return (pcall(require, 'friend'))") == "false"


CJSON = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.lua.conftest import Bench
bench = Bench(Path(sys.argv[1]))
print(bench.evaluate("return require('cjson').encode({{1, 2}})", version=sys.argv[2]))
print(bench.evaluate("return (pcall(require, 'cjson'))", version=sys.argv[3]))
print(bench.evaluate("return package.loadlib('/usr/lib/x.so', '*')", version=sys.argv[3]))
"""


@pytest.mark.parametrize(("first", "second"), [("5.1", "5.4"), ("5.3", "luajit"), ("5.4", "5.1"), ("luajit", "5.3")])
def test_c_modules_load_in_the_lua_that_a_process_opens_first(tmp_path, first: str, second: str):
    """Debian's modules find Lua's symbols; a second version refuses them, as they would crash it."""
    if not list(Path("/usr/lib").glob("*/lua/5.4/cjson.so")):
        pytest.skip("lua-cjson is missing: apt-get install lua-cjson")
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", CJSON.format(root=root), str(tmp_path), first, second]
    done = subprocess.run(command, capture_output=True, text=True)
    problem = f"nil C modules are those of Lua {first} in this process absent"
    assert (0, ["[1,2]", "false", problem]) == (done.returncode, done.stdout.splitlines()), done.stderr


MODULES = {
    "cjson": "require('cjson').encode({ 7 }) == '[7]' and 7",
    "socket": "require('socket').gettime() > 0 and 7",
    "ssl": "require('ssl') and 7",
    "lualdap": "type(require('lualdap').open) == 'function' and 7",
    "luasql.sqlite3": "require('luasql.sqlite3').sqlite3():connect(':memory:'):execute('select 7'):fetch()",
    "luasql.mysql": "require('luasql.mysql').mysql() and 7",
    "luasql.postgres": "require('luasql.postgres').postgres() and 7",
}
LOAD = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.lua.conftest import Bench
bench = Bench(Path(sys.argv[1]))
for expression in sys.argv[3:]:
    print(bench.evaluate(f"local ok, said = pcall(function() return {{expression}} end) return said",
                         version=sys.argv[2], cpath={cpath!r}))
"""


def in_lua(tmp_path: Path, version: str, *expressions: str, cpath: list[str]) -> list[str]:
    """What they come to, in a process of its own, as only one Lua of a process has C modules."""
    script = LOAD.format(root=str(Path(__file__).parents[2]), cpath=cpath)
    command = [sys.executable, "-c", script, str(tmp_path), version, *expressions]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")


@pytest.mark.parametrize("version", ["5.1", "5.2", "5.3", "5.4", "luajit"])
def test_the_systems_c_modules_load_and_work(tmp_path: Path, version: str):
    """Those that auth scripts use, as Debian packages them for each Lua; there are none for 5.5 yet."""
    if missing := [name for name in MODULES if not list(Path("/usr/lib").glob(f"*/lua/5.4/{name.replace('.', '/')}*"))]:
        pytest.skip(f"{', '.join(missing)} missing: tests/e2e/install-clients, as root on Debian")
    said = in_lua(tmp_path, version, *MODULES.values(), cpath=[])
    assert dict(zip(MODULES, said, strict=False)) == dict.fromkeys(MODULES, "7")


@pytest.mark.parametrize(("version", "other"), [("5.1", "5.4"), ("5.4", "5.1"), ("5.4", "5.3"), ("luajit", "5.3")])
def test_a_c_module_of_another_lua_is_told_clearly(tmp_path: Path, version: str, other: str):
    """With the file, and the two settings to look at."""
    directories = [str(path.parent / "?.so") for path in Path("/usr/lib").glob(f"*/lua/{other}/cjson.so")]
    if not directories:
        pytest.skip("lua-cjson is missing: tests/e2e/install-clients, as root on Debian")
    lines = in_lua(tmp_path, version, "require('cjson')", cpath=directories)
    assert lines[0].startswith("error loading module 'cjson' from file '/usr/lib/")
    assert lines[2] == f"\tthis module is not for Lua {version}: see lua.version and lua.cpath"


@EVERY_LUA
def test_an_error_has_dovecots_traceback(bench: Bench, monkeypatch, tmp_path, version: str):
    """From `error` down to the function that was called, and nothing of ours; how frames are named is up to Lua."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.lua").write_text(
        "local function f(n)\nif n > 0 then return 1 + f(n - 1) end\nerror('deep')\nend\n"
        "function auth_passdb_lookup()\nif once then error() end\nonce = true\nlocal x = f(1)\nend"
    )
    passdb = load_passdb("s.lua", log=bench.log, server_dialect=Dialect.V2_3, options=ScriptOptions(version=version))
    failed = "db-lua: lua_pcall(auth_passdb_lookup, 1, 2) failed: "
    for first, places in (
        (f"{failed}s.lua:3: deep", ["[C]", "s.lua:3", "s.lua:2", "s.lua:8"]),
        (failed, ["[C]", "s.lua:6"]),
    ):
        with pytest.raises(ScriptError) as caught:
            now(passdb.lookup(login()))
        message, traceback = str(caught.value).split("stack traceback:")
        assert message.rstrip("\n") in (first, f"{first}<no error object>")  # the latter is 5.5's
        assert [frame.partition(": in ")[0] for frame in traceback.split("\n\t")[1:]] == places
        assert traceback.endswith((": in function 'auth_passdb_lookup'", ": in function <s.lua:5>"))
    passdb.close()


# -- bytes ----------------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.binary(min_size=1).filter(lambda data: 0 not in data))
def test_any_bytes_survive_lua_both_ways(echo, data: bytes):
    """A user name, a password and a field may hold anything but NUL."""
    text = data.decode("utf-8", "surrogateescape")
    reply = now(echo.verify_plain(login(text, passdb_fields=_fields(text)), Secret(data)))
    assert {"user": text, "password": text, "field": text} == dict(reply.fields)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(head=st.binary().filter(lambda data: 0 not in data), tail=st.binary())
def test_a_value_ends_at_its_first_nul(echo, head: bytes, tail: bytes):
    """As a C string does."""
    reply = now(echo.verify_plain(login((head + b"\0" + tail).decode("utf-8", "surrogateescape")), Secret(head)))
    assert (head.decode("utf-8", "surrogateescape") or None) == dict(reply.fields)["user"]


def _fields(text: str):
    from authlua.fields import Fields

    return Fields([("echo", text)])


@pytest.fixture
def echo(bench: Bench):
    return bench.passdb(
        "function auth_password_verify(req, password)"
        " return 1, { user = req.user, password = password, field = req.passdb.echo } end"
    )


# -- coroutines and wishes ------------------------------------------------------------------------------------------


@EVERY_LUA
def test_a_script_cannot_yield_out_of_its_call(bench: Bench, version: str):
    """The error a script gets is the one its Lua gives outside any coroutine, and it can be caught."""
    problem = bench.evaluate("return select(2, pcall(coroutine.yield, 1))", version=version)
    assert problem is not None
    assert "attempt to yield" in problem
    assert "outside a coroutine" in problem or version in ("5.1", "luajit")
    passdb = bench.passdb("function auth_passdb_lookup() coroutine.yield(1) end", version=version)
    with pytest.raises(ScriptError, match="attempt to yield"):
        now(passdb.lookup(login()))


@EVERY_LUA
def test_the_coroutine_library_works_for_scripts(bench: Bench, version: str):
    """Generators, wrap, status and errors are as without us."""
    body = """
    local function three() for i = 1, 3 do coroutine.yield(i) end return "end" end
    local sum = 0
    for i in coroutine.wrap(function() for i = 1, 4 do coroutine.yield(i) end end) do sum = sum + i end
    local co = coroutine.create(three)
    local _, first = coroutine.resume(co)
    local suspended = coroutine.status(co)
    coroutine.resume(co) coroutine.resume(co)
    local _, last = coroutine.resume(co)
    local ok, problem = coroutine.resume(coroutine.create(function() error("inner", 0) end))
    local caught, message = pcall(coroutine.wrap(function() error("wrapped", 0) end))
    return sum, first, suspended, last, coroutine.status(co), ok, problem, caught, message:match("wrapped")
    """
    expected = "10 1 suspended end dead false inner false wrapped"
    assert expected == bench.evaluate(body, version=version)


def test_a_call_looks_like_the_main_coroutine(bench: Bench):
    """Although it runs in a coroutine of ours."""
    body = """
    local thread, main = coroutine.running()
    local inner, inner_main
    coroutine.wrap(function() inner, inner_main = coroutine.running() end)()
    local inside = coroutine.wrap(function() return coroutine.isyieldable() end)()
    return main, coroutine.status(thread), coroutine.isyieldable(), inner == thread, inner_main, inside
    """
    assert bench.evaluate(body) == "true running false false false true"


VERIFY = f"""
function auth_passdb_lookup(req)
  local code, text = %s
  return 1, {{ code = tostring(code), text = text, user = req.user }}
end
function verify(req) return req:password_verify("{SLOW}", "pass") end
"""


@WAITS
@pytest.mark.parametrize(
    "how",
    [
        "verify(req)",
        "select(2, pcall(verify, req)), 'Password mismatch'",
        "coroutine.wrap(verify)(req)",
        "select(2, coroutine.resume(coroutine.create(function() return coroutine.wrap(verify)(req) end)))",
    ],
)
def test_a_slow_hash_is_wished_for(bench: Bench, version: str, how: str):
    """Verification leaves the event loop from the top of a call, out of pcall and out of the script's coroutines."""
    passdb = bench.passdb(VERIFY % how, version=version)
    reply, wishes = computing(passdb.lookup(login()))
    code = "0.0" if version in ("5.3", "5.4", "5.5") else "0"
    text = None if how.startswith("select(2, c") else "Password mismatch"
    assert (1, code) == (wishes, dict(reply.fields)["code"])
    assert dict(reply.fields).get("text") in (text, "Password mismatch")


@EVERY_LUA
def test_where_lua_cannot_wait_the_work_is_done_on_the_spot(bench: Bench, version: str):
    """Inside a C function such as string.gsub, even when a coroutine of the script stands between."""
    for inner in ("verify(req)", "coroutine.wrap(verify)(req)"):
        how = f"(function() local c ('x'):gsub('x', function() c = {inner} end) return c, 'on the spot' end)()"
        passdb = bench.passdb(VERIFY % how, version=version)
        reply, wishes = computing(passdb.lookup(login()))
        assert (wishes, dict(reply.fields)["text"]) == (0, "on the spot")


def test_a_script_that_loads_does_not_wait(bench: Bench):
    """The main chunk and script_init run outside any call, so a request from there is a misuse with a clear error."""
    with pytest.raises(ScriptError, match="attempt to yield from outside a coroutine"):
        bench.passdb("coroutine.yield()")


def test_calls_wait_side_by_side_in_one_state(bench: Bench):
    """A waiting call keeps its request; others start and end in between, in any order."""
    passdb = bench.passdb(VERIFY % "verify(req)")
    calls = [passdb.lookup(login(f"user{i}")) for i in range(50)]
    wishes = [call.send(None) for call in calls]
    assert passdb.busy == 50
    for call, wish, number in reversed(list(zip(calls, wishes, range(50), strict=True))):
        assert isinstance(wish, Compute)
        with pytest.raises(StopIteration) as done:
            call.send((1.0, None))
        assert {"code": "1.0", "user": f"user{number}"} == dict(done.value.value.fields)
    assert passdb.busy == 0


def test_an_abandoned_call_leaves_nothing_behind(bench: Bench):
    """When its request is cancelled, a waiting call ends in Lua too: its to-be-closed variables are closed."""
    script = "closed = 0\nlocal guard = setmetatable({}, { __close = function() closed = closed + 1 end })\n"
    script += VERIFY.replace(
        "local code", "local x <close> = guard if req.user == 'n' then return 1, { n = closed } end local code"
    )
    passdb = bench.passdb(script % "verify(req)")
    call = passdb.lookup(login())
    call.send(None)
    call.close()
    assert passdb.busy == 0
    assert dict(now(passdb.lookup(login("n"))).fields) == {"n": "1"}


def test_a_failing_wish_fails_its_call_alone(bench: Bench):
    """What the fulfilment raises goes to whoever awaits the call, and the engine serves on."""
    passdb = bench.passdb(VERIFY % "verify(req)")
    call = passdb.lookup(login())
    call.send(None)
    with pytest.raises(RuntimeError, match="no threads left"):
        call.throw(RuntimeError("no threads left"))
    assert passdb.busy == 0
    assert computing(passdb.lookup(login()))[1] == 1


def test_closing_ends_calls_that_wait(bench: Bench):
    """They fail with the script's name."""
    passdb = bench.passdb(VERIFY % "verify(req)")
    call = passdb.lookup(login())
    call.send(None)
    passdb.close()
    with pytest.raises(ScriptError, match=r"auth\.lua: unloaded while a call was waiting"):
        call.send((1.0, None))


# -- the process ----------------------------------------------------------------------------------------------------


def test_a_script_cannot_end_the_server(bench: Bench):
    """os.exit is an error of the script."""
    passdb = bench.passdb("function auth_passdb_lookup() os.exit(0) end")
    with pytest.raises(ScriptError, match=r"auth\.lua:1: os\.exit\(\) would end the whole server"):
        now(passdb.lookup(login()))


def test_print_goes_to_the_log(bench: Bench):
    """Bound to the request that is served, to none while the script loads."""
    request = login()
    passdb = bench.passdb("print('top', 1)\nfunction auth_passdb_lookup() print(nil, true) return 0, '' end")
    now(passdb.lookup(request))
    assert [("info", "top\t1", None, {}), ("info", "nil\ttrue", request, {})] == bench.lines


def test_twenty_thousand_calls_leave_no_trace(bench: Bench):
    """Neither requests nor Lua memory grow, whatever a call does."""
    passdb = bench.passdb(
        """
        function auth_passdb_lookup(req)
          if req.user == "memory" then
            collectgarbage() collectgarbage()
            return 1, { kb = math.floor(collectgarbage("count")) }
          end
          local e = req:event():add_str("k", req.session or "none")
          if req.user == "error" then error("x") end
          local _ = req.passdb.x, req.rip, req:var_expand("%u")
          return 1, { password = "{PLAIN}" .. req.user, bad = print }
        end
        """
    )

    def kilobytes() -> int:
        return int(dict(now(passdb.lookup(login("memory"))).fields)["kb"])

    def work(count: int) -> None:
        for number in range(count):
            if number % 10 == 0:
                with pytest.raises(ScriptError):
                    now(passdb.lookup(login("error")))
            else:
                now(passdb.lookup(login(f"user{number}")))

    work(1000)
    before = kilobytes()
    work(20000)
    assert kilobytes() <= before + 8
    assert passdb.busy == 0


def test_closing_frees_the_state(bench: Bench, tmp_path):
    """At once, while the database and all that Python had of it still live: Lua's finalizers have run."""
    passdb = bench.passdb(
        f"""
        local guard = setmetatable({{}}, {{ __gc = function() io.open("{tmp_path}/freed", "w"):close() end }})
        function auth_passdb_lookup() return 0, "" or guard end
        """
    )
    now(passdb.lookup(login()))
    assert not (tmp_path / "freed").exists()
    passdb.close()
    assert (tmp_path / "freed").exists()


# -- Python is not visible ------------------------------------------------------------------------------------------

SEARCH = """
local seen, found = {}, {}
local function visit(value)
  local kind = type(value)
  if value == nil or kind == "string" or kind == "number" or kind == "boolean" or seen[value] then return end
  seen[value] = true
  if kind == "userdata" and tostring(value) == "authlua" then found[#found + 1] = value end
  visit(debug.getmetatable(value))
  if kind == "table" then
    for k, v in next, value do visit(k) visit(v) end
  elseif kind == "function" then
    local i = 1
    while true do
      local name, up = debug.getupvalue(value, i)
      if not name then break end
      visit(up)
      i = i + 1
    end
    if debug.getfenv then visit(debug.getfenv(value)) end
  elseif kind == "userdata" and debug.getuservalue then
    visit((debug.getuservalue(value)))
  elseif kind == "thread" then
    for level = 0, 20 do
      local info = debug.getinfo(value, level, "f")
      if not info then break end
      visit(info.func)
      local i = 1
      while true do
        local name, v = debug.getlocal(value, level, i)
        if not name then break end
        visit(v)
        i = i + 1
      end
    end
  end
end
visit(_G)
visit(debug.getregistry())
for level = 1, 20 do
  local info = debug.getinfo(level, "f")
  if info then visit(info.func) end
end
"""


@EVERY_LUA
def test_python_is_out_of_reach(bench: Bench, version: str):
    """Whatever a script digs up with `debug` has no attributes and no items, and gives plain values when called."""
    script = f"""
    function auth_passdb_lookup(req)
      {SEARCH}
      local out, tried = {{}}, 0
      for _, object in next, found do
        for _, act in next, {{
          function() return object.__class__ end, function() return object["__globals__"] end,
          function() return object[1] end, function() object.x = 1 return "set" end,
          function() return #object end, function() return object .. "" end,
          function() for k, v in pairs(object) do return k end end,
        }} do
          tried = tried + 1
          local ok, value = pcall(act)
          if ok and value ~= nil or type(value) == "userdata" then out[#out + 1] = tostring(value) end
        end
        for _, arguments in next, {{ {{}}, {{ 1 }}, {{ 1, "x", "y" }}, {{ {{}}, print }} }} do
          local results = {{ pcall(object, (table.unpack or unpack)(arguments)) }}
          for i = 2, #results do
            local kind = type(results[i])
            if kind == "userdata" or kind == "table" or kind == "function" then out[#out + 1] = kind end
          end
        end
      end
      return 1, {{ found = #found, tried = tried, out = table.concat(out, ","), python = tostring(python) }}
    end
    """
    passdb = bench.passdb(script, Dialect.V2_4, version=version)
    engine = passdb._script.engine
    step = engine._start(b"auth_passdb_lookup", 1, b"alice", 0, None)
    engine._calls.bug = None  # callbacks that were called with rubbish have said so
    fields = dict(zip(step[3::2], step[4::2], strict=True))
    assert (fields[b"out"], fields[b"python"]) == (b"", b"nil")
    assert fields[b"found"] > 10
