"""``socket.select`` for scripts: wait for one of several descriptors."""

import select
from collections.abc import Callable, Mapping
from typing import Any

from authlua.twins.operations import FOREVER, READ, WRITE, Steps, Until, Waits, Wake, begin, now
from authlua.twins.resources import Leases
from authlua.twins.sockets import Tcp

_ALSO = select.POLLHUP | select.POLLERR | select.POLLNVAL
"""What is told of every descriptor; to read or to write would not block then, but tell what is wrong."""


class _Watched:
    """One of them, for the event loop."""

    __slots__ = ("_fd", "_select")

    def __init__(self, select: "_AnyOf", fd: int) -> None:
        self._select = select
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def ready(self, events: int) -> None:
        self._select.ready(events)


class _AnyOf(Until):
    """One of the descriptors has one of its events, or the deadline has come."""

    __slots__ = ("_wanted", "_watched")

    def __init__(self, wanted: Mapping[int, int], deadline: float) -> None:
        super().__init__(-1, 0, deadline)
        self._wanted = wanted

    def start(self, waits: Waits, wake: Wake) -> Callable[[], None]:
        stop = super().start(waits, wake)
        self._watched = [_Watched(self, fd) for fd in self._wanted]
        for watched in self._watched:
            waits.watcher.watch(watched, self._wanted[watched.fileno()])
        return stop

    def _stop(self) -> None:
        while self._watched:
            self._waits.watcher.forget(self._watched.pop())
        super()._stop()

    def now(self) -> bool:
        return bool(_ready(self._wanted, self._deadline))


def _ready(events: Mapping[int, int], deadline: float) -> dict[int, int]:
    poll = select.poll()
    for fd, wanted in events.items():
        poll.register(fd, wanted)
    return dict(poll.poll(None if deadline == FOREVER else max(0.0, (deadline - now()) * 1000)))


class Selecting:
    """What the Lua side calls."""

    def __init__(self, waits: Waits, leases: Leases) -> None:
        self._waits = waits
        self._leases = leases

    def functions(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"select": lambda *arguments: begin(self._select(*arguments), self._waits)}

    def _select(self, call: int | None, seconds: float, modes: bytes, *items: Tcp | int) -> Steps:
        """Which of *items*, sockets or descriptors, can be read (``r`` in *modes*) or written (``w``): a ``1`` each."""
        deadline = FOREVER if seconds < 0 else now() + seconds
        for item in items:
            if isinstance(item, Tcp) and not (yield from self._leases.take(item, call)):
                return (b"0" * len(items),)
        fds = [item.fd() if isinstance(item, Tcp) else int(item) for item in items]
        wanted = [READ if mode == ord("r") else WRITE for mode in modes]
        events: dict[int, int] = {}
        for fd, want in zip(fds, wanted, strict=True):
            if fd >= 0:
                events[fd] = events.get(fd, 0) | want
        ready = _ready(events, 0)
        while not ready and now() < deadline:
            yield _AnyOf(events, deadline)
            ready = _ready(events, 0)
        flags = (ready.get(fd, 0) & (want | _ALSO) for fd, want in zip(fds, wanted, strict=True))
        return (b"".join(b"1" if flag else b"0" for flag in flags),)
