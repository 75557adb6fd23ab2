"""A server over fake databases, with real sockets between it and the test."""

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
import trio
from structlog.testing import LogCapture

from authlua.auth import Auth
from authlua.config import ListenerSettings, embedded
from authlua.server.app import App
from authlua.server.core import Core
from authlua.server.counting import Counts
from authlua.server.listeners import Listener

SCRIPT = "function auth_passdb_lookup(req) end"


class Living:
    """The server, its log, and ways in."""

    def __init__(self, app: App, log: LogCapture) -> None:
        self.app = app
        self.log = log
        self._sockets: list[socket.socket] = []
        self._streams: list[trio.SocketStream] = []

    def connect(self, kind: str, **options: Any) -> trio.SocketStream:
        """A new connection to a socket of that kind."""
        ours, theirs = socket.socketpair()
        listening = socket.socket(socket.AF_UNIX)
        self._sockets.append(listening)
        self.app.connect(Listener(ListenerSettings(kind=kind, **options), listening), theirs)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self._streams.append(stream)
        return stream

    def close(self) -> None:
        """End the server and all connections to it."""
        self.app.close()
        for sock in self._sockets:
            sock.close()
        for stream in self._streams:
            stream.socket.close()

    def events(self, name: str) -> list[Any]:
        """What was logged under *name*."""
        return [entry for entry in self.log.entries if entry["event"] == name]


@asynccontextmanager
async def living(
    tmp_path: Path,
    auth: Auth,
    *,
    reload: Callable[[], Core] | None = None,
    counts: Counts | None = None,
    **server: Any,
) -> AsyncIterator[Living]:
    """A server that decides by *auth*, for the length of the block."""
    script = tmp_path / "auth.lua"
    script.write_text(SCRIPT)
    settings = embedded(script, tmp_path)
    capture = LogCapture()
    log = structlog.wrap_logger(structlog.ReturnLogger(), processors=[capture])
    app = App(settings, Core(auth, []), log, reload or (lambda: Core(auth, [])))
    app.tally.counts = counts
    for name, value in server.items():
        setattr(app, name, value)
    async with trio.open_nursery() as nursery:
        app.tasks = nursery
        for task in (app.ready.run, app.failures.run, app.expiry.run, app.hasher.run):
            nursery.start_soon(task)
        alive = Living(app, capture)
        try:
            yield alive
        finally:
            alive.close()
            nursery.cancel_scope.cancel()
    app.end()


HELLO = f"VERSION\t1\t2\nCPID\t{os.getpid()}\n".encode()


async def login(server: Living, kind: str = "client", **options: Any) -> trio.SocketStream:
    """An auth client that has shaken hands."""
    stream = server.connect(kind, **options)
    await stream.send_all(HELLO)
    await read_until(stream, b"DONE\n")
    return stream


async def read_until(stream: trio.SocketStream, end: bytes) -> bytes:
    """All bytes up to and with *end*; what came instead if the stream ends."""
    data = b""
    with trio.fail_after(1000):
        while not data.endswith(end):
            chunk = await stream.receive_some()
            if not chunk:
                break
            data += chunk
    return data


async def silent(stream: trio.SocketStream, seconds: float = 30) -> bool:
    """Whether nothing comes for so long."""
    with trio.move_on_after(seconds):
        await stream.receive_some()
        return False
    return True
