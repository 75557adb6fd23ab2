"""What a script may use up when it runs in the server itself."""

import itertools

import pytest

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua import engine
from authlua.results import PassdbResult
from tests.lua.conftest import Bench, computing, listed, login, now

VERSIONS = pytest.mark.parametrize("version", ["5.1", "5.2", "5.3", "5.4", "5.5", "luajit"])

LOOPS = """
local function loop() while true do end end
local acts = {
  loop = loop,
  caught = function() while true do pcall(loop) end end,
  child = function() while true do pcall(coroutine.wrap(loop)) end end,
  resumed = function() while true do coroutine.resume(coroutine.create(loop)) end end,
  grandchild = function() coroutine.wrap(function() while true do pcall(coroutine.wrap(loop)) end end)() end,
}
function auth_passdb_lookup(req)
  if acts[req.user] then acts[req.user]() end
  return dovecot.auth.PASSDB_RESULT_OK, { password = "{PLAIN}x" }
end
"""


@VERSIONS
@pytest.mark.parametrize("user", ["loop", "caught", "child", "resumed", "grandchild"])
def test_a_script_that_never_ends_is_cut_off(bench: Bench, version: str, user: str):
    """Wherever it loops, and even if it catches errors; the next call is served."""
    passdb = bench.passdb(LOOPS, version=version, budget=20_000)
    with pytest.raises(ScriptError, match="ran for too long without waiting"):
        now(passdb.lookup(login(user)))
    assert passdb.busy == 0
    assert now(passdb.lookup(login("alice"))).result is PassdbResult.OK


@VERSIONS
def test_the_budget_is_that_of_one_call(bench: Bench, version: str):
    """Any number of calls may follow each other."""
    script = """
    function auth_passdb_lookup(req)
      for i = 1, 1000 do end
      return dovecot.auth.PASSDB_RESULT_OK, { password = "{PLAIN}x" }
    end"""
    passdb = bench.passdb(script, version=version, budget=5_000)
    for _ in range(100):
        assert now(passdb.lookup(login())).result is PassdbResult.OK


@VERSIONS
def test_a_script_that_eats_memory_fails_and_the_next_call_is_served(bench: Bench, version: str):
    """The limit is that of one state, so what the failed call held is free again."""
    script = """
    function auth_passdb_lookup(req)
      if req.user == "eat" then local t = {} while true do t[#t + 1] = ("x"):rep(100000) .. #t end end
      if req.user == "kept" then KEPT = KEPT or {} while true do KEPT[#KEPT + 1] = ("x"):rep(100000) .. #KEPT end end
      KEPT = nil
      return dovecot.auth.PASSDB_RESULT_OK, { password = "{PLAIN}x" }
    end"""
    passdb = bench.passdb(script, version=version, memory_limit=8 << 20)
    for user in ("eat", "kept", "eat"):
        with pytest.raises(ScriptError, match="not enough memory"):
            now(passdb.lookup(login(user)))
        for _ in range(3):
            assert now(passdb.lookup(login())).result is PassdbResult.OK
    assert passdb.busy == 0


PLACES = {
    "chunk": ("%s", "lua_pcall(PATH) failed: "),
    "init": ("function script_init() %s end", "lua_pcall(script_init, 1, 0) failed: "),
    "load": ("function script_load() %s end", "lua_pcall(script_load, 0, 1) failed: "),
    "key": ("function auth_passdb_get_cache_key() %s end", "lua_pcall(auth_passdb_get_cache_key, 0, 1) failed: "),
}
ENDLESS = {
    "loop": "while true do end",
    "caught": "while true do pcall(function() while true do end end) end",
    "child": "while true do pcall(coroutine.wrap(function() while true do end end)) end",
    "resumed": "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
}


@VERSIONS
@pytest.mark.parametrize("budget", [0, 1_000_000])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ENDLESS)
def test_a_script_that_never_gets_ready_is_refused(bench: Bench, version: str, budget: int, place: str, how: str):
    """With the place where it loops, whatever runs it: the server at start or reload, a worker, a command."""
    source, problem = PLACES[place]
    path = bench.script(source % ENDLESS[how])
    with pytest.raises(ScriptError) as caught:
        bench.passdb(path, Dialect.V2_4, version=version, budget=budget, loading=2_500_000)
    message, _, traceback = str(caught.value).partition("\nstack traceback:\n")
    problem = problem.replace("PATH", str(path))
    assert message.endswith(f"{problem}the script ran for too long outside of any request")
    frames = [line for line in traceback.splitlines() if "[C]" not in line]
    assert frames
    assert all(f"{path.name}:1: in " in frame for frame in frames)


@VERSIONS
@pytest.mark.parametrize("budget", [0, 100_000])
def test_the_end_of_a_script_is_cut_off_too(bench: Bench, version: str, budget: int):
    """Its error is logged, and the memory freed."""
    database = bench.passdb(
        "function script_deinit() while true do end end", version=version, budget=budget, loading=5_000_000
    )
    database.close()
    (line,) = bench.texts
    assert "lua_pcall(script_deinit, 0, 0) failed: the script ran for too long outside of any request" in line


@VERSIONS
@pytest.mark.parametrize("budget", [0, 20_000])
def test_getting_ready_may_take_longer_than_a_request(bench: Bench, version: str, budget: int):
    """And nothing of the limit is left for requests but their own; LuaJIT compiles where it may."""
    work = "local n = 0 for i = 1, 20000 do n = n + #tostring(i) end"
    passdb = bench.passdb(
        f"""
        {work}
        generator = coroutine.wrap(function() while true do coroutine.yield(1) end end)
        function auth_passdb_lookup(req)
          generator()
          if req.user == "work" then {work} {work} {work} end
          return 1, {{ jit = tostring(jit and jit.status()) }}
        end
        """,
        version=version,
        budget=budget,
    )
    for _ in range(3):
        fields = dict(now(passdb.lookup(login())).fields)
    assert fields["jit"] == ("nil" if version != "luajit" else "true" if budget == 0 else "false")
    if budget:
        with pytest.raises(ScriptError, match="ran for too long without waiting"):
            now(passdb.lookup(login("work")))
    else:
        now(passdb.lookup(login("work")))


KEEPERS = {
    "strings": "local i = #KEPT while true do i = i + 1 KEPT[i] = 's' .. i end",
    "tables": "while true do KEPT = { KEPT } end",
    "caught": "local function keep() while true do KEPT = { KEPT } end end while true do pcall(keep) end",
}


@VERSIONS
@pytest.mark.parametrize("keeper", KEEPERS)
def test_a_script_that_keeps_all_its_memory_is_loaded_again(
    bench: Bench, version: str, keeper: str, monkeypatch: pytest.MonkeyPatch
):
    """For the next call, which is served; the log says so. Lua would end the process where it has no memory for the
    arguments of a call."""
    monkeypatch.setattr(engine, "PATIENCE", 60.0)  # on a slow machine three calls fill nothing in the usual time
    passdb = bench.passdb(
        f"""
        KEPT = {{}}
        function auth_passdb_lookup(req)
          if req.user == "keep" then {KEEPERS[keeper]} end
          return dovecot.auth.PASSDB_RESULT_OK, {{ user = req.user }}
        end
        function auth_userdb_iterate() KEPT = {{}} return {{ "u" }} end
        """,
        version=version,
        memory_limit=4 << 20,
        budget=100_000_000,
    )
    for _ in range(3):
        with pytest.raises(ScriptError, match=r"not enough memory|ran for too long"):
            now(passdb.lookup(login("keep")))
        assert dict(now(passdb.lookup(login("a" * 3000))).fields) == {"user": "a" * 3000}
    assert passdb._script.engine.busy == 0
    assert any(line.text.endswith("lua.memory_limit is reached; the script is loaded again") for line in bench.lines)
    assert passdb.busy == 0


def test_a_full_state_lists_users_too(bench: Bench):
    """In a fresh one; the full one is gone."""
    userdb = bench.userdb(
        """
        KEPT = {}
        function auth_userdb_lookup() while true do KEPT = { KEPT } end end
        function auth_userdb_iterate() return { "u" } end
        """,
        memory_limit=4 << 20,
    )
    first = userdb._script.engine
    with pytest.raises(ScriptError, match="not enough memory"):
        now(userdb.lookup(login()))
    assert listed(userdb.iterate()) == ["u"]
    assert first.closed
    assert userdb.busy == 0


def test_calls_that_wait_end_in_the_state_they_began_in(bench: Bench):
    """Also when it is full, and another serves."""
    passdb = bench.passdb(
        """
        KEPT = {}
        function auth_passdb_lookup(req)
          if req.user == "keep" then while true do KEPT = { KEPT } end end
          if req.user == "wait" then
            local code = req:password_verify("{SHA512-CRYPT}$6$rounds=1000$abcdefgh$x", "pass")
            KEPT = {}
            return 1, { code = code }
          end
          return 1, {}
        end
        """,
        memory_limit=4 << 20,
    )
    first = passdb._script.engine
    waiting = passdb.lookup(login("wait"))
    waiting.send(None)
    with pytest.raises(ScriptError, match="not enough memory"):
        now(passdb.lookup(login("keep")))
    now(passdb.lookup(login()))
    assert passdb._script.engine is not first
    assert not first.closed
    waiting.close()
    assert first.closed


@VERSIONS
@pytest.mark.parametrize(
    "catch",
    ["pcall(eat)", "xpcall(eat, print)", "pcall(coroutine.wrap(eat))", "coroutine.resume(coroutine.create(eat))"],
)
def test_who_has_no_memory_left_cannot_go_on(bench: Bench, version: str, catch: str):
    """Dovecot's process ends then; here it is an error that nothing catches."""
    script = f"""
    local function eat() local t = {{}} while true do t[#t + 1] = ("x"):rep(100000) .. #t end end
    function auth_passdb_lookup(req)
      if req.user == "eat" then {catch} end
      return dovecot.auth.PASSDB_RESULT_OK, {{}}
    end"""
    passdb = bench.passdb(script, version=version, memory_limit=4 << 20)
    for _ in range(2):
        with pytest.raises(ScriptError, match="not enough memory"):
            now(passdb.lookup(login("eat")))
        assert now(passdb.lookup(login())).result is PassdbResult.OK


@VERSIONS
def test_time_counts_as_well_as_instructions(bench: Bench, version: str):
    """An instruction may take long."""
    script = """
    function auth_passdb_lookup(req)
      local text = ("x"):rep(300000)
      while req.user == "long" do text:reverse() end
      return dovecot.auth.PASSDB_RESULT_OK, {}
    end"""
    passdb = bench.passdb(script, version=version, budget=1_000_000_000)
    with pytest.raises(ScriptError, match="ran for too long without waiting"):
        now(passdb.lookup(login("long")))
    assert now(passdb.lookup(login())).result is PassdbResult.OK


@VERSIONS
def test_who_allocates_much_is_looked_at_often(bench: Bench, version: str, monkeypatch: pytest.MonkeyPatch):
    """A thousand long strings take seconds, which is too long between two looks at the clock."""
    clock = itertools.count()
    monkeypatch.setattr("time.thread_time", lambda: next(clock) / 100)  # each look finds 10 ms gone
    script = """
    made = 0
    function auth_passdb_lookup(req)
      while req.user == "eat" do
        made = made + 1
        local text = ("x"):rep(500000)
      end
      return dovecot.auth.PASSDB_RESULT_OK, { made = made }
    end"""
    passdb = bench.passdb(script, version=version, budget=1_000_000_000)
    with pytest.raises(ScriptError, match="ran for too long without waiting"):
        now(passdb.lookup(login("eat")))
    assert int(dict(now(passdb.lookup(login())).fields)["made"]) < 100


GROWS = """
kept = ("x"):rep(30000000)
kept = nil
collectgarbage()
function auth_passdb_lookup(req)
  if req.user == "wait" then
    local parts = {}
    for i = 1, 10 do
      parts[i] = ("x"):rep(3000000)
      req:password_verify("{SHA512-CRYPT}$6$rounds=1000$abcdefgh$x", "pass")
    end
  elseif req.user ~= "calm" then
    kept = ("x"):rep(tonumber(req.user))
  end
  return dovecot.auth.PASSDB_RESULT_OK, {}
end
function auth_userdb_lookup() return 1, {} end
function auth_userdb_iterate()
  local users = {}
  for i = 1, 25 do users[i] = ("u"):rep(1000000) .. i end
  return users
end
"""


@VERSIONS
def test_a_call_in_the_server_may_not_take_all_memory_at_once(
    bench: Bench, version: str, monkeypatch: pytest.MonkeyPatch
):
    """It is one instruction that does, so nothing could stop it half-way. It may after it has waited, and so may what
    loads, and a list of users."""
    monkeypatch.setattr("time.thread_time", lambda: 0.0)  # time is not the question here
    passdb = bench.passdb(GROWS, version=version, memory_limit=256 << 20, budget=1_000_000)
    for _ in range(2):
        for user in ("50000000", "25000000"):
            with pytest.raises(ScriptError, match="not enough memory"):
                now(passdb.lookup(login(user)))
        assert now(passdb.lookup(login("calm"))).result is PassdbResult.OK
        assert now(passdb.lookup(login("3000000"))).result is PassdbResult.OK
        assert computing(passdb.lookup(login("wait")))[1] == 10
    userdb = bench.userdb(GROWS, version=version, memory_limit=256 << 20, budget=1_000_000)
    assert len(listed(userdb.iterate())) == 25


@VERSIONS
def test_a_state_may_grow_from_call_to_call(bench: Bench, version: str):
    """Up to its limit, which is all that counts in a worker."""
    script = """
    kept = {}
    function auth_passdb_lookup(req)
      kept[#kept + 1] = ("x"):rep(1000) .. (" "):rep(1000):rep(1000)
      return dovecot.auth.PASSDB_RESULT_OK, { kept = #kept }
    end"""
    passdb = bench.passdb(script, version=version, memory_limit=64 << 20, budget=1_000_000)
    for number in range(1, 41):
        assert dict(now(passdb.lookup(login())).fields) == {"kept": str(number)}
    passdb = bench.passdb(GROWS, version=version, memory_limit=256 << 20)
    assert now(passdb.lookup(login("50000000"))).result is PassdbResult.OK


def test_leaving_is_an_error_of_the_script(bench: Bench):
    """os.exit would end the server."""
    passdb = bench.passdb("function auth_passdb_lookup(req) os.exit() end", Dialect.V2_4)
    with pytest.raises(ScriptError, match=r"os\.exit"):
        now(passdb.lookup(login()))
