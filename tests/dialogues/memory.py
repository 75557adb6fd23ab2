"""authlua without sockets and without time: its connections read from and write to memory, on a clock that jumps.

Time passes only while a dialogue waits for an answer, so a failure delay costs nothing and nothing is ever too slow.
Bytes arrive as they were sent or in pieces; where the kernel cuts our reads must never matter.
"""

import os
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import structlog
import trio

from authlua.config import load
from authlua.conformance.raw import SilenceError
from authlua.secret import Secret
from authlua.server.app import App
from authlua.server.clients import Client
from authlua.server.core import Lasting, open_core
from authlua.server.listeners import CLIENT_KINDS, MASTER_KINDS
from authlua.server.masters import Master
from tests.dialogues.targets import LISTENERS

PATIENCE = 20.0
"""Seconds, which pass in no time."""


class Ready:
    """Stands in for `authlua.server.ready.Ready`: knows who wants to read."""

    def __init__(self) -> None:
        self._reading: set[int] = set()

    def watch(self, served: Any, events: int) -> None:
        if events & select.EPOLLIN:
            self._reading.add(served.fileno())
        else:
            self._reading.discard(served.fileno())

    def forget(self, served: Any) -> None:
        self._reading.discard(served.fileno())

    def wants(self, number: int) -> bool:
        return number in self._reading

    def close(self) -> None:
        self._reading.clear()


class ServersEnd:
    """Stands in for the server's socket: the little of it that a connection uses."""

    def __init__(self, number: int, piece: int) -> None:
        self._number = number
        self._piece = piece
        self.incoming = b""
        self.outgoing = b""
        self.hung_up = False

    def setblocking(self, flag: bool) -> None:
        assert not flag, "a server never blocks"

    def fileno(self) -> int:
        return self._number

    def recv(self, size: int) -> bytes:
        size = min(size, self._piece)
        data, self.incoming = self.incoming[:size], self.incoming[size:]
        if not data and not self.hung_up:
            raise BlockingIOError
        return data

    def send(self, data: bytes) -> int:
        self.outgoing += data
        return len(data)

    def close(self) -> None:
        self.incoming = b""


class MemoryConversation:
    """A `dialogue.Conversation` with a connection of the server."""

    def __init__(self, ready: Ready, end: ServersEnd, connection: Client | Master) -> None:
        self.peer_pid = os.getpid()
        self._ready = ready
        self._end = end
        self._connection = connection

    def send(self, data: bytes) -> None:
        self._end.incoming += data
        self._deliver()

    async def receive(self) -> bytes | None:
        with trio.move_on_after(PATIENCE):
            while True:
                self._deliver()
                line, lf, rest = self._end.outgoing.partition(b"\n")
                if lf:
                    self._end.outgoing = rest
                    return line
                if self._connection.closed:
                    assert not line, f"the server closed the connection inside a line: {line!r}"
                    return None
                await trio.sleep(0.01)
        raise SilenceError("the server said nothing more")

    def waiting(self) -> bytes:
        self._deliver()
        return self._end.outgoing

    def close(self) -> None:
        self._end.hung_up = True
        self._deliver()

    def _deliver(self) -> None:
        """What has been sent arrives while the server wants to read."""
        while self._ready.wants(self._end.fileno()) and (self._end.incoming or self._end.hung_up):
            self._connection.ready(select.EPOLLIN)


class MemoryTarget:
    """The server's own connections, core and scripts. A `dialogue.Target`."""

    subject = "authlua"

    def __init__(self, dialect: str, app: App, ready: Ready, piece: int) -> None:
        self.dialect = dialect
        self._app = app
        self._ready = ready
        self._piece = piece
        self._opened = 0

    def open(self, kind: str, *, uid: int | None = None) -> MemoryConversation:
        kind = LISTENERS[kind][0]
        peer = os.getpid(), uid if kind == "userdb" else None
        listener: Any = SimpleNamespace(
            settings=SimpleNamespace(kind=kind),
            name=kind,
            late=self.dialect == "2.4",
            close_on_tempfail=False,
            client_kind=CLIENT_KINDS.get(kind),
            master_kind=MASTER_KINDS.get(kind),
            peer=lambda sock: peer,
        )
        self._opened += 1
        end: Any = ServersEnd(self._opened, self._piece)
        connection = (Client if kind in CLIENT_KINDS else Master)(self._app, listener, end)
        return MemoryConversation(self._ready, end, connection)


@asynccontextmanager
async def memory_target(directory: Path, dialect: str, config: str, *, piece: int) -> AsyncIterator[MemoryTarget]:
    """A server in memory that reads *piece* bytes at a time, for the length of the block.

    Only on a clock that jumps (pytest-trio's ``autojump_clock``) does it take no time.
    """
    (directory / "authlua.toml").write_text(config)
    settings = load(directory / "authlua.toml")
    log = structlog.wrap_logger(structlog.ReturnLogger(), processors=[structlog.testing.LogCapture()])
    core = open_core(settings, log, Lasting(token_secret=Secret(b"s" * 32)))
    app = App(settings, core, log, lambda: core)
    app.ready.close()
    ready: Any = Ready()
    app.ready = ready
    async with trio.open_nursery() as nursery:
        app.tasks = nursery
        nursery.start_soon(app.failures.run)
        nursery.start_soon(app.expiry.run)
        yield MemoryTarget(dialect, app, ready, piece)
        app.close()
        nursery.cancel_scope.cancel()
    app.end()
