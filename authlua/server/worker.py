"""A worker: a process that runs scripts, so that one that blocks, loops or crashes takes only itself down.

Calls come one at a time from a queue in the kernel that all workers of a pool share: who is free takes the next, and
nothing waits behind a worker that is busy. Replies and log lines go back on the worker's own socket. Frames are
`marshal` data; both ends are the same interpreter.

==========================================================  =========================================================
to the worker (queue)                                       from the worker (own socket)
==========================================================  =========================================================
``(call, database, function, request, password)``           ``(HELLO, pid)``
..                                                          ``(LOG, call, level, text, fields)``
..                                                          ``(PART, call, names)``: some of a list of users
..                                                          ``(REPLY, call, result, fields, text)``
..                                                          ``(ERROR, call, text)``: a ``ScriptError``
==========================================================  =========================================================
"""

import marshal
import mmap
import os
import resource
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua import LuaPassdb, LuaUserdb, ScriptOptions, load_passdb, load_userdb
from authlua.request import AuthRequest
from authlua.secret import Secret
from authlua.wishes import Compute, Sleep, Wish

HELLO, LOG, PART, REPLY, ERROR = range(5)

MAX_FRAME = 1 << 17
"""Bytes of one message in either direction."""

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
    limit = _limit_memory(memory_limit)
    worker = _Worker(own, scripts)
    own.send(marshal.dumps((HELLO, os.getpid())))
    while True:
        frame = queue.recv(MAX_FRAME)
        if not frame:
            break
        call, database, function, request, password = marshal.loads(frame)
        SLOT.pack_into(slots, index * SLOT.size, call)
        own.send(worker.reply(call, database, function, request, password))
        SLOT.pack_into(slots, index * SLOT.size, 0)
        if _resident() > limit:
            break
    worker.close()


def _limit_memory(memory_limit: int) -> int:
    """Bound what scripts can allocate; gives the resident size at which a worker makes room for a fresh one."""
    base = _resident()
    with open("/proc/self/statm") as statm:
        virtual = int(statm.read().split()[0]) * resource.getpagesize()
    ceiling = virtual + memory_limit + HEADROOM
    _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (ceiling if hard < 0 else min(ceiling, hard), hard))
    return base + memory_limit


def _resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


class _Worker:
    def __init__(self, own: socket.socket, scripts: list[tuple[Any, ...]]) -> None:
        self._own = own
        self._scripts = scripts
        self._databases: dict[int, LuaPassdb | LuaUserdb] = {}
        self._call = 0

    def reply(self, call: int, database: int, function: str, request: tuple[Any, ...], password: bytes | None) -> bytes:
        """The last frame about *call*."""
        self._call = call
        try:
            return marshal.dumps((REPLY, call, *self._ask(self._database(database), function, request, password)))
        except ScriptError as error:
            return marshal.dumps((ERROR, call, str(error)))
        except MemoryError:
            return marshal.dumps((ERROR, call, f"{function}: not enough memory (lua.memory_limit)"))
        except ValueError as error:
            return marshal.dumps((ERROR, call, f"{function}: the reply cannot be sent: {error}"))

    def _ask(self, database: Any, function: str, state: tuple[Any, ...], password: bytes | None) -> tuple[Any, ...]:
        if function == "iterate":
            users = list(_run(database.iterate()))
            for first in range(0, len(users), LIST_BATCH):
                self._own.send(marshal.dumps((PART, self._call, users[first : first + LIST_BATCH])))
            return (0, (), "")
        request = AuthRequest.restored(state, password)
        # as in Dovecot's workers, the client's process is not known here
        request.client_pid = 0
        if function == "verify_plain":
            reply = _run(database.verify_plain(request, Secret(password or b"")))
        else:
            reply = _run(database.lookup(request))
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
                options=ScriptOptions(**options),
                source=source,
            )
        return database

    def _log(self, level: str, text: str, request: AuthRequest | None, fields: Mapping[str, object]) -> None:
        about = self._call if request is not None else 0
        self._own.send(marshal.dumps((LOG, about, level, text, dict(fields))))

    def close(self) -> None:
        for database in self._databases.values():
            database.close()


def _run(core: Any) -> Any:
    """What *core* comes to; here it may as well block."""
    answer: Any = None
    while True:
        try:
            wish: Wish = core.send(answer)
        except StopIteration as done:
            return done.value
        if isinstance(wish, Compute):
            answer = wish.function(*wish.args)
        elif isinstance(wish, Sleep):
            time.sleep(wish.seconds)
            answer = None
        else:
            raise ScriptError(f"a worker cannot fulfil {type(wish).__name__}")
