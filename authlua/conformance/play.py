"""Plays a session against one server and keeps what the server said.

Nothing waits for time to pass. After each step comes a barrier, a question with a known immediate answer, and
whatever comes before that answer belongs to the step. At the end everything that is still owed, one answer to each
question, is waited for, and a last barrier proves that no more comes.
"""

import itertools
import os
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from authlua.conformance.sessions import CLIENTS, HangUp, Open, Say, Session

PATIENCE = 30.0
"""Seconds without a byte after which an answer counts as not coming. Only failures wait so long."""

_pids = itertools.count(1_500_000_000)
_barriers = itertools.count(3_000_000_000)

_PLACE = re.compile(rb"\{(\w+)(?:\.(pid|cookie))?\}")
_LINES = re.compile(rb"[^\n]*\n|[^\n]+$")
_QUESTIONS = {
    "client": re.compile(rb"(?:AUTH|CONT)\t"),
    "master": re.compile(rb"(?:USER|PASS|REQUEST|LIST|CACHE-FLUSH)\t"),
}
_ANSWERS = {
    "client": re.compile(rb"(?:OK|FAIL|CONT)\t"),
    "master": re.compile(rb"(?:USER|PASS|NOTFOUND|FAIL|DONE|OK)\t"),
}


class ServerGone(Exception):
    """Nobody answers at that socket: the server crashed, or was never there."""


@dataclass
class Heard:
    """What one connection heard, its changing values replaced by their names."""

    name: str
    kind: str
    lines: list[bytes] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    """How many lines there were after each step that opened or used this connection."""
    closed: bool = False
    """The server hung up."""
    silent: int = 0
    """Answers that were owed and did not come."""


Transcript = tuple[Heard, ...]


def play(session: Session, sockets: Mapping[str, Path], *, patient: bool = False) -> Transcript:
    """What the server at *sockets* answers.

    Args:
        patient: say one line at a time and wait for its answer. Then it does not matter how long a server holds an
            answer back, and meanwhile keeps the request's id.

    Raises:
        ServerGone: it does not let us connect.
    """
    played = _Play(sockets, patient)
    try:
        for step in session.steps:
            played.step(step)
            if (connection := played.connections.get(step.name)) is not None:
                connection.heard.ends.append(len(connection.heard.lines))
        return played.end()
    finally:
        played.close()


class _Connection:
    """A connection and what is known of it."""

    def __init__(self, kind: str, name: str, path: Path) -> None:
        self.speech = "client" if kind in CLIENTS else "master"
        self.heard = Heard(name, kind)
        self.pid = b"%d" % next(_pids)
        self.cookie = b"0" * 32
        self.spid = self.cuid = b""
        self.asked = self.answered = 0
        self.open = True
        self._unread = b""
        self._unsent = b""
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.settimeout(PATIENCE)
        try:
            self._sock.connect(str(path))
        except OSError as error:
            self._sock.close()
            raise ServerGone(f"{path}: {error.strerror}") from None

    def send(self, data: bytes, cuts: tuple[int, ...]) -> None:
        self._unsent += data
        *lines, self._unsent = self._unsent.split(b"\n")
        self.asked += sum(1 for line in lines if _QUESTIONS[self.speech].match(line))
        edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        for start, end in itertools.pairwise(edges):
            try:
                self._sock.sendall(data[start:end])
            except OSError:
                return  # reading will show it
            if end < len(data):
                time.sleep(0.001)  # gives the server a chance to read what is there

    def barrier(self) -> None:
        """Read until the server has dealt with everything said so far; not inside a line."""
        if not self.open or self._unsent:
            return
        number = b"%d" % next(_barriers)
        if self.speech == "client":
            question, answer = b"CONT\t%s\tAAAA\n", b"FAIL\t%s\treason=Authentication request timed out"
        else:
            question, answer = b"USER\t%s\tbarrier@x\tservice=x\n", b"NOTFOUND\t%s"
        self.send(question % number, ())
        self.asked -= 1
        wanted = answer % number
        while (line := self._receive()) is not None:
            if line == wanted:
                return
            self._keep(line)

    def settle(self) -> None:
        """Read until nothing is owed."""
        while self.open and self.answered < self.asked and (line := self._receive()) is not None:
            self._keep(line)

    def _keep(self, line: bytes) -> None:
        word, _, rest = line.partition(b"\t")
        if word == b"COOKIE" and len(rest) == 32:
            self.cookie = rest
        elif word == b"SPID":
            self.spid = rest
        elif word == b"CUID":
            self.cuid = rest
        elif _ANSWERS[self.speech].match(line):
            self.answered += 1
        self.heard.lines.append(line)

    def _receive(self) -> bytes | None:
        while b"\n" not in self._unread:
            try:
                data = self._sock.recv(65536)
            except TimeoutError:
                self.heard.silent = max(1, self.asked - self.answered)
                self.close()
                return None
            except ConnectionResetError:  # closed with some of our bytes unread
                data = b""
            if not data:
                self.heard.closed = True
                if self._unread:
                    self.heard.lines.append(self._unread + b"<end>")
                self.close()
                return None
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def close(self) -> None:
        self.open = False
        self._sock.close()


class _Play:
    """One run of a session."""

    def __init__(self, sockets: Mapping[str, Path], patient: bool) -> None:
        self._sockets = sockets
        self._patient = patient
        self.connections: dict[str, _Connection] = {}
        self._past: list[_Connection] = []

    def step(self, step: Open | Say | HangUp) -> None:
        match step:
            case Open(name, kind, hello):
                if name in self.connections:
                    self._hang_up(name)
                connection = self.connections[name] = _Connection(kind, name, self._sockets[kind])
                connection.send(self._spelled(hello), ())
                connection.barrier()
            case Say(name, data, cuts, settle) if name in self.connections:
                connection = self.connections[name]
                for part in _LINES.findall(data) if self._patient else [data]:
                    if connection.open:
                        connection.send(self._spelled(part), () if self._patient else cuts)
                        connection.barrier()
                        if settle or self._patient:
                            connection.settle()
            case HangUp(name) if name in self.connections:
                self._hang_up(name)

    def _hang_up(self, name: str) -> None:
        connection = self.connections.pop(name)
        connection.settle()
        connection.close()
        self._past.append(connection)
        for other in self.connections.values():
            other.barrier()  # the server has seen the end by then

    def _spelled(self, data: bytes) -> bytes:
        def replace(match: re.Match[bytes]) -> bytes:
            name, what = match[1].decode(), match[2]
            if what is None:
                return b"%d" % os.getpid() if name == "peer" else match[0]
            connection = self.connections.get(name)
            if connection is None:
                return b"1" if what == b"pid" else b"0" * 32
            return connection.pid if what == b"pid" else connection.cookie

        return _PLACE.sub(replace, data)

    def end(self) -> Transcript:
        for connection in self.connections.values():
            connection.settle()
        for connection in self.connections.values():
            connection.barrier()
        everyone = [*self._past, *self.connections.values()]
        names: dict[bytes, bytes] = {}
        for connection in everyone:
            name = connection.heard.name.encode()
            names |= {connection.pid: b"{%s.pid}" % name, connection.cookie: b"{%s.cookie}" % name}
        pattern = re.compile(b"|".join(map(re.escape, names)))
        for connection in everyone:
            lines = connection.heard.lines
            for at, line in enumerate(lines):
                if line in (b"SPID\t" + connection.spid, b"CUID\t" + connection.cuid):
                    lines[at] = line[:4] + b"\t*"
                else:
                    lines[at] = pattern.sub(lambda match: names[match[0]], line)
        return tuple(connection.heard for connection in everyone)

    def close(self) -> None:
        for connection in self.connections.values():
            connection.close()
