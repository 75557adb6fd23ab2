"""A worker: a process that runs scripts, so that one that blocks, loops or crashes takes only itself down.

Calls come one at a time from a queue in the kernel that all workers of a pool share: who is free takes the next, and
nothing waits behind a worker that is busy. Replies and log lines go back on the worker's own socket. A call that
wishes for a `Service` is set aside until the server has sent the answer; meanwhile the worker takes other calls.
Frames are `marshal` data; both ends are the same interpreter. What may be long travels in pieces, each with whether
it is the last.

==========================================================  =========================================================
to the worker                                               from the worker (own socket)
==========================================================  =========================================================
queue: ``(call, database, function, request, password)``    ``(HELLO, pid)``
own socket: ``(call, last, piece)`` of                      ``(LOG, call, level, text, fields)``
``(True, answer)``, or of ``(False, text)`` when the        ``(PART, call, names)``: some of a list of users
call is to fail                                             ``(WISH, call, last, piece)`` of ``(name, arguments)``
..                                                          ``(REPLY, call, result, fields, text)``
..                                                          ``(ERROR, call, text)``: a ``ScriptError``
==========================================================  =========================================================
"""

import marshal
import mmap
import os
import resource
import select
import socket
import struct
import time
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua import LuaPassdb, LuaUserdb, ScriptOptions, load_passdb, load_userdb
from authlua.request import AuthRequest
from authlua.secret import Secret
from authlua.services import fulfil_now
from authlua.wishes import Compute, Service, Sleep, Wish

HELLO, LOG, PART, REPLY, ERROR, WISH = range(6)

MAX_FRAME = 1 << 17
"""Bytes of one message in either direction."""

PIECE = 1 << 16
"""Bytes of what travels in pieces."""

LIST_BATCH = 1000
"""Users in one message."""

SLOT = struct.Struct("=Q")
"""What a worker shows the server at its place in shared memory: the number of the call it runs, 0 when it is free."""

HEADROOM = 256 << 20
"""Bytes of address space beyond the scripts' limit: allocator slack, libraries that scripts load."""


def work(order: tuple[Any, ...], queue_fd: int, own_fd: int, slots_fd: int, scripts_fd: int) -> None:
    """Take calls until the server closes the queue."""
    index, memory_limit = order
    scripts = marshal.loads(os.pread(scripts_fd, os.fstat(scripts_fd).st_size, 0))
    os.close(scripts_fd)
    queue = socket.socket(fileno=queue_fd)
    own = socket.socket(fileno=own_fd)
    slots = mmap.mmap(slots_fd, 0)
    queue.setblocking(True)
    own.setblocking(True)
    limit = limit_memory(memory_limit)
    worker = _Worker(own, scripts)
    own.send(marshal.dumps((HELLO, os.getpid())))
    full = False
    while not (full and worker.idle):
        answered = not worker.idle and _answered(None if full else queue, own)
        frame = (own if answered else queue).recv(MAX_FRAME)
        if not frame:
            break
        number, *rest = marshal.loads(frame)
        SLOT.pack_into(slots, index * SLOT.size, number)
        if answered:
            worker.answered(number, *rest)
        else:
            worker.call(number, *rest)
        SLOT.pack_into(slots, index * SLOT.size, 0)
        full = full or resident() > limit
    worker.close()


def _answered(queue: socket.socket | None, own: socket.socket) -> bool:
    """Wait for a call or an answer; whether it is an answer, which goes first."""
    ready, _, _ = select.select([own] if queue is None else [own, queue], (), ())
    return own in ready


def pieces(number: int, value: Any) -> Iterator[tuple[int, bool, bytes]]:
    """*value* for call *number* as it travels: the number, whether this is all, and a piece."""
    data = marshal.dumps(value)
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
    """Bytes of memory that this process has."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


class _Worker:
    def __init__(self, own: socket.socket, scripts: list[tuple[Any, ...]]) -> None:
        self._own = own
        self._scripts = scripts
        self._databases: dict[int, LuaPassdb | LuaUserdb] = {}
        self._call = 0
        self._waiting: dict[int, tuple[str, Coroutine[Wish, Any, Any]]] = {}
        self._pieces: dict[int, list[bytes]] = {}

    @property
    def idle(self) -> bool:
        """No call waits for an answer."""
        return not self._waiting

    def call(
        self, number: int, database: int, function: str, request: tuple[Any, ...] | None, password: bytes | None
    ) -> None:
        """Run a call, until it is done or has to wait."""
        self._call = number
        try:
            core = self._core(self._database(database), function, request, password)
        except ScriptError as error:
            self._say(ERROR, number, str(error))
        else:
            self._advance(number, function, core, None)

    def answered(self, number: int, last: bool, piece: bytes) -> None:
        """Go on with a call that waits, when all of its answer is there."""
        got = self._pieces.setdefault(number, [])
        got.append(piece)
        if not last:
            return
        fine, answer = marshal.loads(b"".join(self._pieces.pop(number)))
        function, core = self._waiting.pop(number)
        self._call = number
        self._advance(number, function, core, answer if fine else ScriptError(answer))

    def _advance(self, number: int, function: str, core: Coroutine[Wish, Any, Any], answer: Any) -> None:
        """Send whatever *core* has to say next."""
        try:
            step = _run(core, answer)
            if isinstance(step, Service):
                self._waiting[number] = (function, core)
                for piece in pieces(number, (step.name, step.arguments)):
                    self._say(WISH, *piece)
            else:
                self._say(REPLY, number, *step)
        except ScriptError as error:
            self._say(ERROR, number, str(error))
        except MemoryError:
            self._say(ERROR, number, f"{function}: not enough memory (lua.memory_limit)")
        except ValueError as error:
            self._say(ERROR, number, f"{function}: the reply cannot be sent: {error}")

    def _say(self, *frame: Any) -> None:
        self._own.send(marshal.dumps(frame))

    async def _core(
        self, database: Any, function: str, state: tuple[Any, ...] | None, password: bytes | None
    ) -> tuple[Any, ...]:
        """What the last frame of the call says."""
        if state is None:
            users = list(await database.iterate())
            for first in range(0, len(users), LIST_BATCH):
                self._say(PART, self._call, users[first : first + LIST_BATCH])
            return (0, (), "")
        request = AuthRequest.restored(state, password)
        # as in Dovecot's workers, the client's process is not known here
        request.client_pid = 0
        if function == "verify_plain":
            reply = await database.verify_plain(request, Secret(password or b""))
        else:
            reply = await database.lookup(request)
        return (int(reply.result), tuple(reply.fields), reply.text)

    def _database(self, index: int) -> LuaPassdb | LuaUserdb:
        database = self._databases.get(index)
        if database is None:
            kind, path, source, dialect, server_dialect, options = self._scripts[index]
            load = load_passdb if kind == "passdb" else load_userdb
            database = self._databases[index] = load(
                path,
                log=self._log,
                dialect=Dialect(dialect),
                server_dialect=Dialect(server_dialect),
                options=ScriptOptions(**{**options, "now": fulfil_now}),
                source=source,
            )
        return database

    def _log(self, level: str, text: str, request: AuthRequest | None, fields: Mapping[str, object]) -> None:
        about = self._call if request is not None else 0
        self._say(LOG, about, level, text, dict(fields))

    def close(self) -> None:
        for database in self._databases.values():
            database.close()


def _run(core: Coroutine[Wish, Any, Any], answer: Any) -> Any:
    """The `Service` that *core* next wishes for, else what it comes to; other wishes may as well block here."""
    while True:
        try:
            wish = core.throw(answer) if isinstance(answer, ScriptError) else core.send(answer)
        except StopIteration as done:
            return done.value
        if isinstance(wish, Service):
            return wish
        if isinstance(wish, Compute):
            answer = wish.function(*wish.args)
        elif isinstance(wish, Sleep):
            time.sleep(wish.seconds)
            answer = None
        else:
            raise AssertionError(f"scripts do not wish for {type(wish).__name__}")
