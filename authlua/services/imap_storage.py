"""Mailboxes of an IMAP server as a mail script's storage.

The connection lives on trio. The storage is for a script's thread (one that ``trio.to_thread`` started), and waits
there for each answer. The connection is made when it is first needed, and again after `ImapStorage.close`.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

import trio

from authlua.mail import (
    ALL_FLAGS,
    FLAG_NAMES,
    PREFIX_DOVECOT_PVT_SERVER,
    BoxFlag,
    Item,
    Mail,
    Response,
    Status,
    StorageError,
    Word,
    from_utf7,
    to_utf7,
)
from authlua.services.imap import ImapConnection, ImapRefused, ImapServer

_PIECE = 500
"""Mails fetched in one go."""

_FLAG_BITS = {name.lower().encode(): 1 << bit for bit, name in enumerate(FLAG_NAMES)}

T = TypeVar("T")


class ImapStorage:
    """All mailboxes of one user, for a thread that is not trio's own.

    *loop* gives the loop that the connection is to live on; without it, it is the one whose thread this is.
    """

    def __init__(self, server: ImapServer, loop: Callable[[], trio.lowlevel.TrioToken] | None = None) -> None:
        self._server = server
        self._loop = loop
        self._connection: ImapConnection | None = None
        self._separator = ""

    # -- asking

    def ask(self, question: Callable[[ImapConnection], Awaitable[T]]) -> T:
        """What *question* comes to, on a connection that is made if there is none."""

        async def run() -> T:
            if self._connection is None:
                connection = ImapConnection(self._server)
                await connection.open()
                self._connection = connection
            try:
                return await question(self._connection)
            except (IndexError, KeyError, TypeError, ValueError) as error:
                raise StorageError(f"IMAP {self._server.name}: a response that makes no sense: {error!r}") from error

        try:
            return trio.from_thread.run(run, trio_token=self._loop and self._loop())
        except ImapRefused:
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
        except ImapRefused as refusal:
            if not refusal.is_missing:
                raise

    def open(self, vname: str, flags: int) -> "ImapBox":
        """Open a mailbox, made first if *flags* ask for it."""
        name = to_utf7(vname)
        box = ImapBox(self, name, flags)
        try:
            box.sync(0, first=True)
        except ImapRefused as refusal:
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

    async def _modseq(self, connection: ImapConnection) -> dict[str, Any]:
        """The highest mod-sequence (RFC 7162); a server without them counts like one that has just begun to."""
        if "CONDSTORE" not in connection.capabilities:
            return {"highest_modseq": 1, "no_modseq_tracking": True}
        found: dict[str, Any] = {"highest_modseq": 1}
        for response in await connection.select(self._name, change=False, modseq=True):
            more = _selected(response)
            found |= {name: more[name] for name in ("highest_modseq", "nonpermanent_modseqs") if name in more}
        return found

    async def _state(self, connection: ImapConnection, drop: bool) -> Status:
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

        async def ask(connection: ImapConnection) -> bytes | None:
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
        async def ask(connection: ImapConnection) -> list[Mail]:
            await self._reselect(connection)
            return [
                _mail(response.number, _pairs(response.values[0]))
                for response in await connection.command(command)
                if response.name == "FETCH" and b"UID" in response.values[0]
            ]

        return self._storage.ask(ask)

    async def _reselect(self, connection: ImapConnection) -> None:
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
        async def ask(connection: ImapConnection) -> list[Response]:
            if "METADATA" not in connection.capabilities and (name or "METADATA-SERVER" not in connection.capabilities):
                raise ImapRefused("Mailbox attributes not enabled", "")
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
