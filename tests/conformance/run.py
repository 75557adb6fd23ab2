"""The generated run against real Dovecots: ``python -m tests.conformance.run`` (``make conformance``).

Writes what it finds as dialogues into a directory, and ends with 1 when it found something.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from authlua.conformance.explore import Report, deadline, explore
from authlua.conformance.profiles import PROFILES
from authlua.conformance.record import dialogue
from authlua.conformance.servers import Authlua
from tests.conformance.reference import CRASH, reference
from tests.reference.dovecot import why_not


class CrashWatch:
    """Looks into a log as it grows; says whether a crash was told in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._looked = 0.0
        self.crash = ""

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self.crash and now - self._looked > 0.3 and self._path.exists():
            self._looked = now
            with self._path.open("rb") as log:
                log.seek(self._at)
                new = log.read()
            self._at += len(new)
            if found := re.search(CRASH.encode(), new):
                self.crash = found[0].decode(errors="replace")
        return bool(self.crash)


def run(
    dialect: str, profile: str, *, sessions: int, seed: int, stop: Callable[[], bool], into: Path
) -> tuple[Report, str]:
    """One profile of one dialect: the report, and the line of the log that tells of a crash, if there is one."""
    with Authlua(PROFILES[profile], dialect) as authlua, reference(PROFILES[profile], dialect) as dovecot:
        watch = CrashWatch(dovecot.log_path)
        report = explore(
            dialect,
            profile,
            authlua.sockets,
            dovecot.sockets,
            sessions=sessions,
            seed=seed,
            stop=lambda: watch() or stop(),
        )
        if not authlua.alive():
            report.gone.append(f"authlua: {authlua.log()[-500:]}")
    for number, found in enumerate(report.found.values()):
        into.mkdir(parents=True, exist_ok=True)
        path = into / f"{dialect}-{profile}-{seed}-{number}.txt"
        path.write_text(dialogue(found.session, found.reference, f"Dovecot {dialect} says so, authlua did not."))
        print(f"{path}: {found.count} times{', not again' * found.fleeting}\n{found.difference}")
    return report, watch.crash


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.run")
    parser.add_argument(
        "--dialect", action="append", choices=["2.3", "2.4"], help="(default: those that are installed)"
    )
    parser.add_argument("--profile", action="append", choices=list(PROFILES), help="(default: all)")
    parser.add_argument("--sessions", type=int, default=1000, help="of each dialect, shared by the profiles")
    parser.add_argument("--seconds", type=float, default=86400, help="all in all at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--into", type=Path, default=Path(".cache/conformance"), help="where differences are written")
    args = parser.parse_args()
    stop = deadline(args.seconds)
    bad = 0
    profiles = args.profile or list(PROFILES)
    for dialect in args.dialect or ["2.3", "2.4"]:
        if reason := why_not(dialect):
            print(f"{dialect}: skipped, {reason}")
            continue
        for profile in profiles:
            began = time.monotonic()
            report, crash = run(
                dialect, profile, sessions=args.sessions // len(profiles), seed=args.seed, stop=stop, into=args.into
            )
            bad += len(report.found) + len(report.gone) + len(report.silent) + bool(crash)
            known = ", ".join(f"{name}: {count}" for name, count in sorted(report.known.items()))
            print(
                f"{dialect} {profile}: {report.sessions} sessions, {report.lines} lines, seed {args.seed}, "
                f"{time.monotonic() - began:.0f} s; {len(report.found)} differences; known: {known or 'none met'}",
                *report.gone,
                *[f"Dovecot crashed: {crash}"] * bool(crash),
                sep="\n  ",
                flush=True,
            )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
