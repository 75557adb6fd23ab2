"""``python -m bench [row …]``: measure, and renew the tables and the picture in docs/performance.md."""

import argparse
import os
import platform
import subprocess
import sys
import time

from bench.load import build, why_not
from bench.report import write_rows, write_throughput
from bench.rows import ROWS
from bench.servers import ROOT, prepare
from bench.throughput import measure
from tests.reference.dovecot import why_not as why_no_dovecot


def main() -> int:
    """Run what the command line names; all of it without names."""
    names = ["throughput", *ROWS]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help=", ".join(names))
    parser.add_argument("--seconds", type=float, default=1.0, help="of each point (1)")
    parser.add_argument("--rounds", type=int, default=5, help="of which medians are taken (5)")
    options = parser.parse_args()
    wanted = options.rows or names
    if unknown := set(wanted) - set(names):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if reason := why_not() or why_no_dovecot("2.3"):
        print(f"skipped: {reason}")
        return 0
    if not prepare():
        say("without root there is no precedence over the machine's other work: the figures will be noisier")
    build()
    subprocess.run([ROOT / "requirements/compile"], check=True)
    for name in wanted:
        say(f"{name}:")
        if name == "throughput":
            found = measure(options.seconds, options.rounds, say)
            stamp = {"when": time.strftime("%Y-%m-%d"), "machine": machine()}
            write_throughput({**found, **stamp, "rounds": options.rounds, "seconds": options.seconds})
        else:
            rows = []
            try:
                for row in ROWS[name](options.seconds, options.rounds):
                    say(f"{row.what}: {row.measured} (target {row.target})")
                    rows.append(row)
            except LookupError as missing:
                say(f"skipped: {missing}")
                continue
            write_rows(name, rows)
    return 0


def say(text: str) -> None:
    """Tell how far we are."""
    print(text, flush=True)


def machine() -> str:
    """What the figures were measured on, as far as it matters."""
    return f"{os.cpu_count()} {platform.machine()} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
