"""Several databases with one Lua state, and what is left of a state when nobody has it any more."""

import ctypes
import gc
import resource
from contextlib import suppress
from pathlib import Path

import pytest

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua import Scripts
from tests.lua.conftest import Bench, computing, listed, login, now

EVERY_LUA = pytest.mark.parametrize("version", ["5.1", "5.2", "5.3", "5.4", "5.5", "luajit"])
V23, V24 = Dialect.V2_3, Dialect.V2_4

COUNTING = """
count = 0
function script_init() dovecot.i_info("init") return 0 end
function script_deinit() dovecot.i_info("deinit") end
local function answer(req)
  count = count + 1
  if req.session == "slow" then
    req:password_verify("{SHA512-CRYPT}$6$rounds=1000$abcdefgh$x", "pass")
  end
  return 1, { count = count, id = tostring(req.id), expanded = req:var_expand(TEMPLATE) }
end
auth_passdb_lookup, auth_userdb_lookup = answer, answer
function auth_userdb_iterate() return { "u" .. count } end
"""


def test_who_shares_a_script_shares_its_globals(bench: Bench):
    """It is loaded and initialised once, and ends with the last of them."""
    scripts = Scripts()
    path = bench.script("TEMPLATE = ''" + COUNTING)
    first, second = (bench.passdb(path, V24, scripts=scripts, id=id) for id in "12")
    third = bench.userdb(path, V24, scripts=scripts, id="1")
    assert bench.texts == ["init"]
    counts = [dict(now(database.lookup(login())).fields)["count"] for database in (first, second, third, first)]
    assert counts == ["1", "2", "3", "4"]
    assert listed(third.iterate()) == ["u4"]
    first.close()
    first.close()
    second.close()
    assert dict(now(third.lookup(login())).fields)["count"] == "5"
    assert bench.texts == ["init"]
    third.close()
    assert bench.texts == ["init", "deinit"]
    assert len(scripts) == 0
    alone = bench.passdb(path, V24, id="1")
    assert dict(now(alone.lookup(login())).fields)["count"] == "1"


def test_who_shares_a_script_keeps_its_number(bench: Bench):
    """``req.id`` and ``%{id}`` are those of the database that is asked, also after its call has waited."""
    scripts = Scripts()
    path = bench.script("TEMPLATE = '%{id}'" + COUNTING)
    one, two = (bench.passdb(path, V24, scripts=scripts, id=id) for id in "12")
    calls = [(database, database.lookup(login(session="slow"))) for database in (one, two)]
    wishes = [call.send(None) for _, call in calls]
    assert len(wishes) == 2
    for (_, call), id in reversed(list(zip(calls, "12", strict=True))):
        with pytest.raises(StopIteration) as done:
            call.send((0.0, None))
        fields = dict(done.value.value.fields)
        assert (fields["id"], fields["expanded"]) == (id, id)
    for database, id in ((one, "1"), (two, "2")):
        assert dict(computing(database.lookup(login()))[0].fields)["id"] == id
    assert one._script.calls.definitions == {}


def test_a_template_is_that_of_the_database_which_is_asked(bench: Bench):
    """2.3's templates of a userdb make numbers of uids; those of a passdb leave them."""
    scripts = Scripts()
    path = bench.script(
        "local function answer(req) return 1, req:response_from_template('uid=root') end\n"
        "auth_passdb_lookup, auth_userdb_lookup = answer, answer"
    )
    passdb, userdb = bench.passdb(path, V23, scripts=scripts), bench.userdb(path, V23, scripts=scripts)
    assert dict(now(passdb.lookup(login())).fields) == {"uid": "root"}
    assert dict(now(userdb.lookup(login())).fields) == {"uid": "0"}


def test_a_share_that_does_not_start_leaves_the_others(bench: Bench):
    """The second database wants a cache key that the script cannot give; the first serves on."""
    scripts = Scripts()
    path = bench.script(
        "function auth_passdb_lookup() return 1, {} end function auth_userdb_get_cache_key() error('no') end"
    )
    passdb = bench.passdb(path, V24, scripts=scripts)
    with pytest.raises(ScriptError, match=r"^userdb-lua: auth_userdb_get_cache_key\(\) failed: "):
        bench.userdb(path, V24, scripts=scripts)
    assert now(passdb.lookup(login())).result == 1
    passdb.close()
    assert len(scripts) == 0
    broken = bench.script("error('no', 0)")
    with pytest.raises(ScriptError):
        bench.passdb(broken, V24, scripts=scripts)
    assert len(scripts) == 0


# -- memory ---------------------------------------------------------------------------------------------------------


def resident() -> int:
    """Bytes of this process in memory, those that are free given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


HEAVY = """
local held = {}
for i = 1, 16 do held[i] = ("x"):rep(1000000) .. i end
for i = 1, 40000 do held["k" .. i] = { i } end
function auth_passdb_lookup(req)
  held.last = req
  dovecot.event():add_str("a", "b")
  local thread = coroutine.create(function() coroutine.yield(held) end)
  coroutine.resume(thread)
  held.thread = thread
  if req.user == "slow" then req:password_verify("{SHA512-CRYPT}$6$rounds=1000$abcdefgh$x", "pass") end
  return 1, {}
end
"""


@EVERY_LUA
def test_unloading_gives_all_memory_back(bench: Bench, version: str):
    """16 MB of strings and some of tables, with requests, coroutines and a call that waits, time and again."""
    path = bench.script(HEAVY)

    def load() -> int:
        passdb = bench.passdb(path, V23, version=version)
        now(passdb.lookup(login()))
        waiting = passdb.lookup(login("slow"))
        with suppress(StopIteration):  # 5.1 cannot wait
            waiting.send(None)
        grown = resident()
        passdb.close()
        waiting.close()
        return grown

    load()  # what a version needs once
    before = resident()
    held = [load() for _ in range(2)]
    after = resident()
    assert min(held) - before > 16_000_000
    assert after - before < 2_000_000
