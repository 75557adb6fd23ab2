"""Slow hashes, on as many threads as there are cores.

A thread takes a job, leaves its outcome in a deque and rings a bell, an eventfd that stands in the epoll set beside the
sockets. So a login that waits for its hash is an errand, as one that waits for a worker: it costs no task, and all
hashes that are done by the time somebody looks go on in one batch. The libraries that hash let Python run meanwhile.
To wake the server for each of a thousand hashes a second would cost a tenth of the processors, as its caches are cold
each time: a thread rings when as many jobs are done as are still to be begun, so a hash that is done never waits for
longer than those that are not will take.

Few jobs are with the threads at a time, just so many that none runs dry; the others wait here, in turn by whom they
are for. A client that sends a flood of logins delays its own.
"""

import os
import select
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from threading import Lock, Thread
from time import perf_counter

import trio

from authlua.server.ready import Ready
from authlua.wishes import Errand, Hash, Outcome, Unfulfilled

AHEAD = 0.1
"""Seconds for which each thread is given jobs: half for one batch, half to go on with while the server takes it."""

LEAST_AHEAD, MOST_AHEAD = 2, 32
"""How few and how many jobs that may be, the one it is at included."""

MOST_WAITING = 100_000
"""Jobs that may wait; those beyond fail at once."""

SWEEP_INTERVAL = 1.0
"""Seconds between two looks for jobs that have waited too long."""

Report = Callable[[Outcome], None]


class HashJob(Errand):
    """One computation that waits for a thread, or is with one."""

    __slots__ = ("_for_whom", "_hasher", "args", "function", "outcome", "report", "since", "took")

    def __init__(self, hasher: "Hasher", wish: Hash, for_whom: Hashable) -> None:
        self._hasher = hasher
        self._for_whom = for_whom
        self.function = wish.function
        self.args = wish.args
        self.since = 0.0
        self.report: Report | None = None
        """Hears the outcome; `None` when nobody waits for it."""
        self.outcome: Outcome | None = None
        self.took = 0.0
        """Seconds."""

    def start(self, report: Report) -> None:
        self.report = report
        self._hasher.submit(self, self._for_whom)

    def cancel(self) -> None:
        self.report = None

    def tell(self, outcome: Outcome) -> None:
        """Report *outcome*, to whoever still wants it."""
        report, self.report = self.report, None
        if report is not None:
            report(outcome)


class Hasher:
    """The threads, and the jobs on their way to them and back.

    Args:
        batch_done: called when all outcomes that were there have been reported.
        timeout: seconds until a job that is not done fails.
        threads: how many, if not one for each core; they are started with the first job.
    """

    def __init__(
        self, ready: Ready, batch_done: Callable[[], None], *, timeout: float, threads: int | None = None
    ) -> None:
        self._ready = ready
        self._batch_done = batch_done
        self._timeout = timeout
        self._threads = threads or len(os.sched_getaffinity(0))
        self._waiting: OrderedDict[Hashable, deque[HashJob]] = OrderedDict()
        self._waiting_count = 0
        self._usual = AHEAD
        """Seconds that a hash has taken lately."""
        self._room = LEAST_AHEAD * self._threads
        """Jobs that may be with the threads."""
        self._out: set[HashJob] = set()
        self._given: SimpleQueue[HashJob | None] = SimpleQueue()
        self._done: deque[HashJob] = deque()
        self._bell = -1
        self._rung = False
        self._closed = False
        self._alive = 0
        self._ending = Lock()
        self._filled = trio.Event()

    def job(self, wish: Hash, *, for_whom: Hashable) -> HashJob:
        """The errand that makes *wish* come true, in turn with the jobs of others than *for_whom*."""
        return HashJob(self, wish, for_whom)

    def submit(self, job: HashJob, for_whom: Hashable) -> None:
        """Have it done as soon as a thread is free; called by the job."""
        job.since = trio.current_time()
        if not self._out:
            self._filled.set()
        if len(self._out) < self._room:
            self._give(job)
        elif self._waiting_count >= MOST_WAITING:
            job.tell(Outcome(failure=Unfulfilled(f"{MOST_WAITING} others wait for a thread already")))
        else:
            queue = self._waiting.get(for_whom)
            if queue is None:
                queue = self._waiting[for_whom] = deque()
            queue.append(job)
            self._waiting_count += 1

    def _give(self, job: HashJob) -> None:
        if self._bell < 0:
            self._start()
        self._out.add(job)
        self._given.put(job)

    def _give_next(self) -> None:
        """Fill up what the threads have, with a job of each client in turn."""
        while self._waiting and len(self._out) < self._room:
            whose, queue = self._waiting.popitem(last=False)
            job = queue.popleft()
            self._waiting_count -= 1
            if queue:
                self._waiting[whose] = queue
            if job.report is not None:
                self._give(job)

    # --- threads -------------------------------------------------------------

    def _start(self) -> None:
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._ready.watch(self, select.EPOLLIN)
        self._alive = self._threads
        for _ in range(self._threads):
            # a hash cannot be interrupted, so the end of the program does not wait for one
            Thread(target=self._work, name="hasher", daemon=True).start()

    def _work(self) -> None:
        take, done = self._given.get, self._done.append
        while (job := take()) is not None:
            begun = perf_counter()
            if job.report is not None:
                try:
                    job.outcome = Outcome(job.function(*job.args))
                except Exception as failure:
                    job.outcome = Outcome(failure=failure)
            job.took = perf_counter() - begun
            done(job)
            if not self._rung and self._given.qsize() - self._threads < len(self._done):
                self._rung = True
                os.eventfd_write(self._bell, 1)
        with self._ending:
            self._alive -= 1
            if not self._alive:
                os.close(self._bell)

    def fileno(self) -> int:
        """The bell's descriptor."""
        return self._bell

    def ready(self, events: int) -> None:
        """The bell has rung: go on with what waited for the hashes that are done."""
        os.eventfd_read(self._bell)
        self._rung = False  # before looking, so that what is done from now on rings again
        done = [self._done.popleft() for _ in range(len(self._done))]
        self._out.difference_update(done)
        for job in done:
            if job.outcome is not None:
                self._usual += (job.took - self._usual) / 8
        self._room = self._threads * max(LEAST_AHEAD, min(int(AHEAD / self._usual), MOST_AHEAD))
        self._give_next()
        for job in done:
            if job.outcome is not None:
                job.tell(job.outcome)
        self._batch_done()

    @property
    def pending(self) -> int:
        """How many jobs are not done yet."""
        return len(self._out) + self._waiting_count

    # --- life ----------------------------------------------------------------

    async def run(self) -> None:
        """Let jobs fail that have waited too long, until cancelled."""
        while True:
            if not self._out:
                self._filled = trio.Event()
                await self._filled.wait()
            await trio.sleep(SWEEP_INTERVAL)
            self._sweep(trio.current_time() - self._timeout)

    def _sweep(self, before: float) -> None:
        late = [job for job in self._out if job.since < before]
        for whose, queue in list(self._waiting.items()):
            while queue and queue[0].since < before:
                late.append(queue.popleft())
                self._waiting_count -= 1
            if not queue:
                del self._waiting[whose]
        for job in late:
            job.tell(Outcome(failure=Unfulfilled(f"no thread was done with it after {self._timeout:g} s")))
        self._batch_done()

    def close(self) -> None:
        """End the threads, each when it is done with its hash. Nobody may wait for one any more. Once is enough."""
        if self._bell >= 0 and not self._closed:
            self._closed = True
            self._ready.forget(self)
            for _ in range(self._threads):
                self._given.put(None)
