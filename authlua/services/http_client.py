"""HTTP for scripts: requests as Dovecot's client makes them, waiting on trio.

The bytes of HTTP/1.1 are `http_codec`'s business. What is tried again, followed or given up, and in which words, is
Dovecot's (``core:2.3.21.1:src/lib-http/http-client-request.c``; texts as seen on 2.3.19.1 and 2.4.1). What keeps a
request from being answered is an answer too, with one of Dovecot's status codes from 9000 on.

There are two ways through this file. `submit` is one that waits on trio and can do everything. An `Exchange` is an
errand: it asks on a connection that is there already, which costs a call to write and one to read and takes no task;
what turns out to be more than a question and an answer goes on in the first way.
"""

import base64
import errno
import json
import os
import re
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from time import time
from typing import Any, NamedTuple

import trio

from authlua.services import dns
from authlua.services.errands import Attached, Watcher, attached
from authlua.services.http_codec import (
    BadRequest,
    BadResponse,
    Header,
    Limits,
    ResponseReader,
    encode_headers,
    encode_line,
    encode_request,
)
from authlua.services.http_tls import BadOptions, TlsOptions, suite_allowed, tls_contexts
from authlua.services.rawlog import Rawlog
from authlua.urls import Url, parse_url
from authlua.wishes import Errand, Outcome

ABORTED, BAD_URL, NO_HOST, NO_CONNECTION, BAD_REDIRECT, LOST, BAD_RESPONSE, TIMED_OUT = (
    9000,
    9001,
    9002,
    9003,
    9004,
    9005,
    9007,
    9008,
)

_KINDS = {"GET": "read", "HEAD": "read", "OPTIONS": "read", "DELETE": "delete"}
"""Whose limits a method has; all others write."""

_LARGEST = 2**31 - 1
"""Bytes that a socket's buffer can be asked to have."""

_ADDRESS = re.compile(r"[0-9.]+|.*:.*")
"""A host that need not be looked up."""

BAD_STATUS = "Invalid HTTP status code in response"

_REPEATABLE = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")
"""Methods that do the same when they are done twice (RFC 9110 section 9.2.2)."""

CONTINUE_TIMEOUT = 2.0
"""Seconds to wait for ``100 Continue`` before the payload is sent all the same."""

LONGEST_ERRAND = 100.0
"""Seconds; who may have to wait longer for an answer does so in a task, which has a time limit of its own."""

IDLE_TIME = 60.0
"""Seconds that a connection is kept when ``max_idle_time`` is 0: to Dovecot that means for ever, but its worker has
one, and here there are as many as there ever were requests at once."""


class Options(NamedTuple):
    """What a client was told; the names are those of 2.4, all times are seconds and 0 means none."""

    user_agent: str = ""
    rawlog_dir: str = ""
    """Where all that is sent and received is written down; see `rawlog`."""
    max_idle_time: float = 0
    """How long a connection is kept for the next request; 0: `IDLE_TIME`."""
    auto_redirect: bool = True
    auto_retry: bool = True
    request_max_redirects: int = 0
    request_max_attempts: int = 1
    read_request_max_attempts: int = 0
    write_request_max_attempts: int = 0
    delete_request_max_attempts: int = 0
    max_connect_attempts: int = 0
    max_parallel_connections: int = 0
    """To one place at a time; 0: as many as there are requests."""
    connect_backoff_time: float = 0.1
    connect_backoff_max_time: float = 60
    request_absolute_timeout: float = 0
    request_timeout: float = 60
    read_request_timeout: float = 0
    write_request_timeout: float = 0
    delete_request_timeout: float = 0
    connect_timeout: float = 0
    soft_connect_timeout: float = 0
    """After this long the host's next address is tried; 0: after the whole connect timeout."""
    max_auto_retry_delay: float = 0
    dns_client_socket_path: str = ""
    """Where Dovecot's ``dns-client`` service looks names up; empty: the system's resolver does."""
    dns_client_timeout: float = 0
    """0: the connect timeout, or the request's."""
    dns_ttl: float = 0
    """How long an address is remembered."""
    socket_send_buffer_size: int = 0
    socket_recv_buffer_size: int = 0
    """Bytes; 0: what the system thinks fit."""
    response_hdr_max_size: int = 0
    response_hdr_max_field_size: int = 0
    response_hdr_max_fields: int = 0
    proxy_url: str = ""
    proxy_socket_path: str = ""
    proxy_username: str = ""
    proxy_password: str = ""
    proxy_ssl_tunnel: bool = True
    tls: TlsOptions = TlsOptions()


class Note(NamedTuple):
    """An event of a request, to be logged."""

    level: str
    text: str
    name: str = ""
    fields: tuple[str | int, ...] = ()
    """Keys and values by turns."""


class Answer(NamedTuple):
    """What came of a request."""

    status: int
    reason: bytes
    headers: bytes
    """Name, line feed, value, line feed, and so on; names in lower case."""
    payload: bytes
    problem: str
    """Why *payload* is not all of it; empty when it is."""
    notes: tuple[tuple[Any, ...], ...] = ()
    """What happened on the way, if anybody wants to know; each has what a `Note` has."""


class Request(NamedTuple):
    """What a script wants sent."""

    method: str
    url: Url
    payload: bytes | None
    expect: bool
    """Ask with ``Expect: 100-continue`` before sending the payload."""
    headers: Sequence[Header]
    """What the script added; these replace ours."""
    number: int = 0
    """What it is called in the notes; 0: nobody wants to hear of more than problems."""


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
    return await _client(options).submit(request._replace(number=number) if number else request)


def exchange(
    options: bytes, method: bytes, url: bytes, payload: bytes | None, expect: bool, headers: bytes, number: int = 0
) -> "Exchange | None":
    """The same as an errand, if there is a connection for it."""
    place = attached.get(None)
    if place is None or number or (expect and payload):
        return None
    client = _client(options)
    request = _request(method, url, payload, expect, headers)
    return Exchange(client, request, place) if client.has_idle(request.url) else None


def _client(options: bytes) -> "Client":
    clients = _clients.get(None)
    if clients is None:
        clients = {}
        _clients.set(clients)
    client = clients.get(options)
    if client is None:
        client = clients[options] = Client(made_of(json.loads(options)))
    return client


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


_clients: trio.lowlevel.RunVar[dict[bytes, "Client"] | None] = trio.lowlevel.RunVar("authlua http clients")


Tls = trio.SSLStream[Any]
"""Over a socket, or over the TLS with a proxy."""


class _GivenUp(Exception):
    """A request that has no answer from a server."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason


class _NoCurve(_GivenUp):
    """The same, perhaps because the server does not know the curve."""


class _Lost(Exception):
    """The connection ended before the answer began."""


class _Connection:
    """One connection: a plain socket, or one with TLS over it."""

    __slots__ = ("_sock", "_stream", "_watcher", "closed", "exchange", "owing", "used")

    def __init__(self, sock: socket.socket, stream: Tls | None = None) -> None:
        self._sock = sock
        self._stream = stream
        self._watcher: Watcher | None = None
        self.closed = False
        self.exchange: Exchange | None = None
        """What waits for the answer that comes next, while a watcher looks after the socket."""
        self.used = False
        """A request was answered on it before."""
        self.owing = False
        """A request was answered before all of it was sent."""

    def problems(self) -> list[Note]:
        """What is to be logged about it; it is told once."""
        return []

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    def leave_to(self, watcher: Watcher | None) -> None:
        """Have *watcher* look after it, or nobody any more; with TLS nobody ever does."""
        if watcher is self._watcher or self._stream is not None:
            return
        if self._watcher is not None:
            self._watcher.forget(self)
        if watcher is not None:
            watcher.watch(self, select.EPOLLIN)
        self._watcher = watcher

    def ready(self, events: int) -> None:
        """Something came: for who waits, or the end of an idle connection."""
        if self.exchange is None:
            self.close()
            return
        try:
            data = self._sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.exchange.broken(error)
            return
        self.exchange.received(data)

    def send_now(self, data: bytes) -> bool:
        """Send *data* on the spot; whether all of it could be."""
        try:
            return self._sock.send(data) == len(data)
        except OSError:
            return False

    @property
    def quiet(self) -> bool:
        """Whether nothing came since the last answer; the end of the connection counts as something."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    async def send(self, data: bytes) -> None:
        """Send all of *data*; raises `OSError` or `trio.BrokenResourceError`."""
        if self._stream is not None:
            await self._stream.send_all(data)
            return
        while True:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
            await trio.lowlevel.wait_writable(self._sock)

    async def receive(self) -> bytes:
        """What comes next, empty at the end; raises `OSError` or `trio.BrokenResourceError`."""
        if self._stream is not None:
            return bytes(await self._stream.receive_some(65536))
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            try:
                return self._sock.recv(65536)
            except BlockingIOError:
                continue

    def close(self) -> None:
        """End it, now."""
        self.leave_to(None)
        self.end()

    def end(self) -> None:
        """The same when the watcher has gone."""
        self.closed = True
        self._sock.close()


class _Recorded(_Connection):
    """One with a raw log."""

    __slots__ = ("_problems", "_rawlog")

    def __init__(
        self,
        sock: socket.socket,
        stream: Tls | None,
        rawlog: Rawlog | None,
        *problems: Note,
    ) -> None:
        super().__init__(sock, stream)
        self._rawlog = rawlog
        self._problems = [*problems]

    def problems(self) -> list[Note]:
        problems, self._problems = self._problems, []
        return problems

    async def send(self, data: bytes) -> None:
        await super().send(data)
        if self._rawlog is not None:
            await self._write(self._rawlog.sent, data)

    async def receive(self) -> bytes:
        data = await super().receive()
        if self._rawlog is not None:
            await self._write(self._rawlog.received, data)
        return data

    async def _write(self, write: Callable[[bytes], None], data: bytes) -> None:
        with trio.CancelScope(shield=True):  # what has come must not be lost
            try:
                await trio.to_thread.run_sync(write, data)
            except OSError as error:
                self._problems.append(Note("error", f"write({error.filename}) failed: {error.strerror}"))
                self._end_rawlog()

    def end(self) -> None:
        super().end()
        self._end_rawlog()

    def _end_rawlog(self) -> None:
        rawlog, self._rawlog = self._rawlog, None
        if rawlog is not None:
            rawlog.close()


class Client:
    """Requests with one set of options, and the connections they leave open."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._proxied = bool(options.proxy_socket_path or options.proxy_url)
        self._proxy = parse_url(options.proxy_url) if options.proxy_url and not options.proxy_socket_path else None
        self._idle: dict[tuple[bool, str, int], list[tuple[float, _Connection]]] = {}
        self._reaping = False
        self.limits = Limits(
            options.response_hdr_max_size, options.response_hdr_max_field_size, options.response_hdr_max_fields
        )
        """Of the heads of responses."""
        kinds = ("read", "write", "delete")
        self._patience: dict[str, tuple[int, float]] = {
            kind: (
                getattr(options, f"{kind}_request_max_attempts") or options.request_max_attempts,
                getattr(options, f"{kind}_request_timeout") or options.request_timeout,
            )
            for kind in kinds
        }
        patience = {seconds for _, seconds in self._patience.values()}
        self._simple = (
            len(patience) == 1
            and max(patience) <= LONGEST_ERRAND
            and not (self._proxied or options.request_absolute_timeout)
            and not (options.rawlog_dir or options.max_parallel_connections)
        )
        """Its requests have one time limit, and go where they say."""
        self._turns: dict[tuple[bool, str, int], trio.Semaphore] = {}
        self._addresses: dict[str, tuple[float, list[str]]] = {}
        self._waiting: deque[tuple[float, Exchange]] = deque()
        self._alarm = trio.CancelScope()
        self._usual: tuple[bool, str, int, str | None, int] | None = None
        """Where the last request without headers or payload of its own went, and in which second."""
        self._usual_headers = b""

    def patience(self, method: str) -> tuple[int, float]:
        """How often a request is sent at most, and how many seconds each time may take."""
        return self._patience[_KINDS.get(method, "write")]

    async def submit(self, request: Request) -> Answer:
        """Send *request*, again if need be, to wherever it is redirected."""
        queued = trio.current_time()
        submission = _Submission(self, self._options, request, queued)
        absolute = self._options.request_absolute_timeout
        if not absolute:
            return await submission.answer()
        with trio.move_on_at(queued + absolute):
            return await submission.answer()
        waited = trio.current_time() - queued
        reason = f"Absolute request timeout expired (Request queued {waited:.3f} secs ago)"
        return submission.ended(given_up(TIMED_OUT, reason))

    async def carry_on(self, request: Request, queued: float, first: "Answer | _Lost | None") -> Answer:
        """Send *request*, of which *first* has come the first time it was sent; `None`: it may not have been sent."""
        return await _Submission(self, self._options, request, queued).answer(first)

    # -- connections

    def turn(self, url: Url) -> AbstractAsyncContextManager[Any]:
        """The right to have a connection to where *url* is."""
        most = self._options.max_parallel_connections
        if not most:
            return nullcontext()
        turns = self._turns.get(url[:3])
        if turns is None:
            turns = self._turns[url[:3]] = trio.Semaphore(most)
        return turns

    async def connection(self, url: Url, patience: float) -> _Connection:
        """An idle connection to where *url* is, or a new one."""
        while (connection := self.take(url)) is not None:
            if connection.quiet:
                connection.leave_to(None)
                return connection
            connection.close()
        attempts = max(1, self._options.max_connect_attempts)
        pause = self._options.connect_backoff_time
        while True:
            attempts -= 1
            try:
                return await self._connect(url, patience)
            except _GivenUp as failure:
                if failure.status != NO_CONNECTION or attempts == 0:
                    raise
            await trio.sleep(pause)
            pause = min(pause * 2, self._options.connect_backoff_max_time)

    def has_idle(self, url: Url) -> bool:
        """Whether a request to *url* may be an `Exchange`."""
        return self._simple and not url.secure and bool(self._idle.get(url[:3]))

    def take(self, url: Url) -> _Connection | None:
        """The connection to where *url* is that was used last."""
        idle = self._idle.get(url[:3])
        while idle:
            _, connection = idle.pop()
            if not connection.closed:
                return connection
        return None

    def keep(self, url: Url, connection: _Connection) -> None:
        """Have *connection* for a later request."""
        deadline = trio.current_time() + (self._options.max_idle_time or IDLE_TIME)
        connection.used = True
        place = attached.get(None)
        connection.leave_to(place and place.watcher)
        idle = self._idle.get(url[:3])
        if idle is None:
            idle = self._idle[url[:3]] = []
        idle.append((deadline, connection))
        self._look_at(deadline)

    def wait_for(self, exchange: "Exchange") -> None:
        """See to it that *exchange* is told when its time is up."""
        waiting = self._waiting
        while waiting and waiting[0][1].over:
            waiting.popleft()
        waiting.append((exchange.deadline, exchange))
        self._look_at(exchange.deadline)

    def _look_at(self, deadline: float) -> None:
        """Look at *deadline* who has waited, or was idle, for too long."""
        if not self._reaping:
            self._reaping = True
            self._alarm = trio.CancelScope(deadline=deadline)
            trio.lowlevel.spawn_system_task(self._reap)
        elif deadline < self._alarm.deadline:
            self._alarm.deadline = deadline

    async def _reap(self) -> None:
        """End what has waited for too long; at the end of the event loop, all."""
        try:
            while self._reaping:
                with self._alarm:
                    await trio.sleep_forever()
                deadline = self._end_overdue(trio.current_time())
                self._reaping = deadline < float("inf")
                self._alarm = trio.CancelScope(deadline=deadline)
        finally:
            self._reaping = False
            for idle in self._idle.values():
                for _, connection in idle:
                    connection.end()
            self._idle.clear()

    def _end_overdue(self, now: float) -> float:
        """End what is overdue; when to look again."""
        for idle in self._idle.values():
            while idle and (idle[0][0] <= now or idle[0][1].closed):
                idle.pop(0)[1].close()
        waiting = self._waiting
        while waiting and (waiting[0][0] <= now or waiting[0][1].over):
            _, exchange = waiting.popleft()
            if exchange.over:
                continue
            if exchange.deadline > now:  # more of its answer came meanwhile
                waiting.append((exchange.deadline, exchange))
            else:
                exchange.timed_out()
        deadlines = [idle[0][0] for idle in self._idle.values() if idle]
        if waiting:
            deadlines.append(waiting[0][0])
        return min(deadlines, default=float("inf"))

    async def _connect(self, url: Url, patience: float) -> _Connection:
        patience = self._options.connect_timeout or patience
        secure = self._proxy is not None and self._proxy.secure if self.to_proxy(url) else url.secure
        if not secure:
            return await self._open(url, patience, None)
        try:
            contexts = tls_contexts(self._options.tls)
        except BadOptions as error:
            raise _GivenUp(NO_CONNECTION, str(error)) from error
        for context in contexts[:-1]:
            try:
                return await self._open(url, patience, context)
            except _NoCurve:
                continue
        return await self._open(url, patience, contexts[-1])

    async def _open(self, url: Url, patience: float, context: ssl.SSLContext | None) -> _Connection:
        options, proxy = self._options, self._proxy
        if options.proxy_socket_path:
            sock = await self._dial(socket.AF_UNIX, options.proxy_socket_path, options.proxy_socket_path, patience)
        else:
            sock = await self._reach(proxy or url, patience)
        try:
            stream: Tls | None = None
            if context is not None and proxy is not None and proxy.secure:
                stream = await self._encrypt(sock, stream, proxy, patience, context)
            if self._proxied and not self.to_proxy(url):
                await self._tunnel(_Connection(sock, stream), url, patience)
            if context is not None and not self.to_proxy(url):
                stream = await self._encrypt(sock, stream, url, patience, context)
            return await self._recorded(sock, stream) if options.rawlog_dir else _Connection(sock, stream)
        except BaseException:
            sock.close()
            raise

    async def _recorded(self, sock: socket.socket, stream: Tls | None) -> _Connection:
        try:
            return _Recorded(sock, stream, await trio.to_thread.run_sync(Rawlog, self._options.rawlog_dir))
        except OSError as error:
            level = "debug" if isinstance(error, FileNotFoundError | PermissionError) else "error"
            problem = f"http_client_rawlog_dir: creat({error.filename}) failed: {error.strerror}"
            return _Recorded(sock, stream, None, Note(level, problem))

    async def _reach(self, url: Url, patience: float) -> socket.socket:
        """A connection to one of the host's addresses, tried in turn."""
        found = await self._look_up(url.host, patience)
        soft = self._options.soft_connect_timeout or patience
        for number, address in enumerate(found, 1):
            family, shown = (socket.AF_INET6, f"[{address}]") if ":" in address else (socket.AF_INET, address)
            try:
                place = (address, url.port)
                return await self._dial(family, place, f"{shown}:{url.port}", soft if number < len(found) else patience)
            except _GivenUp:
                if number == len(found):
                    raise
        raise _GivenUp(NO_HOST, f"Failed to lookup host {url.host}: no address")

    async def _look_up(self, host: str, patience: float) -> list[str]:
        """The addresses of *host*."""
        options = self._options
        until, found = self._addresses.get(host, (0.0, []))
        if trio.current_time() < until:
            return found
        service = "" if _ADDRESS.fullmatch(host) else options.dns_client_socket_path
        problem, _, found = await dns.submit(host, options.dns_client_timeout or patience, service)
        if problem:
            raise _GivenUp(NO_HOST, f"Failed to lookup host {host}: {problem}")
        if options.dns_ttl:
            self._addresses[host] = trio.current_time() + options.dns_ttl, found
        return found

    async def _dial(self, family: int, address: Any, shown: str, patience: float) -> socket.socket:
        options = self._options
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if options.socket_send_buffer_size:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, min(options.socket_send_buffer_size, _LARGEST))
            if options.socket_recv_buffer_size:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, min(options.socket_recv_buffer_size, _LARGEST))
            problem = sock.connect_ex(address)
            if problem in (errno.EINPROGRESS, errno.EAGAIN):
                with trio.fail_after(patience):
                    await trio.lowlevel.wait_writable(sock)
                problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except trio.TooSlowError:
            sock.close()
            reason = f"connect({shown}) failed: Connection timed out in {patience:.3f} secs"
            raise _GivenUp(NO_CONNECTION, reason) from None
        except BaseException:
            sock.close()
            raise
        if problem:
            sock.close()
            raise _GivenUp(NO_CONNECTION, f"connect({shown}) failed: {os.strerror(problem)}")
        return sock

    async def _encrypt(
        self, sock: socket.socket, stream: Tls | None, url: Url, patience: float, context: ssl.SSLContext
    ) -> Tls:
        """TLS with *url*'s host, on a *sock* or on the TLS with a proxy."""
        place = url.place
        try:
            plain = stream or trio.SocketStream(trio.socket.from_stdlib_socket(sock))
            encrypted: Tls = trio.SSLStream(plain, context, server_hostname=url.host, https_compatible=True)
            with trio.fail_after(patience):
                await encrypted.do_handshake()
        except trio.TooSlowError:
            reason = f"SSL handshaking with {place} failed: Connection timed out in {patience:.3f} secs"
            raise _GivenUp(NO_CONNECTION, reason) from None
        except trio.BrokenResourceError as error:
            kind = _NoCurve if "HANDSHAKE_FAILURE" in str(error.__cause__) else _GivenUp
            raise kind(NO_CONNECTION, f"SSL handshaking with {place} failed: {error.__cause__}") from error
        if not suite_allowed(self._options.tls, encrypted.cipher()):
            reason = f"SSL handshaking with {place} failed: {encrypted.cipher()[0]} is not in ssl_cipher_suites"
            raise _GivenUp(NO_CONNECTION, reason)
        return encrypted

    async def _tunnel(self, connection: _Connection, url: Url, patience: float) -> None:
        """Have the proxy pass everything on to where *url* is (RFC 9110 section 9.3.6)."""
        place = url.place
        response = ResponseReader(self.limits, bodyless=True)
        try:
            with trio.fail_after(patience):
                await connection.send(encode_request("CONNECT", place, self._tunnel_headers(place)))
                while not response.complete:
                    data = await connection.receive()
                    if not data:
                        raise BadResponse("EOF")
                    response.feed(data)
        except (trio.TooSlowError, OSError, BadResponse) as error:
            raise _GivenUp(NO_CONNECTION, f"Tunnel to {place} failed: {error}") from error
        if not 200 <= response.status < 300:
            raise _GivenUp(NO_CONNECTION, f"Tunnel to {place} failed: {response.status}")

    def _tunnel_headers(self, place: str) -> list[Header]:
        agent = self._options.user_agent
        ours = [("Host", place), ("Date", _date(int(time()))), *self.proxy_headers()]
        return [*ours, ("User-Agent", agent)] if agent else ours

    def proxy_headers(self) -> list[Header]:
        """What tells the proxy who we are."""
        options = self._options
        login = self._proxy.userinfo if self._proxy is not None else None
        if options.proxy_username:
            login = f"{options.proxy_username}:{options.proxy_password}"
        return [] if login is None else [("Proxy-Authorization", _basic(login))]

    def to_proxy(self, url: Url) -> bool:
        """Whether a request for *url* is a proxy's to answer, and does not go through a tunnel."""
        return self._proxied and not (url.secure and self._options.proxy_ssl_tunnel)

    def head(self, request: Request) -> bytes:
        """All of *request* but its payload. Raises `BadRequest`.

        Only the first line of most requests is another than that of the last.
        """
        line = encode_line(request.method, request.url.target)
        if request.payload is not None or request.headers or request.method not in ("GET", "HEAD"):
            return line + encode_headers(self.headers(request))
        url = request.url
        usual = (url.secure, url.host, url.port, url.userinfo, int(time()))
        if self._usual != usual:
            self._usual_headers = encode_headers(self.headers(request))
            self._usual = usual
        return line + self._usual_headers

    def headers(self, request: Request, *, expecting: bool = False) -> list[Header]:
        """What Dovecot sends, in its order; then what the script added."""
        url, payload = request.url, request.payload
        ours: list[Header] = [("Host", url.authority), ("Date", _date(int(time())))]
        if url.userinfo is not None:
            ours.append(("Authorization", _basic(url.userinfo)))
        to_proxy = self._proxied and self.to_proxy(url)
        if to_proxy:
            ours += self.proxy_headers()
        if self._options.user_agent:
            ours.append(("User-Agent", self._options.user_agent))
        if expecting:
            ours.append(("Expect", "100-continue"))
        if payload is not None or request.method in ("POST", "PUT"):
            ours.append(("Content-Length", str(len(payload or b""))))
        if not to_proxy:
            ours.append(("Connection", "Keep-Alive"))
        if not request.headers:
            return ours
        theirs = {name.lower() for name, _ in request.headers}
        return [one for one in ours if one[0].lower() not in theirs] + list(request.headers)


class _Submission:
    """One request on its way to its answer."""

    def __init__(self, client: Client, options: Options, request: Request, queued: float) -> None:
        self._client = client
        self._options = options
        self._request = request
        self._queued = queued
        self._sent = queued
        self._attempts = 0
        self._redirects = 0
        self._max_attempts, self._timeout = client.patience(request.method)
        self._notes: list[Note] = []
        self._label = ""
        if request.number:
            self._label = f"[Req{request.number}: {request.method} {_shown(request.url)}]"
        self._asked = queued
        """When it was sent the last time."""
        self._bytes_in = self._bytes_out = 0
        self._seen = False
        """The head of the answer has been noted."""

    async def answer(self, first: "Answer | _Lost | None" = None) -> Answer:
        """Its answer, of which *first* is what came of the first attempt if that was made elsewhere."""
        try:
            return self.ended(await self._run(first))
        except _GivenUp as end:
            return self.ended(given_up(end.status, end.reason))

    def ended(self, answer: Answer) -> Answer:
        """*answer* with what is to be logged about it."""
        text = (
            "Finished"
            if answer.status < ABORTED
            else f"Error: {answer.status} {answer.reason.decode('utf-8', 'replace')}"
        )
        self._note(text, "http_request_finished", answer.status)
        return answer._replace(notes=tuple(map(tuple, self._notes))) if self._notes else answer

    def _note(self, text: str, name: str = "", status: int = 0, *, again: int = 0) -> None:
        """Note an event for those who want to know; with a *name* it tells what there is to count.

        Args:
            again: 1 when another attempt follows.
        """
        request = self._request
        if not request.number:
            return
        url = request.url
        fields: list[str | int] = ["method", request.method, "dest_host", url.host, "dest_port", url.port]
        fields += ["target", _shown_target(url)]
        if name:
            fields += ["status_code", status, "attempts", self._attempts - 1 + again, "redirects", self._redirects]
            fields += ["net_in_bytes", self._bytes_in, "net_out_bytes", self._bytes_out]
        self._notes.append(Note("debug", f"request {self._label}: {text}", name, tuple(fields)))

    async def _run(self, first: "Answer | _Lost | None") -> Answer:
        self._note("Submitted")
        while True:
            self._attempts += 1
            made, first = first, None
            try:
                answer = await self._exchange() if made is None else _unwrapped(made)
            except _Lost as lost:
                if self._options.auto_retry and self._may_retry:
                    self._note_retry(LOST)
                    await self._pause()
                    continue
                raise _GivenUp(LOST, f"Connection lost: {lost} ({self._statistics})") from lost
            if answer.status < 300:
                return self._told(answer)
            location = _header(answer, "location")
            if self._options.auto_redirect and 300 <= answer.status < 400 and answer.status != 304 and location:
                self._redirect(answer.status, location)
                self._attempts -= 1
            elif self._options.auto_retry and self._may_retry and answer.status == 408:
                self._note_retry(answer.status)
            elif (
                self._options.auto_retry
                and self._may_retry
                and answer.status == 503
                and (delay := _retry_after(answer)) > 0
                and delay <= (self._options.max_auto_retry_delay or self._timeout)
            ):
                await trio.sleep(delay)
                self._note_retry(answer.status)
            else:
                return self._told(answer)

    def _note_response(self, response: ResponseReader) -> None:
        """Note the head of *response*, once it is there."""
        if self._request.number and response.status and not self._seen:
            self._seen = True
            reason = response.reason.decode("utf-8", "replace")
            took, queued = (
                1000 * seconds for seconds in (trio.current_time() - self._asked, self._asked - self._queued)
            )
            times = f"took {took:.0f} ms + {queued:.0f} ms in queue"
            self._note(f"Got {response.status} response: {reason} ({times})")

    def _note_retry(self, status: int) -> None:
        self._note(f"Retrying (attempts={self._attempts})", "http_request_retried", status, again=1)

    @property
    def _may_retry(self) -> bool:
        return not self._max_attempts or self._attempts < self._max_attempts

    async def _pause(self) -> None:
        if not self._max_attempts:  # for ever, yet not at full speed
            await trio.sleep(self._options.connect_backoff_time)

    @property
    def _statistics(self) -> str:
        now = trio.current_time()
        return (
            f"Request queued {now - self._queued:.3f} secs ago, "
            f"{self._attempts} send attempts in {now - self._sent:.3f} secs"
        )

    def _told(self, answer: Answer) -> Answer:
        """*answer* with the number of retries in its reason, as Dovecot has it."""
        if self._attempts == 1:
            return answer
        took = trio.current_time() - self._sent
        return answer._replace(reason=answer.reason + f" ({self._attempts - 1} retries in {took:.3f} secs)".encode())

    def _redirect(self, status: int, location: str) -> None:
        try:
            url = parse_url(location)
        except ValueError as error:
            raise _GivenUp(BAD_REDIRECT, f"Invalid redirect location: {error}") from error
        self._redirects += 1
        limit = self._options.request_max_redirects
        if self._redirects > limit:
            raise _GivenUp(BAD_REDIRECT, f"Redirected more than {limit} times" if limit else "Redirect refused")
        self._note(f"Redirecting to {_shown(url)} (redirects={self._redirects})", "http_request_redirected", status)
        request = self._request._replace(url=url)
        if status == 303 and request.method not in ("GET", "HEAD"):
            request = request._replace(method="GET", payload=None)
        if (url.secure, url.host, url.port) != self._request.url[:3]:
            # what was meant for one host is not told another
            private = ("host", "authorization", "cookie")
            request = request._replace(headers=[one for one in request.headers if one[0].lower() not in private])
        self._request = request

    # -- one attempt

    async def _exchange(self) -> Answer:
        async with self._client.turn(self._request.url):
            return await self._exchange_now()

    async def _exchange_now(self) -> Answer:
        request = self._request
        if self._attempts == 1:
            self._sent = trio.current_time()
        again = True
        while again:
            connection = await self._client.connection(request.url, self._timeout)
            try:
                response, problem = await self._ask(connection, request)
                again = False
            except _Lost:
                connection.close()
                # whether the server had seen the request is not known, so only what may be repeated is
                if not connection.used or request.method not in _REPEATABLE:
                    raise
                self._note("Resubmitting request")
            except BaseException:
                connection.close()
                raise
            finally:
                self._notes += connection.problems()
        if response.reusable and not (problem or connection.owing or response.status == 408):
            self._client.keep(request.url, connection)
        else:
            connection.close()
        return _answer(response, problem)

    async def _ask(self, connection: _Connection, request: Request) -> tuple[ResponseReader, str]:
        """What comes back for *request*, and what is wrong with its payload."""
        expecting = request.expect and bool(request.payload)
        target = request.url.target
        if self._client.to_proxy(request.url):
            target = f"{'https' if request.url.secure else 'http'}://{request.url.authority}{target}"
        try:
            data = encode_request(request.method, target, self._client.headers(request, expecting=expecting))
        except BadRequest as error:
            raise _GivenUp(ABORTED, f"Request cannot be sent: {error}") from error
        if request.payload and not expecting:
            data += request.payload
        response = ResponseReader(self._client.limits, bodyless=request.method == "HEAD")
        self._asked = trio.current_time()
        self._bytes_in, self._bytes_out, self._seen = 0, len(data), False
        with trio.CancelScope(deadline=self._asked + self._timeout) as scope:
            try:
                await connection.send(data)
                self._note("Sent header")
                if expecting:
                    await self._continue(connection, response)
                elif request.payload:
                    self._note("Finished sending payload")
                return response, await self._receive(connection, response, scope)
            except BadResponse as error:
                raise _GivenUp(BAD_RESPONSE, str(error)) from error
            except (OSError, trio.BrokenResourceError) as error:
                if not response.status:
                    raise _Lost(f"{request.url.place}: {error.__cause__ or error}") from error
                return response, _cut(request.url, response, str(error.__cause__ or error))
        if not response.status:
            raise _GivenUp(TIMED_OUT, f"Request timed out ({self._statistics})")
        return response, _too_slow(self._timeout, response)

    async def _receive(self, connection: _Connection, response: ResponseReader, scope: trio.CancelScope) -> str:
        """Take in the rest of *response*; what is wrong with its payload."""
        self._note_response(response)
        while not response.complete:
            data = await connection.receive()
            self._bytes_in += len(data)
            if not data:
                if response.end():
                    return ""
                if not response.status:
                    raise _Lost(f"read({self._request.url.place}) failed: EOF")
                return _cut(self._request.url, response, "EOF")
            try:
                response.feed(data)
            except BadResponse as error:
                if not response.status:
                    raise
                return _cut(self._request.url, response, str(error))
            if response.status:
                self._note_response(response)
                scope.deadline = trio.current_time() + self._timeout
        if response.status > 599:
            raise _GivenUp(BAD_RESPONSE, BAD_STATUS)
        return ""

    async def _continue(self, connection: _Connection, response: ResponseReader) -> None:
        """Send the payload once the server wants it, or says nothing; not when it has answered already."""
        self._note("Waiting for 100-continue")
        with trio.move_on_after(CONTINUE_TIMEOUT):
            while not (response.continued or response.status):
                data = await connection.receive()
                if not data:
                    raise _Lost(f"read({self._request.url.place}) failed: EOF")
                self._bytes_in += len(data)
                response.feed(data)
        if response.status:
            connection.owing = True
            return
        if response.continued:
            self._note("Got expected 100-continue response")
        else:
            self._note("Expected 100-continue response timed out; sending payload anyway")
        payload = self._request.payload or b""
        await connection.send(payload)
        self._bytes_out += len(payload)
        self._note("Finished sending payload")


class Exchange(Errand):
    """A request on an idle connection, up to its answer."""

    __slots__ = (
        "_client",
        "_connection",
        "_place",
        "_queued",
        "_report",
        "_request",
        "_response",
        "_scope",
        "_timeout",
        "deadline",
    )

    def __init__(self, client: Client, request: Request, place: Attached) -> None:
        self._client = client
        self._request = request
        self._place = place
        self._response: ResponseReader
        self._report: Callable[[Outcome], None] | None = None
        self._connection: _Connection | None = None
        self._scope: trio.CancelScope | None = None
        self._queued = trio.current_time()
        _, self._timeout = client.patience(request.method)
        self.deadline = 0.0

    @property
    def over(self) -> bool:
        """It does not wait on its connection any more."""
        return self._connection is None

    def start(self, report: Callable[[Outcome], None]) -> None:
        self._report = report
        request, client = self._request, self._client
        try:
            data = client.head(request)
        except BadRequest as error:
            self._tell(given_up(ABORTED, f"Request cannot be sent: {error}"))
            return
        connection = client.take(request.url)
        # only what may be repeated is sent without a look whether the server is still there
        if connection is not None:
            alive = request.method in _REPEATABLE or connection.quiet
            if alive and connection.send_now(data + request.payload if request.payload else data):
                self._response = ResponseReader(client.limits, bodyless=request.method == "HEAD")
                self._connection, connection.exchange = connection, self
                self.deadline = trio.current_time() + self._timeout
                client.wait_for(self)
                return
            connection.close()
        self._go_on(None)

    def cancel(self) -> None:
        self._report = None
        if self._connection is not None:
            self._leave().close()
        if self._scope is not None:
            self._scope.cancel()

    def received(self, data: bytes) -> None:
        """Some of the answer, or the end of the connection."""
        response, url = self._response, self._request.url
        if not data:
            if response.end():
                self._answered("")
            elif response.status:
                self._answered(_cut(url, response, "EOF"))
            else:
                self._lost(f"read({url.place}) failed: EOF")
            return
        try:
            response.feed(data)
        except BadResponse as error:
            if response.status:
                self._answered(_cut(url, response, str(error)))
            else:
                self._leave().close()
                self._tell(given_up(BAD_RESPONSE, str(error)))
            return
        if response.complete:
            self._answered("")
        elif response.status:
            self.deadline = trio.current_time() + self._timeout

    def broken(self, error: OSError) -> None:
        """The connection ended in another way."""
        url = self._request.url
        if self._response.status:
            self._answered(_cut(url, self._response, str(error)))
        else:
            self._lost(f"{url.place}: {error}")

    def timed_out(self) -> None:
        """The server has been silent for too long."""
        self._leave().close()
        now = trio.current_time()
        if self._response.status:
            self._tell(_answer(self._response, _too_slow(self._timeout, self._response)))
            return
        waited = f"Request queued {now - self._queued:.3f} secs ago, 1 send attempts in {now - self._queued:.3f} secs"
        self._tell(given_up(TIMED_OUT, f"Request timed out ({waited})"))

    def _leave(self) -> _Connection:
        connection = self._connection
        assert connection is not None, "it waits"
        self._connection = connection.exchange = None
        return connection

    def _answered(self, problem: str) -> None:
        response, connection = self._response, self._leave()
        if response.reusable and not problem and response.status != 408:
            self._client.keep(self._request.url, connection)
        else:
            connection.close()
        if response.status > 599:
            self._tell(given_up(BAD_RESPONSE, BAD_STATUS))
            return
        answer = _answer(response, problem)
        if 300 <= answer.status < 400 or answer.status in (408, 503):
            self._go_on(answer)
        else:
            self._tell(answer)

    def _lost(self, why: str) -> None:
        self._leave().close()
        self._go_on(None if self._request.method in _REPEATABLE else _Lost(why))

    def _tell(self, answer: Answer) -> None:
        report, self._report = self._report, None
        if report is not None:
            report(Outcome(tuple(answer)))
            self._place.batch_done()

    def _go_on(self, first: Answer | _Lost | None) -> None:
        self._scope = trio.CancelScope()
        trio.lowlevel.spawn_system_task(self._in_a_task, first)

    async def _in_a_task(self, first: Answer | _Lost | None) -> None:
        assert self._scope is not None, "it was made before the task"
        with self._scope:
            self._tell(await self._client.carry_on(self._request, self._queued, first))


def _shown_target(url: Url) -> str:
    """What is asked, as a log may have it: a query may hold a password."""
    path, mark, _ = url.target.partition("?")
    return f"{path}?<hidden>" if mark else path


def _shown(url: Url) -> str:
    return f"{'https' if url.secure else 'http'}://{url.authority}{_shown_target(url)}"


def given_up(status: int, reason: str) -> Answer:
    """The answer to a request that has none from a server."""
    return Answer(status, reason.encode("utf-8", "replace"), b"", b"", "")


def _unwrapped(first: Answer | _Lost) -> Answer:
    if isinstance(first, _Lost):
        raise first
    return first


def _answer(response: ResponseReader, problem: str) -> Answer:
    words = response.headers
    headers = b"%s\n" % b"\n".join(words) if words else b""
    return Answer(response.status, response.reason, headers, response.body, problem)


def _cut(url: Url, response: ResponseReader, why: str) -> str:
    return f"Disconnected from {url.place} while reading the payload at offset {response.size}: {why}"


def _too_slow(patience: float, response: ResponseReader) -> str:
    return f"Read timeout in {patience:.3f} s after {response.size} bytes"


@lru_cache(2)
def _date(now: int) -> str:
    return formatdate(now, usegmt=True)


def _header(answer: Answer, name: str) -> str:
    words = answer.headers.decode("latin-1").split("\n")
    return next((value for key, value in zip(words[::2], words[1::2], strict=False) if key == name), "")


def _retry_after(answer: Answer) -> float:
    """Seconds, 0 when the server did not say (RFC 9110 section 10.2.3)."""
    said = _header(answer, "retry-after")
    if said.isdecimal():
        return float(said)
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time())
    except ValueError:
        return 0


def _basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()
