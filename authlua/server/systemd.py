"""What systemd passes to its services and wants to hear from them (sd_listen_fds(3), sd_notify(3)).

A handful of lines, so no library is loaded for them.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress

FIRST_FD = 3


def passed_sockets() -> Mapping[str, Sequence[socket.socket]]:
    """The sockets that systemd opened for this process, by their ``FileDescriptorName``; each call but the first: none.

    All sockets of one unit have the same name. Sockets without a name of their own are called ``fd3``, ``fd4`` ….
    """
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return {}
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    sockets: dict[str, list[socket.socket]] = {}
    for index in range(count):
        name = names[index] if index < len(names) else ""
        if name in ("", "unknown") or name.endswith(".socket"):
            name = f"fd{FIRST_FD + index}"
        sockets.setdefault(name, []).append(socket.socket(fileno=FIRST_FD + index))
    return sockets


def notify(*assignments: str) -> None:
    """Tell systemd about our state: ``READY=1``, ``STATUS=…``; nothing happens when nobody listens.

    Nor when nobody listens any more: a manager that is gone, or starts anew, is no reason to end.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        suppress(ConnectionRefusedError, FileNotFoundError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
    ):
        sock.sendto("\n".join(assignments).encode(), address)


def watchdog_interval() -> float | None:
    """Seconds between two signs of life, half of what systemd allows; `None` when it wants none."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    if not usec.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(usec) / 2_000_000
