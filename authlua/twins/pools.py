"""Sessions of which each call has one to itself until it is over: what a script takes for one connection.

A script opens one connection and uses it for every login. In Dovecot each worker process has that connection to
itself; here many calls would stand in line for it, for as long as each of them takes.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

from authlua.twins.operations import Steps, Waits, Wake, Want, begin
from authlua.twins.resources import Leases

SESSIONS = 60
"""How many sessions one connection of a script may have."""

S = TypeVar("S")


class Pool(ABC, Generic[S]):
    """Sessions that are idle, and those that calls have."""

    def __init__(self) -> None:
        self.idle: list[S] = []
        self.taken: dict[int, S] = {}
        self.lost: set[int] = set()
        """Calls whose session is of no more use."""
        self.queue: deque[_Place] = deque()

    def may_grow(self) -> bool:
        """Whether there may be one more session."""
        return False

    @abstractmethod
    def drop(self, session: S) -> None:
        """*session* is of no more use."""

    def turn(self) -> Generator[Want, bool, bool]:
        """Wait until a session is idle or may be made; `False` when that can never be, as the others wait for us."""
        while not self.idle and not self.may_grow():
            if not (yield _Place(self.queue)):
                return False
        return True

    def hand(self, session: S, call: int, leases: Leases) -> None:
        """*session* is that call's until it is over."""
        self.taken[call] = session
        leases.hold(call, _Lease(self, call))

    def give_back(self, session: S, *, lost: bool) -> None:
        """*session* is free, or *lost*."""
        if lost:
            self.drop(session)
        else:
            self.idle.append(session)
        if self.queue:
            self.queue.popleft().wake(True)


class _Place:
    """To wait until a session is free."""

    __slots__ = ("_queue", "wake")

    def __init__(self, queue: "deque[_Place]") -> None:
        self._queue = queue

    def start(self, waits: Waits, wake: Wake) -> Callable[[], None]:
        self.wake = wake
        self._queue.append(self)
        return self._stop

    def _stop(self) -> None:
        if self in self._queue:
            self._queue.remove(self)

    def now(self) -> bool:
        return False


class _Lease(Generic[S]):
    """A session that a call has."""

    def __init__(self, pool: Pool[S], call: int) -> None:
        self._pool = pool
        self._call = call

    def left(self, waits: Waits, abandoned: bool) -> None:
        pool, call = self._pool, self._call
        session = pool.taken.pop(call)
        lost = abandoned or call in pool.lost
        pool.lost.discard(call)
        if pool.queue:
            waits.soon(lambda: pool.give_back(session, lost=lost))
        else:
            pool.give_back(session, lost=lost)


class Seats(Pool[int]):
    """Numbers for the sessions that the Lua side has, from 1; it opens one when it first gets its number."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = list(range(SESSIONS, 0, -1))

    def drop(self, session: int) -> None:
        """The number stays; its connection has been closed, and whoever gets it next opens another."""
        self.idle.append(session)

    def _take(self, call: int | None, leases: Leases) -> Steps:
        if call is None:  # nothing else runs meanwhile
            return (self.idle[-1],)
        number = self.taken.get(call)
        if number is None:
            if not (yield from self.turn()):
                return (None,)
            number = self.idle.pop()
            self.hand(number, call, leases)
        return (number,)

    def take(self, call: int | None, waits: Waits, leases: Leases) -> tuple[object, ...]:
        """The number of *call*, which has it until it is over; `None` when all are taken for ever."""
        return begin(self._take(call, leases), waits)
