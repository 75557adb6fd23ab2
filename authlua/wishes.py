"""What the core may wish for when it has to wait.

The core is ``async`` yet knows no event loop: it awaits a `Wish`, a plain value, which travels up through
all its awaits to whoever drives it. The driver fulfils the wish and sends the answer back in.
A core that never wishes runs from start to end in one ``send(None)``: no task, no thread, no queue.
"""

from collections.abc import Callable, Generator
from typing import Any, Protocol


class Wish:
    """Something that takes time; ``await wish`` gives its outcome or raises its failure."""

    __slots__ = ()

    def __await__(self) -> Generator["Wish", Any, Any]:
        return (yield self)


class Unfulfilled(Exception):
    """A wish that did not come true because there was too much to do. The text says of what."""


class Ask(Wish):
    """Send *challenge* to the client and wait for what it continues with (``CONT`` out, ``CONT`` in).

    *binding* is the kind of channel binding whose data the client process is to send along.
    """

    __slots__ = ("binding", "challenge")

    def __init__(self, challenge: bytes, binding: str = "") -> None:
        self.challenge = challenge
        self.binding = binding


class Compute(Wish):
    """Run ``function(*args)`` away from the event loop: hashing, files, anything that blocks.

    What it returns or raises comes back from the ``await``.
    """

    __slots__ = ("args", "function")

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function = function
        self.args = args


class Hash(Compute):
    """A `Compute` that needs a processor and nothing else: it blocks on nothing, and takes milliseconds or more."""

    __slots__ = ()


class Sleep(Wish):
    """Wait for *seconds*."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Flight(Wish):
    """Something that another request is fetching already; ``await flight`` waits until it has landed."""

    __slots__ = ("_landed", "_waiting", "brought", "failure")

    def __init__(self) -> None:
        self.brought: Any = None
        """What was fetched; `None` when that did not succeed."""
        self.failure: str | None = None
        """Why it failed."""
        self._landed = False
        self._waiting: list[Callable[[], object]] = []

    def land(self) -> None:
        """It is over, one way or another."""
        self._landed = True
        for wake in self._waiting:
            wake()

    def when_landed(self, wake: Callable[[], object]) -> None:
        """Call *wake* when it is over, at once if it is."""
        if self._landed:
            wake()
        else:
            self._waiting.append(wake)


class Outcome:
    """How an errand ended: with a *value*, or with a *failure* to be raised."""

    __slots__ = ("failure", "value")

    def __init__(self, value: Any = None, failure: Exception | None = None) -> None:
        self.value = value
        self.failure = failure


class Errand(Wish):
    """Something that another process does and reports back, so that waiting for it takes no task.

    ``await errand`` gives its value or raises its failure.
    """

    __slots__ = ()

    def start(self, report: Callable[[Outcome], None]) -> None:
        """Begin; *report* is called once with the outcome, unless it was cancelled before."""
        raise AssertionError("each kind of errand says how")

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        raise AssertionError("each kind of errand says how")


class Watcher(Protocol):
    """A set of descriptors that somebody looks after, for errands that wait for one."""

    def watch(self, served: Any, events: int, /) -> None:
        """Call ``served.ready(events)`` whenever one of *events* happens to ``served.fileno()``."""
        ...

    def forget(self, served: Any, /) -> None:
        """Look after it no more."""
        ...


class Service(Wish):
    """Ask the service *name* (``http``, …) with plain *arguments*; ``await service`` gives its plain answer.

    What the service could not do is part of its answer. All of it may travel between processes.
    """

    __slots__ = ("arguments", "name")

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.name = name
        self.arguments = arguments
