"""UDP for scripts: what LuaSocket's ``udp`` objects do, without blocking anybody."""

import os
import socket
from collections.abc import Callable, Generator, Mapping
from errno import EBADF
from typing import Any, ClassVar

from authlua.twins.operations import READ, WRITE, Steps, Waits, Want, begin
from authlua.twins.resources import Leases
from authlua.twins.sockets import FAMILIES, TIMEOUT, Answer, Option, Sockets, Tcp, error_text, wait

REFUSED = b"refused"


class Udp(Tcp):
    """A socket for datagrams. Without a *family* it gets one with its first address."""

    __slots__ = ()

    options: ClassVar[Mapping[bytes, Option]] = {
        b"broadcast": (socket.SOL_SOCKET, socket.SO_BROADCAST, b"flag"),
        b"dontroute": (socket.SOL_SOCKET, socket.SO_DONTROUTE, b"flag"),
        **{
            name: Tcp.options[name]
            for name in (b"reuseaddr", b"reuseport", b"ipv6-v6only", b"recv-buffer-size", b"send-buffer-size")
        },
    }

    def __init__(self, family: int) -> None:
        super().__init__(family)
        if family:
            self.open(family)

    def open(self, family: int) -> socket.socket:
        """The socket, made if need be."""
        if self.sock is None:
            self.sock = socket.socket(family, socket.SOCK_DGRAM)
            self.sock.setblocking(False)
            self._family = family
        return self.sock

    def send_to(self, data: bytes, host: bytes, port: bytes, deadline: float) -> Generator[Want, bool, Answer]:
        """Send *data* to an address, which is no name."""
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        try:
            found = socket.getaddrinfo(host, port, self._family, socket.SOCK_DGRAM, 0, numeric)
        except socket.gaierror as error:
            return None, str(error.strerror).encode()
        family, _, _, _, address = found[0]
        try:
            sock = self.open(family)
        except OSError as error:
            return None, error_text(error)
        return (yield from self._sent_by(lambda: sock.sendto(data, address), deadline))

    def send_on(self, data: bytes, deadline: float) -> Generator[Want, bool, Answer]:
        """Send *data* to the peer."""
        sock = self.sock
        if sock is None:
            return None, REFUSED
        return (yield from self._sent_by(lambda: sock.send(data), deadline))

    def _sent_by(self, send: Callable[[], int], deadline: float) -> Generator[Want, bool, Answer]:
        while self.sock is not None:
            try:
                return (float(send()),)
            except BlockingIOError:
                if not (yield from wait(self.sock, WRITE, deadline)):
                    return None, TIMEOUT
            except OSError as error:
                return None, error_text(error)
        return None, REFUSED

    def receive_from(self, size: int, deadline: float) -> Generator[Want, bool, Answer]:
        """A datagram, cut at *size* bytes, its sender's address and port. A closed socket gives empty ones."""
        while self.sock is not None:
            try:
                data, sender = self.sock.recvfrom(min(size, 65536))
            except BlockingIOError:
                if not (yield from wait(self.sock, READ, deadline)):
                    return None, TIMEOUT
            except OSError as error:
                return None, error_text(error)
            else:
                address, port = sender[:2] if sender else ("", 0)
                return data, address.encode(), port
        return b"", b"", 0


def _disconnect(udp: Udp) -> Answer:
    if udp.sock is None:
        return None, os.strerror(EBADF).encode()
    # Python has no address of no family to connect to
    import ctypes

    unspecified = bytes(28)
    ctypes.CDLL(None).connect(udp.sock.fileno(), unspecified, len(unspecified))
    return (1.0,)


class Datagrams:
    """What the Lua side calls."""

    def __init__(self, waits: Waits, leases: Leases, sockets: Sockets) -> None:
        self._waits = waits
        self._leases = leases
        self._sockets = sockets

    def functions(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {
            "udp_new": lambda family: Udp(FAMILIES[family]),
            "udp_send_to": lambda call, udp, *what: self._doing(call, udp, udp.send_to, *what),
            "udp_send": lambda call, udp, data: self._doing(call, udp, udp.send_on, data),
            "udp_receive": lambda call, udp, size: self._doing(call, udp, udp.receive_from, size),
            "udp_name": lambda call, udp, method, host, port: begin(
                self._naming(call, udp, method, host, port), self._waits
            ),
            "udp_disconnect": _disconnect,
        }

    def _doing(self, call: int | None, udp: Udp, method: Callable[..., Steps], *arguments: Any) -> Answer:
        def steps() -> Steps:
            if not (yield from self._leases.take(udp, call)):
                return None, TIMEOUT
            return (yield from method(*arguments, udp.deadline))

        return begin(steps(), self._waits)

    def _naming(self, call: int | None, udp: Udp, method: bytes, host: bytes, port: bytes) -> Steps:
        """Give *udp* an address of its own (*method* is ``bind``) or that of a peer (``connect``)."""
        if not (yield from self._leases.take(udp, call)):
            return None, TIMEOUT
        problem = b""
        try:
            found = yield from self._sockets.find(host, port, udp._family, socket.SOCK_DGRAM)
            for family, _, _, _, address in found:
                try:
                    getattr(udp.open(family), method.decode())(address)
                    return (1.0,)
                except OSError as error:
                    problem = error_text(error)
        except OSError as error:
            problem = error_text(error)
        return None, problem
