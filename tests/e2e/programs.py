"""Programs that belong to one test run: started here, ended here by their pid, in a directory that stays on failure."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

PATIENCE = 30.0
"""Seconds until a program that does not answer counts as broken; nothing is ever measured with it."""


class Scene:
    """The directory of one fixture, and what was logged there. It stays when a test *failed*, or the fixture did."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.failed = False
        self.seen: dict[Path, int] = {}

    @classmethod
    @contextlib.contextmanager
    def open(cls) -> Iterator["Scene"]:
        """A directory that other users may enter, as mail programs change their user."""
        scene = cls(Path(tempfile.mkdtemp(prefix="authlua-e2e-")))
        scene.directory.chmod(0o755)
        yield scene
        if not scene.failed:
            shutil.rmtree(scene.directory)

    def logs(self) -> list[Path]:
        """What the programs wrote so far."""
        return [
            path for path in sorted(self.directory.rglob("*")) if path.suffix in (".log", ".out") and path.is_file()
        ]

    def mark(self) -> None:
        """From now on, what is there already is no news."""
        self.seen = {log: log.stat().st_size for log in self.logs()}

    def news(self) -> Iterator[tuple[str, str]]:
        """What each log got since the last mark."""
        for log in self.logs():
            text = log.read_bytes()[self.seen.get(log, 0) :].decode(errors="replace")
            if text:
                yield str(log.relative_to(self.directory)), text

    def wait_for_news(self, log: str, words: str) -> None:
        """Wait until *words* are among the news of *log*; programs may write them after they have answered."""
        deadline = time.monotonic() + PATIENCE
        while words not in dict(self.news()).get(log, ""):
            if time.monotonic() > deadline:
                raise AssertionError(f"{words!r} is not in {log}")
            time.sleep(0.02)


def accepts(address: Path | int) -> bool:
    """Whether somebody listens on the unix socket or the port of 127.0.0.1."""
    family, where = (
        (socket.AF_INET, ("127.0.0.1", address)) if isinstance(address, int) else (socket.AF_UNIX, str(address))
    )
    with socket.socket(family) as probe:
        try:
            probe.connect(where)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


@contextlib.contextmanager
def running(
    command: Sequence[object],
    *,
    log: Path,
    ready: Sequence[Path | int],
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """*command* from the moment it accepts on all of *ready* until SIGTERM ended it; its output goes to *log*."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **env} if env else None,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not all(accepts(address) for address in ready):
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with {process.returncode}:\n{tail(log)}")
            if time.monotonic() > deadline:
                missing = [str(address) for address in ready if not accepts(address)]
                raise RuntimeError(f"{command[0]} does not accept on {', '.join(missing)}:\n{tail(log)}")
            time.sleep(0.02)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise RuntimeError(f"{command[0]} did not end on SIGTERM:\n{tail(log)}") from None


def tail(log: Path, size: int = 4000) -> str:
    """The last *size* characters of *log*, from the start of a line."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return text if len(text) <= size else text[-size:].partition("\n")[2]
