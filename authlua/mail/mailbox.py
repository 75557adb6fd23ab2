"""A mailbox as a script holds it: opened when that is needed, and metadata by Dovecot's rules.

The texts and their unevenness are Dovecot's (``core:2.3.21.1:src/lib-storage/mailbox-lua.c``,
``mail-user-lua.c``, ``mailbox-attribute.c``). Where Dovecot's process would crash, it just works, or is an error.
"""

from collections.abc import Iterator, Sequence

from authlua.mail import names
from authlua.mail.storage import PREFIX_DOVECOT_PVT_SERVER, Box, BoxFlag, Mail, Status, Storage, StorageError

_REGISTERED = {"/private/specialuse", "/shared/comment"}
_REGISTERED_INBOX = _REGISTERED | {"/private/comment"}
_REGISTERED_USER = {"/shared/admin", "/shared/comment"}
_ENABLED_BY_DICT = {"/private/comment", "/shared/comment", "/shared/admin"}


class Mailbox:
    """One mailbox of *storage*; nothing is opened and its name not checked before it is used."""

    def __init__(self, storage: Storage, name: str, flags: int = 0) -> None:
        self.vname = names.visible(name, storage.separator)
        self.name = storage.storage_name(self.vname)
        self._storage = storage
        self._flags = flags
        self._box: Box | None = None
        self._synced = False

    @property
    def is_open(self) -> bool:
        """Whether the store holds something for it."""
        return self._box is not None

    def open(self) -> None:
        """Open it unless it is open."""
        try:
            self._opened()
        except StorageError as error:
            raise StorageError(f"mailbox_open({self.vname}) failed: {error}") from error

    def close(self) -> None:
        """Let go of it; it can be opened again."""
        if self._box is not None:
            self._box.close()
            self._box = None
            self._synced = False

    def sync(self, flags: int) -> None:
        """Look at the store anew."""
        try:
            self._opened().sync(flags)
        except StorageError as error:
            raise StorageError(f"mailbox_sync({self.vname}) failed: {error}") from error
        self._synced = True

    def status(self, items: int) -> Status:
        """Its numbers, as far as *items* ask for them."""
        try:
            if not items:
                self._storage.check_name(self.vname)
                return Status()
            box = self._opened()
            if not self._synced:
                box.sync(0)
                self._synced = True
            return box.status(items).only(items)
        except StorageError as error:
            raise StorageError(f"mailbox_get_status({self.vname}, {items}) failed: {error}") from error

    def mails(self) -> Iterator[Mail]:
        """Its mails as of the last sync."""
        box = self._opened()
        if not self._synced:
            box.sync(0)
            self._synced = True
        return box.mails()

    def header(self, uid: int) -> bytes:
        """The header of one mail."""
        return self._opened().header(uid)

    # -- metadata

    def metadata_get(self, keys: Sequence[str]) -> list[bytes | None]:
        """A value for each of *keys*."""
        return [self._get(key) for key in keys]

    def metadata_set(self, key: str, value: bytes | None) -> None:
        """Set or, with `None`, delete a value."""
        try:
            self._set(key, value)
        except StorageError as error:
            verb = "unset" if value is None else "set"
            raise StorageError(f"Cannot {verb} attribute: {error}") from error

    def metadata_list(self, prefixes: Sequence[str]) -> dict[str, bytes]:
        """All keys at or below *prefixes* with their values; those that Dovecot itself serves are there if empty."""
        return self._list(prefixes, "", _REGISTERED_INBOX if self.vname == "INBOX" else _REGISTERED)

    def _get(self, key: str) -> bytes | None:
        _check(key)
        return self._opened().attribute(key)

    def _set(self, key: str, value: bytes | None) -> None:
        _check(key)
        if value is not None and b"\0" in value:
            raise StorageError("Attribute string value has NULs")
        self._opened().set_attribute(key, value)

    def _list(self, prefixes: Sequence[str], inside: str, registered: set[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for prefix in prefixes:
            _check(prefix)
            box = self._opened()
            wanted = prefix.rstrip("/")
            names = {name for name in registered if name == wanted or name.startswith(wanted + "/")}
            try:
                values = box.attributes(_inside(wanted, inside))
            except StorageError:
                values, names = {}, names - _ENABLED_BY_DICT
            found |= dict.fromkeys(names, b"")
            found |= {_outside(key, inside): value for key, value in values.items()}
        return found

    def _opened(self) -> Box:
        if self._box is None:
            self._box = self._storage.open(self.vname, self._flags)
        return self._box


class UserMetadata:
    """The metadata of a user: that of INBOX, below a prefix of its own."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def metadata_get(self, keys: Sequence[str]) -> list[bytes | None]:
        """A value for each of *keys*."""
        for key in keys:
            _check(key)
        with _Inbox(self._storage) as inbox:
            return [inbox._get(_inside(key, PREFIX_DOVECOT_PVT_SERVER)) for key in keys]

    def metadata_set(self, key: str, value: bytes | None) -> None:
        """Set or, with `None`, delete a value."""
        _check(key)
        with _Inbox(self._storage) as inbox:
            try:
                inbox._set(_inside(key, PREFIX_DOVECOT_PVT_SERVER), value)
            except StorageError as error:
                raise StorageError(f"Cannot get attribute: {error}") from error

    def metadata_list(self, prefixes: Sequence[str]) -> dict[str, bytes]:
        """All keys at or below *prefixes* with their values."""
        for prefix in prefixes:
            _check(prefix)
        with _Inbox(self._storage) as inbox:
            return inbox._list(prefixes, PREFIX_DOVECOT_PVT_SERVER, _REGISTERED_USER)


class _Inbox:
    """INBOX, open for the length of a ``with`` block."""

    def __init__(self, storage: Storage) -> None:
        self._mailbox = Mailbox(storage, "INBOX", BoxFlag.READONLY)

    def __enter__(self) -> Mailbox:
        try:
            self._mailbox._opened()
        except StorageError as error:
            raise StorageError(f"Cannot open INBOX: {error}") from error
        return self._mailbox

    def __exit__(self, *_: object) -> None:
        self._mailbox.close()


def _check(key: str) -> None:
    if not key.startswith(("/private/", "/shared/")):
        raise StorageError("Invalid key prefix, must be /private/ or /shared/")


def _inside(key: str, inside: str) -> str:
    """``/private/x`` → ``/private/INSIDEx``."""
    if not inside:
        return key
    _, scope, *rest = key.split("/", 2)
    return f"/{scope}/{inside}{''.join(rest)}".rstrip("/")


def _outside(key: str, inside: str) -> str:
    """Undo `_inside`."""
    _, scope, rest = key.split("/", 2)
    return f"/{scope}/{rest.removeprefix(inside)}"
