"""Doveadm services that are not as they should be; tests/lua/test_clients.py asks real ones."""

import json
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from authlua.services import doveadm
from authlua.services.doveadm import DISCONNECTED, submit
from tests.services.peers import peer

HELLO = b"VERSION\tdoveadm-client\t1\t%d\n"


def packets(data: bytes, size: int, channel: bytes = b"\0") -> bytes:
    """*data* as the service sends it since 1.1, *size* bytes to a packet."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(channel + len(piece).to_bytes(4, "big") + piece for piece in pieces)


async def ask(path: str, **settings: object) -> tuple[int, str]:
    """How a command ends at the service at *path*."""
    return await submit(json.dumps({"socket_path": path, **settings}).encode(), ["", "", "who"], 1, [])


def saying(first: bytes, then: bytes) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """A service that greets with *first* and answers a command with *then*."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(first)
        heard = b""
        while not heard.endswith(b"who\n"):
            heard += await stream.receive_some()
        await stream.send_all(then)

    return serve


@pytest.mark.parametrize("size", [1, 3, 70_000])
async def test_what_a_command_prints_may_be_long_and_comes_in_any_packets(size: int, tmp_path: Path) -> None:
    """It is dropped as it comes, and so is what the service logs on a channel of its own."""
    printed = b"x" * (3 * doveadm.MAX_LINE) + b"\n"
    said = (
        packets(printed, size)
        + packets(b"a line of the log\n", 4, b"L")
        + packets(b"", 1)
        + packets(b"-NOUSER\n", size)
    )
    async with peer(tmp_path / "doveadm", saying(HELLO % 2 + b"+\n", said)) as path:
        assert await ask(path) == (67, "NOUSER")


@pytest.mark.parametrize("minor", [0, 2])
async def test_a_reply_without_end_is_given_up(minor: int, tmp_path: Path) -> None:
    """In packets, too."""
    said = b"\n-" + b"x" * (2 * doveadm.MAX_LINE)
    said = packets(said, 1000) if minor else said
    async with peer(tmp_path / "doveadm", saying(HELLO % minor + b"+\n", said)) as path:
        assert await ask(path) == (DISCONNECTED, "doveadm server sent a line without end")


async def test_what_is_said_in_front_of_tls_counts_for_nothing(tmp_path: Path) -> None:
    """Whoever is in between could else say that the password was right, and answer the command."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(HELLO % 2 + b"-\n+\n" + packets(b"\n+\n", 3))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        with pytest.raises(trio.BrokenResourceError):
            await trio.SSLStream(stream, context, server_side=True).do_handshake()

    async with peer(tmp_path / "doveadm", serve) as path:
        code, problem = await ask(path, ssl="starttls", password="s3cret", ssl_client_require_valid_cert=False)
    assert (code, problem) == (DISCONNECTED, "doveadm STARTTLS failed: Server went on without TLS")
