"""Whose turn it is: a socket or a database session that several logins share belongs to one of them at a time.

In Dovecot a process serves one call, so a connection kept in a global variable is that call's alone until it ends.
Here many calls wait in one Lua state. Whoever uses a resource first has it until the call is over; others wait for
their turn. Else one login would read another's answer.
"""

from collections import deque
from collections.abc import Callable, Generator
from typing import Protocol

from authlua.twins.operations import Waits, Wake, Want


class Held(Protocol):
    """What a call has taken hold of."""

    def left(self, waits: Waits, abandoned: bool, /) -> None:
        """The call is over, or was given up."""
        ...


class Resource:
    """Something that belongs to one call at a time. Calls are numbered; while no call runs, there is none."""

    __slots__ = ("_queue", "holder")

    def __init__(self) -> None:
        self.holder: int | None = None
        self._queue: deque[_Turn] = deque()

    def pass_on(self) -> None:
        """Let the next in the queue have it, if nobody has taken it meanwhile."""
        if self.holder is None and self._queue:
            self._queue.popleft().wake(True)

    def left(self, waits: Waits, abandoned: bool) -> None:
        """The call that had it is over, or was given up."""
        self.holder = None
        if abandoned:
            self.abandoned()
        if self._queue:
            # not from here: that call is still on its way out of Lua
            waits.soon(self.pass_on)

    def abandoned(self) -> None:
        """Its call was given up somewhere in the middle, so nobody knows what state it is in."""
        raise AssertionError("each kind of resource says how it ends")


class _Turn:
    """To wait until the resource is free."""

    __slots__ = ("call", "resource", "waits", "wake")

    def __init__(self, resource: Resource, call: int) -> None:
        self.resource = resource
        self.call = call

    def start(self, waits: Waits, wake: Wake) -> Callable[[], None]:
        self.waits = waits
        self.wake = wake
        self.resource._queue.append(self)
        return self._stop

    def _stop(self) -> None:
        if self in self.resource._queue:
            self.resource._queue.remove(self)

    def now(self) -> bool:
        return False


class Leases:
    """Which calls have which resources."""

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self._held: dict[int, list[Held]] = {}

    def take(self, resource: Resource, call: int | None) -> Generator[Want, bool, bool]:
        """Wait for one's turn; `False` when it can never come, as the others wait for us."""
        while resource.holder != call and call is not None:
            if resource.holder is None:
                resource.holder = call
                self.hold(call, resource)
            elif not (yield _Turn(resource, call)):
                return False
        return True

    def left(self, call: int, abandoned: bool) -> None:
        """*call* is over, or was given up."""
        for held in self._held.pop(call, ()):
            held.left(self._waits, abandoned)

    def hold(self, call: int, held: Held) -> None:
        """Tell *held* when *call* is over."""
        self._held.setdefault(call, []).append(held)
