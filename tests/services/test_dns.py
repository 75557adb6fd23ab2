"""Names asked of a ``dns-client`` service that is not as it should be; tests/lua/test_clients.py asks a Dovecot's."""

import socket
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from authlua.services.dns import submit
from tests.services.peers import peer


async def test_a_name_cannot_ask_for_another(tmp_path: Path) -> None:
    """What stands in it is no end of a line or field, so the service hears one question."""
    heard = b""

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal heard
        while heard.count(b"\n") < 2:
            heard += await stream.receive_some()
        await stream.send_all(b"VERSION\tdns-client\t1\t0\n0\t192.0.2.1\n")

    async with peer(tmp_path / "dns", serve) as path:
        assert await submit("a\nIP\tb", 5, path) == ("", 0, ["192.0.2.1"])
    assert heard == b"VERSION\tdns-client\t1\t0\nIP\ta\x01nIP\x01tb\n"


@pytest.mark.parametrize(
    ("said", "problem", "code"),
    [
        (b"", "disconnected", socket.EAI_FAIL),
        (b"VERSION\tdns-client\t1\t0\nwhat?\n", "Unknown error", socket.EAI_FAIL),
        (b"VERSION\tdns-client\t1\t0\n-2\tNobody knows\n", "Nobody knows", -2),
        (b"VERSION\tdns-client\t1\t0\n\xff\n", "can't decode", socket.EAI_FAIL),
        (bytes(200_000), "disconnected", socket.EAI_FAIL),
    ],
)
async def test_whatever_a_service_says_is_an_answer(said: bytes, problem: str, code: int, tmp_path: Path) -> None:
    """Garbage, too much, or nothing: the script hears why there are no addresses."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        with suppress(trio.BrokenResourceError):  # it may have heard enough
            await stream.send_all(said)

    async with peer(tmp_path / "dns", serve) as path:
        text, number, found = await submit("example", 5, path)
    assert problem in text
    assert (number, found) == (code, [])


async def test_a_service_that_hangs_up_in_the_middle_is_an_answer(tmp_path: Path) -> None:
    """With what it was asked still unread, the connection does not end but breaks."""

    async def serve(stream: trio.SocketStream) -> None:
        await trio.lowlevel.checkpoint()

    async with peer(tmp_path / "dns", serve) as path:
        text, number, found = await submit("example", 5, path)
    assert f"{path} disconnected" in text
    assert (number, found) == (socket.EAI_FAIL, [])
