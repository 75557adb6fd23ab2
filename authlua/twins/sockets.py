"""TCP for scripts: what LuaSocket's ``tcp`` objects do, without blocking anybody.

Results, errors and their texts are LuaSocket's (3.0 and 3.1), which the tests ask about each: an error is `None`, its
text, and what was done until then.
"""

import errno
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, ClassVar

from authlua.twins.operations import FOREVER, MOST_UNREAD, READ, WRITE, Steps, Until, Waits, Want, begin, now
from authlua.twins.resources import Leases, Resource
from authlua.twins.threads import Threads

Answer = tuple[Any, ...]

Option = tuple[int, int, bytes]
"""Level and number, as the system has them, and the kind of its value: ``flag``, ``number`` or ``linger``."""

CLOSED, TIMEOUT, NO_MEMORY = b"closed", b"timeout", os.strerror(errno.ENOMEM).encode()

_ERRORS = {
    errno.EADDRINUSE: b"address already in use",
    errno.EISCONN: b"already connected",
    errno.EACCES: b"permission denied",
    errno.ECONNREFUSED: b"connection refused",
    errno.ECONNABORTED: CLOSED,
    errno.ECONNRESET: CLOSED,
    errno.EPIPE: CLOSED,
    errno.ETIMEDOUT: TIMEOUT,
}

_LOOKUP_ERRORS = {
    socket.EAI_AGAIN: b"temporary failure in name resolution",
    socket.EAI_BADFLAGS: b"invalid value for ai_flags",
    socket.EAI_FAIL: b"non-recoverable failure in name resolution",
    socket.EAI_FAMILY: b"ai_family not supported",
    socket.EAI_MEMORY: b"memory allocation failure",
    socket.EAI_NONAME: b"host or service not provided, or not known",
    socket.EAI_SERVICE: b"service not supported for socket type",
    socket.EAI_SOCKTYPE: b"ai_socktype not supported",
}

FAMILIES = {
    b"inet": socket.AF_INET,
    b"inet6": socket.AF_INET6,
    b"unspec": socket.AF_UNSPEC,
    b"unix": socket.AF_UNIX,
}
_NAMES: dict[int, bytes] = {family: name for name, family in FAMILIES.items()}


def tls_error_text(error: ssl.SSLError) -> bytes:
    """OpenSSL's own words, as LuaSec gives them."""
    return (error.reason or str(error)).replace("_", " ").lower().encode()


def error_text(error: OSError) -> bytes:
    """LuaSocket's words for *error*."""
    if isinstance(error, socket.gaierror):
        return _LOOKUP_ERRORS.get(error.errno or 0) or str(error.strerror).encode()
    number = error.errno or 0
    return _ERRORS.get(number) or os.strerror(number).encode()


class Tcp(Resource):
    """A socket, its limits and what has been read ahead."""

    __slots__ = ("_block", "_family", "_received", "_sent", "_since", "_total", "buffer", "sock", "tls")

    options: ClassVar[Mapping[bytes, Option]] = {
        b"keepalive": (socket.SOL_SOCKET, socket.SO_KEEPALIVE, b"flag"),
        b"reuseaddr": (socket.SOL_SOCKET, socket.SO_REUSEADDR, b"flag"),
        b"reuseport": (socket.SOL_SOCKET, socket.SO_REUSEPORT, b"flag"),
        b"tcp-nodelay": (socket.IPPROTO_TCP, socket.TCP_NODELAY, b"flag"),
        b"ipv6-v6only": (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, b"flag"),
        b"tcp-keepidle": (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, b"number"),
        b"tcp-keepcnt": (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, b"number"),
        b"tcp-keepintvl": (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, b"number"),
        b"recv-buffer-size": (socket.SOL_SOCKET, socket.SO_RCVBUF, b"number"),
        b"send-buffer-size": (socket.SOL_SOCKET, socket.SO_SNDBUF, b"number"),
        b"linger": (socket.SOL_SOCKET, socket.SO_LINGER, b"linger"),
    }

    def __init__(self, family: int) -> None:
        super().__init__()
        self.sock: socket.socket | None = None
        self.buffer = bytearray()
        self.tls: ssl.SSLContext | None = None
        """How it is to be encrypted, or is."""
        self._family = family
        self._block = self._total = FOREVER
        self._sent = self._received = 0
        self._since = now()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, now."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def abandoned(self) -> None:
        self.close()
        self.buffer.clear()

    # -- limits and facts -------------------------------------------------------------------------------------------

    def set_timeout(self, seconds: float | None, is_total: bool) -> None:
        """At most *seconds* for one method call, whichever of the two limits is lower; `None` or less than 0: none."""
        limit = FOREVER if seconds is None or seconds < 0 else seconds
        if is_total:
            self._total = limit
        else:
            self._block = limit

    def timeouts(self) -> Answer:
        """Both limits."""
        return tuple(-1.0 if limit == FOREVER else float(limit) for limit in (self._block, self._total))

    @property
    def deadline(self) -> float:
        """When a method that begins now has to be done."""
        return now() + min(self._block, self._total)

    def stats(self) -> Answer:
        """Bytes received, bytes sent, age in seconds."""
        return float(self._received), float(self._sent), now() - self._since

    def set_stats(self, received: float | None, sent: float | None, age: float | None) -> None:
        """Count from these on."""
        self._received = self._received if received is None else int(received)
        self._sent = self._sent if sent is None else int(sent)
        self._since = self._since if age is None else now() - age

    def name(self, which: Callable[[socket.socket], Any]) -> Answer:
        """Address, port and family of one end."""
        if self.sock is None:
            return None, os.strerror(errno.EBADF).encode()
        try:
            name = which(self.sock)
        except OSError as error:
            return None, error_text(error)
        if isinstance(name, str):  # a path
            return (name.encode(),)
        address, port, *_ = name
        return address.encode(), str(port).encode(), _NAMES.get(self._family, b"unspec")

    def family(self) -> bytes:
        """``inet4`` or ``inet6``."""
        return b"inet6" if self._family == socket.AF_INET6 else b"inet4"

    def fd(self) -> int:
        """The descriptor; -1 when it is closed."""
        return -1 if self.sock is None else self.sock.fileno()

    def is_dirty(self) -> bool:
        """Something has come that has not been asked for."""
        return bool(self.buffer) or (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0)

    def is_quiet(self) -> bool:
        """Open, and the other side has said nothing, nor ended."""
        return self.sock is not None and not self.is_dirty() and not Until(self.fd(), READ, now()).now()

    # -- what may take time -----------------------------------------------------------------------------------------

    def connect(self, found: list[Any], deadline: float) -> Generator[Want, bool, Answer]:
        """Try the addresses *found*, one after the other."""
        problem = _LOOKUP_ERRORS[socket.EAI_NONAME]
        for family, kind, protocol, _, address in found:
            if self.sock is not None and self.sock.family != family:  # a socket cannot change its family
                self.close()
            try:
                if self.sock is None:
                    self.sock = socket.socket(family, kind, protocol)
                    self.sock.setblocking(False)
                number = self.sock.connect_ex(address)
                if number == errno.EINPROGRESS:
                    number = self.sock.connect_ex(address)  # on this machine it is done already
                if number == errno.EALREADY:
                    if not (yield from wait(self.sock, WRITE, deadline)):
                        problem = TIMEOUT
                        continue
                    number = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            except OSError as error:
                problem = error_text(error)
                continue
            if number in (0, errno.EISCONN):
                self._family = family
                return (1.0,)
            problem = error_text(OSError(number, ""))
        return None, problem

    def send(self, data: bytes, before: int, deadline: float) -> Generator[Want, bool, Answer]:
        """Send *data*, which begins behind the first *before* bytes of what the script gave."""
        sent = 0
        view = memoryview(data)
        while sent < len(data):
            if self.sock is None or self.unready:
                return None, CLOSED, float(before + sent)
            try:
                count = self.sock.send(view[sent : sent + 262144])
            except (BlockingIOError, ssl.SSLWantWriteError):
                if not (yield from wait(self.sock, WRITE, deadline)):
                    return None, self.late(b"wantwrite"), float(before + sent)
            except ssl.SSLWantReadError:
                if not (yield from wait(self.sock, READ, deadline)):
                    return None, self.late(b"wantread"), float(before + sent)
            except OSError as error:
                return None, self.problem(error), float(before + sent)
            else:
                sent += count
                self._sent += count
        return float(before + sent), None, None

    def receive_line(self, prefix: bytes, deadline: float) -> Generator[Want, bool, Answer]:
        """A line without its end; carriage returns do not count wherever they are."""
        buffer = self.buffer
        start = 0
        while (end := buffer.find(b"\n", start)) < 0:
            start = len(buffer)
            problem = yield from self.more(deadline)
            if problem is not None:
                return None, problem, prefix + self._take(len(buffer)).replace(b"\r", b"")
        return prefix + self._take(end + 1)[:-1].replace(b"\r", b""), None, None

    def receive_all(self, prefix: bytes, deadline: float) -> Generator[Want, bool, Answer]:
        """All until the other side ends."""
        while True:
            problem = yield from self.more(deadline)
            if problem is not None:
                data = prefix + self._take(len(self.buffer))
                if problem == CLOSED and data:
                    return data, None, None
                return None, problem, data

    def receive_count(self, count: int, prefix: bytes, deadline: float) -> Generator[Want, bool, Answer]:
        """*count* bytes, of which *prefix* is the beginning."""
        count -= len(prefix)
        while len(self.buffer) < count or (count == 0 and not prefix and self.sock is None):
            problem = yield from self.more(deadline)
            if problem is not None:
                return None, problem, prefix + self._take(len(self.buffer))
        return prefix + self._take(max(0, count)), None, None

    def _take(self, count: int) -> bytes:
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def more(self, deadline: float) -> Generator[Want, bool, bytes | None]:
        """Read some more; what is wrong if nothing came."""
        while self.sock is not None and not self.unready:
            try:
                data = self.sock.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError):
                if not (yield from wait(self.sock, READ, deadline)):
                    return self.late(b"wantread")
            except ssl.SSLWantWriteError:
                if not (yield from wait(self.sock, WRITE, deadline)):
                    return self.late(b"wantwrite")
            except OSError as error:
                return self.problem(error)
            else:
                if not data:
                    return CLOSED
                self._received += len(data)
                self.buffer += data
                return None if len(self.buffer) <= MOST_UNREAD else NO_MEMORY
        return CLOSED

    @property
    def unready(self) -> bool:
        """It is to be encrypted, and is not yet."""
        return self.tls is not None and not isinstance(self.sock, ssl.SSLSocket)

    def late(self, tls_word: bytes) -> bytes:
        """What to say when the time is up: LuaSec tells what it waited for."""
        return TIMEOUT if self.tls is None else tls_word

    def problem(self, error: OSError) -> bytes:
        """What to say of *error*."""
        if isinstance(error, ssl.SSLZeroReturnError) or (isinstance(error, ssl.SSLEOFError) and not error.reason):
            return CLOSED
        if isinstance(error, ssl.SSLError):
            return tls_error_text(error)
        return error_text(error)


def wait(sock: socket.socket, events: int, deadline: float) -> Generator[Want, bool, bool]:
    """Wait until *sock* is ready; whether it was in time."""
    if deadline <= now():
        return False
    return (yield Until(sock.fileno(), events, deadline))


def _set_option(tcp: Tcp, name: bytes, value: Any, more: Any) -> Answer:
    level, option, kind = tcp.options[name]
    if tcp.sock is None:
        return None, b"setsockopt failed"
    try:
        tcp.sock.setsockopt(
            level, option, struct.pack("ii", bool(value), int(more)) if kind == b"linger" else int(value)
        )
    except OSError:
        return None, b"setsockopt failed"
    return (1.0,)


def _get_option(tcp: Tcp, name: bytes) -> Answer:
    """The value of an option, or ``linger``'s two."""
    level, option, kind = tcp.options.get(name, (socket.SOL_SOCKET, socket.SO_ERROR, b"error"))
    if tcp.sock is None:
        return None, b"getsockopt failed"
    try:
        if kind == b"linger":
            on, seconds = struct.unpack("ii", tcp.sock.getsockopt(level, option, 8))
            return bool(on), seconds
        number = tcp.sock.getsockopt(level, option)
    except OSError:
        return None, b"getsockopt failed"
    if kind == b"error":
        return (os.strerror(number).encode() if number else None,)
    return (bool(number) if kind == b"flag" else number,)


class Sockets:
    """What the Lua side of the sockets calls."""

    def __init__(self, waits: Waits, leases: Leases, threads: Threads) -> None:
        self._waits = waits
        self._leases = leases
        self._threads = threads

    def functions(self) -> dict[str, Callable[..., Any]]:
        """By name. Those that may take time give `True` and results, or `False` and an `Operation`."""
        return {
            "tcp_new": lambda family: Tcp(FAMILIES[family]),
            "tcp_connect": self.connect,
            "tcp_bind": _bind,
            "tcp_send": self.send,
            "tcp_receive": self.receive,
            "tcp_close": Tcp.close,
            "tcp_shutdown": _shutdown,
            "tcp_set_timeout": Tcp.set_timeout,
            "tcp_timeouts": Tcp.timeouts,
            "tcp_peer": lambda tcp: tcp.name(socket.socket.getpeername),
            "tcp_own": lambda tcp: tcp.name(socket.socket.getsockname),
            "tcp_family": Tcp.family,
            "tcp_stats": Tcp.stats,
            "tcp_set_stats": Tcp.set_stats,
            "tcp_dirty": Tcp.is_dirty,
            "tcp_quiet": Tcp.is_quiet,
            "tcp_fd": Tcp.fd,
            "tcp_option_kind": lambda tcp, name: tcp.options[name][2] if name in tcp.options else b"",
            "tcp_set_option": _set_option,
            "tcp_get_option": _get_option,
            "gettime": time.time,
            "sleep": self.sleep,
            "lookup": self.lookup,
            "lookup_name": self.lookup_name,
            "lookup_host": self.lookup_host,
            "host_name": lambda: socket.gethostname().encode(),
        }

    def connect(self, call: int | None, tcp: Tcp, host: bytes, port: bytes) -> Answer:
        """Connect *tcp*."""
        return begin(self._connect(call, tcp, host, port), self._waits)

    def _connect(self, call: int | None, tcp: Tcp, host: bytes, port: bytes) -> Steps:
        if not (yield from self._leases.take(tcp, call)):
            return None, TIMEOUT
        deadline = tcp.deadline
        try:
            found = yield from self.find(host, port, tcp._family)
        except OSError as error:
            return None, error_text(error)
        return (yield from tcp.connect(found, deadline))

    def find(
        self, host: bytes, port: bytes, family: int, kind: int = socket.SOCK_STREAM
    ) -> Generator[Want, bool, list[Any]]:
        """The addresses of *host*; what is an address already needs no thread."""
        if family == socket.AF_UNIX:
            return [(family, kind, 0, "", host)]
        question = (host or None, port or None, family, kind, 0)
        try:
            return socket.getaddrinfo(*question, socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)
        except OSError:
            found: list[Any] = yield from self._threads.run(socket.getaddrinfo, *question)
            return found

    def send(self, call: int | None, tcp: Tcp, data: bytes, before: int) -> Answer:
        """Send all of *data*."""
        return begin(self._send(call, tcp, data, before), self._waits)

    def _send(self, call: int | None, tcp: Tcp, data: bytes, before: int) -> Steps:
        if not (yield from self._leases.take(tcp, call)):
            return None, TIMEOUT, float(before)
        return (yield from tcp.send(data, before, tcp.deadline))

    def receive(self, call: int | None, tcp: Tcp, pattern: bytes | int, prefix: bytes) -> Answer:
        """A line (``l``), everything (``a``), or so many bytes."""
        return begin(self._receive(call, tcp, pattern, prefix), self._waits)

    def _receive(self, call: int | None, tcp: Tcp, pattern: bytes | int, prefix: bytes) -> Steps:
        if not (yield from self._leases.take(tcp, call)):
            return None, TIMEOUT, prefix
        if pattern == b"l":
            return (yield from tcp.receive_line(prefix, tcp.deadline))
        if pattern == b"a":
            return (yield from tcp.receive_all(prefix, tcp.deadline))
        return (yield from tcp.receive_count(int(pattern), prefix, tcp.deadline))

    def sleep(self, seconds: float) -> Answer:
        """Wait for *seconds*."""
        return begin(_sleep(seconds), self._waits)

    def lookup(self, host: bytes) -> Answer:
        """Family and address of each address of *host*."""

        def steps() -> Steps:
            try:
                found = yield from self._threads.run(socket.getaddrinfo, host, None, 0, socket.SOCK_STREAM)
            except OSError as error:
                return None, error_text(error)
            flat: list[bytes] = []
            for family, _, _, _, address in found:
                flat += (_NAMES.get(family, b"unknown"), address[0].encode())
            return tuple(flat)

        return begin(steps(), self._waits)

    def lookup_name(self, address: bytes) -> Answer:
        """A host by its address: its name, how many other names it has, these, and its addresses."""
        return begin(self._host(socket.gethostbyaddr, address), self._waits)

    def lookup_host(self, host: bytes) -> Answer:
        """The same by a name."""
        return begin(self._host(socket.gethostbyname_ex, host), self._waits)

    def _host(self, look_up: Callable[[Any], tuple[str, list[str], list[str]]], host: bytes) -> Steps:
        try:
            # the C library sees what stands in front of a NUL, and so does `getaddrinfo`
            name, others, addresses = yield from self._threads.run(look_up, host.partition(b"\0")[0])
        except socket.herror as error:
            return None, b"host not found" if error.errno == 1 else str(error.strerror).encode()
        except OSError as error:
            not_found = error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
            return None, b"host not found" if not_found else error_text(error)
        return name.encode(), len(others), *(word.encode() for word in (*others, *addresses))


def _sleep(seconds: float) -> Steps:
    if seconds > 0:
        yield Until(-1, 0, now() + seconds)
    return ()


def _bind(tcp: Tcp, host: bytes, port: int) -> Answer:
    try:
        if tcp.sock is None:
            tcp.sock = socket.socket(tcp._family or socket.AF_INET, socket.SOCK_STREAM)
            tcp.sock.setblocking(False)
        tcp.sock.bind((b"" if host == b"*" else host, port))
    except OSError as error:
        return None, error_text(error)
    return (1.0,)


def _shutdown(tcp: Tcp, how: int) -> Answer:
    if tcp.sock is not None:
        try:
            tcp.sock.shutdown(how)
        except OSError:
            return (1.0,)  # it has ended without us
    return (1.0,)
