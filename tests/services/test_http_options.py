"""What the options of the HTTP client do that others leave to the system: sockets, names, raw logs, TLS, notes."""

import json
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from authlua.services.http_client import submit
from authlua.services.http_messages import Answer, Note
from authlua.services.http_tls import TlsOptions, tls_contexts
from tests.services.backend import Backend, SecureProxy, Tls


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A web server."""
    with Backend() as backend:
        yield backend


async def ask(
    url: str,
    method: str = "GET",
    payload: bytes | None = None,
    *,
    expect: bool = False,
    number: int = 0,
    also: Mapping[str, object] | None = None,
    **options: object,
) -> Answer:
    """The answer to a request with *options*, and *also* others."""
    said = json.dumps({**options, **(also or {})}).encode()
    return await submit(said, method.encode(), url.encode(), payload, expect, b"", number)


def noted(answer: Answer) -> list[Note]:
    """The notes of an answer."""
    return [Note(*note) for note in answer.notes]


# -- sockets


def client_socket(port: int) -> socket.socket:
    """Our end of the connection to *port*."""
    for name in os.listdir("/proc/self/fd"):
        try:
            sock = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue  # it is no socket, or was the directory
        try:
            if sock.family == socket.AF_INET and sock.getpeername()[1] == port:
                return sock
        except OSError:
            pass  # it is not connected
        sock.close()
    raise AssertionError(f"nothing is connected to {port}")


async def test_buffers_of_sockets_are_as_large_as_asked_for(backend: Backend) -> None:
    """Linux doubles what it is told, for its own needs; what is too large for it is cut, and no error."""
    await ask(f"{backend.url}/", socket_send_buffer_size=20_000, socket_recv_buffer_size=30_000)
    with client_socket(backend.port) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 40_000
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 60_000
    answer = await ask(f"{backend.url}/", socket_send_buffer_size=1 << 40, socket_recv_buffer_size=1 << 40)
    assert answer.status == 200


async def test_no_more_connections_to_one_place_than_asked_for(backend: Backend) -> None:
    """Other requests wait for their turn; those to other places do not."""
    statuses = []

    async def get(url: str) -> None:
        statuses.append((await ask(url, max_parallel_connections=2)).status)

    with Backend() as other:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(get, f"{backend.url}/gate")
            await trio.testing.wait_all_tasks_blocked(0.05)
            await get(f"{other.url}/")
            assert (backend.connections, statuses) == (2, [200])
            backend.gate.set()
    assert (backend.connections, statuses) == (2, [200] * 6)


@pytest.mark.parametrize(
    ("options", "pauses"),
    [
        ({"max_connect_attempts": 5, "connect_backoff_time": 1, "connect_backoff_max_time": 3}, 1 + 2 + 3 + 3),
        ({"max_connect_attempts": 12}, 0.1 * (2**10 - 1) + 60),
        ({}, 0),
    ],
)
async def test_pauses_between_connections_grow_up_to_a_bound(
    autojump_clock: trio.testing.MockClock, options: dict[str, float], pauses: float
) -> None:
    """Each is twice as long as the last; by default from 0.1 seconds up to a minute, and there is one try."""
    before = trio.current_time()
    assert (await ask("http://127.0.0.1:1/", also=options)).status == 9003
    assert trio.current_time() - before == pytest.approx(pauses)


@pytest.mark.parametrize("options", [{"request_timeout": 7}, {}])
async def test_without_a_connect_timeout_the_requests_holds(
    autojump_clock: trio.testing.MockClock, options: dict[str, float]
) -> None:
    """For a host that does not answer; without that either, a minute."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            answer = await ask(f"http://127.0.0.1:{port}/", also=options)
    seconds = options.get("request_timeout", 60)
    assert answer[:2] == (9003, b"connect(127.0.0.1:%d) failed: Connection timed out in %d.000 secs" % (port, seconds))


async def test_a_connection_is_kept_for_a_minute(backend: Backend, autojump_clock: trio.testing.MockClock) -> None:
    """If the script says nothing."""
    autojump_clock.autojump_threshold = float("inf")
    assert (await ask(f"{backend.url}/")).status == 200
    autojump_clock.autojump_threshold = 0
    await trio.sleep(59)
    client_socket(backend.port).close()  # it is there
    await trio.sleep(2)
    with pytest.raises(AssertionError, match="nothing is connected"):
        client_socket(backend.port)


# -- attempts


@pytest.mark.parametrize(
    ("method", "kind"), [("GET", "read"), ("HEAD", "read"), ("POST", "write"), ("DELETE", "delete")]
)
async def test_kinds_of_methods_have_limits_of_their_own(backend: Backend, method: str, kind: str) -> None:
    """Where nothing is said, the limit of all requests holds; another kind's says nothing."""
    other = "write" if kind != "write" else "read"
    once, slow = f"{backend.url}/once?{method}", f"{backend.url}/slow"
    assert (await ask(once, method, also={f"{other}_request_max_attempts": 2})).status == 9005
    backend.seen.clear()
    assert (await ask(once, method, also={f"{kind}_request_max_attempts": 2})).status == 200
    limits = {f"{kind}_request_timeout": 0.02, f"{other}_request_timeout": 60}
    assert (await ask(slow, method, also=limits)).status == 9008
    assert (await ask(slow, method, also={f"{other}_request_timeout": 60}, request_timeout=0.02)).status == 9008


async def test_nothing_is_tried_again_where_that_is_not_wanted(backend: Backend) -> None:
    """Neither a lost connection nor a server that says later."""
    for path, status in (("/once", 9005), ("/busy", 503), ("/late", 408)):
        options = {"request_max_attempts": 2, "max_auto_retry_delay": 5, "auto_retry": False}
        assert (await ask(backend.url + path, also=options)).status == status
    assert len(backend.requests) == 3


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"response_hdr_max_fields": 3}, "Excessive number of header fields"),
        ({"response_hdr_max_size": 20}, "Excessive header size"),
        ({"response_hdr_max_field_size": 5}, "Excessive header field size"),
        ({"response_hdr_max_fields": 4, "response_hdr_max_size": 500, "response_hdr_max_field_size": 100}, ""),
    ],
)
async def test_a_response_has_no_more_head_than_it_may(backend: Backend, limits: dict[str, int], why: str) -> None:
    """Else it is none."""
    answer = await ask(f"{backend.url}/", also=limits)
    expected = (9007, f"Failed to parse header: {why}".encode()) if why else (200, b"Fine")
    assert answer[:2] == expected


# -- proxies


async def test_a_proxy_may_be_at_a_unix_socket(tmp_path: Path) -> None:
    """It is asked with the whole URL."""
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(str(tmp_path / "proxy"))
    listener.listen()
    heads = []

    async def serve(stream: trio.SocketStream) -> None:
        heads.append(await stream.receive_some())
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(listener)])
        answer = await ask(
            "http://backend.example/x",
            proxy_socket_path=str(tmp_path / "proxy"),
            proxy_username="me",
            proxy_password="pw",
        )
        nursery.cancel_scope.cancel()
    assert answer.status == 200
    assert heads[0].startswith(b"GET http://backend.example/x HTTP/1.1\r\nHost: backend.example\r\n")
    assert b"\r\nProxy-Authorization: Basic bWU6cHc=\r\n" in heads[0]


async def test_a_proxy_may_speak_tls(backend: Backend, tmp_path: Path) -> None:
    """Also around that of a tunnel."""
    (tmp_path / "other").mkdir()
    with SecureProxy(tmp_path) as proxy, Tls(tmp_path / "other") as secure:
        options = {"proxy_url": proxy.url, "ssl_client_require_valid_cert": False}
        assert (await ask(f"{backend.url}/", also=options)).payload == b"hello"
        assert proxy.requests[0].startswith(f"GET {backend.url}/ HTTP/1.1\r\n".encode())
        assert backend.requests == []
        assert (await ask(f"{secure.url}/x", also=options)).payload == b"hello"
        assert proxy.requests[1].startswith(f"CONNECT 127.0.0.1:{secure.port} HTTP/1.1\r\n".encode())
        assert secure.requests[0].startswith(b"GET /x HTTP/1.1\r\n")
        assert (await ask(f"{secure.url}/x", also=options, proxy_ssl_tunnel=False)).payload == b"hello"
        assert proxy.requests[2].startswith(f"GET {secure.url}/x HTTP/1.1\r\n".encode())
        assert len(secure.requests) == 1


# -- names


class Names:
    """A ``dns-client`` service; it says that each host is *address*, or nothing at all."""

    def __init__(self, path: Path, address: str | None) -> None:
        self.path = str(path)
        self.address = address
        self.asked: list[bytes] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Names"]:
        listener = trio.socket.socket(trio.socket.AF_UNIX)
        await listener.bind(self.path)
        listener.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._serve, [trio.SocketListener(listener)])
            yield self
            nursery.cancel_scope.cancel()

    async def _serve(self, stream: trio.SocketStream) -> None:
        await stream.send_all(b"VERSION\tdns\t1\t0\n")
        self.asked.append(await stream.receive_some())
        if self.address is None:
            await trio.sleep_forever()
        await stream.send_all(self.address.encode() + b"\n")


async def test_dovecots_service_may_look_names_up(backend: Backend, tmp_path: Path) -> None:
    """Which is asked as Dovecot asks it, but not about addresses; what it says is what the script hears."""
    async with Names(tmp_path / "dns", "0\t127.0.0.1").serving() as names:
        url = f"http://www.example.com:{backend.port}/until-close"
        assert (await ask(url, dns_client_socket_path=names.path)).status == 200
        assert (await ask(f"{backend.url}/", dns_client_socket_path=names.path)).status == 200
        assert names.asked == [b"VERSION\tdns-client\t1\t0\nIP\twww.example.com\n"]
        names.address = "-2\tName or service not known"
        answer = await ask(url, dns_client_socket_path=names.path)
        assert answer[:2] == (9002, b"Failed to lookup host www.example.com: Name or service not known")
    missing = str(tmp_path / "none")
    answer = await ask(url, dns_client_socket_path=missing)
    expected = f"Failed to lookup host www.example.com: Failed to connect to {missing}: No such file or directory"
    assert answer[:2] == (9002, expected.encode())


async def test_a_lookup_takes_no_longer_than_it_may(tmp_path: Path) -> None:
    """Than ``dns_client_timeout`` says, else a connection may take, else a request."""
    async with Names(tmp_path / "dns", None).serving() as names:
        for options in (
            {"dns_client_timeout": 0.01, "connect_timeout": 60},
            {"connect_timeout": 0.01},
            {"request_timeout": 0.01},
        ):
            answer = await ask("http://x.example/", dns_client_socket_path=names.path, also=options)
            assert answer[:2] == (9002, b"Failed to lookup host x.example: Lookup timed out in 0.010 secs")


async def test_an_address_is_remembered_as_long_as_asked_for(backend: Backend, tmp_path: Path) -> None:
    """Without ``dns_ttl`` not at all: the system's resolver can do that."""
    async with Names(tmp_path / "dns", "0\t127.0.0.1").serving() as names:
        url = f"http://www.example.com:{backend.port}/until-close"
        for options, questions in (({}, 2), ({"dns_ttl": 60}, 1), ({"dns_ttl": 0.001}, 2)):
            names.asked.clear()
            for _ in range(2):
                await ask(url, dns_client_socket_path=names.path, also=options)
                await trio.sleep(0.002)
            assert len(names.asked) == questions


async def test_the_next_address_is_tried_when_one_is_slow(tmp_path: Path) -> None:
    """After ``soft_connect_timeout``, while there is another; by default once the first has had its time."""
    with Backend() as backend, socket.socket() as full:
        full.bind(("127.0.0.2", backend.port))
        full.listen(0)
        with socket.create_connection(full.getsockname()):
            async with Names(tmp_path / "dns", "0\t127.0.0.2\t127.0.0.1").serving() as names:
                url = f"http://www.example.com:{backend.port}/"
                options = {
                    "dns_client_socket_path": names.path,
                    "soft_connect_timeout": 0.02,
                    "request_absolute_timeout": 20,
                }
                assert (await ask(url, also=options)).status == 200
                late = {"dns_client_socket_path": names.path, "connect_timeout": 0.02}
                assert (await ask(url.replace("www", "ftp"), also=late)).status == 200
                names.address = "0\t127.0.0.2"
                answer = await ask(url, also=options, connect_timeout=0.03)
                assert answer.reason.endswith(b"Connection timed out in 0.030 secs")


# -- raw logs


def raw(directory: Path, kind: str) -> list[str]:
    """What the files of a *kind* hold, without times."""
    texts = [path.read_text() for path in sorted(directory.glob(f"*.{kind}"))]
    return [re.sub("(?m)^[0-9]+[.][0-9]{6} ", "", re.sub("Date: .*", "Date: now", text)) for text in texts]


async def test_all_of_a_connection_is_written_down(backend: Backend, tmp_path: Path) -> None:
    """Two files for each connection, which nobody else can read, and which may be read back byte by byte."""
    for _ in range(2):
        await ask(f"{backend.url}/", "POST", b"a\nb", rawlog_dir=str(tmp_path))
    head = f"POST / HTTP/1.1\nHost: 127.0.0.1:{backend.port}\nDate: now\nContent-Length: 3\nConnection: Keep-Alive\n\n"
    answer = "HTTP/1.1 200 Fine\nX-Twice: one\nX-Twice: two\nX-Empty:\nContent-Length: 5\n\nhello"
    assert raw(tmp_path, "out") == [(head + "a\nb") * 2]
    assert raw(tmp_path, "in") == [answer * 2]
    files = sorted(tmp_path.iterdir())  # noqa: ASYNC240 - nothing else runs
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600, 0o600]
    pattern = rf"[0-9]{{8}}-[0-9]{{6}}\.{os.getpid()}\.[0-9]+\.(in|out)"
    assert all(re.fullmatch(pattern, path.name) for path in files)
    await ask(f"{backend.url}/until-close", rawlog_dir=str(tmp_path))
    await ask(f"{backend.url}/", rawlog_dir=str(tmp_path))
    assert [text[:15] for text in raw(tmp_path, "out")] == ["POST / HTTP/1.1", "GET / HTTP/1.1\n"]


async def test_what_tls_hides_is_written_in_clear(tmp_path: Path) -> None:
    """As that is what one wants to see."""
    with Tls(tmp_path) as backend:
        (tmp_path / "raw").mkdir()
        await ask(f"{backend.url}/", ssl_client_ca_file=str(backend.certificate), rawlog_dir=f"{tmp_path}/raw")
    assert raw(tmp_path / "raw", "out")[0].startswith("GET / HTTP/1.1\n")
    assert raw(tmp_path / "raw", "in")[0].endswith("\n\nhello")


@pytest.mark.parametrize(
    ("name", "level", "why"), [("none", "debug", "No such file or directory"), ("file", "error", "Not a directory")]
)
async def test_a_raw_log_that_cannot_be_made_keeps_no_request_back(
    backend: Backend, tmp_path: Path, name: str, level: str, why: str
) -> None:
    """A directory that is missing is how it is switched off; all else is an error in the log."""
    (tmp_path / "file").touch()
    answer = await ask(f"{backend.url}/", rawlog_dir=f"{tmp_path}/{name}")
    assert answer.status == 200
    ((said, text, *_),) = answer.notes
    assert said == level
    assert re.fullmatch(rf"http_client_rawlog_dir: creat\({tmp_path}/{name}/\S+\.in\) failed: {why}", text)
    assert (await ask(f"{backend.url}/", rawlog_dir=f"{tmp_path}/{name}")).notes == ()  # the connection is the same


async def test_a_raw_log_does_not_follow_links(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that nobody who can write to the directory has another file written to."""
    monkeypatch.setattr("authlua.services.rawlog.strftime", lambda *_: "now")
    monkeypatch.setattr("authlua.services.rawlog._numbers", iter([1]))
    (tmp_path / f"now.{os.getpid()}.1.out").symlink_to(tmp_path / "target")
    answer = await ask(f"{backend.url}/", rawlog_dir=str(tmp_path))
    assert [note.level for note in noted(answer)] == ["error"]
    assert not (tmp_path / "target").exists()
    assert raw(tmp_path, "in") == []


async def test_a_full_disk_ends_the_raw_log_alone(backend: Backend) -> None:
    """And is an error in the log, once."""
    opened = os.open
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", lambda path, *_: opened("/dev/full", os.O_WRONLY))
        answer = await ask(f"{backend.url}/", rawlog_dir="/raw")
    assert (answer.status, answer.payload) == (200, b"hello")
    assert [(note.level, note.text.split(".")[-1]) for note in noted(answer)] == [
        ("error", "out) failed: No space left on device")
    ]


# -- TLS


@pytest.mark.parametrize(
    ("options", "works"),
    [
        ({"ssl_curve_list": "P-384"}, True),
        ({"ssl_curve_list": "secp384r1"}, True),
        ({"ssl_curve_list": "X25519"}, False),
        ({"ssl_curve_list": "X25519:P-256"}, False),
        ({"ssl_curve_list": "X25519:P-384:P-256"}, True),
        ({"ssl_curve_list": "nosuch"}, False),
        ({"ssl_cipher_suites": "TLS_AES_256_GCM_SHA384"}, True),
        ({"ssl_cipher_suites": "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"}, True),
        ({"ssl_cipher_suites": "TLS_CHACHA20_POLY1305_SHA256"}, False),
        ({"ssl_cipher_suites": "nosuch"}, False),
        ({"ssl_min_protocol": "latest"}, True),
        ({"ssl_options": "no_ticket, Compression"}, True),
        ({"ssl_options": "nosuch"}, False),
    ],
)
async def test_tls_is_as_asked_for_or_there_is_none(tmp_path: Path, options: dict[str, str], works: bool) -> None:
    """With a server that has TLS 1.3, one curve, and a cipher suite that it prefers; nothing is sent otherwise."""
    with Tls(tmp_path) as backend:
        backend.context.set_ecdh_curve("secp384r1")
        answer = await ask(f"{backend.url}/", ssl_client_require_valid_cert=False, also=options)
        assert answer.status == (200 if works else 9003)
        assert len(backend.requests) == works


async def test_old_tls_may_be_refused(tmp_path: Path) -> None:
    """Though LATEST refuses none."""
    with Tls(tmp_path) as backend:
        backend.context.maximum_version = ssl.TLSVersion.TLSv1_2
        for version, status in (("TLSV1.3", 9003), ("LATEST", 200)):
            options = {"ssl_client_require_valid_cert": False, "ssl_min_protocol": version}
            assert (await ask(f"{backend.url}/", also=options)).status == status
        # cipher suites are those of 1.3
        suites = {"ssl_cipher_suites": "TLS_CHACHA20_POLY1305_SHA256"}
        assert (await ask(f"{backend.url}/", ssl_client_require_valid_cert=False, also=suites)).status == 200


def test_tickets_and_compression_are_switched() -> None:
    """By default there are tickets, and there is no compression."""
    (context,) = tls_contexts(TlsOptions())
    assert (context.options & ssl.OP_NO_TICKET, bool(context.options & ssl.OP_NO_COMPRESSION)) == (0, True)
    (context,) = tls_contexts(TlsOptions(ssl_options="NO_TICKET compression"))
    assert (bool(context.options & ssl.OP_NO_TICKET), context.options & ssl.OP_NO_COMPRESSION) == (True, 0)


# -- notes


def texts(answer: Answer, backend: Backend) -> list[str]:
    """What was noted, without times and port."""
    return [re.sub(r"\d+ ms", "N ms", text.replace(backend.url, "URL")) for _, text, _, _ in answer.notes]


async def test_nobody_is_told_what_nobody_wants_to_know(backend: Backend) -> None:
    """A request without a number has no notes."""
    assert (await ask(f"{backend.url}/")).notes == ()
    assert (await ask(f"{backend.url}/hang-up")).notes == ()


async def test_what_happens_to_a_request_is_noted(backend: Backend) -> None:
    """In Dovecot's words; a query may hold a password, so it is not shown."""
    answer = await ask(f"{backend.url}/echo?secret", "POST", b"s3cret", expect=True, number=7)
    label = "request [Req7: POST URL/echo?<hidden>]: "
    assert texts(answer, backend) == [
        f"{label}Submitted",
        f"{label}Sent header",
        f"{label}Waiting for 100-continue",
        f"{label}Got expected 100-continue response",
        f"{label}Finished sending payload",
        f"{label}Got 200 response: Fine (took N ms + N ms in queue)",
        f"{label}Finished",
    ]
    assert "ecret" not in repr(answer.notes)


async def test_what_is_counted_comes_with_the_end(backend: Backend) -> None:
    """Under the names of Dovecot's events."""
    with Backend() as other:
        target = f"/redirect/302/{other.url}/once"
        answer = await ask(f"{backend.url}{target}?x", request_max_redirects=1, request_max_attempts=2, number=1)
        (first,), (second, third) = backend.requests, other.requests
    events = [(note.name, *note.fields) for note in noted(answer) if note.name]
    there = ("method", "GET", "dest_host", "127.0.0.1", "dest_port", backend.port, "target", f"{target}?<hidden>")
    here = ("method", "GET", "dest_host", "127.0.0.1", "dest_port", other.port, "target", "/once")
    response = f"HTTP/1.1 302 Elsewhere\r\nLocation: {other.url}/once\r\nContent-Length: 0\r\n\r\n"

    def counted(status: int, attempts: int, received: int, sent: bytes) -> tuple[str | int, ...]:
        counts = ("attempts", attempts, "redirects", 1, "net_in_bytes", received, "net_out_bytes", len(sent))
        return ("status_code", status, *counts)

    assert events == [
        ("http_request_redirected", *there, *counted(302, 0, len(response), first)),
        ("http_request_retried", *here, *counted(9005, 1, 0, second)),
        ("http_request_finished", *here, *counted(200, 1, 83, third)),
    ]


@pytest.mark.parametrize(
    ("path", "options", "end"),
    [
        ("/hang-up", {}, "Error: 9005 Connection lost"),
        ("/slow", {"request_timeout": 0.05}, "Error: 9008 Request timed out"),
        ("/slow", {"request_absolute_timeout": 0.05}, "Error: 9008 Absolute request timeout expired"),
        ("/status/404", {}, "Finished"),
        ("/busy", {"request_max_attempts": 2, "max_auto_retry_delay": 5}, "Finished"),
    ],
)
async def test_each_request_has_an_end(backend: Backend, path: str, options: dict[str, object], end: str) -> None:
    """Whatever came of it, and just one."""
    answer = await ask(f"{backend.url}{path}", number=1, also=options)
    last = noted(answer)[-1]
    assert last.text.startswith(f"request [Req1: GET {backend.url}{path}]: {end}")
    assert [note.name for note in noted(answer)].count("http_request_finished") == 1
    assert dict(zip(last.fields[::2], last.fields[1::2], strict=True))["status_code"] == answer.status
