"""Plays generated sessions against two servers at once, and makes each difference small.

Many sessions are in flight: each worker is a thread with its own hypothesis run, its own connections and pids. The
first worker that meets a new sort of difference lets hypothesis shrink it; the others count it and go on.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Flaky

from authlua.conformance.compare import Difference, compare
from authlua.conformance.generate import KINDS
from authlua.conformance.generate import sessions as make_sessions
from authlua.conformance.play import ServerGone, Transcript, play
from authlua.conformance.sessions import Session

Sockets = Mapping[str, Path]

SHRINKING = 20.0
"""Seconds after which a difference is small enough."""


@dataclass
class Found:
    """A difference, its smallest session, and how often its sort was met."""

    session: Session
    difference: Difference
    reference: Transcript
    count: int = 1
    fleeting: bool = False
    """It did not come again when the session was played again."""


@dataclass
class Report:
    """What a run saw."""

    sessions: int = 0
    lines: int = 0
    """Lines that both servers said."""
    known: Counter[str] = field(default_factory=Counter)
    """How often each known difference was met."""
    found: dict[str, Found] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    """Servers that stopped answering."""
    silent: list[Session] = field(default_factory=list)
    """Sessions in which an answer was missing, from both servers."""
    last: deque[Session] = field(default_factory=lambda: deque(maxlen=200))
    """What was played last: if a server crashed, one of these did it."""


class _Differs(Exception):
    """Makes hypothesis shrink."""


class _Enough(BaseException):
    """Ends a hypothesis run at once, which no `Exception` does."""


class _Run:
    def __init__(
        self,
        dialect: str,
        profile: str,
        subject: Sockets,
        reference: Sockets,
        *,
        stop: Callable[[], bool],
        patient: bool,
        first: bool,
    ) -> None:
        self.dialect = dialect
        self.profile = profile
        self.subject = subject
        self.reference = reference
        self.stop = stop
        self.patient = patient
        self.first = first
        self.kinds = tuple(kind for kind in KINDS if kind in reference)
        self.report = Report()
        self.lock = threading.Lock()
        self.error: Exception | None = None

    def work(self, number: int, share: int) -> None:
        """One worker: its share of the sessions, in several hypothesis runs if some end with a difference."""
        done = 0
        round = 0
        try:
            while done < share and not self.ended():
                done += self.some(number * 1000 + round, share - done)
                round += 1
        except Exception as error:
            self.error = error

    def ended(self) -> bool:
        return (
            self.error is not None or bool(self.report.gone) or (self.first and bool(self.report.found)) or self.stop()
        )

    def both(self, session: Session) -> tuple[Transcript, Transcript] | None:
        """What both said; None if one of them has gone."""
        self.report.last.append(session)
        try:
            ours = play(session, self.subject, patient=self.patient)
            return ours, play(session, self.reference, patient=self.patient)
        except ServerGone as error:
            with self.lock:
                self.report.gone.append(str(error))
            return None

    def some(self, start: int, count: int) -> int:
        """Play up to *count* sessions; fewer when one shows a new sort of difference."""
        shrinking: str | None = None
        smallest: Found | None = None
        played = 0
        bound = 0.0

        @seed(start)
        @settings(
            max_examples=count,
            phases=[Phase.generate, Phase.shrink],
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        @given(make_sessions(self.dialect, self.profile, self.kinds))
        def one(session: Session) -> None:
            nonlocal shrinking, smallest, played, bound
            if self.ended() or (smallest is not None and time.monotonic() > bound):
                raise _Enough
            played += 1
            used: Counter[str] = Counter()
            said = self.both(session)
            if said is None:
                raise _Enough
            ours, theirs = said
            if any(heard.silent for heard in ours) and any(heard.silent for heard in theirs):
                self.report.silent.append(session)
            difference = compare(ours, theirs, self.dialect, used)
            with self.lock:
                if shrinking is None:
                    self.report.sessions += 1
                    self.report.lines += sum(len(heard.lines) for heard in theirs)
                    self.report.known += used
                if difference is None:
                    return
                sort = difference.signature
                if shrinking is None:
                    if sort in self.report.found:
                        self.report.found[sort].count += 1
                        return
                    shrinking = sort
                    bound = time.monotonic() + SHRINKING
                    smallest = self.report.found[sort] = Found(session, difference, theirs)
                elif sort != shrinking:
                    return
            assert smallest is not None
            smallest.session, smallest.difference, smallest.reference = session, difference, theirs
            raise _Differs

        try:
            one()
        except (_Differs, _Enough):
            pass
        except Flaky:
            if smallest is not None:
                smallest.fleeting = True
        return max(played, 1)


def explore(
    dialect: str,
    profile: str,
    subject: Sockets,
    reference: Sockets,
    *,
    sessions: int,
    seed: int,
    workers: int = 40,
    stop: Callable[[], bool] = lambda: False,
    patient: bool = False,
    first: bool = False,
) -> Report:
    """Play *sessions* generated sessions of *profile* against both servers.

    Args:
        stop: asked now and then; the run ends early once it says so.
        patient: as for `play`.
        first: end with the first difference, which is not made small.
    """
    run = _Run(dialect, profile, subject, reference, stop=stop, patient=patient, first=first)
    workers = min(workers, sessions)
    shares = [sessions // workers + (number < sessions % workers) for number in range(workers)]
    threads = [
        threading.Thread(target=run.work, args=(seed * 1000 + number, share), daemon=True)
        for number, share in enumerate(shares)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(1)
    if run.error is not None:
        raise run.error
    return run.report


def deadline(seconds: float) -> Callable[[], bool]:
    """Says whether *seconds* have passed since it was made."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end
