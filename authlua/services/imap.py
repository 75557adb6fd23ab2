"""Connections to IMAP servers: any server over the network, or Dovecot's ``imap`` on pipes.

`log_in` only knocks: whether a server lets a user in.
"""

import base64
import errno
import os
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import NamedTuple

import trio

from authlua.mail import ImapReader, Response, StorageError, Word, encode_imap
from authlua.secret import Secret
from authlua.services.reasons import reason
from authlua.services.tls import trusting

TIMEOUT = 60.0
"""Seconds that one command may take, and all that comes before the first."""

_READ = 65536

Trust = Callable[[], ssl.SSLContext]
"""Whom to trust; asked for when a connection needs it. Raises `OSError`."""

_trust = lru_cache(32)(trusting)


class Connected(NamedTuple):
    """A way to a server, freshly opened."""

    stream: trio.abc.Stream
    process: trio.Process | None


class ImapServer(NamedTuple):
    """How to come to the mail of one user."""

    connect: Callable[[], Awaitable[Connected]]
    name: str
    """For error texts."""
    host: str = ""
    """Whom to begin TLS with; empty: it is there already, or nobody can listen in between."""
    user: str = ""
    """Empty: the connection is somebody's already."""
    master: str = ""
    password: Secret = Secret(b"")
    trust: Trust = _trust


def imap_server(host: str, port: int, *, tls: bool, user: str, master: str, password: Secret) -> ImapServer:
    """The mail of *user* on the server at *host*, as *master* if that is not empty.

    Args:
        tls: from the beginning; without it TLS is begun by ``STARTTLS``, unless *host* is this machine.
    """
    is_local = host in ("localhost", "127.0.0.1", "::1")
    connect = partial(_dial, host, port, _trust if tls else None)
    return ImapServer(connect, f"{host}:{port}", "" if tls or is_local else host, user, master, password)


async def _dial(host: str, port: int, trust: Trust | None) -> Connected:
    context = trust and trust()
    stream: trio.abc.Stream = await trio.open_tcp_stream(host, port)
    if context is not None:
        stream = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    return Connected(stream, None)


_FREELY = ["/bin/sh", "-c", 'ulimit -S -v "$(ulimit -H -v)"; exec "$0" "$@"']
"""In front of a command: what memory we may take ourselves is not its affair. It cannot be told so once it runs, for
by then it may have become somebody else."""


def exec_server(command: Sequence[str]) -> ImapServer:
    """Whatever *command* serves on its standard input and output, logged in already."""

    async def connect() -> Connected:
        program = shutil.which(command[0])
        if program is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
        process = await trio.lowlevel.open_process(
            [*_FREELY, program, *command[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        if process.stdin is None or process.stdout is None:
            raise AssertionError("pipes were asked for")
        return Connected(trio.StapledStream(process.stdin, process.stdout), process)

    return ImapServer(connect, command[0])


class ImapRefused(StorageError):
    """A NO or BAD; *code* is the word in its brackets."""

    def __init__(self, text: str, code: str, *, is_bad: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.is_bad = is_bad
        # Dovecot 2.3 gives no code to a SELECT
        self.is_missing = code in ("NONEXISTENT", "TRYCREATE") or text.startswith("Mailbox doesn't exist")


class _NotLetIn(ImapRefused):
    """A NO to the user's name and password."""


class ImapConnection:
    """A logged-in connection: one command at a time."""

    def __init__(self, server: ImapServer) -> None:
        self._server = server
        self._reader = ImapReader()
        self._ready: list[Response] = []
        self._tags = 0
        self._stream: trio.abc.Stream
        self._process: trio.Process | None = None
        self.capabilities: set[str] = set()
        self.selected: tuple[str, bool] | None = None
        """The mailbox, and whether it may be changed."""

    async def open(self) -> None:
        """Connect and log in; a `StorageError` says why not, a `_NotLetIn` if it is about name and password."""
        name = self._server.name
        try:
            with trio.fail_after(TIMEOUT):
                self._stream, self._process = await self._server.connect()
                await self._enter()
        except trio.TooSlowError:
            raise StorageError(f"IMAP {name}: no answer in time") from None
        except (OSError, trio.BrokenResourceError) as error:
            raise StorageError(f"IMAP {name}: {reason(error)}") from error

    async def _enter(self) -> None:
        try:
            greeting = await self._next()
            if greeting.name != "OK" and (greeting.name != "PREAUTH" or self._server.user):
                raise StorageError(f"IMAP {self._server.name}: {greeting.name} {greeting.text}")
            await self._learn(greeting)
            if greeting.name != "PREAUTH":
                await self._log_in()
        except BaseException:
            await self.close()
            raise

    async def _log_in(self) -> None:
        if self._server.host:
            if "STARTTLS" not in self.capabilities:
                raise StorageError(f"IMAP {self._server.name}: no TLS is offered, and the password stays here then")
            await self.command("STARTTLS")
            # whatever was said before TLS began may be somebody else's
            self._reader = ImapReader()
            self._ready.clear()
            self._stream = trio.SSLStream(self._stream, self._server.trust(), server_hostname=self._server.host)
            await self._learn(None)
        server = self._server
        user, master = (name.encode("utf-8", "surrogateescape") for name in (server.user, server.master))
        password = server.password.reveal()
        try:
            if "AUTH=PLAIN" in self.capabilities or master:
                message = b"\0".join([user, master, password] if master else [b"", user, password])
                responses = await self.command("AUTHENTICATE PLAIN", answer=base64.b64encode(message))
            elif "LOGINDISABLED" in self.capabilities:
                raise StorageError(f"IMAP {server.name}: no way to log in is offered (LOGINDISABLED)")
            else:
                responses = await self.command("LOGIN", user, password)
        except ImapRefused as refusal:
            if refusal.is_bad:
                raise
            raise _NotLetIn(refusal.text, refusal.code, is_bad=False) from None
        await self._learn(responses[-1])

    async def _learn(self, response: Response | None) -> None:
        """What the server can do; asked for unless it has just said so."""
        if response is not None and response.code and response.code[0].upper() == "CAPABILITY":
            self.capabilities = {word.upper() for word in response.code[1:]}
            return
        for answer in await self.command("CAPABILITY"):
            if answer.name == "CAPABILITY":
                self.capabilities = {word.decode("ascii", "replace").upper() for word in answer.values}

    async def command(self, *words: Word, answer: bytes | None = None) -> list[Response]:
        """All responses to a command, the last of which is its OK; raises `ImapRefused`.

        *answer* is what the server will ask for.
        """
        self._tags += 1
        tag = f"a{self._tags}"
        pieces = encode_imap(tag, *words)
        if answer is not None:
            pieces.append(answer + b"\r\n")
        found: list[Response] = []
        try:
            with trio.fail_after(TIMEOUT):
                await self._stream.send_all(pieces.pop(0))
                while True:
                    response = await self._next()
                    if response.tag == "+" and pieces:
                        await self._stream.send_all(pieces.pop(0))
                    elif response.tag == tag:
                        found.append(response)
                        break
                    else:
                        found.append(response)
        except (trio.BrokenResourceError, trio.TooSlowError, ssl.SSLError) as error:
            raise StorageError(f"IMAP {self._server.name}: {error or 'no answer in time'}") from error
        if response.name != "OK":
            code = response.code[0].upper() if response.code else ""
            raise ImapRefused(response.text, code, is_bad=response.name == "BAD")
        return found

    async def _next(self) -> Response:
        while not self._ready:
            data = await self._stream.receive_some(_READ)
            if not data:
                ended = "the connection has ended"
                if self._process is not None:
                    ended = f"ended with exit code {await self._process.wait()}"
                raise StorageError(f"IMAP {self._server.name}: {ended}")
            self._ready += self._reader.receive(bytes(data))
        return self._ready.pop(0)

    async def select(self, name: str, *, change: bool, modseq: bool = False) -> list[Response]:
        """Open the mailbox *name*, as it is called on the wire; with *modseq* the server starts to count changes."""
        self.selected = None
        more = ["(CONDSTORE)"] if modseq else []
        found = await self.command("SELECT" if change else "EXAMINE", name.encode(), *more)
        self.selected = name, change
        return found

    async def close(self) -> None:
        """Hang up; a process that was started is waited for."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            with suppress(trio.BrokenResourceError, trio.BusyResourceError, trio.ClosedResourceError):
                await self._stream.send_all(b"z LOGOUT\r\n")
            await trio.aclose_forcefully(self._stream)
            if self._process is not None:
                await self._process.wait()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()


class Knock(NamedTuple):
    """How a server answered to a name and a password."""

    verdict: str
    """``OK``, ``NO``, or ``failed`` when it could not be asked."""
    code: str
    """The word in brackets of a NO, in upper case, or empty."""
    text: str
    """For the log."""


async def log_in(
    host: str, port: int, encryption: str, ca_file: str, ca_dir: str, trusts_anybody: bool, user: str, password: Secret
) -> Knock:
    """Does the IMAP server at *host* let *user* in with *password*? Never raises.

    Args:
        encryption: ``imaps``, ``starttls`` or ``no``.
        ca_file, ca_dir: who vouches for the server; both empty: whom this machine trusts.
        trusts_anybody: do not look at the server's certificate.
    """
    trust = partial(_trust, ca_file, ca_dir, anybody=trusts_anybody)
    connect = partial(_dial, host, port, trust if encryption == "imaps" else None)
    starttls = host if encryption == "starttls" else ""
    connection = ImapConnection(ImapServer(connect, f"{host}:{port}", starttls, user, "", password, trust))
    try:
        await connection.open()
        await connection.close()
    except _NotLetIn as refusal:
        return Knock("NO", refusal.code, refusal.text)
    except StorageError as error:
        return Knock("failed", "", str(error))
    except (IndexError, KeyError, TypeError, ValueError) as error:
        return Knock("failed", "", f"IMAP {host}:{port}: a response that makes no sense: {error!r}")
    return Knock("OK", "", "")
