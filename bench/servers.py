"""The servers that are measured, each with a directory, sockets and processes of its own."""

import atexit
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.reference.dovecot import Dovecot23

ROOT = Path(__file__).parent.parent
COMPILED = ROOT / ".cache/compiled"
"""The package as `requirements/compile` makes it."""

PATIENCE = 10.0


def prepare() -> bool:
    """As many descriptors as the machine lets us have, and precedence over its other work; gives whether we got that.

    All that we start inherits both: authlua, Dovecot and the load generator alike.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    group = Path("/proc/self/autogroup")  # where it exists, the nice value counts within a session only
    try:
        os.nice(-15)
        if group.exists():
            group.write_text("-15")
            atexit.register(group.write_text, "0")
    except PermissionError:
        return False
    return True


def environment(package: Path) -> dict[str, str]:
    """What a process has around it that is to import authlua from *package*."""
    return {**os.environ, "PYTHONPATH": str(package)}


class Authlua:
    """A running authlua for the length of a ``with`` block: one script for passdb and userdb, all else by default.

    Args:
        worker: whether the script runs in workers.
        config: more lines for the sections of the configuration, e.g. ``{"auth": "failure_delay = '2s'"}``.
        compiled: as it is installed from a wheel, its hot path compiled; else as plain Python.
    """

    name = "authlua"

    def __init__(
        self, script: Path, *, worker: bool, config: dict[str, str] | None = None, compiled: bool = True
    ) -> None:
        self._package = COMPILED if compiled else ROOT
        self._script = script
        self._worker = worker
        self._config = config or {}

    def __enter__(self) -> "Authlua":
        self.directory = Path(tempfile.mkdtemp(prefix="authlua-bench-"))
        self.sockets = {
            "client": self.directory / "auth-client",
            "master": self.directory / "auth-master",
            "userdb": self.directory / "auth-userdb",
        }
        database = f"script = '{self._script}'\nuse_worker = {str(self._worker).lower()}\n"
        listeners = {**self.sockets, "metrics": self.directory / "metrics"}
        config = self.directory / "authlua.toml"
        config.write_text(
            f"server.base_dir = '{self.directory}'\n"
            + "".join(f"[{section}]\n{lines}\n" for section, lines in self._config.items())
            + f"[[passdb]]\n{database}[[userdb]]\n{database}"
            + "".join(f"[[listener]]\nkind = '{kind}'\npath = '{path}'\n" for kind, path in listeners.items())
        )
        notify = self.directory / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, (self.directory / "log").open("wb") as log:
            ready.bind(str(notify))
            ready.settimeout(PATIENCE)
            started = time.monotonic()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "authlua", "serve", "-c", str(config)],
                cwd=ROOT,
                stderr=log,
                env={**environment(self._package), "NOTIFY_SOCKET": str(notify)},
            )
            try:
                while b"READY=1" not in ready.recv(4096):
                    pass
            except TimeoutError:
                words = (self.directory / "log").read_text()
                self.__exit__()
                raise RuntimeError(f"authlua did not start: {words}") from None
            self.seconds_to_ready = time.monotonic() - started
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.directory)

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid


class Dovecot(Dovecot23):
    """The installed Dovecot with the same script, and room for as many connections as are asked of authlua."""

    name = "Dovecot"

    def __init__(self, script: Path, *, worker: bool) -> None:
        blocking = "yes" if worker else "no"
        database = f"{{\n  driver = lua\n  args = file={{directory}}/auth.lua blocking={blocking}\n}}\n"
        super().__init__(
            script,
            databases=f"passdb {database}userdb {database}",
            extra="service auth {\n  client_limit = 6000\n}\n",
            auth_debug="no",
        )

    def __enter__(self) -> "Dovecot":
        super().__enter__()
        return self

    @property
    def pid(self) -> int:
        """Dovecot's master process."""
        if self._process is None:
            raise AssertionError("asked before the with block")
        return self._process.pid


def memory(pid: int) -> dict[str, int]:
    """What a process holds, in bytes: ``Rss``, ``Pss`` and ``Private`` (shared with nobody)."""
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, value, *_ = line.split()
        sizes[key.rstrip(":")] = int(value) * 1024
    return {
        "Rss": sizes["Rss"],
        "Pss": sizes["Pss"],
        "Private": sizes["Private_Clean"] + sizes["Private_Dirty"],
    }


def descendants(pid: int) -> list[int]:
    """The processes below *pid*."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time that *pid* and all below it have used so far."""
    ticks = 0
    for one in [pid, *descendants(pid)]:
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")
