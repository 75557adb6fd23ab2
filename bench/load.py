"""The load generator, as a function: `load.c` is compiled on first use."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache/bench"


class Load(NamedTuple):
    """What one run saw; times are microseconds."""

    replies: int
    ok: int
    failed: int
    listed: int
    late: int
    seconds: float
    per_second: float
    connect_seconds: float
    p50: float
    p90: float
    p99: float
    max: float


def why_not() -> str | None:
    """Why no load can be made here; None when it can."""
    return None if shutil.which("cc") else "no C compiler (cc): apt-get install gcc libc6-dev"


def build(name: str = "load") -> Path:
    """The compiled generator, or another program that lies beside it."""
    source, binary = HERE / f"{name}.c", CACHE / name
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", str(binary), str(source)], check=True)
    return binary


def load(socket: Path, **options: object) -> Load:
    """Run it against *socket*; *options* are its one-letter options (see the head of load.c).

    Raises:
        RuntimeError: it failed, in its own words.
    """
    words = [
        word
        for name, value in options.items()
        for word in ([f"-{name}"] if value is True else [f"-{name}", str(value)])
    ]
    patience = 60 + float(str(options.get("t", 1))) + float(str(options.get("w", 0)))
    done = subprocess.run([build(), *words, socket], capture_output=True, text=True, timeout=patience)
    if done.returncode != 0:
        raise RuntimeError(f"load {' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return Load(**json.loads(done.stdout))
