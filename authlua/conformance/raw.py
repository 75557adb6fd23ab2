"""A blocking client that says exactly the bytes it is told, for asking any server about its answers.

Nothing here knows what is right: a line is what stands between two LF, a greeting is what the server sent of one.
"""

import contextlib
import os
import select
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 20.0
"""Seconds without a byte after which an answer counts as not coming. Only failures wait so long."""

# Run as root in a process of its own: the peer credentials of a unix socket are those of whoever connected it.
# The directory is entered before the identity changes, since the way to it may be closed to others.
_CONNECT_AS = """
import array, os, socket, sys
fd, uid, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.chdir(os.path.dirname(path))
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
peer = socket.socket(socket.AF_UNIX)
peer.connect(os.path.basename(path))
socket.socket(fileno=fd).sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [peer.fileno()]))])
"""


class SilenceError(AssertionError):
    """An answer was due and nothing came."""


@dataclass
class Greeting:
    """What a server said of itself before the first request."""

    version: str = ""
    spid: str = ""
    cuid: str = ""
    cookie: str = ""
    mechs: list[str] = field(default_factory=list)
    """The rest of each MECH line: name and flags, separated by TAB."""

    def add(self, line: bytes | None) -> bool:
        """Take the next line; True when it was the last: DONE, or SPID on the master's sockets.

        Raises:
            AssertionError: no handshake has this line here.
        """
        assert line is not None, f"the server closed the connection during the handshake, after {self}"
        word, _, rest = line.decode().partition("\t")
        match word:
            case "VERSION" if not self.version:
                self.version = rest
            case "MECH" if self.version and not self.spid:
                self.mechs.append(rest)
            case "SPID" if self.version and not self.spid:
                self.spid = rest
                return not self.mechs
            case "CUID" if self.spid and not self.cuid:
                self.cuid = rest
            case "COOKIE" if self.cuid and not self.cookie:
                assert len(rest) == 32, f"a cookie has 32 digits: {rest}"
                self.cookie = rest
            case "DONE" if self.cookie:
                return True
            case _:
                raise AssertionError(f"not a line of a handshake here: {line!r}, after {self}")
        return False


class RawConnection:
    """One connection to a unix socket; lines come out without their LF."""

    def __init__(self, sock: socket.socket, *, patience: float | None = None) -> None:
        sock.settimeout(PATIENCE if patience is None else patience)
        self._sock = sock
        self._unread = b""
        self._eof = False
        self.peer_pid = os.getpid()
        """Who the server sees at the other end of the socket."""

    @classmethod
    def connect(cls, path: Path | str, *, uid: int | None = None, patience: float | None = None) -> "RawConnection":
        """Connect to *path*, as the user and group numbered *uid* when it is given (needs root).

        Raises:
            OSError: nobody listens there, or *uid* may not connect.
        """
        if uid is not None:
            return cls(_connected_as(uid, str(path)), patience=patience)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(path))
        except OSError:
            sock.close()
            raise
        return cls(sock, patience=patience)

    def send(self, data: bytes) -> None:
        """Send *data* in one write. A server that has hung up does not mind; reading will show it."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._sock.sendall(data)

    def receive(self) -> bytes | None:
        """The next line, or None once the server has closed the connection.

        Raises:
            SilenceError: nothing came for as long as this connection has patience.
        """
        while b"\n" not in self._unread:
            if self._eof:
                assert not self._unread, f"the server closed the connection inside a line: {self._unread!r}"
                return None
            self._read()
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def waiting(self) -> bytes:
        """What has arrived and was not read yet, without waiting for more."""
        while not self._eof and select.select([self._sock], [], [], 0)[0]:
            self._read()
        return self._unread

    @property
    def closed(self) -> bool:
        """Whether the server was seen to close, everything it sent having been read."""
        return not self.waiting() and self._eof

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> "RawConnection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def greeting(self) -> Greeting:
        """Read the server's half of the handshake: up to DONE, or up to SPID on the master's sockets."""
        greeting = Greeting()
        while not greeting.add(self.receive()):
            pass
        return greeting

    def handshake(self, *, minor: int = 2, pid: int | None = None) -> Greeting:
        """Shake hands as a login process with *pid* does, or without one as a master does."""
        cpid = b"" if pid is None else b"CPID\t%d\n" % pid
        self.send(b"VERSION\t1\t%d\n" % minor + cpid)
        return self.greeting()

    def ask(self, *lines: str) -> list[bytes]:
        """Send *lines* in one write and return as many lines of answer."""
        self.send("".join(line + "\n" for line in lines).encode())
        answers = [self.receive() for _ in lines]
        return [answer for answer in answers if answer is not None]

    def _read(self) -> None:
        try:
            data = self._sock.recv(65536)
        except TimeoutError:
            raise SilenceError("the server said nothing more") from None
        except ConnectionResetError:  # closed with some of our bytes unread
            data = b""
        self._unread += data
        self._eof = not data


def _connected_as(uid: int, path: str) -> socket.socket:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-I", "-c", _CONNECT_AS, str(theirs.fileno()), str(uid), path]
        done = subprocess.run(command, pass_fds=[theirs.fileno()], capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode:
            raise OSError(f"connecting to {path} as uid {uid} failed: {done.stderr.strip().splitlines()[-1]}")
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    return socket.socket(fileno=fds[0])
