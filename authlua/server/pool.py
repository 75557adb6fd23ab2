"""The worker pool: calls go out, replies come back, workers come and go."""

import marshal
import mmap
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from time import perf_counter
from typing import Any

import trio

from authlua.auth import Event, Observe
from authlua.errors import ScriptError
from authlua.lua import judge_password
from authlua.request import AuthRequest
from authlua.results import PassdbReply, PassdbResult, UserdbReply, UserdbResult
from authlua.secret import Secret
from authlua.server.driving import FULFIL
from authlua.server.hashing import Hasher
from authlua.server.ready import Ready
from authlua.server.worker import ASIDE, ERROR, HASH, HELLO, LOG, MAX_FRAME, PART, REPLY, SLOT, WISH, frame, pieces
from authlua.server.zygote import Zygote
from authlua.services import wait_for
from authlua.wishes import Errand, Hash, Outcome, Service, Unfulfilled

TICK = 0.01
"""Seconds between two looks at who is busy, while calls are out."""

SPARE = 2
"""Workers that there are at least: one that crashes leaves another, until it is replaced."""

RESTART_PAUSE = 0.02
"""Seconds between two replacements of workers that were lost, so that a script that kills each costs little; ten times
as much when a worker was lost before it could serve."""

_NOBODY = False, "nobody waits for this call any more"
"""What a worker hears of a call that was forgotten."""

HOG = 0.5
"""Seconds of processor time after which a call has to stand back behind all others, those that come later included."""

STAND_BACK = 10
"""By how much its worker is made nicer; there is no way back, so the worker makes room for a fresh one then."""

Log = Callable[[str, str, AuthRequest | None, Mapping[str, object]], None]


class WorkerCall(Errand):
    """One call of a script's function in a worker."""

    __slots__ = ("_database", "_password", "_pool", "function", "number", "request")

    def __init__(
        self, pool: "Pool", database: int, function: str, request: AuthRequest | None, password: Secret | None = None
    ) -> None:
        self._pool = pool
        self._database = database
        self.function = function
        self._password = password
        self.number = 0
        self.request = request

    def start(self, report: Callable[[Outcome], None]) -> None:
        state = self.request.state() if self.request is not None else None
        password = self._password.reveal() if self._password is not None else None
        self.number = self._pool.submit(self, (self._database, self.function, state, password), report)

    def cancel(self) -> None:
        self._pool.forget(self.number)


class WorkerListing(Errand):
    """The users that a script in a worker lists. Each time it is awaited it fetches some more."""

    __slots__ = ("_database", "_number", "_pool", "request")

    def __init__(self, pool: "Pool", database: int) -> None:
        self._pool = pool
        self._database = database
        self._number = 0
        self.request = None

    def start(self, report: Callable[[Outcome], None]) -> None:
        if self._number:
            self._pool.go_on(self._number, report)
        else:
            self._number = self._pool.submit(self, (self._database, "iterate", None, None), report)

    def cancel(self) -> None:
        self._pool.forget(self._number)

    async def piece(self) -> Sequence[str]:
        """Some more names."""
        names: Sequence[str] = await self
        return names

    def close(self) -> None:
        """The worker need not go on."""
        self.cancel()


class _Call:
    __slots__ = ("aside", "asked", "failure", "pieces", "report", "started", "waits", "what", "worker")

    def __init__(self, what: WorkerCall | WorkerListing, report: Callable[[Outcome], None]) -> None:
        self.what = what
        self.report = report
        self.started = 0.0
        """When it went out; less than a `TICK` before that, while others were out too."""
        self.pieces: list[bytes] = []
        """What it says, as far as that has come."""
        self.aside = False
        """It waits for something, or has done so; whoever runs it serves others too."""
        self.asked = False
        """What it waits for is being fetched here."""
        self.failure: Exception | None = None
        """Its worker ended while nobody waited for it."""
        self.worker: _Process | None = None
        """Where it is, once it has had to wait."""
        self.waits: trio.CancelScope | None = None
        """Ends the wish, while one is being fulfilled."""

    def stop_waiting(self) -> None:
        """Nobody waits for the wish any more."""
        if self.waits is not None:
            self.waits.cancel()


class _Process:
    """A worker as the server sees it: its socket, its place in shared memory, its pid once it has said so."""

    def __init__(self, pool: "Pool", index: int, sock: socket.socket) -> None:
        self._pool = pool
        self._sock = sock
        self.index = index
        self.pid = 0
        self.since = inf
        """When it was first seen at work on the call that it is at work on."""
        self._number = 0
        self._used = 0.0
        self._stands_back = False
        self._full = trio.Lock()
        """Held while an answer waits until the worker has read others."""
        sock.setblocking(False)

    def fileno(self) -> int:
        return self._sock.fileno()

    def ready(self, events: int) -> None:
        for _ in range(64):
            try:
                data = self._sock.recv(MAX_FRAME)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self._pool.lost(self)
                break
            self._pool.heard(self, marshal.loads(data))
            if not self._pool.waits:
                break  # there can hardly be more
        self._pool.batch_done()

    async def answer(self, number: int, value: tuple[bool, Any]) -> None:
        """Send what a call waits for."""
        for piece in pieces(number, value):
            data = frame(*piece)
            try:
                if self._full.locked() or not self._sent(data):
                    async with self._full:  # of many answers, one waits for room
                        while not self._sent(data):
                            await trio.lowlevel.wait_writable(self._sock)
            except (OSError, trio.ClosedResourceError):
                return  # it is gone, which is heard of elsewhere

    def _sent(self, data: bytes) -> bool:
        """Whether there was room for *data*."""
        try:
            self._sock.send(data)
        except BlockingIOError:
            return False
        return True

    def watch(self, number: int, now: float) -> None:
        """It is at work on call *number*: let it stand back when that takes too much of the processor."""
        try:
            used = time.clock_gettime(~self.pid << 3 | 2)  # the clock of another process (clock_getcpuclockid(3))
            if number != self._number:
                self._number, self._used, self.since = number, used, now
            elif not self._stands_back and used - self._used > HOG:
                nice = os.getpriority(os.PRIO_PROCESS, self.pid)
                os.setpriority(os.PRIO_PROCESS, self.pid, nice + STAND_BACK)
                self._stands_back = True
        except OSError:
            return  # it is gone, which is heard of elsewhere

    def kill(self) -> None:
        """End it, whatever it does; that it is gone is heard of elsewhere."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()


class Pool:
    """Workers for the scripts of one configuration.

    Args:
        max: how many workers there may be.
        timeout: seconds of one call; then its worker is killed and the call fails.
        memory_limit: bytes of a worker's scripts.
    """

    def __init__(self, zygote: Zygote, log: Log, *, max: int, timeout: float, memory_limit: int) -> None:
        self._zygote = zygote
        self.observe: Observe | None = None
        """Hears of each call."""
        self._log = log
        self._max = max
        self._timeout = timeout
        self._memory_limit = memory_limit
        self._scripts: list[tuple[Any, ...]] = []
        self._calls: dict[int, _Call] = {}
        self._paused: dict[int, _Call] = {}
        """Lists of which some has been sent, and nobody has asked for more yet."""
        self._unsent: deque[tuple[int, bytes]] = deque()
        self._workers: dict[int, _Process] = {}
        self._last = 0
        self._now = 0.0
        """When a call was first out, or the last look at all of them was."""
        self._replies = 0
        self._stalled = 0
        self._next_restart = 0.0
        self._out, self._in = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._out.setblocking(False)
        self._scripts_fd = os.memfd_create("authlua-scripts")
        self._slots_fd = os.memfd_create("authlua-workers")
        os.ftruncate(self._slots_fd, max * SLOT)
        self._slots = memoryview(mmap.mmap(self._slots_fd, max * SLOT)).cast("Q")
        self._ready: Ready | None = None
        self._wake = trio.Event()
        self._batch_done: Callable[[], None] = lambda: None
        self._hasher: Hasher | None = None
        self._closed = False
        self._leaving: list[int] | None = None
        """While `run` runs: handles of workers (pidfds) whose end it has to see."""
        self._tasks: trio.Nursery | None = None
        """While `run` watches."""
        self._set_aside = 0

    def add(self, *script: Any) -> int:
        """Have one more script, its number.

        Args:
            script: its kind, path, text, dialect, the server's dialect, its options, and whether it is shared.
        """
        self._scripts.append(script)
        return len(self._scripts) - 1

    # --- life ----------------------------------------------------------------

    def start(self, ready: Ready, batch_done: Callable[[], None], hasher: Hasher | None = None) -> None:
        """Make the first workers, and begin to serve; *hasher* makes the slow hashes that scripts ask for."""
        self._hasher = hasher
        self._ready = ready
        self._batch_done = batch_done
        ready.eager.add(self)
        with open(self._scripts_fd, "wb", closefd=False) as file:
            file.write(marshal.dumps(self._scripts))
        for _ in range(SPARE):
            self._make_worker()

    async def run(self) -> None:
        """Watch over calls and workers and fulfil wishes, until closed and all workers have ended."""
        self._leaving = []
        try:
            async with trio.open_nursery() as nursery:
                self._tasks = nursery
                try:
                    await self._watch()
                finally:
                    self._tasks = None
                nursery.cancel_scope.cancel()
            async with trio.open_nursery() as nursery:
                for worker in self._leaving:
                    nursery.start_soon(_see_off, worker, self._timeout)
        finally:
            self._leaving = None

    async def _watch(self) -> None:
        for _ in range(len(self._workers), SPARE):
            self._make_worker()  # in place of those that have been lost already
        while not self._closed:
            if not self._calls:
                self._wake = trio.Event()
                await self._wake.wait()
            await trio.sleep(TICK)
            if not self._closed:
                self._tick()

    def close(self) -> None:
        """End all workers; each finishes the call it runs, if it does so in time. Once is enough."""
        if self._closed:
            return
        self._closed = True
        if self._leaving is not None:
            for worker in self._workers.values():
                if worker.pid:
                    with suppress(ProcessLookupError):
                        self._leaving.append(os.pidfd_open(worker.pid))
        self._wake.set()
        self._out.close()
        self._in.close()
        if self._ready is not None:
            self._ready.eager.discard(self)
        for worker in list(self._workers.values()):
            if self._ready is not None:
                self._ready.forget(worker)
            worker.close()
        self._workers.clear()
        self._slots.release()
        os.close(self._slots_fd)
        os.close(self._scripts_fd)

    def batch_done(self) -> None:
        """All replies that were there have been reported."""
        self._batch_done()

    @property
    def waits(self) -> bool:
        """Calls are out."""
        return bool(self._calls)

    @property
    def soon(self) -> bool:
        """A single call is out, and may be back at any moment; of several, those that come together cost less."""
        return len(self._calls) == 1 and not self._set_aside

    @property
    def size(self) -> int:
        """How many workers there are."""
        return len(self._workers)

    # --- calls ---------------------------------------------------------------

    def submit(self, what: WorkerCall | WorkerListing, call: tuple[Any, ...], report: Callable[[Outcome], None]) -> int:
        """Queue a call; *report* hears its outcome."""
        number = self._last = self._last + 1
        self._put_out(number, _Call(what, report))
        data = frame(number, *call)
        if len(data) > MAX_FRAME:
            del self._calls[number]
            report(Outcome(failure=ScriptError(f"the request is too long for a worker: {len(data)} bytes")))
        elif self._unsent or not self._send(data):
            self._unsent.append((number, data))
        return number

    def forget(self, number: int) -> None:
        """Nobody waits for that call any more."""
        call = self._taken(number)
        if call is not None:
            self._call_off(number, call)
        call = self._paused.pop(number, None)
        if call is not None and call.worker is not None and call.failure is None:
            self._start_task(call.worker.answer, number, _NOBODY)

    def _taken(self, number: int) -> _Call | None:
        """The call, which is no longer among those that are out."""
        call = self._calls.pop(number, None)
        if call is not None and call.aside:
            self._set_aside -= 1
        return call

    def _call_off(self, number: int, call: _Call) -> None:
        """Nobody waits for *call* any more: let its worker know, if it waits there for something."""
        call.stop_waiting()
        if call.aside and call.worker is not None and not call.asked:
            self._start_task(call.worker.answer, number, _NOBODY)

    def go_on(self, number: int, report: Callable[[Outcome], None]) -> None:
        """Have more of a list sent; *report* hears of it."""
        call = self._paused.pop(number)
        if call.failure is not None:
            report(Outcome(failure=call.failure))
            return
        call.report = report
        self._put_out(number, call)
        self._set_aside += call.aside
        assert call.worker is not None, "a list is paused only where it was begun"
        self._start_task(call.worker.answer, number, (True, None))

    def _put_out(self, number: int, call: _Call) -> None:
        """Have *call* among those that are out."""
        if not self._calls:
            self._now = trio.current_time()
            self._wake.set()
        call.started = self._now
        self._calls[number] = call

    def _send(self, data: bytes) -> bool:
        try:
            self._out.send(data)
        except BlockingIOError:
            return False
        return True

    def _send_queued(self) -> None:
        while self._unsent:
            number, data = self._unsent[0]
            if number in self._calls and not self._send(data):
                return
            self._unsent.popleft()

    # --- workers -------------------------------------------------------------

    def _make_worker(self) -> None:
        if self._ready is None or self._closed or len(self._workers) >= self._max:
            return
        index = next(index for index in range(self._max) if index not in self._workers)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._slots[index] = 0
        # the zygote is from before the server gave up root
        identity = os.geteuid(), os.getegid(), os.getgroups()
        order = (index, self._memory_limit, identity)
        self._zygote.fork("worker", order, self._in.fileno(), theirs.fileno(), self._slots_fd, self._scripts_fd)
        theirs.close()
        worker = self._workers[index] = _Process(self, index, ours)
        self._ready.watch(worker, select.EPOLLIN)

    def heard(self, worker: _Process, said: tuple[Any, ...]) -> None:
        """Act on what *worker* said."""
        kind: int = said[0]
        number: int = said[1]
        if kind == HELLO:
            worker.pid = number
            return
        call = self._calls.get(number)
        if kind in (REPLY, ERROR):
            self._replies += 1
            if self._unsent:
                self._send_queued()
            if call is not None:
                self._taken(number)
                if kind == ERROR:
                    call.report(Outcome(failure=ScriptError(said[2])))
                else:
                    call.report(Outcome(said[2:] if isinstance(call.what, WorkerCall) else ()))
        elif kind == LOG:
            level, text, fields = said[2:]
            self._log(level, text, None if call is None else call.what.request, fields)
        elif kind == PART:
            self._part(worker, number, call, *said[2:])
        elif kind == WISH:
            self._wish(worker, number, call, *said[2:])
        else:
            assert kind == ASIDE
            if call is None:
                self._start_task(worker.answer, number, _NOBODY)
            else:
                self._put_aside(call, worker)

    def lost(self, worker: _Process) -> None:
        """A worker is gone: by itself when its memory passed the limit, killed, or crashed in a call."""
        if self._closed:
            return  # its last reply was the one that the pool was kept for
        number = self._running(worker)
        if self._ready is not None:
            self._ready.forget(worker)
        worker.close()
        self._workers.pop(worker.index, None)
        lost = [number] if number in self._calls else []
        lost += [number for number, call in self._calls.items() if call.worker is worker and number not in lost]
        for number in lost:
            lost_call = self._taken(number)
            if lost_call is not None:  # who heard of one may have given up another
                lost_call.stop_waiting()
                lost_call.report(Outcome(failure=_died(worker)))
        for call in self._paused.values():
            if call.worker is worker:
                call.failure = _died(worker)
        if len(self._workers) < SPARE:
            self._start_task(self._replace, RESTART_PAUSE if worker.pid else 10 * RESTART_PAUSE)

    async def _replace(self, pause: float) -> None:
        now = trio.current_time()
        self._next_restart = max(now, self._next_restart + pause)
        await trio.sleep_until(self._next_restart)
        if len(self._workers) < SPARE:
            self._make_worker()

    def _part(self, worker: _Process, number: int, call: _Call | None, last: bool, piece: bytes) -> None:
        """Some of a list; the worker keeps the rest until it is asked to go on."""
        if call is None:
            if last:
                self._start_task(worker.answer, number, _NOBODY)
            return
        call.pieces.append(piece)
        if last:
            names = marshal.loads(b"".join(call.pieces))
            call.pieces.clear()
            call.worker = worker
            self._taken(number)
            self._paused[number] = call
            self._replies += 1
            call.report(Outcome(names))

    def _wish(self, worker: _Process, number: int, call: _Call | None, last: bool, piece: bytes) -> None:
        if call is None:  # nobody waits for it; the worker is told once
            if last:
                self._start_task(worker.answer, number, _NOBODY)
            return
        self._put_aside(call, worker)
        call.pieces.append(piece)
        if last:
            wish = Service(*marshal.loads(b"".join(call.pieces)))
            call.pieces.clear()
            call.asked = True
            call.waits = scope = trio.CancelScope()  # each wish of a call has one of its own
            self._start_task(self._fulfil, worker, number, call, scope, wish)

    def _put_aside(self, call: _Call, worker: _Process) -> None:
        call.worker = worker
        if not call.aside:
            call.aside = True
            self._set_aside += 1

    def _start_task(self, task: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Do that beside all else; before and after `run` nobody waits for it, and `run` begins by making workers."""
        if self._tasks is not None:
            self._tasks.start_soon(task, *arguments)

    async def _fulfil(self, worker: _Process, number: int, call: _Call, scope: trio.CancelScope, wish: Service) -> None:
        answer: tuple[bool, Any] = _NOBODY
        with scope:
            try:
                answer = (True, await self._granted(call, wish))
            except Exception as failure:
                # our own bug, or a request that is none; it costs this call only
                answer = (False, f"{wish.name}: {type(failure).__name__}: {failure}")
        call.asked = False
        await worker.answer(number, answer)

    async def _granted(self, call: _Call, wish: Service) -> Any:
        if wish.name != HASH:
            return await FULFIL[Service](wish)
        hash = Hash(judge_password, *wish.arguments)
        if self._hasher is None:
            return await FULFIL[Hash](hash)
        request = call.what.request
        try:
            return await wait_for(self._hasher.job(hash, for_whom=request.cuid if request is not None else 0))
        except Unfulfilled as error:
            return -1.0, str(error)

    def _running(self, worker: _Process) -> int:
        number: int = self._slots[worker.index]
        return number

    def _tick(self) -> None:
        self._now = now = trio.current_time()
        running = {self._running(worker): worker for worker in self._workers.values()}
        running.pop(0, None)
        for number, worker in running.items():
            worker.watch(number, now)
            if number not in self._calls and now - worker.since >= self._timeout:
                worker.kill()  # nobody waits for it, and others may wait for the worker
        for number, call in list(self._calls.items()):
            if now - call.started < self._timeout:
                break
            if number in self._calls:  # who heard of one may have given up another
                self._time_out(number, call, running.get(number))
        busy = sum(1 for number in running if number in self._calls and not self._calls[number].aside)
        waiting = len(self._calls) - self._set_aside - busy
        if waiting <= 0 or not self._workers:
            self._stalled = 0
        elif self._replies < len(self._workers) or len(self._workers) < (os.cpu_count() or 1):
            # calls wait, and not even one for each worker came back since the last look: they block
            self._stalled += 1
            if self._stalled >= 2:
                loading = sum(1 for worker in self._workers.values() if not worker.pid)  # each takes a call when done
                for _ in range(min(4, waiting - loading)):
                    self._make_worker()
        else:
            self._stalled = 0
        self._replies = 0
        self._send_queued()

    def _time_out(self, number: int, call: _Call, worker: _Process | None) -> None:
        self._taken(number)
        if worker is not None and worker.pid:
            call.stop_waiting()
            worker.kill()
        else:
            self._call_off(number, call)
        call.report(Outcome(failure=ScriptError(f"the call took longer than {self._timeout:g} s")))
        self.batch_done()


def _died(worker: _Process) -> ScriptError:
    return ScriptError(f"Worker process died unexpectedly (pid {worker.pid})")


async def _see_off(worker: int, patience: float) -> None:
    """Kill the process of which *worker* is the pidfd if it is there after *patience* seconds."""
    try:
        with trio.move_on_after(patience) as waiting:
            await trio.lowlevel.wait_readable(worker)
        if waiting.cancelled_caught:
            signal.pidfd_send_signal(worker, signal.SIGKILL)
    finally:
        os.close(worker)


COMMANDS = {
    ("passdb", "verify_plain"): "PASSV",
    ("passdb", "lookup"): "PASSL",
    ("passdb", "set_credentials"): "SETCRED",
    ("userdb", "lookup"): "USER",
}
"""What Dovecot's auth process would say to its workers (``core:2.4.1:src/auth/auth-worker-connection.c``)."""


_PASSDB_RESULTS = {result.value: result for result in PassdbResult}
_USERDB_RESULTS = {result.value: result for result in UserdbResult}


async def _ask(pool: Pool, kind: str, call: WorkerCall) -> Any:
    """The worker's reply; whoever observes hears how that went."""
    if pool.observe is None:
        return await call
    started = perf_counter()
    fields = {"command": COMMANDS[kind, call.function]}
    try:
        return await call
    except ScriptError as failure:
        fields["error"] = str(failure)
        raise
    finally:
        fields["command_id"] = str(call.number)
        pool.observe(Event("auth_worker_request_finished", fields), call.request, perf_counter() - started)


class WorkerPassdb:
    """A passdb whose script runs in workers."""

    def __init__(self, pool: Pool, number: int, *, verifies: bool, cache_key: str | None, keeps: bool = False) -> None:
        self._pool = pool
        self._number = number
        self.verifies = verifies
        self.cache_key = cache_key
        if keeps:
            self.set_credentials = self._set_credentials

    async def verify_plain(self, request: AuthRequest, password: Secret) -> PassdbReply:
        """Is this the user's password?"""
        call = WorkerCall(self._pool, self._number, "verify_plain", request, password)
        result, fields, text = await _ask(self._pool, "passdb", call)
        return PassdbReply(_PASSDB_RESULTS[result], fields, text)

    async def lookup(self, request: AuthRequest) -> PassdbReply:
        """The user's stored password and fields."""
        call = WorkerCall(self._pool, self._number, "lookup", request, request.password)
        result, fields, text = await _ask(self._pool, "passdb", call)
        return PassdbReply(_PASSDB_RESULTS[result], fields, text)

    async def _set_credentials(self, request: AuthRequest, stored: Secret) -> bool:
        """Keep *stored* as the user's password from now on."""
        await _ask(self._pool, "passdb", WorkerCall(self._pool, self._number, "set_credentials", request, stored))
        return True


class WorkerUserdb:
    """A userdb whose script runs in workers."""

    def __init__(self, pool: Pool, number: int, *, cache_key: str | None) -> None:
        self._pool = pool
        self._number = number
        self.cache_key = cache_key

    async def lookup(self, request: AuthRequest) -> UserdbReply:
        """The user's fields."""
        call = WorkerCall(self._pool, self._number, "lookup", request)
        result, fields, text = await _ask(self._pool, "userdb", call)
        return UserdbReply(_USERDB_RESULTS[result], fields, text)

    def iterate(self) -> WorkerListing:
        """The names of all users."""
        return WorkerListing(self._pool, self._number)
