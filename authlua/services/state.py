"""What servers remember together: in a Redis that all of them use, and each for itself while that is away.

Nobody has to wait, let alone is refused, because Redis is down: whoever asks falls back on what this server saw itself,
which it therefore remembers all the time. A failure is said once, and a second later the next who asks finds out
whether it still is one.
"""

from collections.abc import Callable, Sequence

import trio

from authlua.errors import Unreachable
from authlua.services.errands import wait_for
from authlua.services.redis_client import Question, Redis, RedisError, Word
from authlua.urls import RedisUrl
from authlua.wishes import Outcome

RETRY = 1.0
"""Seconds between two attempts to reach a server that was away."""

PREFIX = b"authlua:"
"""In front of all keys."""

MAX_REMEMBERED = 100_000
"""Keys of `State.first` that this server remembers itself."""

Log = Callable[..., object]


class State:
    """A place to remember things.

    Args:
        server: the Redis that is shared; without one this server remembers alone.
        timeout: seconds until a silent Redis counts as down.
        say: writes a line of the log: level, event, fields.
        clock: seconds from anywhere, never going back.
    """

    def __init__(
        self,
        server: RedisUrl | None = None,
        *,
        timeout: float = 1.0,
        say: Log = lambda level, event, **fields: None,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._clock = clock
        self._say = say
        self._place = "" if server is None else server.place
        self._redis = None if server is None else Redis(server, timeout=timeout, batch_done=lambda: self.batch_done())
        self._down = False
        self._try_at = 0.0
        self._seen: dict[bytes, float] = {}
        self.failures = 0
        """How many questions Redis has left without an answer."""
        self.batch_done: Callable[[], None] = lambda: None
        """Called when all replies that came together have been reported."""

    @property
    def shared(self) -> bool:
        """Whether there is a Redis, be it up or down."""
        return self._redis is not None

    @property
    def up(self) -> bool:
        """Whether the Redis answered when it was last asked."""
        return self._redis is not None and not self._down

    def ask(self, *commands: Sequence[Word]) -> "StateQuestion | None":
        """A wish for the replies to *commands*, that raises `Unreachable`; `None` while Redis is known to be away."""
        if self._redis is None:
            return None
        if self._down:
            if self._clock() < self._try_at:
                return None
            self._try_at = self._clock() + RETRY  # this one tries; the others do not wait for it
        return StateQuestion(self, self._redis, commands)

    def tell(self, *commands: Sequence[Word]) -> None:
        """Send *commands* and do not wait; while Redis is away, they are lost."""
        question = self.ask(*commands)
        if question is not None:
            question.start(lambda outcome: None)

    async def first(self, key: bytes, seconds: float) -> bool:
        """Whether *key* was not given within the last *seconds*, here or at any server that shares the state.

        Waits on trio. What makes a reply of an earlier login worthless, say.
        """
        here = self._first_here(key, seconds)
        milliseconds = max(1, round(seconds * 1000))
        question = self.ask(("SET", PREFIX + b"seen:" + key, "", "NX", "PX", milliseconds))
        if question is None:
            return here
        try:
            (reply,) = await wait_for(question)
        except Unreachable:
            return here
        return here and reply is not None

    def _first_here(self, key: bytes, seconds: float) -> bool:
        now = self._clock()
        seen = self._seen
        first = seen.pop(key, now) <= now
        while seen and (len(seen) >= MAX_REMEMBERED or next(iter(seen.values())) <= now):
            del seen[next(iter(seen))]
        seen[key] = now + seconds
        return first

    def heard(self, outcome: Outcome) -> Outcome:
        """*outcome* of a question, in which a refused command is a failure like others."""
        if outcome.failure is None:
            refused = next((reply for reply in outcome.value if isinstance(reply, RedisError)), None)
            if refused is None:
                if self._down:
                    self._down = False
                    self._say("info", "state_back", server=self._place)
                return outcome
            outcome = Outcome(failure=Unreachable(f"Redis at {self._place}: {refused}"))
        self.failures += 1
        self._try_at = self._clock() + RETRY
        if not self._down:
            self._down = True
            self._say("warning", "state_unreachable", reason=str(outcome.failure))
        return outcome


class StateQuestion(Question):
    """A question to the shared state."""

    __slots__ = ("_state",)

    def __init__(self, state: State, redis: Redis, commands: Sequence[Sequence[Word]]) -> None:
        super().__init__(redis, commands)
        self._state = state

    def start(self, report: Callable[[Outcome], None]) -> None:
        super().start(lambda outcome: report(self._state.heard(outcome)))


_current = State()


def use(state: State) -> None:
    """Have *state* be the one that scripts and mechanisms reach with the wish ``Service("state", …)``."""
    global _current
    _current = state


async def submit(key: bytes, seconds: float) -> tuple[bool]:
    """What `State.first` says in the state in use."""
    return (await _current.first(key, seconds),)
