"""``make guard``: fails when a login costs more instructions than it used to. Instructions, unlike seconds, repeat.

Two runs of `bench.replay` under valgrind differ in nothing but the number of logins, so their difference is what logins
cost. It is divided by what a round of everyday Python costs in the same interpreter, since how Python was compiled
changes both alike. ``guard.json`` has the number for each version of Python; ``--renew`` writes what was counted.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.replay import BATCH

ROOT = Path(__file__).parent.parent
NUMBERS = Path(__file__).with_name("guard.json")
TOLERANCE = 0.15
RUNS = {"login": (20, 100), "unit": (10, 210)}
PATIENCE = 300.0


def count() -> float:
    """What a login costs, in thousandths of a round of everyday Python."""
    with tempfile.TemporaryDirectory() as directory:
        # whoever comes first writes the bytecode files; that is not to be counted
        for what in RUNS:
            subprocess.run(_replay(what, 1), env=_environment(directory), cwd=ROOT, check=True, timeout=PATIENCE)
        started = {(what, n): _start(what, n, directory) for what, both in RUNS.items() for n in both}
        try:
            counts = {key: _instructions(process) for key, process in started.items()}
        finally:
            for process in started.values():
                process.kill()
                process.communicate()
    login, round_ = ((counts[what, b] - counts[what, a]) / (b - a) for what, (a, b) in RUNS.items())
    cost = 1000 * login / BATCH / round_
    print(f"guard: {login / BATCH:,.0f} instructions a login, {cost:.0f} thousandths of a round of Python", flush=True)
    return cost


def _replay(what: str, n: int) -> list[str]:
    return [sys.executable, "-m", "bench.replay", what, str(n)]


def _environment(directory: str) -> dict[str, str]:
    # the same for everybody, and hashes of strings that do not change from run to run
    return {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "0", "TMPDIR": directory}


def _start(what: str, n: int, directory: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["valgrind", "--tool=callgrind", f"--callgrind-out-file={os.devnull}", *_replay(what, n)],
        env=_environment(directory),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _instructions(process: subprocess.Popen[str]) -> int:
    _, said = process.communicate(timeout=PATIENCE)
    found = re.search(r"Collected : (\d+)", said)
    if process.returncode != 0 or found is None:
        raise RuntimeError(f"the replay failed: {said}")
    return int(found[1])


def main() -> int:
    """Exit status 1: a login has become dearer than the number allows."""
    parser = argparse.ArgumentParser(prog="python -m bench.guard", description=__doc__)
    parser.add_argument("--renew", action="store_true", help="keep what is counted now as the number to hold")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("guard: skipped, no valgrind: apt-get install valgrind")
        return 0
    numbers: dict[str, float] = json.loads(NUMBERS.read_text())
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version not in numbers and not options.renew:
        print(f"guard: skipped, no number for Python {version} yet: python -m bench.guard --renew")
        return 0
    cost = count()
    if options.renew:
        numbers[version] = round(cost)
        NUMBERS.write_text(json.dumps(dict(sorted(numbers.items())), indent=1) + "\n")
        return 0
    allowed = numbers[version] * (1 + TOLERANCE)
    print(f"guard: {numbers[version]:.0f} in guard.json, up to {allowed:.0f} allowed")
    if cost > allowed:
        cost = min(cost, count())  # whoever installs something meanwhile disturbs one count, hardly two
    if cost > allowed:
        print("guard: a login has become dearer; what it costs where: python -m bench.profile", file=sys.stderr)
        return 1
    if cost < numbers[version] * (1 - TOLERANCE):
        print("guard: much cheaper than the number says, so that it guards little: python -m bench.guard --renew")
    return 0


if __name__ == "__main__":
    sys.exit(main())
