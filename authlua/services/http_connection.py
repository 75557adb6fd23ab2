"""Connections of the HTTP client: how one is made, to a server or through a proxy, and what can be done with it."""

import errno
import os
import re
import select
import socket
import ssl
from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Any

import trio

from authlua.services import dns
from authlua.services.http_codec import BadResponse, Header, Limits, ResponseReader, encode_request
from authlua.services.http_messages import NO_CONNECTION, NO_HOST, GivenUp, Note, Options, basic, http_date
from authlua.services.http_tls import BadOptions, suite_allowed, tls_contexts
from authlua.services.rawlog import Rawlog
from authlua.urls import Url, parse_url
from authlua.wishes import Watcher

if TYPE_CHECKING:
    from authlua.services.http_exchange import Exchange

_LARGEST = 2**31 - 1
"""Bytes that a socket's buffer can be asked to have."""

_ADDRESS = re.compile(r"[0-9.]+|.*:.*")
"""A host that need not be looked up."""

Tls = trio.SSLStream[Any]
"""Over a socket, or over the TLS with a proxy."""


class _NoCurve(GivenUp):
    """No connection, perhaps because the server does not know the curve."""


class HttpConnection:
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


class RecordedConnection(HttpConnection):
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


class Dialer:
    """Makes connections as *options* say.

    Args:
        limits: of the head of a proxy's answer.
    """

    def __init__(self, options: Options, limits: Limits) -> None:
        self._options = options
        self._limits = limits
        self.proxied = bool(options.proxy_socket_path or options.proxy_url)
        self._proxy = parse_url(options.proxy_url) if options.proxy_url and not options.proxy_socket_path else None
        self._addresses: dict[str, tuple[float, list[str]]] = {}

    async def connect(self, url: Url, patience: float) -> HttpConnection:
        """A connection to where *url* is, or to a proxy that has it; *patience* is the request's. Raises `GivenUp`."""
        patience = self._options.connect_timeout or patience
        secure = self._proxy is not None and self._proxy.secure if self.to_proxy(url) else url.secure
        if not secure:
            return await self._open(url, patience, None)
        try:
            contexts = tls_contexts(self._options.tls)
        except BadOptions as error:
            raise GivenUp(NO_CONNECTION, str(error)) from error
        for context in contexts[:-1]:
            try:
                return await self._open(url, patience, context)
            except _NoCurve:
                continue
        return await self._open(url, patience, contexts[-1])

    async def _open(self, url: Url, patience: float, context: ssl.SSLContext | None) -> HttpConnection:
        options, proxy = self._options, self._proxy
        if options.proxy_socket_path:
            sock = await self._dial(socket.AF_UNIX, options.proxy_socket_path, options.proxy_socket_path, patience)
        else:
            sock = await self._reach(proxy or url, patience)
        try:
            stream: Tls | None = None
            if context is not None and proxy is not None and proxy.secure:
                stream = await self._encrypt(sock, stream, proxy, patience, context)
            if self.proxied and not self.to_proxy(url):
                await self._tunnel(HttpConnection(sock, stream), url, patience)
            if context is not None and not self.to_proxy(url):
                stream = await self._encrypt(sock, stream, url, patience, context)
            return await self._recorded(sock, stream) if options.rawlog_dir else HttpConnection(sock, stream)
        except BaseException:
            sock.close()
            raise

    async def _recorded(self, sock: socket.socket, stream: Tls | None) -> HttpConnection:
        try:
            return RecordedConnection(sock, stream, await trio.to_thread.run_sync(Rawlog, self._options.rawlog_dir))
        except OSError as error:
            level = "debug" if isinstance(error, FileNotFoundError | PermissionError) else "error"
            problem = f"http_client_rawlog_dir: creat({error.filename}) failed: {error.strerror}"
            return RecordedConnection(sock, stream, None, Note(level, problem))

    async def _reach(self, url: Url, patience: float) -> socket.socket:
        """A connection to one of the host's addresses, tried in turn."""
        found = await self._look_up(url.host, patience)
        soft = self._options.soft_connect_timeout or patience
        for number, address in enumerate(found, 1):
            family, shown = (socket.AF_INET6, f"[{address}]") if ":" in address else (socket.AF_INET, address)
            try:
                place = (address, url.port)
                return await self._dial(family, place, f"{shown}:{url.port}", soft if number < len(found) else patience)
            except GivenUp:
                if number == len(found):
                    raise
        raise GivenUp(NO_HOST, f"Failed to lookup host {url.host}: no address")

    async def _look_up(self, host: str, patience: float) -> list[str]:
        """The addresses of *host*."""
        options = self._options
        until, found = self._addresses.get(host, (0.0, []))
        if trio.current_time() < until:
            return found
        service = "" if _ADDRESS.fullmatch(host) else options.dns_client_socket_path
        problem, _, found = await dns.submit(host, options.dns_client_timeout or patience, service)
        if problem:
            raise GivenUp(NO_HOST, f"Failed to lookup host {host}: {problem}")
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
            raise GivenUp(NO_CONNECTION, reason) from None
        except BaseException:
            sock.close()
            raise
        if problem:
            sock.close()
            raise GivenUp(NO_CONNECTION, f"connect({shown}) failed: {os.strerror(problem)}")
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
            raise GivenUp(NO_CONNECTION, reason) from None
        except trio.BrokenResourceError as error:
            kind = _NoCurve if "HANDSHAKE_FAILURE" in str(error.__cause__) else GivenUp
            raise kind(NO_CONNECTION, f"SSL handshaking with {place} failed: {error.__cause__}") from error
        if not suite_allowed(self._options.tls, encrypted.cipher()):
            reason = f"SSL handshaking with {place} failed: {encrypted.cipher()[0]} is not in ssl_cipher_suites"
            raise GivenUp(NO_CONNECTION, reason)
        return encrypted

    async def _tunnel(self, connection: HttpConnection, url: Url, patience: float) -> None:
        """Have the proxy pass everything on to where *url* is (RFC 9110 section 9.3.6)."""
        place = url.place
        response = ResponseReader(self._limits, bodyless=True)
        try:
            with trio.fail_after(patience):
                await connection.send(encode_request("CONNECT", place, self._tunnel_headers(place)))
                while not response.complete:
                    data = await connection.receive()
                    if not data:
                        raise BadResponse("EOF")
                    response.feed(data)
        except trio.TooSlowError:
            reason = f"Tunnel to {place} failed: Connection timed out in {patience:.3f} secs"
            raise GivenUp(NO_CONNECTION, reason) from None
        except (trio.BrokenResourceError, OSError, BadResponse) as error:
            raise GivenUp(NO_CONNECTION, f"Tunnel to {place} failed: {error.__cause__ or error}") from error
        if not 200 <= response.status < 300:
            raise GivenUp(NO_CONNECTION, f"Tunnel to {place} failed: {response.status}")

    def _tunnel_headers(self, place: str) -> list[Header]:
        agent = self._options.user_agent
        ours = [("Host", place), ("Date", http_date(int(time()))), *self.proxy_headers()]
        return [*ours, ("User-Agent", agent)] if agent else ours

    def proxy_headers(self) -> list[Header]:
        """What tells the proxy who we are."""
        options = self._options
        login = self._proxy.userinfo if self._proxy is not None else None
        if options.proxy_username:
            login = f"{options.proxy_username}:{options.proxy_password}"
        return [] if login is None else [("Proxy-Authorization", basic(login))]

    def to_proxy(self, url: Url) -> bool:
        """Whether a request for *url* is a proxy's to answer, and does not go through a tunnel."""
        return self.proxied and not (url.secure and self._options.proxy_ssl_tunnel)
