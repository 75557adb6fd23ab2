"""The HTTP client of scripts: connections, time, TLS, proxies. Its words are compared with Dovecot in tests/lua."""

import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from authlua.services import doveadm
from authlua.services.http_client import made_of, submit
from authlua.services.http_messages import Answer
from authlua.urls import parse_url
from tests.services.backend import Backend, Proxy, Tls
from tests.services.imap_server import context
from tests.services.tls import make_certificate


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A web server."""
    with Backend() as backend:
        yield backend


async def get(url: str, **options: object) -> Answer:
    """The answer to a GET with *options*."""
    return await submit(json.dumps(options).encode(), b"GET", url.encode(), None, False, b"")


async def test_a_connection_is_kept_as_long_as_asked(backend: Backend) -> None:
    """And used again only by requests with the same options."""
    for _ in range(3):
        assert (await get(f"{backend.url}/", max_idle_time=60)).status == 200
    assert backend.connections == 1
    await get(f"{backend.url}/", max_idle_time=50)
    assert backend.connections == 2
    for _ in range(2):
        await get(f"{backend.url}/")
    assert backend.connections == 3  # without a limit, it is kept just so


async def test_an_idle_connection_ends_in_time(backend: Backend) -> None:
    """Even when nobody asks any more."""
    await get(f"{backend.url}/", max_idle_time=0.05)
    (sock,) = backend.open
    await trio.to_thread.run_sync(backend.threads[0].join)  # the server's side saw the end
    assert sock.fileno() == -1


async def test_a_connection_that_the_server_ended_is_not_used_again(backend: Backend) -> None:
    """The next request has a new one and does not fail."""
    await get(f"{backend.url}/", max_idle_time=60)
    backend.open[0].shutdown(socket.SHUT_RDWR)
    assert (await get(f"{backend.url}/", max_idle_time=60)).status == 200
    assert backend.connections == 2


class Vanishing(Backend):
    """Ends each connection when the second request comes, as a server does whose patience ends just then."""

    def answer(self, sock: socket.socket, head: bytes, body: bytes) -> bool:
        if len(self.requests) % 2 == 0:
            return False
        return super().answer(sock, head, body)


async def test_a_kept_connection_that_ends_as_it_is_used_is_no_failure() -> None:
    """A request that may be repeated goes out again; of another nobody knows whether it had its effect."""
    with Vanishing() as backend:
        assert (await get(f"{backend.url}/")).status == 200
        assert (await get(f"{backend.url}/")).status == 200
        assert (backend.connections, len(backend.requests)) == (2, 3)
        lost = await submit(b"{}", b"POST", f"{backend.url}/".encode(), b"payload", False, b"")
        assert (lost.status, lost.reason[:15]) == (9005, b"Connection lost")


async def test_a_host_that_does_not_accept_is_given_up_in_time(autojump_clock: trio.testing.MockClock) -> None:
    """As a connect timeout or, without one, the request's timeout says."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            answer = await get(f"http://127.0.0.1:{port}/", connect_timeout=1.5, request_timeout=60)
    assert answer.status == 9003
    assert answer.reason == b"connect(127.0.0.1:%d) failed: Connection timed out in 1.500 secs" % port


async def test_a_refused_connection_is_tried_again_as_often_as_asked(autojump_clock: trio.testing.MockClock) -> None:
    """With longer and longer pauses: 0.1 s, 0.2 s, 0.4 s."""
    before = trio.current_time()
    assert (await get("http://127.0.0.1:1/", max_connect_attempts=4)).status == 9003
    assert trio.current_time() - before == pytest.approx(0.7)


async def test_what_was_meant_for_one_host_is_not_told_another(backend: Backend) -> None:
    """A redirect elsewhere takes no Authorization along; one on the same host does."""
    with Backend() as other:
        for where in (backend, other):
            url = f"{backend.url}/redirect/302/{where.url}/"
            headers = b"Authorization\nsecret\nX-Other\nthing\n"
            answer = await submit(b'{"request_max_redirects": 1}', b"GET", url.encode(), None, False, headers)
            assert answer.status == 200
        assert b"Authorization: secret\r\n" in backend.requests[1]
        assert b"secret" not in other.requests[0]
        assert b"X-Other: thing\r\n" in other.requests[0]


async def test_a_payload_is_sent_even_when_the_server_does_not_say_go_on(backend: Backend) -> None:
    """Two seconds after it was asked; a server that refuses at once does not get it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                sock, _ = await trio.to_thread.run_sync(listener.accept)
                with sock:
                    head = await trio.to_thread.run_sync(sock.recv, 65536)
                    assert head.endswith(b"\r\n\r\n")
                    sock.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
                    assert await trio.to_thread.run_sync(sock.recv, 65536) == b""

            nursery.start_soon(serve)
            answer = await submit(b"{}", b"POST", url.encode(), b"payload", True, b"")
            assert answer.status == 403


# -- TLS


async def test_tls_is_checked_unless_told_not_to(tmp_path: Path) -> None:
    """A certificate that nobody signed is refused; with its authority, or without the check, it is taken."""
    with Tls(tmp_path) as backend:
        refused = await get(f"{backend.url}/")
        assert refused.status == 9003
        assert b"SSL handshaking with 127.0.0.1:" in refused.reason
        assert b"certificate verify failed" in refused.reason
        for options in ({"ssl_client_ca_file": str(backend.certificate)}, {"ssl_client_require_valid_cert": False}):
            assert (await get(f"{backend.url}/", **options)).payload == b"hello"
        missing = await get(f"{backend.url}/", ssl_client_ca_file=str(tmp_path / "none"))
        assert (missing.status, b"No such file" in missing.reason) == (9003, True)


async def test_a_client_shows_its_certificate(tmp_path: Path) -> None:
    """With its key, also one with a password; a server that wants to see one refuses others."""
    with Tls(tmp_path) as backend:
        backend.wants_certificate()
        trusted = {"ssl_client_ca_file": str(backend.certificate)}
        assert (await get(f"{backend.url}/", **trusted)).status in (9003, 9005)
        mine = {"ssl_client_cert_file": str(backend.certificate), "ssl_client_key_file": str(backend.key)}
        assert (await get(f"{backend.url}/", **trusted, **mine)).payload == b"hello"
        mine["ssl_client_key_file"] = str(backend.locked_key(b"p4ss"))
        unlocked = await get(f"{backend.url}/", **trusted, **mine, ssl_client_key_password="p4ss")
        assert unlocked.payload == b"hello"
        locked = await get(f"{backend.url}/", **trusted, **mine, ssl_client_key_password="wr0ng")
        assert (locked.status, locked.reason[:28]) == (9003, b"Couldn't initialize SSL clie")
        assert b"wr0ng" not in locked.reason
        long = await get(f"{backend.url}/", **trusted, **mine, ssl_client_key_password="x" * 2000)
        assert (long.status, b"xxx" in long.reason) == (9003, False)
        none = await get(f"{backend.url}/", **trusted, **mine)  # and nobody is asked
        assert (none.status, none.reason[:28]) == (9003, b"Couldn't initialize SSL clie")


@pytest.mark.parametrize(
    ("options", "works"),
    [
        ({"ssl_min_protocol": "TLSv1.2"}, True),
        ({"ssl_min_protocol": "ANY"}, True),
        ({"ssl_min_protocol": "TLSv1.3"}, False),
        ({"ssl_min_protocol": "TLSv9"}, False),
        ({"ssl_cipher_list": "ECDHE-ECDSA-AES256-GCM-SHA384"}, True),
        ({"ssl_cipher_list": "ECDHE-ECDSA-CHACHA20-POLY1305"}, False),
        ({"ssl_cipher_list": "NOSUCH"}, False),
    ],
)
async def test_protocol_and_ciphers_are_those_that_were_asked_for(
    tmp_path: Path, options: dict[str, str], works: bool
) -> None:
    """Of a server with TLS 1.2 and one cipher."""
    with Tls(tmp_path) as backend:
        backend.only("ECDHE-ECDSA-AES256-GCM-SHA384")
        answer = await get(f"{backend.url}/", ssl_client_require_valid_cert=False, **options)
        assert answer.status == (200 if works else 9003)


# -- proxies


async def test_requests_go_through_a_proxy(backend: Backend, tmp_path: Path) -> None:
    """Plain ones with the whole URL, those with TLS through a tunnel; the proxy is told who asks."""
    with Proxy() as proxy, Tls(tmp_path) as secure:
        options = {"proxy_url": proxy.url, "proxy_username": "me", "proxy_password": "pw"}
        answer = await get(f"{backend.url}/echo", **options)
        assert answer.payload.startswith(f"GET {backend.url}/echo HTTP/1.1\r\n".encode())
        assert b"Proxy-Authorization: Basic bWU6cHc=\r\n" in answer.payload
        assert backend.requests == []
        answer = await get(f"{secure.url}/", **options, ssl_client_ca_file=str(secure.certificate))
        assert answer.payload == b"hello"
        assert proxy.requests[-1].startswith(b"CONNECT 127.0.0.1:")
        assert b"Proxy-Authorization" not in secure.requests[0]


# -- URLs


async def test_a_proxy_that_breaks_the_connection_is_an_answer(tmp_path: Path) -> None:
    """A script hears of it as of a proxy that says no, also when it was over TLS."""
    make_certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    tls = context(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))

    def break_off() -> None:
        sock, _ = listening.accept()
        with tls.wrap_socket(sock, server_side=True) as secure:
            secure.recv(65536)
            secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with trio.open_nursery() as nursery:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            nursery.start_soon(trio.to_thread.run_sync, break_off)
            proxy = f"https://127.0.0.1:{listening.getsockname()[1]}"
            answer = await get("https://example/", proxy_url=proxy, ssl_client_require_valid_cert=False)
    assert answer.status == 9003
    assert answer.reason == b"Tunnel to example:443 failed: [Errno 104] Connection reset by peer"


def test_no_password_is_in_a_repr() -> None:
    """Of what travels through the client; a traceback or an assertion may show it."""
    url = parse_url("http://user:s3cret@host/path?token=s3cret")
    options = made_of({"proxy_password": "s3cret", "ssl_client_key_password": "s3cret"})
    assert repr(url) == "<Url http://host/path?<hidden>>"
    assert "s3cret" not in f"{options!r} {options.tls!r} {doveadm.Options(password='s3cret')!r}"


@pytest.mark.parametrize(
    ("text", "authority", "target"),
    [
        ("http://example.com", "example.com", "/"),
        ("http://example.com:80/x", "example.com", "/x"),
        ("https://example.com:80/x?y=1", "example.com:80", "/x?y=1"),
        ("https://example.com/x-y?z-%20=a-b?/c", "example.com", "/x-y?z-%20=a-b?/c"),
        ("https://example.com?x-y", "example.com", "/?x-y"),
        ("http://[::1]:8080/", "[::1]:8080", "/"),
        ("http://u:p%40@example.com/", "example.com", "/"),
    ],
)
def test_a_url_says_where_to_go_and_what_to_ask(text: str, authority: str, target: str) -> None:
    """The rest is compared with Dovecot."""
    url = parse_url(text)
    assert (url.authority, url.target) == (authority, target)
    assert url.userinfo == ("u:p@" if "u:p" in text else None)
