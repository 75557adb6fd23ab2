"""What systemd passes in and is told."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from authlua.server.systemd import notify, watchdog_interval

PASSED = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
from authlua.server.systemd import passed_sockets
passed = passed_sockets()
print([(name, [(sock.fileno(), sock.getsockname()) for sock in passed[name]]) for name in sorted(passed)])
print(passed_sockets())
"""


def test_sockets_are_taken_over_by_name(tmp_path: Path) -> None:
    """Once; those of one unit have one name, those without a name of their own are numbered."""
    sockets = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    for number, sock in enumerate(sockets):
        sock.bind(str(tmp_path / str(number)))
        sock.listen()

    def place() -> None:
        for number, sock in enumerate(sockets):
            os.dup2(sock.fileno(), 100 + number)
        for number in range(3):
            os.dup2(100 + number, 3 + number)

    done = subprocess.run(
        [sys.executable, "-c", PASSED],
        env={
            **os.environ,
            "LISTEN_FDS": "3",
            "LISTEN_FDNAMES": "login:authlua.socket:login",
            "PYTHONPATH": os.getcwd(),
        },
        close_fds=False,
        preexec_fn=place,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [str(tmp_path / str(number)) for number in range(3)]
    expected = [("fd4", [(4, paths[1])]), ("login", [(3, paths[0]), (5, paths[2])])]
    assert done.stdout.splitlines() == [repr(expected), "{}"]
    for sock in sockets:
        sock.close()


@pytest.mark.parametrize("abstract", [False, True])
def test_the_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    """On a path or an abstract address; without one nothing happens."""
    address = f"@{tmp_path}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + address[1:] if abstract else address)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify("READY=1", "STATUS=fine")
        assert manager.recv(100) == b"READY=1\nSTATUS=fine"
    notify("STOPPING=1")  # the manager is gone
    (tmp_path / "notify").unlink(missing_ok=True)
    notify("STOPPING=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [("", None, None), ("30000000", None, 15.0), ("30000000", "1", None), ("junk", None, None)],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_wants(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str | None, seconds: float | None
) -> None:
    """And only by the process it watches."""
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    if pid is None:
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
    else:
        monkeypatch.setenv("WATCHDOG_PID", pid)
    assert watchdog_interval() == seconds
