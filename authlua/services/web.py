"""Web services, through httpx: connections are kept and shared by all who ask within one run of the event loop."""

from typing import TYPE_CHECKING

import trio

from authlua.errors import Unreachable
from authlua.wishes import Http, HttpReply

if TYPE_CHECKING:
    from httpx import AsyncClient

MAX_BODY = 1 << 20
"""Bytes of an answer; nobody here has use for more."""

_client: "trio.lowlevel.RunVar[AsyncClient | None]" = trio.lowlevel.RunVar("http client", default=None)


def _open() -> "AsyncClient":
    client = _client.get()
    if client is None:
        # loaded by who first asks: it takes a tenth of a second, and most servers never do
        from httpx import AsyncClient, Limits

        limits = Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=10)
        client = AsyncClient(limits=limits, timeout=None, follow_redirects=False)
        _client.set(client)
    return client


async def http(wish: Http) -> HttpReply:
    """Fulfil *wish*.

    Raises:
        Unreachable: there was no answer in time, or it was none.
    """
    from httpx import HTTPError, InvalidURL

    # what is said of a failure must not tell a password in the address
    where = wish.url.partition("?")[0].rpartition("@")[2]
    try:
        with trio.fail_after(wish.timeout):
            async with _open().stream(wish.method, wish.url, headers=list(wish.headers), content=wish.body) as response:
                body = b""
                # read to its end in any case: the library's generators must not be left half-way
                async for chunk in response.aiter_bytes():
                    body += chunk[: MAX_BODY + 1 - len(body)]
    except trio.TooSlowError:
        raise Unreachable(f"{where}: no answer within {wish.timeout:g} s") from None
    except (HTTPError, InvalidURL) as error:
        # the library's words may quote the address
        raise Unreachable(f"{where}: {type(error).__name__}") from None
    if len(body) > MAX_BODY:
        raise Unreachable(f"{where}: the answer is longer than {MAX_BODY} bytes")
    return HttpReply(response.status_code, response.reason_phrase, response.headers.multi_items(), body)


async def close_http() -> None:
    """Close the connections of this run, if there are any."""
    client = _client.get()
    if client is not None:
        _client.set(None)
        await client.aclose()
