"""What is said of connections that fail."""

import errno
import socket
import ssl

import pytest
import trio

from authlua.services.reasons import reason


def because(error: Exception, cause: BaseException) -> Exception:
    """*error*, raised from *cause*."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ECONNREFUSED, "Error connecting to ('::1', 1): Connection refused"), "Connection refused"),
        (because(trio.BrokenResourceError(), ConnectionResetError(errno.ECONNRESET, "x")), "Connection reset by peer"),
        (because(trio.BrokenResourceError(), ssl.SSLError(1, "[SSL] certificate")), "[SSL] certificate"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (trio.BrokenResourceError("closed"), "closed"),
        (trio.BrokenResourceError(), "the connection broke"),
    ],
)
def test_the_reason_is_the_systems(error: Exception, text: str) -> None:
    """Not the library's, nor a number."""
    assert reason(error) == text


async def test_a_host_with_several_addresses_has_one_reason() -> None:
    """Trio tells of each attempt in a group."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(OSError, match="all attempts") as caught:
        await trio.open_tcp_stream("localhost", port)
    assert reason(caught.value) == "Connection refused"
