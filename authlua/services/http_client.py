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
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from time import time
from typing import Any, NamedTuple

import trio

from authlua.services.errands import Watcher, attached
from authlua.services.http_codec import BadRequest, BadResponse, Header, Limits, ResponseReader, encode_request
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
    response_hdr_max_size: int = 0
    response_hdr_max_field_size: int = 0
    response_hdr_max_fields: int = 0
    proxy_url: str = ""
    proxy_socket_path: str = ""
    proxy_username: str = ""
    proxy_password: str = ""
    proxy_ssl_tunnel: bool = True
    ssl_client_ca_file: str = ""
    ssl_client_ca_dir: str = ""
    ssl_client_cert_file: str = ""
    ssl_client_key_file: str = ""
    ssl_client_key_password: str = ""
    ssl_client_require_valid_cert: bool = True
    ssl_cipher_list: str = ""
    ssl_min_protocol: str = ""


class Answer(NamedTuple):
    """What came of a request."""

    status: int
    reason: bytes
    headers: bytes
    """Name, line feed, value, line feed, and so on; names in lower case."""
    payload: bytes
    problem: str
    """Why *payload* is not all of it; empty when it is."""


class Request(NamedTuple):
    """What a script wants sent."""

    method: str
    url: Url
    payload: bytes | None
    expect: bool
    """Ask with ``Expect: 100-continue`` before sending the payload."""
    headers: Sequence[Header]
    """What the script added; these replace ours."""


async def submit(
    options: bytes, method: bytes, url: bytes, payload: bytes | None, expect: bool, headers: bytes
) -> Answer:
    """Send a request and give its answer.

    Args:
        options: a JSON object with the names of `Options`. Requests with the same share connections.
        headers: as in `Answer`.
    """
    return await _client(options).submit(_request(method, url, payload, expect, headers))


def exchange(
    options: bytes, method: bytes, url: bytes, payload: bytes | None, expect: bool, headers: bytes
) -> "Exchange | None":
    """The same as an errand, if there is a connection for it."""
    if attached.get(None) is None or (expect and payload):
        return None
    client = _client(options)
    request = _request(method, url, payload, expect, headers)
    return Exchange(client, request) if client.has_idle(request.url) else None


def _client(options: bytes) -> "Client":
    clients = _clients.get(None)
    if clients is None:
        clients = {}
        _clients.set(clients)
    client = clients.get(options)
    if client is None:
        client = clients[options] = Client(Options(**json.loads(options)))
    return client


def _request(method: bytes, url: bytes, payload: bytes | None, expect: bool, headers: bytes) -> Request:
    pairs: list[Header] = []
    if headers:
        words = headers.decode("latin-1").split("\n")
        pairs = list(zip(words[::2], words[1::2], strict=False))
    return Request(method.decode("latin-1"), parse_url(url.decode("latin-1")), payload, expect, pairs)


_clients: trio.lowlevel.RunVar[dict[bytes, "Client"] | None] = trio.lowlevel.RunVar("authlua http clients")


class _GivenUp(Exception):
    """A request that has no answer from a server."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason


class _Lost(Exception):
    """The connection ended before the answer began."""


class _Connection:
    """One connection: a plain socket, or one with TLS over it."""

    __slots__ = ("_sock", "_stream", "_watcher", "closed", "exchange", "owing", "used")

    def __init__(self, sock: socket.socket, stream: trio.SSLStream[trio.SocketStream] | None = None) -> None:
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


class Client:
    """Requests with one set of options, and the connections they leave open."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._proxy = parse_url(options.proxy_url) if options.proxy_url else None
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
            and not (self.has_proxy or options.request_absolute_timeout)
        )
        """Its requests have one time limit, and go where they say."""
        self._waiting: deque[tuple[float, Exchange]] = deque()
        self._alarm = trio.CancelScope()

    def patience(self, method: str) -> tuple[int, float]:
        """How often a request is sent at most, and how many seconds each time may take."""
        return self._patience[_KINDS.get(method, "write")]

    async def submit(self, request: Request) -> Answer:
        """Send *request*, again if need be, to wherever it is redirected."""
        queued = trio.current_time()
        absolute = self._options.request_absolute_timeout
        if not absolute:
            return await self.answer(_Submission(self, self._options, request, queued))
        with trio.move_on_at(queued + absolute):
            return await self.answer(_Submission(self, self._options, request, queued))
        waited = trio.current_time() - queued
        reason = f"Absolute request timeout expired (Request queued {waited:.3f} secs ago)"
        return Answer(TIMED_OUT, reason.encode(), b"", b"", "")

    async def carry_on(self, request: Request, queued: float, first: "Answer | _Lost | None") -> Answer:
        """Send *request*, of which *first* has come the first time it was sent; `None`: it may not have been sent."""
        return await self.answer(_Submission(self, self._options, request, queued), first)

    @staticmethod
    async def answer(submission: "_Submission", first: "Answer | _Lost | None" = None) -> Answer:
        """What *submission* comes to."""
        try:
            return await submission.run(first)
        except _GivenUp as end:
            return given_up(end.status, end.reason)

    # -- connections

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
        options = self._options
        patience = options.connect_timeout or patience
        if options.proxy_socket_path:
            sock = await self._dial(socket.AF_UNIX, options.proxy_socket_path, options.proxy_socket_path, patience)
        else:
            sock = await self._reach(self._proxy or url, patience)
        try:
            if self._proxy is not None and url.secure and options.proxy_ssl_tunnel:
                await self._tunnel(_Connection(sock), url, patience)
            if url.secure:
                return await self._encrypt(sock, url, patience)
        except BaseException:
            sock.close()
            raise
        return _Connection(sock)

    async def _reach(self, url: Url, patience: float) -> socket.socket:
        """A connection to one of the host's addresses, tried in turn."""
        try:
            found = await trio.socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise _GivenUp(NO_HOST, f"Failed to lookup host {url.host}: {error.strerror}") from error
        soft = self._options.soft_connect_timeout or patience
        for number, (family, _, _, _, address) in enumerate(found, 1):
            try:
                shown = f"[{address[0]}]:{url.port}" if ":" in str(address[0]) else f"{address[0]}:{url.port}"
                return await self._dial(family, address, shown, soft if number < len(found) else patience)
            except _GivenUp:
                if number == len(found):
                    raise
        raise _GivenUp(NO_HOST, f"Failed to lookup host {url.host}: no address")

    @staticmethod
    async def _dial(family: int, address: Any, shown: str, patience: float) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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

    async def _encrypt(self, sock: socket.socket, url: Url, patience: float) -> _Connection:
        place = url.place
        try:
            plain = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
            encrypted = trio.SSLStream(plain, _tls(self._options), server_hostname=url.host, https_compatible=True)
            with trio.fail_after(patience):
                await encrypted.do_handshake()
        except trio.TooSlowError:
            reason = f"SSL handshaking with {place} failed: Connection timed out in {patience:.3f} secs"
            raise _GivenUp(NO_CONNECTION, reason) from None
        except trio.BrokenResourceError as error:
            raise _GivenUp(NO_CONNECTION, f"SSL handshaking with {place} failed: {error.__cause__}") from error
        except OSError as error:  # what the options name is no good
            raise _GivenUp(NO_CONNECTION, f"Couldn't initialize SSL: {error}") from error
        return _Connection(sock, encrypted)

    async def _tunnel(self, connection: _Connection, url: Url, patience: float) -> None:
        """Have the proxy pass everything on to where *url* is (RFC 9110 section 9.3.6)."""
        place = url.place
        response = ResponseReader(self.limits, bodyless=True)
        try:
            with trio.fail_after(patience):
                await connection.send(encode_request("CONNECT", place, [("Host", place), *self.proxy_headers()]))
                while not response.complete:
                    data = await connection.receive()
                    if not data:
                        raise BadResponse("EOF")
                    response.feed(data)
        except (trio.TooSlowError, OSError, BadResponse) as error:
            raise _GivenUp(NO_CONNECTION, f"Tunnel to {place} failed: {error}") from error
        if not 200 <= response.status < 300:
            raise _GivenUp(NO_CONNECTION, f"Tunnel to {place} failed: {response.status}")

    def proxy_headers(self) -> list[Header]:
        """What tells the proxy who we are."""
        options = self._options
        login = self._proxy.userinfo if self._proxy is not None else None
        if options.proxy_username:
            login = f"{options.proxy_username}:{options.proxy_password}"
        return [] if login is None else [("Proxy-Authorization", _basic(login))]

    @property
    def has_proxy(self) -> bool:
        """Whether requests go to a proxy."""
        return self._proxy is not None or bool(self._options.proxy_socket_path)

    def headers(self, request: Request, *, expecting: bool = False) -> list[Header]:
        """What Dovecot sends, in its order; then what the script added."""
        url, payload = request.url, request.payload
        ours: list[Header] = [("Host", url.authority), ("Date", _date(int(time())))]
        if url.userinfo is not None:
            ours.append(("Authorization", _basic(url.userinfo)))
        if self.has_proxy and not url.secure:
            ours += self.proxy_headers()
        if self._options.user_agent:
            ours.append(("User-Agent", self._options.user_agent))
        if expecting:
            ours.append(("Expect", "100-continue"))
        if payload is not None or request.method in ("POST", "PUT"):
            ours.append(("Content-Length", str(len(payload or b""))))
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
        self._max_attempts, self._timeout = client.patience(request.method)

    async def run(self, first: "Answer | _Lost | None" = None) -> Answer:
        """Its answer, of which *first* is what came of the first attempt if that was made elsewhere."""
        redirects = 0
        while True:
            self._attempts += 1
            made, first = first, None
            try:
                answer = await self._exchange() if made is None else _unwrapped(made)
            except _Lost as lost:
                if self._options.auto_retry and self._may_retry:
                    await self._pause()
                    continue
                raise _GivenUp(LOST, f"Connection lost: {lost} ({self._statistics})") from lost
            if answer.status < 300:
                return self._told(answer)
            location = _header(answer, "location")
            if self._options.auto_redirect and 300 <= answer.status < 400 and answer.status != 304 and location:
                redirects += 1
                self._redirect(answer.status, location, redirects)
                self._attempts -= 1
            elif self._options.auto_retry and self._may_retry and answer.status == 408:
                continue
            elif (
                self._options.auto_retry
                and self._may_retry
                and answer.status == 503
                and (delay := _retry_after(answer)) > 0
                and delay <= (self._options.max_auto_retry_delay or self._timeout)
            ):
                await trio.sleep(delay)
            else:
                return self._told(answer)

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

    def _redirect(self, status: int, location: str, redirects: int) -> None:
        try:
            url = parse_url(location)
        except ValueError as error:
            raise _GivenUp(BAD_REDIRECT, f"Invalid redirect location: {error}") from error
        limit = self._options.request_max_redirects
        if redirects > limit:
            raise _GivenUp(BAD_REDIRECT, f"Redirected more than {limit} times" if limit else "Redirect refused")
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
        request = self._request
        if self._attempts == 1:
            self._sent = trio.current_time()
        while True:
            connection = await self._client.connection(request.url, self._timeout)
            try:
                response, problem = await self._ask(connection, request)
            except _Lost:
                connection.close()
                # whether the server had seen the request is not known, so only what may be repeated is
                if connection.used and request.method in _REPEATABLE:
                    continue
                raise
            except BaseException:
                connection.close()
                raise
            break
        if response.reusable and not (problem or connection.owing or response.status == 408):
            self._client.keep(request.url, connection)
        else:
            connection.close()
        return _answer(response, problem)

    async def _ask(self, connection: _Connection, request: Request) -> tuple[ResponseReader, str]:
        """What comes back for *request*, and what is wrong with its payload."""
        expecting = request.expect and bool(request.payload)
        target = request.url.target
        if self._client.has_proxy and not (request.url.secure and self._options.proxy_ssl_tunnel):
            target = f"{'https' if request.url.secure else 'http'}://{request.url.authority}{target}"
        try:
            data = encode_request(request.method, target, self._client.headers(request, expecting=expecting))
        except BadRequest as error:
            raise _GivenUp(ABORTED, f"Request cannot be sent: {error}") from error
        if request.payload and not expecting:
            data += request.payload
        response = ResponseReader(self._client.limits, bodyless=request.method == "HEAD")
        with trio.CancelScope(deadline=trio.current_time() + self._timeout) as scope:
            try:
                await connection.send(data)
                if expecting:
                    await self._continue(connection, response)
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
        while not response.complete:
            data = await connection.receive()
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
                scope.deadline = trio.current_time() + self._timeout
        if response.status > 599:
            raise _GivenUp(BAD_RESPONSE, BAD_STATUS)
        return ""

    async def _continue(self, connection: _Connection, response: ResponseReader) -> None:
        """Send the payload once the server wants it, or says nothing; not when it has answered already."""
        with trio.move_on_after(CONTINUE_TIMEOUT):
            while not (response.continued or response.status):
                data = await connection.receive()
                if not data:
                    raise _Lost(f"read({self._request.url.place}) failed: EOF")
                response.feed(data)
        if response.status:
            connection.owing = True
        else:
            await connection.send(self._request.payload or b"")


class Exchange(Errand):
    """A request on an idle connection, up to its answer."""

    __slots__ = (
        "_client",
        "_connection",
        "_queued",
        "_report",
        "_request",
        "_response",
        "_scope",
        "_timeout",
        "deadline",
    )

    def __init__(self, client: Client, request: Request) -> None:
        self._client = client
        self._request = request
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
            data = encode_request(request.method, request.url.target, client.headers(request))
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
            place = attached.get(None)
            if place is not None:
                place.batch_done()

    def _go_on(self, first: Answer | _Lost | None) -> None:
        self._scope = trio.CancelScope()
        trio.lowlevel.spawn_system_task(self._in_a_task, first)

    async def _in_a_task(self, first: Answer | _Lost | None) -> None:
        assert self._scope is not None, "it was made before the task"
        with self._scope:
            self._tell(await self._client.carry_on(self._request, self._queued, first))


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


_VERSIONS = {"TLSv1": "TLSv1", "TLSv1.1": "TLSv1_1", "TLSv1.2": "TLSv1_2", "TLSv1.3": "TLSv1_3"}


@lru_cache(32)
def _tls(options: Options) -> ssl.SSLContext:
    """What *options* ask of TLS. Raises `OSError` when a file is no good."""
    context = ssl.create_default_context(
        cafile=options.ssl_client_ca_file or None, capath=options.ssl_client_ca_dir or None
    )
    if not options.ssl_client_require_valid_cert:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.ssl_client_cert_file:
        context.load_cert_chain(
            options.ssl_client_cert_file,
            options.ssl_client_key_file or None,
            options.ssl_client_key_password or None,
        )
    if options.ssl_cipher_list:
        context.set_ciphers(options.ssl_cipher_list)
    if options.ssl_min_protocol in _VERSIONS:
        context.minimum_version = ssl.TLSVersion[_VERSIONS[options.ssl_min_protocol]]
    elif options.ssl_min_protocol not in ("", "ANY", "LATEST"):
        raise OSError(f"Unknown ssl_min_protocol setting '{options.ssl_min_protocol}'")
    return context
