"""What takes time, as values that anybody can drive: in an event loop's epoll set, or on the spot.

What a blocking module of Lua does is written here as a generator. It yields what it waits for, is told whether that
came, and returns plain results for Lua. So its first steps cost nothing but a call, and most of them, such as reading
a line that has come already, never wait at all.
"""

import heapq
import os
import select
import time
from collections import deque
from collections.abc import Callable, Generator
from itertools import count
from threading import Lock
from typing import Any, Protocol

from authlua.errors import ScriptError
from authlua.wishes import Errand, Outcome, Watcher

MOST_UNREAD = 64 << 20
"""Bytes that are kept of what a peer or a program says until the script takes them: no Lua state has room for more by
default, and the process may be everybody's."""

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
FOREVER = float("inf")

now = time.monotonic

Wake = Callable[[bool], None]
"""Told whether what was waited for has come; if not, the time is up."""


class Want(Protocol):
    """Something to wait for."""

    def start(self, waits: "Waits", wake: Wake, /) -> Callable[[], None]:
        """Have *wake* called when it has come; what is returned calls that off."""
        ...

    def now(self) -> bool:
        """Wait for it here, and hold everybody up; whether it came."""
        ...


Steps = Generator[Want, bool, tuple[Any, ...]]


class Waits:
    """All that a process waits for at the moment: descriptors, moments, threads.

    Until somebody with an event loop attaches it, everything is waited for on the spot.
    """

    def __init__(self) -> None:
        self.attached = False
        self.watcher: Watcher
        self._alarm: Callable[[float], None]
        self._ended: Callable[[], None]
        self._moments: list[tuple[float, int, _Moment]] = []
        self._numbers = count()
        self._off = 0
        self._next = FOREVER
        self._due: deque[Callable[[], None]] = deque()
        self._bell = -1
        self._ringing = Lock()
        self.patience = FOREVER
        """Seconds after which an operation that still waits fails."""

    def attach(
        self,
        watcher: Watcher,
        alarm: Callable[[float], None],
        ended: Callable[[], None] = lambda: None,
        *,
        patience: float = FOREVER,
    ) -> None:
        """Wait in an event loop from now on.

        Args:
            watcher: looks after descriptors.
            alarm: is told when `expire` has to be called next.
            ended: does what is left to do after some waits have ended.
            patience: seconds; nobody waits longer, whatever the script thinks.
        """
        self.attached = True
        self.watcher, self._alarm, self._ended, self.patience = watcher, alarm, ended, patience
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        watcher.watch(self, READ)

    def at(self, deadline: float, wake: Callable[[], None]) -> "_Moment":
        """Call *wake* at *deadline*, unless the moment is called off."""
        moment = _Moment(self, wake)
        heapq.heappush(self._moments, (deadline, next(self._numbers), moment))
        if deadline < self._next:
            self._next = deadline
            self._alarm(deadline)
        return moment

    @staticmethod
    def now() -> float:
        """The time, as deadlines count it."""
        return now()

    @property
    def next(self) -> float:
        """When `expire` has something to do."""
        return self._next

    def expire(self) -> None:
        """Wake all whose time has come."""
        moments = self._moments
        while moments and (moments[0][2].wake is None or moments[0][0] <= now()):
            moment = heapq.heappop(moments)[2]
            if moment.wake is None:
                self._off -= 1
            else:
                wake, moment.wake = moment.wake, None
                wake()
        self._next = moments[0][0] if moments else FOREVER
        self._alarm(self._next)
        self._ended()

    def called_off(self) -> None:
        """A moment was called off; when most of them are, they go, for a time limit is long and seldom reached."""
        self._off += 1
        if self._off > 1000 and self._off > len(self._moments) / 2:
            self._moments = [entry for entry in self._moments if entry[2].wake is not None]
            heapq.heapify(self._moments)
            self._off = 0

    def soon(self, wake: Callable[[], None]) -> None:
        """Call *wake* from the event loop; this may be asked from any thread."""
        self._due.append(wake)
        with self._ringing:
            if self.attached:  # else its descriptor may be somebody else's by now
                os.eventfd_write(self._bell, 1)

    def fileno(self) -> int:
        """The bell's descriptor."""
        return self._bell

    def ready(self, events: int) -> None:
        """The bell has rung."""
        os.eventfd_read(self._bell)
        while self._due:
            self._due.popleft()()
        self._ended()

    def ended(self) -> None:
        """Something that was waited for has come and been dealt with."""
        self._ended()

    def detach(self) -> None:
        """There is no event loop any more. Once is enough."""
        if not self.attached:
            return
        self.watcher.forget(self)
        with self._ringing:
            self.attached = False
            os.close(self._bell)


class _Moment:
    __slots__ = ("_waits", "wake")

    def __init__(self, waits: Waits, wake: Callable[[], None]) -> None:
        self._waits = waits
        self.wake: Callable[[], None] | None = wake
        """What to do; `None` once it is done or called off."""

    def call_off(self) -> None:
        if self.wake is not None:
            self.wake = None
            self._waits.called_off()


class Until:
    """A descriptor is ready, or a moment has come. Without a descriptor (-1) only the moment counts."""

    __slots__ = ("_deadline", "_events", "_fd", "_moment", "_waits", "_wake")

    def __init__(self, fd: int, events: int, deadline: float = FOREVER) -> None:
        self._fd = fd
        self._events = events
        self._deadline = deadline

    def start(self, waits: Waits, wake: Wake) -> Callable[[], None]:
        self._waits = waits
        self._wake = wake
        self._moment = waits.at(self._deadline, self._too_late) if self._deadline < FOREVER else None
        if self._fd >= 0:
            waits.watcher.watch(self, self._events)
        return self._stop

    def fileno(self) -> int:
        return self._fd

    def ready(self, events: int) -> None:
        self._stop()
        self._wake(True)
        self._waits.ended()

    def _too_late(self) -> None:
        self._stop()
        self._wake(False)

    def _stop(self) -> None:
        if self._fd >= 0:
            self._waits.watcher.forget(self)
        if self._moment is not None:
            self._moment.call_off()

    def now(self) -> bool:
        left = self._deadline - now()
        if self._fd < 0:
            time.sleep(max(0.0, left))
            return False
        poll = select.poll()
        poll.register(self._fd, self._events)
        return bool(poll.poll(None if left == FOREVER else max(0.0, left * 1000)))


class Operation(Errand):
    """The rest of *steps*, whose next one is to wait for *want*."""

    __slots__ = ("_limit", "_stop", "_waits", "_want", "report", "steps")

    def __init__(self, steps: Steps, want: Want, waits: Waits) -> None:
        self.steps = steps
        self._want = want
        self._waits = waits
        self._stop: Callable[[], None] = lambda: None
        self._limit: _Moment | None = None

    def start(self, report: Callable[[Outcome], None]) -> None:
        """Begin to wait; without an event loop, do it all here."""
        self.report = report
        if not self._waits.attached:
            report(Outcome(self.now()))
        else:
            self._stop = self._want.start(self._waits, self._wake)
            if self._waits.patience < FOREVER:
                self._limit = self._waits.at(now() + self._waits.patience, self._give_up)

    def _give_up(self) -> None:
        self.cancel()
        self.report(Outcome(failure=ScriptError(f"the script waited longer than {self._waits.patience:g} s")))

    def _wake(self, came: bool) -> None:
        try:
            self._want = self.steps.send(came)
        except StopIteration as done:
            self._end(Outcome(done.value))
        except Exception as failure:
            self._end(Outcome(failure=failure))
        else:
            self._stop = self._want.start(self._waits, self._wake)

    def _end(self, outcome: Outcome) -> None:
        if self._limit is not None:
            self._limit.call_off()
        self.report(outcome)

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        if self._limit is not None:
            self._limit.call_off()
        self._stop()
        self.steps.close()

    def now(self) -> tuple[Any, ...]:
        """Do it all on the spot, and hold everybody up meanwhile; the results."""
        try:
            while True:
                self._want = self.steps.send(self._want.now())
        except StopIteration as done:
            results: tuple[Any, ...] = done.value
            return results


def begin(steps: Steps, waits: Waits) -> tuple[Any, ...]:
    """`True` and the results of *steps* if they need not wait; else `False` and an `Operation`."""
    try:
        want = next(steps)
    except StopIteration as done:
        return (True, *done.value)
    return False, Operation(steps, want, waits)
