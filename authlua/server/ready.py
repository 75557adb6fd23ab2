"""All connections that are ready, served in one go.

Every socket of the server is registered in one epoll set. The set's own descriptor is what the single task waits for;
when it wakes, it reads, answers and writes each connection that is ready. So what a request costs hardly depends on
how many connections there are, and a request that never waits needs no task of its own.
"""

import select
import socket
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

import trio

from authlua.logs import Writer

if TYPE_CHECKING:
    from authlua.server.app import App
    from authlua.server.listeners import Listener

READ_SIZE = 16384
"""Bytes taken from a connection at a time, so that nobody's flood starves the others."""

SOON = 0.001
"""Seconds that what is due at once is waited for on the spot, and trio's tasks wait as long at most.

A way through trio takes a third of a login's time.
"""

MAX_UNSENT = 51200
"""Bytes queued for a peer at which reading from it pauses until it reads (spec: Dovecot's output throttle)."""


class Pollable(Protocol):
    """Something with a descriptor that is told when it is ready."""

    def fileno(self) -> int:
        """The descriptor."""
        ...

    def ready(self, events: int) -> None:
        """Act on *events*, a set of ``select.EPOLL*`` bits, without waiting."""
        ...


class Watcher(Protocol):
    """Serves whoever asks it to; `Ready`, or what stands in for it where there are no descriptors."""

    def watch(self, served: Pollable, events: int) -> None:
        """Serve *served* from now on whenever one of *events* happens."""
        ...

    def forget(self, served: Pollable) -> None:
        """Serve it no more; before its descriptor is closed."""
        ...


class Eager(Protocol):
    """Who may have something due, as a pool has whose workers are at work."""

    @property
    def soon(self) -> bool:
        """Whether it is due at once, and nothing else before it."""
        ...


class Ready:
    """The epoll set and the task that serves it.

    Args:
        lines: the log, if its lines about requests that are served together are to be written together.
    """

    def __init__(self, lines: Writer | None = None) -> None:
        self._lines = lines
        self._epoll = select.epoll()
        self._served: dict[int, Pollable] = {}
        self.eager: set[Eager] = set()
        """Who is asked, whenever all that was ready is served."""
        self._fresh: set[int] = set()
        """Descriptors that are served since what is served now was found ready, so that was said of others."""

    def watch(self, served: Pollable, events: int) -> None:
        """Serve *served* from now on whenever one of *events* happens."""
        fd = served.fileno()
        if fd in self._served:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
            self._served[fd] = served
            self._fresh.add(fd)

    def forget(self, served: Pollable) -> None:
        """Serve it no more; before its descriptor is closed, for then another may have it."""
        fd = served.fileno()
        if self._served.get(fd) is served:
            del self._served[fd]
            self._epoll.unregister(fd)

    async def run(self) -> None:
        """Serve until cancelled."""
        epoll = self._epoll
        while True:
            await trio.lowlevel.wait_readable(epoll)
            self.serve(epoll.poll(0))
            for one in self.eager:
                if one.soon:
                    self.serve(epoll.poll(SOON))
                    break

    def poll(self, timeout: float | None) -> None:
        """Serve all that is ready, or becomes so within *timeout* seconds (`None`: whenever that is)."""
        self.serve(self._epoll.poll(timeout))

    def serve(self, happened: Iterable[tuple[int, int]]) -> None:
        """Serve all that is ready: descriptors with their events."""
        if self._lines is not None:
            self._lines.hold()
        fresh = self._fresh
        fresh.clear()
        try:
            for fd, events in happened:
                one = self._served.get(fd)
                if one is not None and fd not in fresh:
                    one.ready(events)
        finally:
            if self._lines is not None:
                self._lines.release()

    def close(self) -> None:
        """Give the set back, when nobody is left who might have something served or forgotten."""
        self._epoll.close()


class Connection:
    """A stream socket: reads into `received`, writes what it is given, pauses reading when its peer does not read.

    What goes wrong with the socket ends the connection. So does what a subclass raises in `received`: that is a mistake
    of ours, and one for which nobody else's connection is to end.
    """

    def __init__(self, app: "App", listener: "Listener", sock: socket.socket) -> None:
        self._app = app
        self._listener = listener
        self._ready: Watcher = app.ready
        self._sock = sock
        self._unsent = b""
        self._drained: trio.Event | None = None
        self._paused = False
        self.closed = False
        sock.setblocking(False)
        self._ready.watch(self, select.EPOLLIN)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    def received(self, data: bytes) -> None:
        """Deal with bytes that came in."""
        raise AssertionError("a connection says what it does with its bytes")

    def bug(self) -> None:
        """A mistake of ours; the traceback goes to the log."""
        self._app.log.error("internal_error", listener=self._listener.name, exc_info=True)

    def ended(self) -> None:
        """The connection is closed: release what belongs to it."""

    def ready(self, events: int) -> None:
        """Write what waits to be written, read what is there to be read."""
        if events & select.EPOLLOUT and not self.closed:
            self._flush()
        if events & ~select.EPOLLOUT and not self.closed:
            try:
                data = self._sock.recv(READ_SIZE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                try:
                    self.received(data)
                except Exception:
                    self.bug()
                    self.close()
            else:
                self.close()

    def write(self, data: bytes) -> None:
        """Send *data*, now as far as possible, the rest when the peer reads."""
        if not data or self.closed:
            return
        if self._unsent:
            self._unsent += data
        else:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.close()
                return
            if sent == len(data):
                return
            self._unsent = data[sent:]
        self._watch()

    def pause(self, paused: bool) -> None:
        """Stop reading, or go on."""
        self._paused = paused
        if not self.closed:
            self._watch()

    async def drained(self) -> None:
        """Wait until the peer has read most of what was written."""
        if len(self._unsent) >= MAX_UNSENT and not self.closed:
            if self._drained is None:
                self._drained = trio.Event()
            await self._drained.wait()
        else:
            await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """End the connection; what could not be written is dropped."""
        if self.closed:
            return
        self.closed = True
        self._ready.forget(self)
        self._sock.close()
        self._release()
        self.ended()

    def abort(self) -> None:
        """End the connection so that the peer's very next write fails, over TCP too.

        After an ordinary end TCP takes one write more, and Postfix, which asks anew only when it cannot write, would
        count that one as lost.
        """
        if not self.closed:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def _flush(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._unsent = self._unsent[sent:]
        if len(self._unsent) < MAX_UNSENT // 3:
            self._release()
        self._watch()

    def _release(self) -> None:
        if self._drained is not None:
            self._drained.set()
            self._drained = None

    def _watch(self) -> None:
        reading = not self._paused and len(self._unsent) < MAX_UNSENT
        events = (select.EPOLLIN if reading else 0) | (select.EPOLLOUT if self._unsent else 0)
        self._ready.watch(self, events)
