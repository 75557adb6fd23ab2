"""Mailboxes of an IMAP server as a mail script's storage: any server over the network, or Dovecot's ``imap`` on pipes.

The connection lives on trio. The storage is for a script's thread (one that ``trio.to_thread`` started), and waits
there for each answer. The connection is made when it is first needed, and again after `ImapStorage.close`.

`log_in` only knocks: whether a server lets a user in.
"""

import base64
import resource
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import trio

from authlua.mail import (
    ALL_FLAGS,
    FLAG_NAMES,
    PREFIX_DOVECOT_PVT_SERVER,
    BoxFlag,
    ImapReader,
    Item,
    Mail,
    Response,
    Status,
    StorageError,
    Word,
    encode_imap,
    from_utf7,
    to_utf7,
)
from authlua.secret import Secret

TIMEOUT = 60.0
"""Seconds that one command may take."""

_READ = 65536
_PIECE = 500
"""Mails fetched in one go."""
_FLAG_BITS = {name.lower().encode(): 1 << bit for bit, name in enumerate(FLAG_NAMES)}

T = TypeVar("T")


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
    """Empty: nobody can listen in between, so TLS is not needed."""
    user: str = ""
    """Empty: the connection is somebody's already."""
    master: str = ""
    password: Secret = Secret(b"")
    tls: ssl.SSLContext | None = None
    """How to trust *host*; `None`: as this machine does."""


def imap_server(host: str, port: int, *, tls: bool, user: str, master: str, password: Secret) -> ImapServer:
    """The mail of *user* on the server at *host*, as *master* if that is not empty."""

    async def connect() -> Connected:
        stream: trio.abc.Stream = await trio.open_tcp_stream(host, port)
        if tls:
            stream = trio.SSLStream(stream, ssl.create_default_context(), server_hostname=host, https_compatible=True)
        return Connected(stream, None)

    is_local = host in ("localhost", "127.0.0.1", "::1")
    return ImapServer(connect, f"{host}:{port}", "" if tls or is_local else host, user, master, password)


def exec_server(command: Sequence[str]) -> ImapServer:
    """Whatever *command* serves on its standard input and output, logged in already."""

    async def connect() -> Connected:
        process = await trio.lowlevel.open_process(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.prlimit(process.pid, resource.RLIMIT_AS, (most, most))  # what we may take ourselves is not its affair
        if process.stdin is None or process.stdout is None:
            raise AssertionError("pipes were asked for")
        return Connected(trio.StapledStream(process.stdin, process.stdout), process)

    return ImapServer(connect, command[0])


class _Refused(StorageError):
    """A NO or BAD; *code* is the word in its brackets."""

    def __init__(self, text: str, code: str, *, is_bad: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.is_bad = is_bad
        # Dovecot 2.3 gives no code to a SELECT
        self.is_missing = code in ("NONEXISTENT", "TRYCREATE") or text.startswith("Mailbox doesn't exist")


class _NotLetIn(_Refused):
    """A NO to the user's name and password."""


class _Connection:
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
        try:
            self._stream, self._process = await self._server.connect()
        except (OSError, ssl.SSLError) as error:
            raise StorageError(f"IMAP {self._server.name}: {error}") from error
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
            context = self._server.tls or ssl.create_default_context()
            self._stream = trio.SSLStream(self._stream, context, server_hostname=self._server.host)
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
        except _Refused as refusal:
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
        """All responses to a command, the last of which is its OK; raises `_Refused`.

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
            raise _Refused(response.text, code, is_bad=response.name == "BAD")
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
    try:
        with trio.fail_after(TIMEOUT):
            tls = None if encryption == "no" else _tls(ca_file, ca_dir, trusts_anybody)

            async def connect() -> Connected:
                stream: trio.abc.Stream = await trio.open_tcp_stream(host, port)
                if tls is not None and encryption == "imaps":
                    stream = trio.SSLStream(stream, tls, server_hostname=host, https_compatible=True)
                return Connected(stream, None)

            starttls = host if encryption == "starttls" else ""
            connection = _Connection(ImapServer(connect, f"{host}:{port}", starttls, user, "", password, tls))
            await connection.open()
            await connection.close()
    except _NotLetIn as refusal:
        return Knock("NO", refusal.code, refusal.text)
    except trio.TooSlowError:
        return Knock("failed", "", f"IMAP {host}:{port}: no answer in time")
    except (OSError, StorageError, trio.BrokenResourceError) as error:
        return Knock("failed", "", str(error) or f"IMAP {host}:{port}: the connection broke")
    except (IndexError, KeyError, TypeError, ValueError) as error:
        return Knock("failed", "", f"IMAP {host}:{port}: a response that makes no sense: {error!r}")
    return Knock("OK", "", "")


@lru_cache(32)
def _tls(ca_file: str, ca_dir: str, trusts_anybody: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file or None, capath=ca_dir or None)
    if trusts_anybody:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class ImapStorage:
    """All mailboxes of one user, for a thread that is not trio's own.

    *loop* gives the loop that the connection is to live on; without it, it is the one whose thread this is.
    """

    def __init__(self, server: ImapServer, loop: Callable[[], trio.lowlevel.TrioToken] | None = None) -> None:
        self._server = server
        self._loop = loop
        self._connection: _Connection | None = None
        self._separator = ""

    # -- asking

    def ask(self, question: Callable[[_Connection], Awaitable[T]]) -> T:
        """What *question* comes to, on a connection that is made if there is none."""

        async def run() -> T:
            if self._connection is None:
                connection = _Connection(self._server)
                await connection.open()
                self._connection = connection
            try:
                return await question(self._connection)
            except (IndexError, KeyError, TypeError, ValueError) as error:
                raise StorageError(f"IMAP {self._server.name}: a response that makes no sense: {error!r}") from error

        try:
            return trio.from_thread.run(run, trio_token=self._loop and self._loop())
        except _Refused:
            raise
        except StorageError:
            self.close()
            raise

    def close(self) -> None:
        """Hang up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            trio.from_thread.run(connection.close, trio_token=self._loop and self._loop())

    # -- Storage

    @property
    def separator(self) -> str:
        """As the server says."""
        if not self._separator:
            for response in self.ask(lambda connection: connection.command("LIST", b"", b"")):
                if response.name == "LIST" and len(response.values) > 1:
                    self._separator = (response.values[1] or b"/").decode()
        return self._separator or "/"

    def storage_name(self, vname: str) -> str:
        """Its name on the wire; what it is in the store, the server does not tell."""
        return to_utf7(vname)

    def check_name(self, vname: str) -> None:
        """Raise `StorageError` when no mailbox can have this name."""
        try:
            self.ask(lambda connection: connection.command("STATUS", to_utf7(vname).encode(), "(MESSAGES)"))
        except _Refused as refusal:
            if not refusal.is_missing:
                raise

    def open(self, vname: str, flags: int) -> "ImapBox":
        """Open a mailbox, made first if *flags* ask for it."""
        name = to_utf7(vname)
        box = ImapBox(self, name, flags)
        try:
            box.sync(0, first=True)
        except _Refused as refusal:
            if not refusal.is_missing or not flags & BoxFlag.AUTO_CREATE:
                raise
            self.ask(lambda connection: connection.command("CREATE", name.encode()))
            if flags & BoxFlag.AUTO_SUBSCRIBE:
                self.ask(lambda connection: connection.command("SUBSCRIBE", name.encode()))
            box.sync(0, first=True)
        return box

    def mailboxes(self) -> Iterator[str]:
        """The visible names of all mailboxes that can be opened, INBOX first."""
        found = []
        for response in self.ask(lambda connection: connection.command("LIST", b"", b"*")):
            if response.name == "LIST":
                attributes, _, name = response.values[:3]
                if not {b"\\noselect", b"\\nonexistent"} & {word.lower() for word in attributes}:
                    with suppress(ValueError):
                        found.append(from_utf7(name.decode("ascii")))
        yield from sorted(found, key=lambda name: (name != "INBOX", name))


class ImapBox:
    """One mailbox: its state as of the last sync."""

    def __init__(self, storage: ImapStorage, name: str, flags: int) -> None:
        self._storage = storage
        self._name = name
        self._flags = flags
        self._status = Status()
        self._recent: int | None = None

    def sync(self, flags: int, *, first: bool = False) -> None:
        """Ask for the state; with DROP_RECENT, and not at the *first* look, ``\\Recent`` goes away."""
        drop = bool(self._flags & BoxFlag.DROP_RECENT) and not first
        status = self._storage.ask(lambda connection: self._state(connection, drop))
        if drop:
            if self._recent is None:
                self._recent = status.recent
            status = status._replace(first_recent_uid=status.uidnext)
        self._status = status

    def status(self, items: int) -> Status:
        """The state as of the last sync; the count of changes is that of now, as a server tells it only if asked."""
        if items & Item.HIGHESTMODSEQ:
            self._status = self._status._replace(**self._storage.ask(self._modseq))
        return self._status if self._recent is None else self._status._replace(recent=self._recent)

    async def _modseq(self, connection: _Connection) -> dict[str, Any]:
        """The highest mod-sequence (RFC 7162); a server without them counts like one that has just begun to."""
        if "CONDSTORE" not in connection.capabilities:
            return {"highest_modseq": 1, "no_modseq_tracking": True}
        found: dict[str, Any] = {"highest_modseq": 1}
        for response in await connection.select(self._name, change=False, modseq=True):
            more = _selected(response)
            found |= {name: more[name] for name in ("highest_modseq", "nonpermanent_modseqs") if name in more}
        return found

    async def _state(self, connection: _Connection, drop: bool) -> Status:
        found: dict[str, Any] = {"keywords": ()}
        for response in await connection.select(self._name, change=drop):
            found |= _selected(response)
        short = "ESEARCH" in connection.capabilities
        search = await connection.command("UID SEARCH RETURN (COUNT) UNSEEN" if short else "UID SEARCH UNSEEN")
        found["unseen"] = max(_found(response)[0] for response in search)
        search = await connection.command("UID SEARCH RETURN (MAX) OLD" if short else "UID SEARCH OLD")
        found["first_recent_uid"] = 1 + max(_found(response)[1] for response in search)
        writable = not self._flags & BoxFlag.READONLY
        found["permanent_flags"] = found.get("flags", 0) if writable else 0
        found["permanent_keywords"] = found["allow_new_keywords"] = writable
        if self._flags & BoxFlag.NO_INDEX_FILES:
            found["nonpermanent_modseqs"] = True
        return Status(**found)

    def mails(self) -> Iterator[Mail]:
        """All mails in order, fetched some at a time."""
        for first in range(1, self._status.messages + 1, _PIECE):
            last = min(first + _PIECE - 1, self._status.messages)
            yield from sorted(self._fetch(f"FETCH {first}:{last} (UID FLAGS RFC822.SIZE INTERNALDATE)"))

    def header(self, uid: int) -> bytes:
        """The header of the mail *uid*."""

        async def ask(connection: _Connection) -> bytes | None:
            await self._reselect(connection)
            for response in await connection.command(f"UID FETCH {uid} (BODY.PEEK[HEADER])"):
                if response.name == "FETCH":
                    header = _pairs(response.values[0]).get(b"BODY[HEADER]")
                    if isinstance(header, bytes):
                        return header
            return None

        header = self._storage.ask(ask)
        if header is None:
            raise StorageError("Message was expunged")
        return header

    def _fetch(self, command: str) -> list[Mail]:
        async def ask(connection: _Connection) -> list[Mail]:
            await self._reselect(connection)
            return [
                _mail(response.number, _pairs(response.values[0]))
                for response in await connection.command(command)
                if response.name == "FETCH" and b"UID" in response.values[0]
            ]

        return self._storage.ask(ask)

    async def _reselect(self, connection: _Connection) -> None:
        if connection.selected is None or connection.selected[0] != self._name:
            await connection.select(self._name, change=False)

    # -- metadata (RFC 5464)

    def attribute(self, key: str) -> bytes | None:
        """The value of the annotation *key*."""
        if key.endswith("/"):
            return None  # no entry is called so, and the server would take it for a mistake
        name, key = self._place(key)
        for response in self._metadata("GETMETADATA", name, key.encode("utf-8", "surrogateescape")):
            if response.name == "METADATA":
                return _pairs(response.values[1]).get(key.encode("utf-8", "surrogateescape").upper())
        return None

    def set_attribute(self, key: str, value: bytes | None) -> None:
        """Set or delete the annotation *key*."""
        name, key = self._place(key)
        entry = key.encode("utf-8", "surrogateescape")
        self._metadata("SETMETADATA", name, [entry, "NIL" if value is None else value])

    def attributes(self, prefix: str) -> Mapping[str, bytes]:
        """All annotations at or below *prefix*, as far as the server lists them."""
        name, key = self._place(prefix)
        found = {}
        for response in self._metadata("GETMETADATA (DEPTH infinity)", name, key.encode("utf-8", "surrogateescape")):
            if response.name == "METADATA":
                values = response.values[1]
                for entry, value in zip(values[::2], values[1::2], strict=True):
                    if value is not None:
                        found[_outer(entry.decode("utf-8", "surrogateescape"), server=not name)] = value
        return found

    def _metadata(self, command: str, name: bytes, *words: Word) -> list[Response]:
        async def ask(connection: _Connection) -> list[Response]:
            if "METADATA" not in connection.capabilities and (name or "METADATA-SERVER" not in connection.capabilities):
                raise _Refused("Mailbox attributes not enabled", "")
            return await connection.command(command, name, *words)

        return self._storage.ask(ask)

    def _place(self, key: str) -> tuple[bytes, str]:
        """Mailbox and entry; a user's own metadata is the server's annotations."""
        _, scope, *rest = key.split("/", 2)
        entry = "".join(rest)
        if self._name == "INBOX" and f"{entry}/".startswith(PREFIX_DOVECOT_PVT_SERVER):
            return b"", f"/{scope}/{entry.removeprefix(PREFIX_DOVECOT_PVT_SERVER.rstrip('/')).lstrip('/')}".rstrip("/")
        return self._name.encode(), key

    def close(self) -> None:
        """The connection goes with the storage."""


def _outer(entry: str, *, server: bool) -> str:
    if not server:
        return entry
    _, scope, rest = entry.split("/", 2)
    return f"/{scope}/{PREFIX_DOVECOT_PVT_SERVER}{rest}"


def _selected(response: Response) -> dict[str, Any]:
    """What one response to SELECT or EXAMINE says of the state."""
    match response.name, *response.code[:1]:
        case ["EXISTS"]:
            return {"messages": response.number}
        case ["RECENT"]:
            return {"recent": response.number}
        case ["FLAGS"]:
            flags = response.values[0]
            known = sum(_FLAG_BITS.get(flag.lower(), 0) for flag in flags)
            names = [flag.decode("utf-8", "surrogateescape") for flag in flags if not flag.startswith(b"\\")]
            return {"flags": known & ALL_FLAGS, "keywords": names}
        case ["OK", "UIDVALIDITY"]:
            return {"uidvalidity": int(response.code[1])}
        case ["OK", "UIDNEXT"]:
            return {"uidnext": int(response.code[1])}
        case ["OK", "UNSEEN"]:
            return {"first_unseen_seq": int(response.code[1])}
        case ["OK", "HIGHESTMODSEQ"]:
            return {"highest_modseq": int(response.code[1])}
        case ["OK", "NOMODSEQ"]:
            return {"nonpermanent_modseqs": True}
    return {}


def _found(response: Response) -> tuple[int, int]:
    """How many mails a search has found, and the highest UID of them, as far as *response* tells."""
    values = [value for value in response.values if isinstance(value, bytes)]
    if response.name == "ESEARCH":
        count, last = (int(values[values.index(key) + 1]) if key in values else 0 for key in (b"COUNT", b"MAX"))
        return count, last
    if response.name == "SEARCH":
        return len(values), max(map(int, values), default=0)
    return 0, 0


def _pairs(values: Sequence[Any]) -> dict[bytes, Any]:
    return {bytes(name).upper(): value for name, value in zip(values[::2], values[1::2], strict=True)}


def _mail(seq: int, found: Mapping[bytes, Any]) -> Mail:
    flags = found.get(b"FLAGS", ())
    keywords = [flag.decode("utf-8", "surrogateescape") for flag in flags if not flag.startswith(b"\\")]
    received = datetime.strptime(found[b"INTERNALDATE"].decode().strip(), "%d-%b-%Y %H:%M:%S %z")
    bits = sum(_FLAG_BITS.get(flag.lower(), 0) for flag in flags)
    return Mail(seq, int(found[b"UID"]), bits, keywords, int(found[b"RFC822.SIZE"]), int(received.timestamp()))
