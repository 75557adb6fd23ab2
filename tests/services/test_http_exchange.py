"""HTTP requests as errands: on a connection that is there, without a task, with the same answers as otherwise."""

import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from authlua.server.ready import Ready
from authlua.services import attach, errand, fulfil, wait_for
from authlua.services.http_exchange import Exchange
from authlua.services.http_messages import Answer
from authlua.services.http_pool import LONGEST_ERRAND
from authlua.wishes import Outcome, Service
from tests.services.backend import Backend


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A web server."""
    with Backend() as backend:
        yield backend


@asynccontextmanager
async def looked_after() -> AsyncIterator[None]:
    """Somebody looks after idle connections, as the server does."""
    ready = Ready()
    async with trio.open_nursery() as nursery:
        attach(ready, lambda: None)
        nursery.start_soon(ready.run)
        yield
        nursery.cancel_scope.cancel()
    ready.close()


def ask(url: str, method: str = "GET", payload: bytes | None = None, **options: Any) -> Service:
    """A wish for an answer."""
    arguments = (json.dumps(options).encode(), method.encode(), url.encode(), payload, False, b"")
    return Service("http", arguments)


async def warm(backend: Backend, **options: Any) -> None:
    """Leave an idle connection behind."""
    assert Answer(*await fulfil(ask(f"{backend.url}/", **options))).status == 200


def exchange(wish: Service) -> Exchange:
    """The errand for *wish*; there has to be one."""
    found = errand(wish)
    assert isinstance(found, Exchange)
    return found


def timeless(answer: Answer) -> tuple[object, ...]:
    """*answer* without what differs from run to run: times and ports."""
    return answer.status, *(re.sub(r"\d+\.\d{3}|:\d{5}|Date: [^\\]*", "N", f"{part!r}") for part in answer[1:])


PATHS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/", {}),
    ("HEAD", "/", {}),
    ("GET", "/chunked", {}),
    ("GET", "/until-close", {}),
    ("GET", "/big", {}),
    ("POST", "/big", {}),
    ("GET", "/status/404", {}),
    ("GET", "/status/500", {}),
    ("GET", "/status/999", {}),
    ("GET", "/fields/60x10", {"response_hdr_max_fields": 50}),
    ("GET", "/redirect/302/", {}),
    ("GET", "/redirect/302/URL/", {}),
    ("GET", "/redirect/302/URL/echo", {"request_max_redirects": 1}),
    ("POST", "/redirect/303/URL/", {"request_max_redirects": 1}),
    ("GET", "/loop", {"request_max_redirects": 3}),
    ("GET", "/busy", {"request_max_attempts": 2, "max_auto_retry_delay": 5.0}),
    ("GET", "/busy", {}),
    ("GET", "/late", {"request_max_attempts": 2}),
    ("GET", "/late", {}),
    ("GET", "/hang-up", {}),
    ("GET", "/hang-up", {"request_max_attempts": 3}),
    ("POST", "/hang-up", {}),
    ("POST", "/once", {"request_max_attempts": 2}),
    ("GET", "/half", {}),
    ("GET", "/garbage", {}),
    ("GET", "/slow", {"request_timeout": 0.2}),
    ("GET", "/slow-body", {"request_timeout": 0.2}),
]


@pytest.mark.parametrize(("method", "path", "options"), PATHS)
async def test_the_answer_is_the_same_as_in_a_task(method: str, path: str, options: dict[str, Any]) -> None:
    """Whatever the server does: answers, refuses, redirects, hangs up, hangs."""
    payload = b"data" if method == "POST" else None
    answers = []
    for at_once in (False, True):
        with Backend() as backend:
            async with looked_after():
                wish = ask(backend.url + path.replace("URL", backend.url), method, payload, **options)
                await warm(backend, **options)
                answers.append(Answer(*(await wait_for(exchange(wish)) if at_once else await fulfil(wish))))
    assert timeless(answers[1]) == timeless(answers[0])


async def test_it_takes_no_task(backend: Backend) -> None:
    """And leaves the connection for the next."""
    async with looked_after():
        await warm(backend)
        before = trio.lowlevel.current_statistics().tasks_living
        outcomes: list[Outcome] = []
        exchange(ask(f"{backend.url}/gate")).start(outcomes.append)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert (outcomes, trio.lowlevel.current_statistics().tasks_living) == ([], before)
        backend.gate.set()
        with trio.fail_after(30):
            while not outcomes:
                await trio.lowlevel.checkpoint()
        assert outcomes[0].value[0] == 200
        for _ in range(3):
            assert (await wait_for(exchange(ask(f"{backend.url}/"))))[0] == 200
        assert backend.connections == 1


async def test_many_wait_at_once_each_on_a_connection_of_its_own(backend: Backend) -> None:
    """And each gets its own answer."""
    async with looked_after():
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(fulfil, ask(f"{backend.url}/gate"))
            await trio.testing.wait_all_tasks_blocked(0.05)
            backend.gate.set()
        answers: list[Outcome] = []
        for number in range(50):
            exchange(ask(f"{backend.url}/echo?{number}")).start(answers.append)
        with trio.fail_after(30):
            while len(answers) < 50:
                await trio.lowlevel.checkpoint()
        targets = {outcome.value[3].split(b" ")[1] for outcome in answers}
        assert targets == {b"/echo?%d" % number for number in range(50)}
        assert backend.connections == 50


async def test_who_does_not_wait_any_more_hears_nothing(backend: Backend) -> None:
    """The connection ends, as its answer would be taken for the next one's."""
    async with looked_after():
        await warm(backend)
        one = exchange(ask(f"{backend.url}/gate"))
        one.start(lambda outcome: pytest.fail("it was cancelled"))
        one.cancel()
        backend.gate.set()
        assert errand(ask(f"{backend.url}/")) is None
        await warm(backend)
        assert backend.connections == 2


async def test_who_cancels_in_the_middle_of_a_redirect_hears_nothing(backend: Backend) -> None:
    """What goes on in a task ends there."""
    async with looked_after():
        await warm(backend, request_max_redirects=1)
        url = f"{backend.url}/redirect/302/{backend.url}/gate"
        one = exchange(ask(url, request_max_redirects=1))
        one.start(lambda outcome: pytest.fail("it was cancelled"))
        with trio.fail_after(30):
            while len(backend.requests) < 3:
                await trio.lowlevel.checkpoint()
        one.cancel()
        backend.gate.set()
        await trio.testing.wait_all_tasks_blocked(0.05)


async def test_an_idle_connection_that_ends_is_let_go_at_once(backend: Backend) -> None:
    """Nobody asks on it any more, so nobody's request is lost with it."""
    async with looked_after():
        await warm(backend)
        backend.open[0].shutdown(socket.SHUT_RDWR)
        await trio.testing.wait_all_tasks_blocked(0.05)
        one = errand(ask(f"{backend.url}/", "POST", b"x"))
        assert one is None or (await wait_for(one))[0] == 200
        assert (await fulfil(ask(f"{backend.url}/", "POST", b"x")))[0] == 200
        assert len(backend.requests) == (2 if one is None else 3)


@pytest.mark.parametrize(
    "options",
    [
        {"request_timeout": LONGEST_ERRAND + 1},
        {"read_request_timeout": 1},
        {"request_absolute_timeout": 5},
    ],
)
async def test_what_needs_a_clock_of_its_own_is_no_errand(backend: Backend, options: dict[str, Any]) -> None:
    """Nor is what has no connection yet, or nobody to look after it."""
    assert errand(ask(f"{backend.url}/")) is None
    await warm(backend)
    assert errand(ask(f"{backend.url}/")) is None
    async with looked_after():
        await warm(backend, **options)
        assert errand(ask(f"{backend.url}/", **options)) is None


async def test_a_body_that_trickles_in_does_not_hide_the_silence_of_others(autojump_clock: trio.abc.Clock) -> None:
    """Each has its own time limit, whoever was asked first."""
    ends = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    async with looked_after(), trio.open_nursery() as nursery:
        outcomes: dict[str, float] = {}
        peers = []

        def note(name: str, since: float, outcome: Outcome) -> None:
            outcomes[name] = trio.current_time() - since

        for name, listener in zip(("trickles", "silent"), ends, strict=True):
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            nursery.start_soon(fulfil, ask(url, request_timeout=10))
            accepting = trio.socket.from_stdlib_socket(listener)
            peer, _ = await accepting.accept()
            peers.append(peer)
            await peer.recv(4096)
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked(0.05)
            one = exchange(ask(url, request_timeout=10))
            one.start(partial(note, name, trio.current_time()))
        await peers[0].recv(4096)
        await peers[0].send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in range(5):
            await trio.sleep(6)
            await peers[0].send(b"x")
        await trio.sleep(20)
        assert outcomes["silent"] == pytest.approx(10, abs=1)
        assert outcomes["trickles"] == pytest.approx(40, abs=1)
        for peer in peers:
            peer.close()
        for listener in ends:
            listener.close()
