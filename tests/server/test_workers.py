"""Workers: real processes, and what scripts may do to them."""

import contextlib
import marshal
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from authlua.auth import new_request
from authlua.errors import ScriptError
from authlua.listing import PIECE
from authlua.lua.calls import DEFAULTS
from authlua.passwords import LIMITS
from authlua.request import AuthRequest
from authlua.results import PassdbReply, PassdbResult, UserdbResult
from authlua.secret import Secret
from authlua.server import zygote as zygotes
from authlua.server.core import _plain
from authlua.server.driving import begin, complete, finish
from authlua.server.hashing import Hasher
from authlua.server.pool import Pool, WorkerCall, WorkerListing, WorkerPassdb, WorkerUserdb, _Process
from authlua.server.ready import Ready
from authlua.server.worker import MAX_FRAME
from authlua.server.zygote import Zygote
from authlua.wishes import Hash, Outcome, Wish
from tests.services.backend import Backend

SCRIPT = r"""
local calls = 0
function auth_passdb_lookup(req)
  calls = calls + 1
  local act = req.user
  if act == "block" then
    local pipe = io.open(PIPE)   -- until somebody writes
    pipe:read("a")
  elseif act == "loop" then while true do end
  elseif act == "eat" then local t = {} while true do t[#t + 1] = ("x"):rep(1000000) .. #t end
  elseif act == "die" then os.execute("kill -9 $PPID")
  elseif act == "grow" then KEPT = ("x"):rep(40 << 20)
  elseif act == "raise" then error("boom")
  elseif act:find("^/") then
    local request = dovecot.http.client{ debug = act == "/debug" }:request{ url = URL .. act, method = "POST" }
    if act == "/big" then request:set_payload(("y"):rep(200000)) end
    local response = request:submit()
    req:log_warning("answered")
    return dovecot.auth.PASSDB_RESULT_OK,
      { status = tostring(response:status()), size = tostring(#response:payload()), calls = tostring(calls) }
  elseif act == "hash" then
    local code = req:password_verify("{PBKDF2}$1$salt$7$" .. ("0"):rep(40), "secret")
    return dovecot.auth.PASSDB_RESULT_OK, { code = tostring(code) }
  elseif act == "dear" then
    local code, why = req:password_verify("{PBKDF2}$1$salt$101$" .. ("0"):rep(40), "secret")
    return dovecot.auth.PASSDB_RESULT_OK, { code = tostring(code), why = why }
  elseif act == "log" then req:log_warning("about you") dovecot.i_warning("about all")
  end
  return dovecot.auth.PASSDB_RESULT_OK, {
    password = "{PLAIN}pass", service = req.service, rip = req.rip, pid = tostring(req.pid),
    forwarded = req.passdb.forward_x, calls = tostring(calls), given = req.password,
  }
end
function script_deinit() io.open(PIPE .. ".ended", "a"):write("x"):close() end
function auth_userdb_lookup(req) return dovecot.auth.USERDB_RESULT_OK, { home = "/h/" .. req.user } end
function auth_userdb_iterate()
  local i = 0
  return function()
    i = i + 1
    if i == 1500 then return ("x"):rep(300000) end
    if i <= 2500 then return "user" .. i end
  end
end
"""

Line = tuple[str, str, AuthRequest | None]


class House:
    """A running pool."""

    def __init__(
        self,
        pool: Pool,
        log: list[Line],
        passdb: WorkerPassdb,
        userdb: WorkerUserdb,
        pipe: Path,
        backend: Backend,
        hasher: Hasher,
    ) -> None:
        self.hasher = hasher
        self.pool = pool
        self.log = log
        self.passdb = passdb
        self.userdb = userdb
        self.pipe = pipe
        self.backend = backend

    async def lookup(self, user: str, *params: tuple[str, str]) -> PassdbReply:
        request = new_request([("service", "imap"), *params], id=1, mech="PLAIN", client_pid=77)
        request.user = request.original_user = user
        reply: PassdbReply = await complete(self.passdb.lookup(request))
        return reply

    def unblock(self) -> None:
        """Let one blocked call go on."""
        self.pipe.write_text("go")


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """One zygote for all pools, as in a server that is reloaded."""
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture
async def house(zygote: Zygote, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    """A pool of at most four workers."""
    limits = {"max": 4, "timeout": 60.0, "memory_limit": 32 << 20, **getattr(request, "param", {})}
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    script = tmp_path / "auth.lua"
    # far longer than any message
    with Backend() as backend:
        text = SCRIPT.replace("PIPE", f'"{pipe}"').replace("URL", f'"{backend.url}"')
        script.write_text(text + "--" + "x" * 500_000)
        async with _house(zygote, script, pipe, backend, limits) as house:
            yield house


@asynccontextmanager
async def _house(
    zygote: Zygote, script: Path, pipe: Path, backend: Backend, limits: dict[str, Any]
) -> AsyncIterator[House]:
    log: list[Line] = []

    def write(level: str, text: str, about: AuthRequest | None, fields: Mapping[str, object]) -> None:
        log.append((level, text, about))

    pool = Pool(zygote, write, **limits)
    options = _plain(DEFAULTS._replace(limits=LIMITS._replace(pbkdf2_rounds=100)))
    source = await trio.Path(script).read_bytes()
    passdb = WorkerPassdb(
        pool,
        pool.add("passdb", str(script), source, "2.3", "2.3", options, False),
        verifies=False,
        cache_key=None,
    )
    userdb = WorkerUserdb(pool, pool.add("userdb", str(script), source, "2.3", "2.3", options, False), cache_key=None)
    ready = Ready()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ready.run)
        hasher = Hasher(ready, lambda: None, timeout=60, threads=1)
        pool.start(ready, lambda: None, hasher)
        nursery.start_soon(pool.run)
        nursery.start_soon(hasher.run)
        with trio.fail_after(240):
            yield House(pool, log, passdb, userdb, pipe, backend, hasher)
        pool.close()
        hasher.close()
        nursery.cancel_scope.cancel()
    ready.close()


async def test_a_worker_sees_the_request_and_its_reply_comes_back(house: House) -> None:
    """All of it, but for the client's pid, which Dovecot's workers do not know either."""
    reply = await house.lookup("t", ("rip", "192.0.2.1"), ("forward_fields", "x=y"))
    assert reply.result is PassdbResult.OK
    expected = {"password": "{PLAIN}pass", "service": "imap", "rip": "192.0.2.1", "pid": "0", "forwarded": "y"}
    assert dict(reply.fields).items() >= expected.items()


async def test_each_call_is_an_event(house: House) -> None:
    """By the command that Dovecot's auth process would send; one that fails says why."""
    events: list[tuple[str, dict[str, str]]] = []
    house.pool.observe = lambda event, request, seconds: events.append((event.name, dict(event.fields)))
    await house.lookup("t")
    with pytest.raises(ScriptError):
        await house.lookup("raise")
    (name, first), (_, second) = events
    assert (name, first["command"]) == ("auth_worker_request_finished", "PASSL")
    assert int(first["command_id"]) < int(second["command_id"])
    assert ("error" in first, "boom" in second["error"]) == (False, True)


async def test_userdb_and_list_go_to_workers_too(house: House) -> None:
    """A long list in pieces."""
    request = new_request([("service", "lmtp")], id=1)
    request.user = "t"
    reply = await complete(house.userdb.lookup(request))
    assert (reply.result, dict(reply.fields)) == (UserdbResult.OK, {"home": "/h/t"})
    assert await names(house.userdb.iterate()) == [
        "x" * 300_000 if number == 1500 else f"user{number}" for number in range(1, 2501)
    ]


async def names(listing: WorkerListing) -> list[str]:
    """All names of a listing."""
    found: list[str] = []
    while piece := await complete(listing.piece()):
        found += piece
    listing.close()
    return found


@pytest.mark.parametrize("house", [{"max": 1}], indirect=True)
async def test_a_list_that_nobody_reads_holds_nobody_up(house: House) -> None:
    """Its worker, the only one, takes other calls, and sends the rest when it is asked to; a name may be long."""
    listing, other = house.userdb.iterate(), house.userdb.iterate()
    assert len(await complete(listing.piece())) == PIECE
    for number in range(1, 4):
        fields = (await house.lookup("t")).fields
        assert dict(fields)["calls"] == str(number)
    assert (await complete(other.piece()))[0] == "user1"
    rest = await names(listing)
    assert (len(rest), len(rest[499]), rest[-1]) == (1500, 300_000, "user2500")
    other.close()
    await house.lookup("t")
    assert (house.pool._calls, house.pool._paused) == ({}, {})


@pytest.mark.parametrize("house", [{"max": 1}], indirect=True)
async def test_a_list_whose_worker_dies_ends_with_an_error(house: House) -> None:
    """Also when it dies while nobody asks."""
    listing = house.userdb.iterate()
    await complete(listing.piece())
    with pytest.raises(ScriptError, match="died unexpectedly"):
        await house.lookup("die")
    with pytest.raises(ScriptError, match="died unexpectedly"):
        await complete(listing.piece())
    listing.close()
    assert len(await names(house.userdb.iterate())) == 2500


@pytest.mark.parametrize("house", [{"timeout": 2.0}], indirect=True)
async def test_a_slow_reader_of_a_list_is_not_timed_out(house: House) -> None:
    """The time counts while a piece is waited for."""
    listing = house.userdb.iterate()
    await complete(listing.piece())
    await trio.sleep(2.2)
    assert len(await names(listing)) == 1500


@pytest.mark.parametrize("house", [{"max": 1}], indirect=True)
async def test_an_error_comes_back_with_its_text_and_costs_no_worker(house: House) -> None:
    """The script's author finds file and line."""
    with pytest.raises(ScriptError, match=r"auth.lua:\d+: boom"):
        await house.lookup("raise")
    fields = (await house.lookup("t")).fields
    assert dict(fields)["calls"] == "2"


async def test_a_hash_over_the_limit_is_not_begun(house: House) -> None:
    """The limits of the configuration hold in workers too."""
    fields = (await house.lookup("dear")).fields
    why = "a PBKDF2 round count of 101 is more than the 100 that hashes.pbkdf2_rounds allows"
    assert dict(fields) == {"code": "-1.0", "why": why}


@pytest.mark.parametrize("house", [{"max": 1}], indirect=True)
async def test_a_slow_hash_keeps_no_worker_busy(house: House) -> None:
    """The server's own threads make it, so no storm of them takes the workers from those who need none."""
    go_on = threading.Event()
    house.hasher.job(Hash(go_on.wait), for_whom=None).start(lambda outcome: None)
    answers: list[PassdbReply] = []

    async def hash() -> None:
        answers.append(await house.lookup("hash"))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(hash)
        while len(house.hasher._out) + house.hasher._waiting_count < 6:  # noqa: ASYNC110  until all are asked for
            await trio.sleep(0.001)
        assert (await house.lookup("t")).result is PassdbResult.OK
        assert answers == []
        go_on.set()
    assert [dict(reply.fields) for reply in answers] == [{"code": "0.0"}] * 5
    assert house.pool.size == 1


async def test_a_hash_that_nobody_waits_for_is_not_made(house: House) -> None:
    """Its worker is told, and goes on."""
    go_on = threading.Event()
    house.hasher.job(Hash(go_on.wait), for_whom=None).start(lambda outcome: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.lookup, "hash")
        while len(house.hasher._out) < 2:  # noqa: ASYNC110  until it is asked for
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    (job,) = (job for job in house.hasher._out if job.function != go_on.wait)
    while job.report is not None:  # noqa: ASYNC110  until the pool has heard
        await trio.sleep(0.001)
    assert (await house.lookup("t")).result is PassdbResult.OK
    go_on.set()


async def test_log_lines_keep_their_request(house: House) -> None:
    """And lines about none have none."""
    await house.lookup("log")
    (level, text, about), (_, general, nobody) = house.log
    assert (level, text, about and about.user) == ("warning", "db-lua: about you", "log")
    assert (general, nobody) == ("about all", None)


@pytest.mark.parametrize("house", [{"max": 2}], indirect=True)
async def test_each_worker_has_globals_of_its_own(house: House) -> None:
    """While one blocks, another serves, and has not seen what the first has."""
    counts: list[str | None] = []

    async def count(user: str) -> None:
        counts.append(dict((await house.lookup(user)).fields)["calls"])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count, "block")
        await trio.testing.wait_all_tasks_blocked()
        await count("a")
        await count("b")
        await trio.to_thread.run_sync(house.unblock)
    assert sorted(map(str, counts)) == ["1", "1", "2"]


async def test_who_did_the_last_call_does_the_next(house: House) -> None:
    """As long as one can do them all, the others keep out of the processor's caches."""
    first = await one_by_one(house)
    assert [await one_by_one(house) for _ in range(10)] == list(range(first + 1, first + 11))


async def one_by_one(house: House) -> int:
    """How many calls a worker has had with this one, which is made when all workers wait for calls."""
    workers = list(house.pool._workers.values())
    while not all(worker.pid and state(worker.pid) == "S" for worker in workers):  # noqa: ASYNC110  nothing else tells
        await trio.sleep(0.001)
    return int(dict((await house.lookup("t")).fields)["calls"] or 0)


def state(pid: int) -> str:
    """What the kernel says a process does, such as ``S`` for one that waits."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_a_call_that_blocks_holds_nobody_up(house: House) -> None:
    """The pool grows instead."""
    blocked: list[str] = []

    async def block() -> None:
        await house.lookup("block")
        blocked.append("done")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(block)
        nursery.start_soon(block)
        for _ in range(20):
            await house.lookup("t")
        assert blocked == []
        assert house.pool.size >= 3
        await trio.to_thread.run_sync(house.unblock)
        await trio.to_thread.run_sync(house.unblock)
    assert len(blocked) == 2


async def test_a_script_that_takes_long_to_load_is_loaded_no_more_often(zygote: Zygote, tmp_path: Path) -> None:
    """It may ask a backend or open a connection when it is loaded: one login does not make each worker do so."""
    gate, script = tmp_path / "gate", tmp_path / "auth.lua"
    os.mkfifo(gate)
    script.write_text(
        f'function script_init() io.open("{gate}"):read("a") return 0 end\n'
        'function auth_passdb_lookup(req) return dovecot.auth.PASSDB_RESULT_OK, { nopassword = "y" } end\n'
    )
    limits = {"max": 4, "timeout": 60.0, "memory_limit": 32 << 20}
    with Backend() as backend:
        async with _house(zygote, script, gate, backend, limits) as house, trio.open_nursery() as nursery:
            nursery.start_soon(house.lookup, "t")
            await trio.sleep(0.2)
            assert house.pool.size == 2
            while nursery.child_tasks:  # each of the two loads it as passdb and as userdb
                with contextlib.suppress(OSError):
                    os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
                await trio.sleep(0.01)


@pytest.mark.parametrize("house", [{"timeout": 3.0}], indirect=True)
async def test_a_call_that_takes_too_long_is_ended_with_its_worker(house: House) -> None:
    """And its neighbours do not notice."""
    served = 0

    async def neighbours() -> None:
        nonlocal served
        while True:
            await house.lookup("t")
            served += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(neighbours)
        with pytest.raises(ScriptError, match="took longer than 3 s"):
            await house.lookup("loop")
        assert served > 10
        nursery.cancel_scope.cancel()
    await house.lookup("t")


async def begin_to_loop(house: House) -> int:
    """The pid of a worker with a call that nobody waits for any more."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.lookup, "loop")
        while not (busy := [one.pid for one in house.pool._workers.values() if one.pid and house.pool._running(one)]):  # noqa: ASYNC110  shared memory sets no event
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    return busy[0]


def lives(pid: int) -> bool:
    """Whether there is such a process, which is not on its way out."""
    try:
        return state(pid) not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # gone before its file was opened, or before it was read
        return False


@pytest.mark.parametrize("house", [{"timeout": 1.0}], indirect=True)
async def test_a_call_that_does_not_end_does_not_outlive_its_pool(house: House) -> None:
    """After a reload nobody would know of it."""
    pid = await begin_to_loop(house)
    house.pool.close()
    while lives(pid):  # noqa: ASYNC110  until it is killed
        await trio.sleep(0.01)


async def test_a_call_that_does_not_end_does_not_outlive_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However that ended; the zygote sees to it."""
    monkeypatch.setattr(zygotes, "PATIENCE", 1)
    zygote = Zygote()
    pipe, script = tmp_path / "pipe", tmp_path / "auth.lua"
    with Backend() as backend:
        script.write_text(SCRIPT.replace("PIPE", f'"{pipe}"').replace("URL", f'"{backend.url}"'))
        limits = {"max": 4, "timeout": 60.0, "memory_limit": 32 << 20}
        async with _house(zygote, script, pipe, backend, limits) as house:
            pid = await begin_to_loop(house)
    assert lives(pid)
    zygote.close()
    while lives(pid):  # noqa: ASYNC110  until it is killed
        await trio.sleep(0.01)


@pytest.mark.parametrize("house", [{"timeout": 1.0, "max": 2}], indirect=True)
async def test_a_call_that_waits_for_a_worker_has_no_more_time_than_others(house: House) -> None:
    """It fails when its own time is up, though it was never begun; by then there are workers again."""

    async def too_long() -> None:
        with pytest.raises(ScriptError, match="took longer than 1 s"):
            await house.lookup("loop")

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(too_long)
    await served_again(house)


@pytest.mark.parametrize("house", [{"timeout": 1.0, "max": 1}], indirect=True)
async def test_a_call_that_nobody_waits_for_has_no_more_time_than_others(house: House) -> None:
    """Who starts a script that loops and hangs up does not keep its worker busy for ever."""
    with trio.move_on_after(0.3):
        await house.lookup("loop")
    await served_again(house)


async def test_a_worker_that_is_gone_is_killed_in_vain(house: House) -> None:
    """The server may not have heard of it yet."""
    await house.lookup("t")
    worker = next(one for one in house.pool._workers.values() if one.pid)
    os.kill(worker.pid, signal.SIGKILL)
    while lives(worker.pid):
        time.sleep(0.001)  # noqa: ASYNC251  while this blocks, nothing is heard
    worker.kill()
    await served_again(house)


async def served_again(house: House) -> None:
    """A call is answered, if not the first one."""
    for _ in range(5):
        with contextlib.suppress(ScriptError):
            await house.lookup("t")
            return
    raise AssertionError("no worker is free")


async def test_a_script_that_eats_memory_is_stopped(house: House) -> None:
    """Its call fails, the next one is served."""
    with pytest.raises(ScriptError):
        await house.lookup("eat")
    await house.lookup("t")


async def test_a_worker_that_dies_costs_its_own_call(house: House) -> None:
    """A crash in a C module is no worse. Its script_deinit does not run."""
    with pytest.raises(ScriptError, match="died unexpectedly"):
        await house.lookup("die")
    await house.lookup("t")
    assert not house.pipe.with_suffix(".ended").exists()


async def test_a_worker_that_has_grown_makes_room_for_a_fresh_one(house: House) -> None:
    """After its reply, so nobody loses a call."""
    await house.lookup("grow")
    fields = (await house.lookup("t")).fields
    assert dict(fields)["calls"] == "1"


async def test_a_call_nobody_waits_for_is_forgotten(house: House) -> None:
    """Its reply is dropped when it comes."""
    request = new_request([("service", "imap")], id=1)
    request.user = "block"
    core = house.passdb.lookup(request)
    wish = begin(core)
    assert isinstance(wish, Wish)
    with trio.move_on_after(0.1):
        await finish(core, wish)
    assert house.pool._calls == {}
    await trio.to_thread.run_sync(house.unblock)
    await house.lookup("t")


async def test_what_queues_beyond_the_kernels_buffer_is_sent_later(house: House) -> None:
    """Thousands of calls at once: all are answered."""
    answered = 0

    async def one() -> None:
        nonlocal answered
        await house.lookup("t")
        answered += 1

    async with trio.open_nursery() as nursery:
        for _ in range(2000):
            nursery.start_soon(one)
    assert answered == 2000


async def test_the_password_reaches_the_script_and_no_repr(house: House) -> None:
    """A wish may be printed."""
    request = new_request([("service", "imap")], id=1)
    request.user = "t"
    request.password = Secret(b"hunter2")
    core = house.passdb.lookup(request)
    wish = begin(core)
    assert isinstance(wish, Wish)
    assert "hunter2" not in repr(wish)
    done: Any = await finish(core, wish)
    assert dict(done.value.fields)["given"] == "hunter2"


async def test_closing_the_pool_ends_its_processes(house: House) -> None:
    """None is left behind, and each has called script_deinit."""
    await house.lookup("t")
    processes = [os.pidfd_open(worker.pid) for worker in house.pool._workers.values() if worker.pid]
    house.pool.close()
    for process in processes:
        with trio.fail_after(20):
            await trio.lowlevel.wait_readable(process)
        os.close(process)
    assert processes
    assert set(await trio.Path(house.pipe.with_suffix(".ended")).read_text()) == {"x"}


async def test_a_worker_shares_states_too(zygote: Zygote, tmp_path: Path) -> None:
    """Those that are to be shared; each worker has them for itself."""
    script = tmp_path / "auth.lua"
    script.write_text(
        "local count = 0\nlocal function answer() count = count + 1 return 1, { count = count } end\n"
        "auth_passdb_lookup, auth_userdb_lookup = answer, answer\n"
    )
    source = script.read_bytes()
    ready = Ready()
    pool = Pool(zygote, lambda *line: None, max=1, timeout=60, memory_limit=32 << 20)
    options = _plain(DEFAULTS)
    numbers = [
        pool.add(kind, str(script), source, "2.3", "2.3", options, share)
        for kind in ("passdb", "userdb")
        for share in (True, False)
    ]
    passdbs = [WorkerPassdb(pool, number, verifies=False, cache_key=None) for number in numbers[:2]]
    userdbs = [WorkerUserdb(pool, number, cache_key=None) for number in numbers[2:]]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ready.run)
        pool.start(ready, lambda: None)
        nursery.start_soon(pool.run)
        counts = []
        for database in (passdbs[0], userdbs[0], passdbs[0], passdbs[1], userdbs[1], userdbs[0]):
            request = new_request([("service", "imap")], id=1)
            request.user = "t"
            reply: Any = await complete(database.lookup(request))
            counts.append(dict(reply.fields)["count"])
        assert counts == ["1", "2", "3", "1", "1", "4"]
        pool.close()
        nursery.cancel_scope.cancel()
    ready.close()


async def asked(backend: Backend, count: int) -> None:
    """As soon as the backend was asked *count* things."""
    while len(backend.requests) < count:  # noqa: ASYNC110 - it lives in threads
        await trio.sleep(0.01)


@pytest.mark.parametrize("house", [{"max": 1}], indirect=True)
async def test_a_worker_whose_call_waits_for_a_service_takes_the_next(house: House) -> None:
    """Twenty wait in the only worker, others are served; then the twenty go on, each with its own log line."""
    statuses: list[str | None] = []

    async def fetch() -> None:
        fields = (await house.lookup("/gate")).fields
        statuses.append(dict(fields)["status"])

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(fetch)
        await asked(house.backend, 20)
        fields = (await house.lookup("t")).fields
        assert dict(fields)["calls"] == "21"
        assert statuses == []
        house.backend.gate.set()
    assert statuses == ["200"] * 20
    assert [line[2].user for line in house.log if line[1] == "db-lua: answered" and line[2]] == ["/gate"] * 20


async def test_what_happened_to_a_request_comes_back_with_its_answer(house: House) -> None:
    """For the log of a script that wants to know."""
    await house.lookup("/debug")
    told = [text for level, text, _ in house.log if "request [Req" in text]
    assert [text.split("]: ")[-1] for text in (told[0], told[-1])] == ["Submitted", "Finished"]


async def test_what_does_not_fit_in_one_message_travels_in_pieces(house: House) -> None:
    """A request of 200 kB and an answer of 500 kB."""
    fields = (await house.lookup("/big")).fields
    assert dict(fields)["size"] == "500000"


@pytest.mark.parametrize("house", [{"max": 1}], indirect=True)
async def test_a_worker_that_dies_takes_its_waiting_calls_along(house: House) -> None:
    """They fail at once, and the next call has a new worker."""
    async with trio.open_nursery() as nursery:

        async def fetch() -> None:
            with pytest.raises(ScriptError, match="died unexpectedly"):
                await house.lookup("/gate")

        nursery.start_soon(fetch)
        nursery.start_soon(fetch)
        await asked(house.backend, 2)
        with pytest.raises(ScriptError, match="died unexpectedly"):
            await house.lookup("die")
    fields = (await house.lookup("t")).fields
    assert dict(fields)["calls"] == "1"


def call(house: House, user: str) -> WorkerCall:
    """A lookup as whoever has no task for it asks for it."""
    request = new_request([("service", "imap")], id=1)
    request.user = user
    return WorkerCall(house.pool, 0, "lookup", request)


@pytest.mark.parametrize("house", [{"max": 1}], indirect=True)
async def test_who_hears_that_a_worker_died_may_give_up_another_call_of_it(house: House) -> None:
    """As a client does whose connection ends with the first temporary failure."""
    first, second = call(house, "/gate"), call(house, "/gate")
    outcomes: list[Outcome] = []

    def over(outcome: Outcome) -> None:
        outcomes.append(outcome)
        second.cancel()

    first.start(over)
    second.start(outcomes.append)
    await asked(house.backend, 2)
    (worker,) = house.pool._workers.values()
    worker.kill()
    await served_again(house)
    assert [str(outcome.failure) for outcome in outcomes] == [f"Worker process died unexpectedly (pid {worker.pid})"]


@pytest.mark.parametrize("house", [{"max": 1, "timeout": 0.5}], indirect=True)
async def test_who_hears_that_a_call_took_too_long_may_give_up_another(house: House) -> None:
    """Then that other one has no outcome, though its time is up as well."""
    first, second = call(house, "/gate"), call(house, "/gate")
    outcomes: list[Outcome] = []
    told = trio.Event()

    def over(outcome: Outcome) -> None:
        outcomes.append(outcome)
        second.cancel()
        told.set()

    first.start(over)
    second.start(outcomes.append)
    await told.wait()
    assert house.pool._calls == {}
    assert [str(outcome.failure) for outcome in outcomes] == ["the call took longer than 0.5 s"]


@pytest.mark.parametrize("house", [{"max": 1, "timeout": 3.0}], indirect=True)
async def test_a_call_that_waits_too_long_fails_and_its_worker_lives_on(house: House) -> None:
    """Nothing blocks it, so there is nothing to kill."""
    with pytest.raises(ScriptError, match="took longer than 3 s"):
        await house.lookup("/slow")
    fields = (await house.lookup("t")).fields
    assert dict(fields)["calls"] == "2"


@pytest.mark.parametrize("house", [{"max": 1}], indirect=True)
async def test_a_waiting_call_that_is_given_up_frees_its_place(house: House) -> None:
    """The worker hears of it, and serves on."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.lookup, "/gate")
            await asked(house.backend, 1)
            scope.cancel()
    assert house.pool._calls == {}
    fields = (await house.lookup("t")).fields
    assert dict(fields)["calls"] == "2"
    assert [line for line in house.log if line[1] == "db-lua: answered"] == []


async def test_answers_for_a_worker_that_reads_none_wait_for_one_another(house: House) -> None:
    """However many there are; all arrive, each whole."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    worker = _Process(house.pool, 0, ours)
    parts: dict[int, list[bytes]] = {number: [] for number in range(5)}
    open_ones = set(parts)
    with ours, theirs:
        async with trio.open_nursery() as nursery:
            for number in parts:
                nursery.start_soon(worker.answer, number, (True, bytes(1_000_000)))
            await trio.testing.wait_all_tasks_blocked()
            while open_ones:
                await trio.lowlevel.wait_readable(theirs)
                number, last, piece = marshal.loads(theirs.recv(MAX_FRAME))
                parts[number].append(piece)
                if last:
                    open_ones.remove(number)
    assert {(True, bytes(1_000_000))} == {marshal.loads(b"".join(pieces)) for pieces in parts.values()}
