"""Many calls wait in one Lua state, in the server and in workers, and each gets what is its own."""

import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import trio

from authlua.auth import new_request
from authlua.config import TWINS
from authlua.errors import ScriptError
from authlua.passwords import Limits
from authlua.results import PassdbReply
from authlua.secret import Secret
from authlua.server.driving import Done, begin, complete, resume
from authlua.server.pool import Pool, WorkerPassdb
from authlua.server.ready import Ready
from authlua.server.waiting import expire
from authlua.server.zygote import Zygote
from authlua.twins import Waits, open_twins
from authlua.twins import operations as clock
from authlua.wishes import Errand, Outcome
from tests.lua.conftest import Bench, login, now
from tests.services.redis_server import RedisServer, needs_redis
from tests.twins.conftest import INSTALL, Peer

VERSIONS = pytest.mark.parametrize("version", ["5.1", "5.2", "5.3", "5.4", "5.5", "luajit"])


class NoWatcher:
    """Nobody looks after descriptors."""

    def watch(self, served: Any, events: int) -> None:
        """Nothing."""

    def forget(self, served: Any) -> None:
        """Nothing."""


@asynccontextmanager
async def event_loop(waits: Waits) -> AsyncIterator[None]:
    """What a server does for its scripts."""
    ready = Ready()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ready.run)
        nursery.start_soon(expire, waits, ready, lambda: None)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(240):
            yield
        nursery.cancel_scope.cancel()
    waits.detach()
    ready.close()


class Barrier:
    """A server that says ``go`` to *count* connections once that many are there, and then ends them."""

    def __init__(self, count: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port: int = self._listener.getsockname()[1]
        self._count = count
        self.ended = threading.Event()
        """One of them has ended by itself."""

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_up()
        self._thread.join()
        self._listener.close()

    def give_up(self) -> None:
        """Wait for no more of them."""
        if self._thread.is_alive():
            self._listener.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        socks: list[socket.socket] = []
        try:
            while len(socks) < self._count:
                socks.append(self._listener.accept()[0])
            for sock in socks:
                sock.sendall(b"go\n")
        except OSError:
            # told to stop, or the last of them has ended
            for sock in socks:
                sock.settimeout(10)
                if sock.recv(100) == b"":
                    self.ended.set()
        for sock in socks:
            sock.close()


def twins(bench: Bench, script: str, waits: Waits, **options: Any) -> Any:
    """*script* as a passdb with twins."""
    return bench.passdb(script, twins=TWINS, operations=partial(open_twins, waits), **options)


async def ask_all(passdb: Any, waits: Waits, users: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """The fields of each user, all asked for at the same time."""
    said: dict[str, dict[str, str | None]] = {}

    async def ask(user: str) -> None:
        said[user] = dict((await complete(passdb.lookup(login(user)))).fields)

    async with event_loop(waits), trio.open_nursery() as nursery:
        for user in users:
            nursery.start_soon(ask, user)
    return said


@VERSIONS
def test_three_thousand_calls_wait_in_one_state(bench: Bench, monkeypatch: pytest.MonkeyPatch, version: str):
    """Nobody's waiting keeps another from beginning, and when the time comes all go on."""
    waits = Waits()
    waits.attach(NoWatcher(), lambda at: None)
    script = """
    local socket = require("socket")
    function auth_passdb_lookup(req) socket.sleep(1000) return 1, { who = req.user } end"""
    passdb = twins(bench, script, waits, version=version)
    outcomes: list[Outcome] = []
    calls = [passdb.lookup(login(f"u{number}")) for number in range(3000)]
    for call in calls:
        errand = begin(call)
        assert isinstance(errand, Errand)
        errand.start(outcomes.append)
    assert (passdb.busy, outcomes) == (3000, [])
    late = clock.now() + 2000
    monkeypatch.setattr(clock, "now", lambda: late)
    waits.expire()
    ends = [resume(call, outcome) for call, outcome in zip(calls, outcomes, strict=True)]
    assert [dict(end.value.fields)["who"] for end in ends if isinstance(end, Done)] == [f"u{n}" for n in range(3000)]
    assert passdb.busy == 0


def test_nobody_waits_for_ever(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """A script that sets no limit has that of the server; its call fails, and is over."""
    waits = Waits()
    waits.attach(NoWatcher(), lambda at: None, patience=150)
    call = twins(bench, 'function auth_passdb_lookup() require("socket").sleep(1000) end', waits).lookup(login())
    errand = begin(call)
    assert isinstance(errand, Errand)
    outcomes: list[Outcome] = []
    errand.start(outcomes.append)
    late = clock.now() + 149
    monkeypatch.setattr(clock, "now", lambda: late)
    waits.expire()
    assert outcomes == []
    monkeypatch.setattr(clock, "now", lambda: late + 2)
    waits.expire()
    with pytest.raises(ScriptError, match="waited longer than 150 s"):
        resume(call, outcomes[0])


PLACES = {
    "call": "wait()",
    "pcall": "assert(pcall(wait))",
    "xpcall": "assert(xpcall(wait, print))",
    "coroutine": "local resumed = coroutine.wrap(function() wait() end) resumed()",
    "nameless": "(function() wait() end)()",
    "deep": "pcall(coroutine.wrap(function() assert(pcall(wait)) end))",
    "iterator": "for _ in function(_, last) if not last then wait() return 1 end end do end",
    "metamethod": "local _ = setmetatable({}, { __index = function() wait() end }).x",
    "tail call": "(function() return wait() end)()",
    "sort": "table.sort({ 2, 1 }, function(a, b) wait() return a < b end)",
    "gsub": "(''):gsub('', function() wait() end)",
    "tostring": "tostring(setmetatable({}, { __tostring = function() wait() return '' end }))",
}
EVERYWHERE = {"call", "pcall", "xpcall", "coroutine", "deep", "tail call"}
WAITS_IN = {
    version: EVERYWHERE | {"nameless", "iterator", "metamethod"} for version in ("5.2", "5.3", "5.4", "5.5")
} | {
    "luajit": EVERYWHERE | {"nameless", "iterator", "metamethod", "tostring"},
    "5.1": EVERYWHERE,
}


@VERSIONS
@pytest.mark.parametrize("place", PLACES)
def test_where_a_call_can_wait_and_where_it_blocks(bench: Bench, version: str, place: str):
    """Where Lua cannot leave a function, everybody waits; never is it an error."""
    waits = Waits()
    waits.attach(NoWatcher(), lambda at: None)
    script = f"""
    local socket = require("socket")
    local function wait() socket.sleep(0.01) end
    function auth_passdb_lookup(req) {PLACES[place]} return 1, {{}} end"""
    call = twins(bench, script, waits, version=version).lookup(login())
    step = begin(call)
    if isinstance(step, Errand):
        outcomes: list[Outcome] = []
        step.start(outcomes.append)
        trio.run(trio.sleep, 0.02)
        waits.expire()
        assert isinstance(resume(call, outcomes[0]), Done)
    assert isinstance(step, Errand) is (place in WAITS_IN[version])


def test_a_thread_that_is_late_rings_no_bell_of_others() -> None:
    """When it is done, the event loop may have ended, and the bell's descriptor may be in other hands."""
    waits = Waits()
    waits.attach(NoWatcher(), lambda at: None)
    bell = waits.fileno()
    waits.detach()
    other = os.eventfd(0, os.EFD_NONBLOCK)
    os.dup2(other, bell)
    waits.soon(lambda: None)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(bell)
    os.close(other)
    if other != bell:
        os.close(bell)


SHARED = """
local socket = require("socket")
local shared
function auth_passdb_lookup(req)
  if not shared then shared = assert(socket.connect("127.0.0.1", PORT)) end
  shared:send("say " .. req.user .. "\\n")
  socket.sleep(0)
  local first = shared:receive(#req.user)
  shared:send("say again " .. req.user .. "\\\\n\\n")
  return 1, { said = first .. " " .. tostring(shared:receive()) }
end
"""


async def test_a_shared_connection_is_one_calls_at_a_time(bench: Bench, peer: Peer) -> None:
    """Else one login would read what was meant for another."""
    waits = Waits()
    passdb = twins(bench, SHARED.replace("PORT", str(peer.port)), waits)
    said: dict[str, str | None] = {}

    async def ask(user: str) -> None:
        reply = await complete(passdb.lookup(login(user)))
        said[user] = dict(reply.fields)["said"]

    async with event_loop(waits), trio.open_nursery() as nursery:
        for number in range(100, 150):
            nursery.start_soon(ask, f"u{number}")
    assert said == {f"u{number}": f"u{number} again u{number}" for number in range(100, 150)}


async def test_a_call_given_up_leaves_no_half_read_connection(bench: Bench, peer: Peer) -> None:
    """What it shared is closed, and the next in the queue has its turn."""
    outcomes: list[Outcome] = []
    waits = Waits()
    script = """
    local socket = require("socket")
    local shared = assert(socket.connect("127.0.0.1", PORT))
    function auth_passdb_lookup(req)
      if req.user == "first" then shared:send("say secret") end
      local got, problem = shared:receive(100)
      return 1, { problem = problem }
    end"""
    passdb = twins(bench, script.replace("PORT", str(peer.port)), waits)
    first, second = passdb.lookup(login("first")), passdb.lookup(login("second"))
    woken = trio.Event()

    def heard(outcome: Outcome) -> None:
        outcomes.append(outcome)
        woken.set()

    async with event_loop(waits):
        errands = [begin(first), begin(second)]
        assert isinstance(errands[0], Errand)
        assert isinstance(errands[1], Errand)
        errands[0].start(lambda outcome: None)
        errands[1].start(heard)
        await trio.testing.wait_all_tasks_blocked()
        assert outcomes == []
        errands[0].cancel()
        first.close()
        await woken.wait()
    end = resume(second, outcomes[0])
    assert isinstance(end, Done)
    assert dict(end.value.fields)["problem"] == "closed"
    assert passdb.busy == 0


GLOBALS = """
local socket = require("socket")
count, kept, gone = 0, "kept", "here"
local function wait() socket.sleep(0.01) end
function auth_passdb_lookup(req)
  if req.user == "look" then
    return 1, { user = tostring(user), password = tostring(password), gone = tostring(gone), count = count }
  end
  user, password = req.user, req.password
  count = count + 1
  kept, gone = nil, nil
  wait()
  local seen = user .. " " .. password .. " " .. tostring(kept) .. " " .. tostring(gone)
  pcall(wait)
  user = user .. "!"
  coroutine.wrap(wait)()
  return 1, { seen = seen, user = user }
end
"""


@VERSIONS
def test_a_login_never_sees_the_globals_of_another_that_waits(bench: Bench, version: str):
    """A script may have forgotten `local`; in Dovecot it does no harm, as calls run one after the other."""
    waits = Waits()
    waits.attach(NoWatcher(), lambda at: None)
    passdb = twins(bench, GLOBALS, waits, version=version)

    def look() -> dict[str, str | None]:
        return dict(now(passdb.lookup(login("look"))).fields)

    untouched = {"user": "nil", "password": "nil", "gone": "here", "count": "0"}
    assert look() == untouched
    calls = {user: passdb.lookup(login(user, password=Secret(f"of {user}".encode()))) for user in ("a", "b", "c")}
    steps = {user: begin(call) for user, call in calls.items()}
    while any(isinstance(step, Errand) for step in steps.values()):
        assert look() == untouched
        for user, step in steps.items():
            if isinstance(step, Errand):
                outcomes: list[Outcome] = []
                step.start(outcomes.append)
                trio.run(trio.sleep, 0.01)
                waits.expire()
                steps[user] = resume(calls[user], outcomes[0])
                if isinstance(steps[user], Done):
                    untouched = {"user": f"{user}!", "password": f"of {user}", "gone": "nil", "count": "1"}
    for user, step in steps.items():
        assert isinstance(step, Done)
        assert dict(step.value.fields) == {"seen": f"{user} of {user} nil nil", "user": f"{user}!"}


SESSIONS = """
local con = assert(require("luasql.mysql").mysql():connect("test", "mail", "secret", "127.0.0.1", PORT))
con:execute("set @greeting = 'hello'")
local function ask(statement)
  local cur = assert(con:execute(statement))
  local value = cur:fetch()
  cur:close()
  return value
end
function auth_passdb_lookup(req)
  con:execute("set @user = '" .. con:escape(req.user) .. "'")
  local first = ask("select connection_id()")
  ask("select sleep(0.05)")
  local greeting, user = ask("select @greeting"), ask("select @user")
  return 1, { greeting = greeting, user = user, first = first, second = ask("select connection_id()") }
end
"""


async def test_a_shared_database_connection_is_a_session_for_each_call(
    bench: Bench, servers: Callable[[str], int]
) -> None:
    """Which has been told what the script told its connection; a call keeps its session to the end."""
    waits = Waits()
    passdb = twins(bench, SESSIONS.replace("PORT", str(servers("mysql"))), waits)
    said: dict[str, dict[str, str | None]] = {}

    async def ask(user: str) -> None:
        said[user] = dict((await complete(passdb.lookup(login(user)))).fields)

    async with event_loop(waits), trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, f"u{number}")
    assert [(user, "hello") for user in said] == [(one["user"], one["greeting"]) for one in said.values()]
    assert all(one["first"] == one["second"] for one in said.values())
    assert len({one["first"] for one in said.values()}) == 20


async def test_a_session_of_a_call_given_up_is_ended(bench: Bench, servers: Callable[[str], int]) -> None:
    """What it was in the middle of is nobody else's."""
    waits = Waits()
    passdb = twins(bench, SESSIONS.replace("PORT", str(servers("mysql"))), waits)
    call = passdb.lookup(login("gone"))
    async with event_loop(waits):
        errand = begin(call)
        assert isinstance(errand, Errand)
        errand.start(lambda outcome: None)
        errand.cancel()
        call.close()
        fields = dict((await complete(passdb.lookup(login("next")))).fields)
    assert (fields["user"], fields["greeting"]) == ("next", "hello")


# -- in workers


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """Where workers come from."""
    zygote = Zygote()
    yield zygote
    zygote.close()


@asynccontextmanager
async def one_worker(
    zygote: Zygote, script: str, seconds: float = 60.0
) -> AsyncIterator[tuple[Pool, Callable[[str], Coroutine[Any, Any, PassdbReply]]]]:
    """A pool of one worker for *script*, and its passdb's lookup."""

    def log(level: str, text: str, about: object, fields: Mapping[str, object]) -> None:
        raise AssertionError(f"logged: {text}")

    pool = Pool(zygote, log, max=1, timeout=seconds, memory_limit=64 << 20)
    options = {"settings": {}, "limits": tuple(Limits()), "twins": list(TWINS)}
    number = pool.add("passdb", "auth.lua", script.encode(), "2.3", "2.3", options, False)
    passdb = WorkerPassdb(pool, number, verifies=False, cache_key=None)

    async def lookup(user: str) -> PassdbReply:
        request = new_request([("service", "imap")], id=1, mech="PLAIN")
        request.user = request.original_user = user
        reply: PassdbReply = await complete(passdb.lookup(request))
        return reply

    ready = Ready()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ready.run)
        pool.start(ready, lambda: None)
        nursery.start_soon(pool.run)
        with trio.fail_after(240):
            yield pool, lookup
        pool.close()
        nursery.cancel_scope.cancel()
    ready.close()


BARRIER = """
local socket = require("socket")
function auth_passdb_lookup(req)
  if req.user == "quick" then return 1, { said = "quick" } end
  local sock = assert(socket.connect("127.0.0.1", PORT))
  return 1, { said = sock:receive() .. " " .. req.user }
end
"""


async def test_calls_wait_together_in_one_worker(zygote: Zygote) -> None:
    """A worker whose calls wait is free for the next; it would take a worker for each otherwise."""
    said: list[str | None] = []
    with Barrier(200) as barrier:
        async with one_worker(zygote, BARRIER.replace("PORT", str(barrier.port))) as (_, lookup):

            async def ask(user: str) -> None:
                said.append(dict((await lookup(user)).fields)["said"])

            async with trio.open_nursery() as nursery:
                for number in range(200):
                    nursery.start_soon(ask, f"u{number}")
    assert sorted(map(str, said)) == sorted(f"go u{number}" for number in range(200))


async def test_a_call_that_waits_too_long_in_a_worker_ends_alone(zygote: Zygote) -> None:
    """Its socket is closed; the worker is not killed for it, and serves on."""
    with Barrier(2) as barrier:
        async with one_worker(zygote, BARRIER.replace("PORT", str(barrier.port)), seconds=1.0) as (pool, lookup):
            await lookup("quick")
            (worker,) = pool._workers.values()
            pid = worker.pid
            with pytest.raises(ScriptError, match="took longer than 1 s"):
                await lookup("slow")
            assert dict((await lookup("quick")).fields)["said"] == "quick"
            (worker,) = pool._workers.values()
            assert worker.pid == pid
            barrier.give_up()
            assert await trio.to_thread.run_sync(barrier.ended.wait, 60)


async def test_calls_that_wait_in_a_worker_that_dies_fail_at_once(zygote: Zygote) -> None:
    """All of them are known to be its."""
    script = BARRIER.replace(
        'if req.user == "quick"', 'if req.user == "die" then os.execute("kill -9 $PPID") end if req.user == "quick"'
    )
    failures = []
    with Barrier(100) as barrier:
        async with one_worker(zygote, script.replace("PORT", str(barrier.port))) as (pool, lookup):

            async def ask(user: str) -> None:
                with pytest.raises(ScriptError, match="died unexpectedly"):
                    await lookup(user)
                failures.append(user)

            async with trio.open_nursery() as nursery:
                for number in range(5):
                    nursery.start_soon(ask, f"u{number}")
                while pool._set_aside < 5:  # noqa: ASYNC110 - nobody tells
                    await trio.sleep(0.01)
                nursery.start_soon(ask, "die")
            await lookup("quick")
    assert len(failures) == 6


# -- several sockets, and datagrams


SELECTING = """
local socket = require("socket")
local kept = {}
function auth_passdb_lookup(req)
  local mine = socket.udp()
  mine:setsockname("127.0.0.1", 0)
  kept[#kept + 1] = mine
  if #kept == COUNT then
    for i = 1, COUNT - 1 do mine:sendto("go", kept[i]:getsockname()) end
    return 1, { said = "last" }
  end
  local other = socket.udp4()
  if HOW == "select" then
    local reading, writing, problem = socket.select({ other, mine }, nil, 60)
    return 1, { said = tostring(#reading == 1 and reading[1] == mine and mine:receive()), problem = problem }
  end
  return 1, { said = (mine:receivefrom()) }
end
"""


@pytest.mark.parametrize("how", ["select", "receivefrom"])
async def test_calls_that_wait_for_datagrams_wait_together(bench: Bench, how: str) -> None:
    """For one socket, or for one of several; the last call wakes all others."""
    waits = Waits()
    script = SELECTING.replace("COUNT", "50").replace("HOW", f'"{how}"')
    said = await ask_all(twins(bench, script, waits), waits, [f"u{number}" for number in range(50)])
    assert sorted(str(one["said"]) for one in said.values()) == ["go"] * 49 + ["last"]
    assert not any("problem" in one for one in said.values())


async def test_a_time_limit_of_select_ends_it(bench: Bench) -> None:
    """Other calls go on until then."""
    waits = Waits()
    script = SELECTING.replace("COUNT", "50").replace("HOW", '"select"').replace("nil, 60", "nil, 0.02")
    said = await ask_all(twins(bench, script, waits), waits, ["a", "b"])
    assert [(one["said"], one["problem"]) for one in said.values()] == [("false", "timeout")] * 2


# -- Redis


HAS_LUA_REDIS = Path("/usr/share/lua/5.1/redis.lua").exists()
REDIS = """
local redis = require("redis")
local client = redis.connect("127.0.0.1", PORT)
function auth_passdb_lookup(req)
  client:hset("users", req.user, "{PLAIN}" .. req.user)
  local found, ping = client:hget("users", req.user), client:ping()
  return 1, { password = found, ping = tostring(ping), absent = tostring(client:get("nosuch")) }
end
"""


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis."""
    with RedisServer() as server:
        yield server


@needs_redis
@pytest.mark.parametrize("families", [TWINS, ["redis"], ["socket"]])
async def test_a_redis_client_waits_without_holding_others_up(
    bench: Bench, redis: RedisServer, families: Sequence[str]
) -> None:
    """Ours, with or without the twin of LuaSocket; and Debian's lua-redis, for Lua 5.1, on that twin."""
    if "redis" not in families and not HAS_LUA_REDIS:
        pytest.skip(f"no lua-redis; {INSTALL}")
    waits = Waits()
    script = REDIS.replace("PORT", str(redis.port))
    if "redis" in families:
        script = "package.path = ''" + script
    passdb = bench.passdb(script, twins=families, operations=partial(open_twins, waits), version="5.1")
    users = [f"u{number}" for number in range(30)]
    said = await ask_all(passdb, waits, users)
    assert said == {user: {"password": f"{{PLAIN}}{user}", "ping": "true", "absent": "nil"} for user in users}


@needs_redis
@VERSIONS
async def test_each_call_has_a_redis_session_of_its_own(bench: Bench, version: str) -> None:
    """Which has heard what the script said to its connection; so calls that wait do not wait for one another."""
    script = """
    local client = require("redis").connect("127.0.0.1", PORT)
    client:auth("secret")
    client:pipeline(function(p) p:select(3) end)
    client:set("greeting", "hello")
    local count = 0
    function auth_passdb_lookup(req)
      local id = client:client("id")
      count = count + 1
      if count == 20 then
        for i = 1, 19 do client:rpush("go", "now") end
      else
        client:blpop("go", 0)
      end
      return 1, { id = id, same = tostring(id == client:client("id")), greeting = client:get("greeting") }
    end"""
    with RedisServer("secret") as server:
        waits = Waits()
        passdb = twins(bench, script.replace("PORT", str(server.port)), waits, version=version)
        said = await ask_all(passdb, waits, [f"u{number}" for number in range(20)])
    assert [(one["same"], one["greeting"]) for one in said.values()] == [("true", "hello")] * 20
    assert len({one["id"] for one in said.values()}) == 20


@needs_redis
async def test_calls_beyond_the_most_redis_sessions_have_them_later(bench: Bench, redis: RedisServer) -> None:
    """No more connections than 60, however many logins."""
    script = """
    local client = require("redis").connect("127.0.0.1", PORT)
    local socket = require("socket")
    function auth_passdb_lookup(req)
      local id = client:client("id")
      socket.sleep(0.01)
      return 1, { id = id, said = client:echo(req.user) }
    end"""
    waits = Waits()
    passdb = twins(bench, script.replace("PORT", str(redis.port)), waits)
    said = await ask_all(passdb, waits, [f"u{number}" for number in range(100)])
    assert {user: one["said"] for user, one in said.items()} == {user: user for user in said}
    assert len({one["id"] for one in said.values()}) == 60


LEFTOVERS = """
local client = require("redis").connect("127.0.0.1", PORT, 100)
function auth_passdb_lookup(req)
  if req.user == "late" then
    client.network.socket:settimeout(0.05)
    pcall(client.blpop, client, "never", 60)
    return 1, { said = tostring(pcall(client.get, client, "key")) }
  elseif req.user == "multi" then
    client:multi()
    client:set("key", "value")
    return 1, { said = "left" }
  elseif req.user == "half" then
    client.requests.multibulk(client, "ECHO", "for another")
    require("socket").sleep(1000)
  end
  return 1, { said = client:echo(req.user) }
end
"""


@needs_redis
@pytest.mark.parametrize("user", ["late", "multi", "half"])
async def test_what_a_call_leaves_in_its_redis_session_reaches_nobody(
    bench: Bench, redis: RedisServer, user: str
) -> None:
    """An answer that came too late, an open transaction, a call that was given up: there is a fresh session then."""
    waits = Waits()
    passdb = twins(bench, LEFTOVERS.replace("PORT", str(redis.port)), waits)
    async with event_loop(waits):
        if user == "half":
            call = passdb.lookup(login("half"))
            errand = begin(call)
            assert isinstance(errand, Errand)
            errand.start(lambda outcome: None)
            errand.cancel()
            call.close()
        else:
            left = {"late": "false", "multi": "left"}[user]
            assert dict((await complete(passdb.lookup(login(user)))).fields)["said"] == left
        assert dict((await complete(passdb.lookup(login("next")))).fields)["said"] == "next"


@needs_redis
async def test_a_redis_that_was_away_is_found_again(bench: Bench) -> None:
    """A script that knows nothing of reconnecting goes on when the server does."""
    with RedisServer() as server:
        waits = Waits()
        passdb = twins(bench, LEFTOVERS.replace("PORT", str(server.port)), waits)
        async with event_loop(waits):
            for _ in range(2):
                assert dict((await complete(passdb.lookup(login("u")))).fields)["said"] == "u"
                server.stop()
                with pytest.raises(ScriptError, match="could not connect to 127"):
                    await complete(passdb.lookup(login("u")))
                server.start()
            assert dict((await complete(passdb.lookup(login("u")))).fields)["said"] == "u"
