"""The same site twice: once under a real Dovecot, once under authlua."""

import base64
import hmac
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

from authlua.conformance.raw import PATIENCE, RawConnection
from authlua.doveconf import read_site, toml_of
from tests.reference.dovecot import Dovecot, Dovecot23, Dovecot24

DOVECOTS: dict[str, Callable[..., Dovecot]] = {"2.3": Dovecot23, "2.4": Dovecot24}


T = TypeVar("T")


class Server(Protocol):
    """What both have."""

    sockets: dict[str, Path]

    def log(self) -> str: ...

    def wait_for_log(self, text: str) -> str: ...


class Authlua:
    """``authlua serve`` for the length of a ``with`` block.

    Args:
        config: what stands in the file beside listeners, ``[server]`` and ``[log]``; relative paths start beside it.
        files: name → text, put beside it.
    """

    def __init__(self, config: str, *, dialect: str, files: dict[str, str]) -> None:
        self._config = config
        self._dialect = dialect
        self._files = files
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Authlua":
        self.directory = Path(tempfile.mkdtemp(prefix="authlua-differential-"))
        self.directory.chmod(0o755)
        self.config = self.directory / "authlua.toml"
        self.sockets = {kind: self.directory / name for kind, name in self._names.items()}
        self.config.write_text(self._text())
        for name, content in self._files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content.replace("{directory}", str(self.directory)))
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    _names: ClassVar[Mapping[str, str]] = {"client": "client", "login": "login", "master": "master"}
    """Kinds of listeners and what their sockets are called."""

    def _text(self) -> str:
        """What stands in the file."""
        text = f'[server]\nbase_dir = "{self.directory}"\ndialect = "{self._dialect}"\n[log]\nlevel = "debug"\n'
        listeners = "".join(f'[[listener]]\nkind = "{kind}"\npath = "{name}"\n' for kind, name in self._names.items())
        return text + self._config + listeners

    def _start(self) -> None:
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "authlua", "serve", "-c", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        bound = time.monotonic() + PATIENCE
        while True:
            try:
                RawConnection.connect(self.sockets["master"]).close()
                return
            except (FileNotFoundError, ConnectionRefusedError):
                if self._process.poll() is not None or time.monotonic() > bound:
                    raise RuntimeError(f"authlua did not start: {self.log()}") from None
                time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.directory)

    def stop(self) -> str:
        """End it, if it still runs; all of its log."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        return self.log()

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def wait_for_log(self, text: str) -> str:
        """The log as soon as it holds *text*, which may be told a moment later than the client is."""
        bound = time.monotonic() + PATIENCE
        while text not in (log := self.log()):
            assert time.monotonic() < bound, f"{text!r} did not come into the log:\n{log}"
            time.sleep(0.02)
        return log


class Imported(Authlua):
    """``authlua serve`` with what ``authlua import-dovecot`` made of the configuration of a Dovecot.

    ``{directory}`` in it is where that Dovecot was.
    """

    _names: ClassVar[Mapping[str, str]] = {"client": "auth-client", "login": "login", "master": "auth-master"}

    def _text(self) -> str:
        text = self._config.replace("{directory}", str(self.directory))
        return text.replace("[server]\n", f'[server]\nbase_dir = "{self.directory}"\n', 1)


def answered_alike(series: str, conf: str, files: Mapping[str, str], ask: Callable[[Server], T]) -> T:
    """What *ask* hears from a Dovecot with *conf* and *files*; an authlua with the same, translated, says it too."""
    original = DOVECOTS[series]("", databases=conf, auth_debug="no")
    original.files = files
    with original as dovecot:
        expected = ask(dovecot)
        printed = dovecot.run("doveconf", "-nP").stdout.replace(str(dovecot.directory), "{directory}")
    site = read_site(printed, read_file=lambda path: files[path.removeprefix("{directory}/")])
    assert site.left == []
    with Imported(toml_of(site), dialect=series, files=dict(files)) as authlua:
        assert expected == ask(authlua)
    return expected


def _connect(path: Path) -> RawConnection:
    """A connection to the socket at *path*: Dovecot opens its sockets one after the other, and this may be a later one
    than the one that showed that it runs."""
    bound = time.monotonic() + PATIENCE
    while True:
        try:
            return RawConnection.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() > bound:
                raise
            time.sleep(0.02)


class AuthClient:
    """Logs in again and again on one connection."""

    def __init__(self, server: Server, kind: str = "client") -> None:
        self._connection = _connect(server.sockets[kind])
        self._connection.send(b"VERSION\t1\t2\nCPID\t77\n")
        self._connection.greeting()
        self._id = 0

    def __enter__(self) -> "AuthClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def login(self, user: str, password: str, *params: str, authzid: str = "") -> str:
        """The reply without its id."""
        return self.login_all([(user, password, authzid)], *params)[0]

    def login_all(self, attempts: list[tuple[str, str, str]], *params: str) -> list[str]:
        """The replies, in the order of the attempts; all are on their way at once."""
        responses = [
            base64.b64encode(f"{authzid}\0{user}\0{password}".encode()).decode() for user, password, authzid in attempts
        ]
        return self._converse("PLAIN", [[*params, f"resp={response}"] for response in responses], None)

    def challenge_all(self, users: Sequence[str], password: str) -> list[str]:
        """The replies to logins with CRAM-MD5, in the order of *users*; all are on their way at once."""
        answers = {self._id + number: user for number, user in enumerate(users, 1)}

        def answer(id: int, challenge: bytes) -> bytes:
            return f"{answers[id]} {hmac.digest(password.encode(), challenge, 'md5').hex()}".encode()

        return self._converse("CRAM-MD5", [[] for _ in users], answer)

    def _converse(
        self, mech: str, requests: Sequence[Sequence[str]], answer: Callable[[int, bytes], bytes] | None
    ) -> list[str]:
        first = self._id + 1
        for params in requests:
            self._id += 1
            line = "\t".join(["AUTH", str(self._id), mech, "service=imap", *params])
            self._connection.send(line.encode("utf-8", "surrogateescape") + b"\n")
        replies: dict[int, str] = {}
        while len(replies) < len(requests):
            line_ = self._connection.receive()
            assert line_ is not None, "the server hung up"
            word, id, *rest = line_.decode("utf-8", "surrogateescape").split("\t")
            if word == "CONT":
                assert answer is not None
                response = base64.b64encode(answer(int(id), base64.b64decode(rest[0])))
                self._connection.send(b"CONT\t%d\t%b\n" % (int(id), response))
            else:
                replies[int(id)] = "\t".join([word, *rest])
        return [replies[first + index] for index in range(len(requests))]


class MasterClient:
    """Asks about users on one connection."""

    def __init__(self, server: Server) -> None:
        self._connection = _connect(server.sockets["master"])
        self._connection.greeting()
        self._connection.send(b"VERSION\t1\t0\n")
        self._id = 0

    def __enter__(self) -> "MasterClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, command: str, user: str) -> str:
        """The reply to ``USER`` or ``PASS`` without its id."""
        self._id += 1
        self._connection.send(f"{command}\t{self._id}\t{user}\tservice=lmtp\n".encode())
        line = self._connection.receive()
        assert line is not None, "the server hung up"
        word, _, *rest = line.decode("utf-8", "surrogateescape").split("\t")
        return "\t".join([word, *rest])

    def list_users(self) -> list[str]:
        """All lines of the reply to ``LIST``, without its id."""
        self._id += 1
        self._connection.send(f"LIST\t{self._id}\tuser=*\n".encode())
        lines: list[str] = []
        while not lines or lines[-1].startswith("LIST"):
            line = self._connection.receive()
            assert line is not None, "the server hung up"
            word, _, *rest = line.decode("utf-8", "surrogateescape").split("\t")
            lines.append("\t".join([word, *rest]))
        return lines


def plain(reply: str) -> str:
    """Fields in the order of their names, as those of a Lua table come in any; without the empty ones of 2.3."""
    word, *fields = reply.split("\t")
    return " ".join([word, *sorted(filter(None, fields))])


def session(server: Server, user: str, password: str) -> str:
    """A login on the login socket, and what the mail process then hears of the user."""
    with (
        RawConnection.connect(server.sockets["login"]) as login,
        RawConnection.connect(server.sockets["master"]) as master,
    ):
        cookie = login.handshake(pid=os.getpid()).cookie
        response = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        (reply,) = login.ask(f"AUTH\t1\tPLAIN\tservice=imap\trip=192.0.2.7\tresp={response}")
        master.handshake(minor=1)
        if not reply.startswith(b"OK"):
            return reply.decode()
        (found,) = master.ask(f"REQUEST\t1\t{os.getpid()}\t1\t{cookie}")
        return plain(reply.decode()) + " | " + plain(found.decode())
