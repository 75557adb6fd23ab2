"""HTTP for scripts: requests as Dovecot's client makes them, waiting on trio.

There are two ways to an answer. `submit` is one that waits on trio and can do everything (`http_submission`); an
`exchange` is an errand that takes no task, for the most usual case (`http_exchange`). Both use the connections of a
`http_pool`; `http_connection` makes them. The bytes of HTTP/1.1 are `http_codec`'s business.
"""

import json
from typing import Any

import trio

from authlua.services import http_submission
from authlua.services.errands import attached
from authlua.services.http_codec import Header
from authlua.services.http_exchange import Exchange
from authlua.services.http_messages import Answer, Options, Request
from authlua.services.http_pool import Pool
from authlua.services.http_tls import TlsOptions
from authlua.urls import parse_url


async def submit(
    options: bytes, method: bytes, url: bytes, payload: bytes | None, expect: bool, headers: bytes, number: int = 0
) -> Answer:
    """Send a request and give its answer.

    Args:
        options: a JSON object with the names of `Options`. Requests with the same share connections.
        headers: as in `Answer`.
        number: not 0 when the answer is to come with notes.
    """
    request = _request(method, url, payload, expect, headers)
    return await http_submission.submit(_pool(options), request._replace(number=number) if number else request)


def exchange(
    options: bytes, method: bytes, url: bytes, payload: bytes | None, expect: bool, headers: bytes, number: int = 0
) -> Exchange | None:
    """The same as an errand, if there is a connection for it."""
    place = attached.get(None)
    if place is None or number or (expect and payload):
        return None
    pool = _pool(options)
    request = _request(method, url, payload, expect, headers)
    return Exchange(pool, request, place) if pool.has_idle(request.url) else None


def _pool(options: bytes) -> Pool:
    pools = _pools.get(None)
    if pools is None:
        pools = {}
        _pools.set(pools)
    pool = pools.get(options)
    if pool is None:
        pool = pools[options] = Pool(made_of(json.loads(options)))
    return pool


def made_of(said: dict[str, Any]) -> Options:
    """The options of a client that was told *said*."""
    tls = {name: said.pop(name) for name in TlsOptions._fields if name in said}
    return Options(**said, tls=TlsOptions(**tls))


def _request(method: bytes, url: bytes, payload: bytes | None, expect: bool, headers: bytes) -> Request:
    pairs: list[Header] = []
    if headers:
        words = headers.decode("latin-1").split("\n")
        pairs = list(zip(words[::2], words[1::2], strict=False))
    return Request(method.decode("latin-1"), parse_url(url.decode("latin-1")), payload, expect, pairs)


_pools: trio.lowlevel.RunVar[dict[bytes, Pool] | None] = trio.lowlevel.RunVar("authlua http pools")
