"""A real Redis for tests: in a directory of its own, on a socket and on a port."""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import pytest

from tests.ports import free_port

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None,
    reason="no redis-server: apt-get install redis-server (tests/e2e/install-clients)",
)


class RedisServer:
    """Runs while the block lasts; may be stopped and started again in between, and frozen.

    Args:
        password: what a client has to say first.
    """

    def __init__(self, password: str = "") -> None:
        self._password = password
        self.directory = Path(tempfile.mkdtemp(prefix="authlua-redis-"))
        self.path = self.directory / "redis.sock"
        self.port = free_port()
        login = f":{password}@" if password else ""
        self.url = f"redis://{login}127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.directory)

    def start(self) -> None:
        """Run it, until it answers."""
        words = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.path),
            "dir": str(self.directory),
            "save": "",
            "daemonize": "no",
            **({"requirepass": self._password} if self._password else {}),
        }
        arguments = [word for name, value in words.items() for word in (f"--{name}", value)]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(["redis-server", *arguments], stdout=log, stderr=log)
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError((self.directory / "log").read_text())

    def stop(self) -> None:
        """End it, with all that it knew."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self, *, thaw: bool = False) -> None:
        """Let it hang, connections and all; or go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT if thaw else signal.SIGSTOP)

    def __call__(self, *words: str) -> str:
        """What ``redis-cli`` says."""
        login = ["--no-auth-warning", "-a", self._password] if self._password else []
        command = ["redis-cli", "-p", str(self.port), *login, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.rstrip("\n")
