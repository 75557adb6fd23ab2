"""A peer on a unix socket that says what a test has it say."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio


@asynccontextmanager
async def peer(path: Path, serve: Callable[[trio.SocketStream], Awaitable[object]]) -> AsyncIterator[str]:
    """Where *serve* has each connection, as long as the block lasts; the connection ends with it."""
    with trio.socket.socket(trio.socket.AF_UNIX) as listening:
        await listening.bind(str(path))
        listening.listen()

        async def accept() -> None:
            while True:
                sock, _ = await listening.accept()
                async with trio.SocketStream(sock) as stream:
                    await serve(stream)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            yield str(path)
            nursery.cancel_scope.cancel()
