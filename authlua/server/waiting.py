"""Answers and requests that wait: failures to be told later, requests that nobody came back for."""

import random
from collections.abc import Callable, Hashable

import trio

from authlua.server.ready import Ready
from authlua.twins import Waits

RELEASE_INTERVAL = 0.5
"""Seconds between two looks at the failure queue (``core:2.3.21.1:src/auth/auth-request-handler.c``)."""

SWEEP_INTERVAL = 5.0
"""Seconds between two looks for requests that timed out."""


class FailureQueue:
    """Failures, held back for ``auth_failure_delay`` and released in batches, each in random order.

    Args:
        delay: seconds.
    """

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self._queue: list[tuple[float, Callable[[], None]]] = []
        self._filled = trio.Event()

    def put(self, tell: Callable[[], None]) -> None:
        """Call *tell* when the delay has passed."""
        self._queue.append((trio.current_time() + self.delay, tell))
        self._filled.set()

    def flush(self) -> None:
        """Tell them all now."""
        self._release(float("inf"))

    async def run(self) -> None:
        """Release what is due, until cancelled."""
        while True:
            if not self._queue:
                self._filled = trio.Event()
                await self._filled.wait()
            await trio.sleep(RELEASE_INTERVAL)
            self._release(trio.current_time())

    def _release(self, now: float) -> None:
        due = [tell for at, tell in self._queue if at <= now]
        if due:
            self._queue = [item for item in self._queue if item[0] > now]
            random.shuffle(due)
            for tell in due:
                tell()


async def expire(waits: Waits, ready: Ready, ended: Callable[[], None], patience: float = float("inf")) -> None:
    """Have what scripts wait for looked after by *ready* and by the clock, until cancelled.

    Args:
        ended: writes what requests have to say that went on meanwhile.
        patience: seconds that nobody waits longer.
    """
    alarm = trio.CancelScope()

    def ring(at: float) -> None:
        alarm.deadline = trio.current_time() + at - waits.now()

    waits.attach(ready, ring, ended, patience=patience)
    while True:
        with alarm:
            ring(waits.next)
            await trio.sleep_forever()
        alarm = trio.CancelScope()
        waits.expire()


class Expiry:
    """Things that are dropped unless somebody comes back for them in time.

    Args:
        lifetime: seconds, the same for all.
    """

    def __init__(self, lifetime: float) -> None:
        self.lifetime = lifetime
        self._deadlines: dict[Hashable, tuple[float, Callable[[], None]]] = {}

    def start(self, key: Hashable, drop: Callable[[], None]) -> None:
        """Call *drop* when the lifetime has passed; anew if *key* was there."""
        self._deadlines.pop(key, None)
        self._deadlines[key] = (trio.current_time() + self.lifetime, drop)

    def stop(self, key: Hashable) -> None:
        """Somebody came back for *key*."""
        self._deadlines.pop(key, None)

    async def run(self) -> None:
        """Drop what has expired, until cancelled."""
        while True:
            await trio.sleep(SWEEP_INTERVAL)
            now = trio.current_time()
            # the lifetime is the same for all, so the oldest stand first
            for key, (deadline, drop) in list(self._deadlines.items()):
                if deadline > now:
                    break
                del self._deadlines[key]
                drop()
