"""A worker: a process that runs scripts, so that one that blocks, loops or crashes takes only itself down.

Calls come one at a time from a queue in the kernel that all workers of a pool share: who is free takes the next, and
nothing waits behind a worker that is busy. Replies and log lines go back on the worker's own socket. A call that
wishes for a `Service` is set aside until the server has sent the answer; one that wishes for an `Errand`, such as what
twins of blocking modules do, until the worker has done that itself. Meanwhile the worker takes other calls. A slow hash
is a service of the server's too, so that however many there are, workers are left for who needs none.
Frames are `marshal` data; both ends are the same interpreter. What may be long travels in pieces, each with whether
it is the last.

==========================================================  =========================================================
to the worker                                               from the worker (own socket)
==========================================================  =========================================================
queue: ``(call, database, function, request, password)``    ``(HELLO, pid)``
own socket: ``(call, last, piece)`` of                      ``(LOG, call, level, text, fields)``
``(True, answer)``, or of ``(False, text)`` when the        ``(PART, call, last, piece)`` of some names of a list;
call is to fail                                             answered when there is room for more
..                                                          ``(WISH, call, last, piece)`` of ``(name, arguments)``
..                                                          ``(ASIDE, call)``: it waits for an errand, the first time
..                                                          ``(REPLY, call, result, fields, text)``
..                                                          ``(ERROR, call, text)``: a ``ScriptError``
==========================================================  =========================================================
"""

import contextlib
import marshal
import mmap
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any, Final

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua import LuaPassdb, LuaUserdb, ScriptOptions, Scripts, judge_password, load_passdb, load_userdb
from authlua.passwords import Limits
from authlua.request import AuthRequest
from authlua.results import PassdbReply, UserdbReply
from authlua.secret import Secret
from authlua.server.ready import Ready
from authlua.server.zygote import become
from authlua.services import fulfil_now
from authlua.twins import Waits, open_twins
from authlua.wishes import Compute, Errand, Hash, Outcome, Service, Sleep, Wish

HELLO: Final = 0
LOG: Final = 1
PART: Final = 2
REPLY: Final = 3
ERROR: Final = 4
WISH: Final = 5
ASIDE: Final = 6

MAX_FRAME: Final = 1 << 17
"""Bytes of one message in either direction."""

PIECE: Final = 1 << 16
"""Bytes of what travels in pieces."""

HASH = "hash"
"""The service that the server's own threads are: `judge_password` with these arguments."""

SLOT = 8
"""Bytes of a worker's place in shared memory: the number of the call it runs, 0 when it is free."""

GLANCE = 0.001
"""Seconds between two looks at whether a worker has to make room: to fill memory, or to be a hog, takes longer."""

_BY_VALUE: Final = 2
"""The version of `marshal` that looks for nothing that occurs twice: to look costs more than it saves."""

HEADROOM = 256 << 20
"""Bytes of address space beyond the scripts' limit: allocator slack, libraries that scripts load."""


def frame(*values: Any) -> bytes:
    """*values* as they travel."""
    return marshal.dumps(values, _BY_VALUE)


def work(order: tuple[Any, ...], *fds: int) -> None:
    """Take calls until the server closes the queue, with the server's rights; *fds* are those of `Worker`."""
    index, memory_limit, identity = order
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # for programs that a script waits for
    become(*identity)
    limit = limit_memory(memory_limit)
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    worker = Worker(index, *fds)
    worker.start()
    looked = time.monotonic()
    while worker.serves:
        worker.step()
        now = time.monotonic()
        if now - looked >= GLANCE:
            looked = now
            if resident() > limit or os.getpriority(os.PRIO_PROCESS, 0) > nice:
                worker.leave()
    worker.close()


class _Inbox:
    """A socket with frames for the worker."""

    def __init__(self, sock: socket.socket, deliver: Callable[[tuple[Any, ...]], None]) -> None:
        self._sock = sock
        self._deliver = deliver
        self.ended = False
        """The server has closed it."""

    def fileno(self) -> int:
        return self._sock.fileno()

    def ready(self, events: int) -> None:
        """Act on a frame, if another worker has not taken it."""
        try:
            data = self._sock.recv(MAX_FRAME, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if data:
            self._deliver(marshal.loads(data))
        else:
            self.ended = True


def pieces(number: int, value: Any) -> Iterator[tuple[int, bool, bytes]]:
    """*value* for call *number* as it travels: the number, whether this is all, and a piece."""
    data = marshal.dumps(value, _BY_VALUE)
    for first in range(0, len(data), PIECE):
        yield number, first + PIECE >= len(data), data[first : first + PIECE]


def limit_memory(memory_limit: int) -> int:
    """Bound what scripts can allocate; gives the resident size at which a worker makes room for a fresh one."""
    base = resident()
    with open("/proc/self/statm") as statm:
        virtual = int(statm.read().split()[0]) * resource.getpagesize()
    ceiling = virtual + memory_limit + HEADROOM
    _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (ceiling if hard < 0 else min(ceiling, hard), hard))
    return base + memory_limit


def resident() -> int:
    """The most bytes of memory that this process has had at a time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class _Piece(Wish):
    """Take these names, and say when there is room for more."""

    __slots__ = ("names",)

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)


class Worker:
    """One worker.

    Args:
        index: its place in shared memory.
        queue_fd: the queue that all workers share.
        own_fd: its own socket.
        slots_fd: the shared memory.
        scripts_fd: a file with the scripts.
    """

    def __init__(self, index: int, queue_fd: int, own_fd: int, slots_fd: int, scripts_fd: int) -> None:
        self._scripts: list[tuple[Any, ...]] = marshal.loads(os.pread(scripts_fd, os.fstat(scripts_fd).st_size, 0))
        os.close(scripts_fd)
        self._own = socket.socket(fileno=own_fd)
        self._own.setblocking(True)
        queue = socket.socket(fileno=queue_fd)
        self._index = index
        self._slots = memoryview(mmap.mmap(slots_fd, 0)).cast("Q")
        self._waits = Waits()
        self._calls, self._answers = _Inbox(queue, self.call), _Inbox(self._own, self.answered)
        self._ready = Ready()
        # of workers that are free the kernel wakes the first, not each in turn: as long as one can do all calls, what
        # it needs stays in the processor's caches
        self._ready.watch(self._calls, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        self._ready.watch(self._answers, select.EPOLLIN)
        self._waits.attach(self._ready, lambda at: None)
        self._leaves = False
        self._operations = partial(open_twins, self._waits)
        self._databases: dict[int, LuaPassdb | LuaUserdb] = {}
        self._shared = Scripts()
        self._call = 0
        self._waiting: dict[int, tuple[str, Coroutine[Wish, Any, Any], Errand | None]] = {}
        self._aside: set[int] = set()
        """Calls the server knows to be waiting for something here."""
        self._pieces: dict[int, list[bytes]] = {}

    @property
    def serves(self) -> bool:
        """The server is there, and there may be something to do."""
        return not (self._leaves and not self._waiting) and not (self._calls.ended or self._answers.ended)

    def step(self) -> None:
        """Wait for something to do, and do it."""
        due = self._waits.next if self._waiting else inf
        self._ready.poll(None if due == inf else max(0.0, due - self._waits.now()))
        if due < inf:
            self._waits.expire()

    def leave(self) -> None:
        """Take no more calls; those that wait are finished."""
        if not self._leaves:
            self._leaves = True
            self._ready.forget(self._calls)

    def call(self, said: tuple[Any, ...]) -> None:
        """Run a call, until it is done or has to wait."""
        number, database, function, request, password = said
        self._call = self._slots[self._index] = number
        try:
            core = _core(self._database(database), function, request, password)
        except ScriptError as error:
            self._say(ERROR, number, str(error))
            self._slots[self._index] = 0
        else:
            self._advance(number, function, core, Outcome())

    def answered(self, said: tuple[Any, ...]) -> None:
        """Go on with a call that waits, when all of its answer is there."""
        number, last, piece = said
        got = self._pieces.setdefault(number, [])
        got.append(piece)
        if not last:
            return
        fine, answer = marshal.loads(b"".join(self._pieces.pop(number)))
        if number not in self._waiting:
            return  # it is done already, and nobody wanted to know
        function, core, errand = self._waiting.pop(number)
        if errand is not None:
            errand.cancel()
        self._advance(number, function, core, Outcome(answer) if fine else Outcome(failure=ScriptError(answer)))

    def _advance(self, number: int, function: str, core: Coroutine[Wish, Any, Any], outcome: Outcome) -> None:
        """Send whatever *core* has to say next."""
        self._call = self._slots[self._index] = number
        try:
            step = _run(core, outcome)
            if isinstance(step, _Piece):
                self._waiting[number] = (function, core, None)
                for piece in pieces(number, step.names):
                    self._say(PART, *piece)
            elif isinstance(step, Service):
                self._waiting[number] = (function, core, None)
                for piece in pieces(number, (step.name, step.arguments)):
                    self._say(WISH, *piece)
            elif isinstance(step, Errand):
                self._waiting[number] = (function, core, step)
                if number not in self._aside:
                    self._aside.add(number)
                    self._say(ASIDE, number)
                step.start(lambda outcome: self._ended(number, outcome))
            elif isinstance(step, PassdbReply | UserdbReply):
                self._say(REPLY, number, int(step.result), step.fields, step.text)
            else:
                self._say(REPLY, number, 1, (), "")
        except ScriptError as error:
            self._say(ERROR, number, str(error))
        except MemoryError:
            self._say(ERROR, number, f"{function}: not enough memory (lua.memory_limit)")
        except ValueError as error:
            self._say(ERROR, number, f"{function}: the reply cannot be sent: {error}")
        if number not in self._waiting:
            self._aside.discard(number)
        self._slots[self._index] = 0

    def _ended(self, number: int, outcome: Outcome) -> None:
        """An errand has ended; go on with the call that waits for it."""
        function, core, _ = self._waiting.pop(number)
        self._advance(number, function, core, outcome)

    def _say(self, *said: Any) -> None:
        self._own.send(frame(*said))

    def start(self) -> None:
        """Load all scripts, so that no call has to wait for that; what does not load is told to who calls it."""
        for index in range(len(self._scripts)):
            with contextlib.suppress(ScriptError):
                self._database(index)
        self._say(HELLO, os.getpid())

    def _database(self, index: int) -> LuaPassdb | LuaUserdb:
        database = self._databases.get(index)
        if database is None:
            kind, path, source, dialect, server_dialect, options, share = self._scripts[index]
            load = load_passdb if kind == "passdb" else load_userdb
            database = self._databases[index] = load(
                path,
                log=self._log,
                dialect=Dialect(dialect),
                server_dialect=Dialect(server_dialect),
                options=ScriptOptions(
                    **{
                        **options,
                        "limits": Limits(*options["limits"]),
                        "operations": self._operations,
                        "now": fulfil_now,
                    }
                ),
                source=source,
                scripts=self._shared if share else None,
            )
        return database

    def _log(self, level: str, text: str, request: AuthRequest | None, fields: Mapping[str, object]) -> None:
        about = self._call if request is not None else 0
        self._say(LOG, about, level, text, dict(fields))

    def close(self) -> None:
        for database in self._databases.values():
            database.close()


def _core(
    database: Any, function: str, state: tuple[Any, ...] | None, password: bytes | None
) -> Coroutine[Wish, Any, Any]:
    """What runs a call."""
    if state is None:
        return _list(database)
    request = AuthRequest.restored(state, password)
    if function == "lookup":
        return database.lookup(request)  # type: ignore[no-any-return]
    secret = Secret(password or b"")
    if function == "verify_plain":
        return database.verify_plain(request, secret)  # type: ignore[no-any-return]
    return database.set_credentials(request, secret)  # type: ignore[no-any-return]


async def _list(database: Any) -> None:
    """Have all users of *database* sent."""
    users = database.iterate()
    try:
        while names := await users.piece():
            await _Piece(names)
    finally:
        users.close()


def _run(core: Coroutine[Wish, Any, Any], outcome: Outcome) -> Any:
    """What *core* wishes for next, or the `_Piece` it has, or its end; wishes that may block here are fulfilled."""
    while True:
        try:
            wish = core.send(outcome.value) if outcome.failure is None else core.throw(outcome.failure)
        except StopIteration as done:
            return done.value
        if isinstance(wish, Service | Errand | _Piece):
            return wish
        if isinstance(wish, Hash):
            assert wish.function is judge_password, "a script has no other hashes made"
            return Service(HASH, wish.args)
        if isinstance(wish, Compute):
            outcome = Outcome(wish.function(*wish.args))
        elif isinstance(wish, Sleep):
            time.sleep(wish.seconds)
            outcome = Outcome()
        else:
            raise AssertionError(f"scripts do not wish for {type(wish).__name__}")
