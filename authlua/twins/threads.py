"""What can only block, such as the resolver of the C library or a database's own client, runs in a thread."""

import threading
from collections import deque
from collections.abc import Callable, Generator
from functools import cache
from typing import Any

from authlua.twins.operations import Waits, Wake, Want

STACK = 512 << 10
"""Bytes of a thread's stack; a worker's address space is bounded, and a stack usually takes eight megabytes of it."""

IDLE = 10.0
"""Seconds a thread waits for more to do before it ends."""


@cache
def _spare_address_space() -> None:
    """Let threads share few heaps: the C library would give each one of its own, of 64 megabytes of address space."""
    import ctypes

    arena_max = -8  # M_ARENA_MAX of glibc's malloc.h; other libraries have no such thing
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(arena_max, 2)


class _Job:
    """Something that a thread does; to wait until it is done."""

    __slots__ = ("_arguments", "_function", "_off", "failure", "threads", "value", "waits", "wake")

    def __init__(self, threads: "Threads", function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.threads = threads
        self._function = function
        self._arguments = arguments
        self._off = False
        self.value: Any = None
        self.failure: Exception | None = None

    def start(self, waits: Waits, wake: Wake) -> Callable[[], None]:
        self.waits = waits
        self.wake = wake
        self.threads.put(self)
        return self._stop

    def _stop(self) -> None:
        self._off = True

    def now(self) -> bool:
        try:
            self.value = self._function(*self._arguments)
        except Exception as failure:
            self.failure = failure
        return True

    def work(self) -> None:
        """In the thread."""
        if not self._off:
            self.now()
        self.waits.soon(self._done)

    def _done(self) -> None:
        if not self._off:
            self.wake(True)


class Threads:
    """At most *most* threads, made when there is more to do than there are idle ones."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._count = 0
        self._idle = 0

    def run(self, function: Callable[..., Any], *arguments: Any) -> Generator[Want, bool, Any]:
        """What ``function(*arguments)`` gives or raises."""
        job = _Job(self, function, arguments)
        yield job
        if job.failure is not None:
            raise job.failure
        return job.value

    def put(self, job: _Job) -> None:
        """Have *job* done."""
        with self._changed:
            self._jobs.append(job)
            fresh = len(self._jobs) > self._idle and self._count < self._most
            self._count += fresh
            self._changed.notify()
        if fresh:
            self._start()

    def _start(self) -> None:
        _spare_address_space()
        former = threading.stack_size(STACK)
        try:
            threading.Thread(target=self._work, name="authlua-twin", daemon=True).start()
        except RuntimeError:
            with self._changed:
                self._count -= 1
                if self._count == 0:
                    raise  # else one of those that are there does the job
        finally:
            threading.stack_size(former)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs:
                    self._idle += 1
                    called = self._changed.wait(IDLE)
                    self._idle -= 1
                    if not called and not self._jobs:
                        self._count -= 1
                        return
                job = self._jobs.popleft()
            job.work()
