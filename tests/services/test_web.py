"""Web services over real sockets: what is sent, what comes back, and what a failure says."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from authlua.errors import Unreachable
from authlua.services import close_http, http
from authlua.services.web import MAX_BODY
from authlua.wishes import Http


class Server(ThreadingHTTPServer):
    """Says back what it heard; a path of digits is the status, ``/long`` is too long and ``/never`` waits."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.connections: set[Any] = set()
        self.over = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        self.server.connections.add(self.client_address)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/never":
            self.server.over.wait(60)
            return
        if self.path == "/long":
            body = b"x" * (MAX_BODY + 1)
        self.send_response(int(self.path[1:]) if self.path[1:].isdigit() else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Heard", self.headers.get("X-Say", ""))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def post(server: Server, path: str = "/", timeout: float = 30.0) -> Http:
    url = f"http://127.0.0.1:{server.server_port}{path}"
    return Http("POST", url, headers=[("X-Say", "hello")], body=b"body", timeout=timeout)


async def test_a_question_and_its_answer(server: Server) -> None:
    """Whatever its status."""
    reply = await http(post(server, "/418"))
    await close_http()
    assert (reply.status, reply.body, dict(reply.headers)["x-heard"]) == (418, b"body", "hello")


async def test_connections_are_kept(server: Server) -> None:
    """The second question needs no new one."""
    for _ in range(3):
        await http(post(server))
    await close_http()
    assert len(server.connections) == 1


@pytest.mark.parametrize(("path", "words"), [("/never", "no answer within"), ("/long", "is longer than")])
async def test_what_takes_or_is_too_much_is_unreachable(server: Server, path: str, words: str) -> None:
    """A server cannot fill our memory, nor hold up a login for longer than it may."""
    with pytest.raises(Unreachable, match=words):
        await http(post(server, path, timeout=30 if path == "/long" else 0.05))
    await close_http()


@pytest.mark.parametrize("url", ["http://u:swordfish@127.0.0.1:1/x?swordfish", "http://swordfish:x/", "nonsense"])
async def test_a_failure_says_where_and_nothing_secret(url: str) -> None:
    """Passwords in an address stay there."""
    with pytest.raises(Unreachable) as caught:
        await http(Http("POST", url, timeout=30))
    await close_http()
    assert "swordfish:x" in str(caught.value) or "swordfish" not in str(caught.value)


def test_each_run_of_the_event_loop_has_connections_of_its_own(server: Server) -> None:
    """Those of an earlier run would be dead."""
    import trio

    async def once() -> int:
        reply = await http(post(server))
        await close_http()
        return reply.status

    assert [trio.run(once), trio.run(once)] == [200, 200]
