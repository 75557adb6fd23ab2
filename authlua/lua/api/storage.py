"""The Python side of ``storage.lua``: what stands behind the ``item`` of a mail_user and a mailbox."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from authlua.dialect import Dialect
from authlua.lua.calls import Refusal
from authlua.lua.conversion import lua_string, text
from authlua.mail import (
    FLAG_NAMES,
    PREFIX_DOVECOT,
    PREFIX_DOVECOT_PVT,
    PREFIX_DOVECOT_PVT_SERVER,
    SEEN,
    BoxFlag,
    Item,
    Mail,
    Mailbox,
    MailUser,
    Status,
    Storage,
    StorageError,
    SyncFlag,
    UserMetadata,
)

if TYPE_CHECKING:
    from authlua.variables import Filter, Variables


class Handle:
    """What Lua holds as a userdata: nothing can be done with it but to hand it back."""

    __slots__ = ("__weakref__",)

    def __call__(self, *_: object) -> None:
        """Lua would make an error of Python's of anything that cannot be called."""


class UserHandle(Handle):
    """The ``item`` of a mail_user."""

    __slots__ = ("metadata", "storage", "user")

    def __init__(self, user: MailUser, storage: Storage) -> None:
        self.user = user
        self.storage = storage
        self.metadata = UserMetadata(storage)


class MailboxHandle(Handle):
    """The ``item`` of a mailbox; *mailbox* is `None` when it has been freed."""

    __slots__ = ("mailbox",)

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox: Mailbox | None = mailbox


class MailsHandle(Handle):
    """The mails that a ``mailbox:mails{…}`` has not given out yet."""

    __slots__ = ("_first_uid", "_keyword", "_last", "_mailbox", "_mails", "_unseen")

    def __init__(
        self, mailbox: Mailbox, mails: Iterator[Mail], unseen: bool, keyword: str | None, first_uid: float
    ) -> None:
        self._mailbox = mailbox
        self._mails = mails
        self._unseen = unseen
        self._keyword = keyword
        self._first_uid = first_uid
        self._last = 0

    def next(self) -> Mail | None:
        """The next mail that is wanted; `None` at the end."""
        for mail in self._mails:
            if mail.uid < self._first_uid or (self._unseen and mail.flags & SEEN):
                continue
            if self._keyword is None or self._keyword in mail.keywords:
                self._last = mail.uid
                return mail
        return None

    def headers(self, wanted: Sequence[bytes]) -> list[bytes]:
        """Names, as they were asked for, and decoded values of those *wanted* header fields that the last mail has."""
        from email import message_from_bytes

        message = message_from_bytes(self._mailbox.header(self._last))
        found = []
        for name in wanted:
            value = message[text(name)]
            if value is not None:
                found += [name, lua_string(decoded_header(value))]
        return found


def decoded_header(value: object) -> str:
    """A header field unfolded, its encoded words (RFC 2047) decoded as far as they can be."""
    from email.errors import HeaderParseError
    from email.header import decode_header, make_header

    try:
        shown = str(make_header(decode_header(str(value))))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        shown = str(value)
    return " ".join(shown.splitlines())


@cache
def constants(dialect: Dialect) -> dict[bytes, float | bytes]:
    """The members of ``dovecot.storage``."""
    found: dict[bytes, float | bytes] = {
        b"MAILBOX_ATTRIBUTE_PREFIX_DOVECOT": PREFIX_DOVECOT.encode(),
        b"MAILBOX_ATTRIBUTE_PREFIX_DOVECOT_PVT": PREFIX_DOVECOT_PVT.encode(),
        b"MAILBOX_ATTRIBUTE_PREFIX_DOVECOT_PVT_SERVER": PREFIX_DOVECOT_PVT_SERVER.encode(),
    }
    for prefix, flags in (("STATUS_", Item), ("MAILBOX_FLAG_", BoxFlag), ("MAILBOX_SYNC_FLAG_", SyncFlag)):
        for flag in flags:
            if flag is not SyncFlag.FULL_WRITE or dialect is Dialect.V2_3:
                found[f"{prefix}{flag.name}".encode()] = float(flag)
    return found


def mail_fields(mail: Mail, table_from: Callable[[Any], Any]) -> dict[bytes, object]:
    """The fields of a new mail object, but for its place."""
    return {
        b"seq": float(mail.seq),
        b"flags": table_from([name.encode() for bit, name in enumerate(FLAG_NAMES) if mail.flags >> bit & 1]),
        b"keywords": table_from([lua_string(name) for name in mail.keywords]),
        b"size": float(mail.size),
        b"received": float(mail.received),
    }


def user_fields(handle: UserHandle, dialect: Dialect) -> dict[bytes, object]:
    """The fields of a new mail_user object."""
    user = handle.user
    fields: dict[bytes, object] = {
        b"item": handle,
        b"username": lua_string(user.username),
        b"uid": float(user.uid),
        b"gid": float(user.gid),
        b"service": lua_string(user.service),
        b"session_id": lua_string(user.session_id),
        b"session_create_time": float(user.session_create_time),
        b"nonexistent": user.nonexistent,
        b"anonymous": user.anonymous,
        b"autocreated": user.autocreated,
        b"fuzzy_search": user.fuzzy_search,
        b"dsyncing": user.dsyncing,
        b"admin": user.admin,
        b"session_restored": user.session_restored,
    }
    if user.home is not None:
        fields[b"home"] = lua_string(user.home)
    if dialect is Dialect.V2_3:
        fields[b"mail_debug"] = user.mail_debug
    return fields


FiltersOf = Callable[[UserHandle], "Mapping[str, Filter]"]
"""What a template of a user finds beside Dovecot's filters."""


def callbacks(
    dialect: Dialect, table_from: Callable[[Mapping[bytes, object]], Any], filters_of: FiltersOf
) -> Mapping[str, Callable[..., Any]]:
    """What ``storage.lua`` finds in its ``host``. Each returns `True` and its values, or refuses."""

    def user_of(item: object) -> UserHandle:
        if not isinstance(item, UserHandle):
            raise Refusal("Bad argument #1, expected struct mail_user got table")
        return item

    def mailbox_of(item: object) -> Mailbox:
        if not isinstance(item, MailboxHandle):
            raise Refusal("Bad argument #1, expected struct mailbox got table")
        if item.mailbox is None:
            raise Refusal("mailbox is freed")
        return item.mailbox

    def metadata_of(item: object) -> UserMetadata | Mailbox:
        return item.metadata if isinstance(item, UserHandle) else mailbox_of(item)

    def mailbox(item: object, name: bytes, flags: int) -> tuple[object, ...]:
        try:
            decoded = text(name).encode("utf-8", "surrogateescape").decode()
        except UnicodeDecodeError:
            raise Refusal("mailbox name is not valid UTF-8") from None
        found = _told(Mailbox, user_of(item).storage, decoded, flags)
        return True, MailboxHandle(found), lua_string(found.vname), lua_string(found.name)

    def var_expand(item: object, template: bytes) -> tuple[object, ...]:
        handle = user_of(item)
        return True, lua_string(expand(handle.user, text(template), dialect, filters_of(handle)))

    def free(item: object) -> tuple[bool]:
        if isinstance(item, MailboxHandle) and item.mailbox is None:
            return (True,)
        mailbox_of(item).close()
        assert isinstance(item, MailboxHandle)
        item.mailbox = None
        return (True,)

    def status(item: object, *items: int) -> tuple[object, ...]:
        found, wanted = mailbox_of(item), 0
        for one in items:
            wanted |= one
        return True, lua_string(found.vname), *_flat(_told(found.status, wanted & 0xFFFFFFFF))

    def metadata_get(item: object, *keys: bytes) -> tuple[object, ...]:
        return True, *_told(metadata_of(item).metadata_get, [text(key) for key in keys])

    def metadata_set(item: object, key: bytes, value: bytes | None) -> tuple[bool]:
        _told(metadata_of(item).metadata_set, text(key), value)
        return (True,)

    def metadata_list(item: object, *prefixes: bytes) -> tuple[object, ...]:
        found = _told(metadata_of(item).metadata_list, [text(prefix) for prefix in prefixes])
        return True, *[word for key, value in found.items() for word in (lua_string(key), value)]

    def mails(item: object, unseen: bool, keyword: bytes | None, first_uid: float) -> tuple[object, ...]:
        found = mailbox_of(item)
        cursor = MailsHandle(found, _told(found.mails), unseen, None if keyword is None else text(keyword), first_uid)
        return True, cursor, lua_string(found.vname), lua_string(found.name)

    def next_mail(item: object) -> tuple[object, ...]:
        assert isinstance(item, MailsHandle)
        mail = _told(item.next)
        return (
            (True, None, None) if mail is None else (True, float(mail.uid), table_from(mail_fields(mail, table_from)))
        )

    def mail_headers(item: object, *wanted: bytes) -> tuple[object, ...]:
        assert isinstance(item, MailsHandle)
        return True, *_told(item.headers, wanted)

    def done(method: str) -> Callable[..., tuple[bool]]:
        def call(item: object, *arguments: int) -> tuple[bool]:
            _told(getattr(mailbox_of(item), method), *arguments)
            return (True,)

        return call

    return {
        "constants": lambda: (True, table_from(constants(dialect))),
        "username": lambda item: (True, lua_string(user_of(item).user.username)),
        "var_expand": var_expand,
        "plugin_getenv": lambda item, key: (True, plugin_getenv(user_of(item).user, text(key))),
        "mailbox": mailbox,
        "vname": lambda item: (True, lua_string(mailbox_of(item).vname)),
        "open": done("open"),
        "close": done("close"),
        "sync": done("sync"),
        "free": free,
        "status": status,
        "mails": mails,
        "next_mail": next_mail,
        "mail_headers": mail_headers,
        "metadata_get": metadata_get,
        "metadata_set": metadata_set,
        "metadata_list": metadata_list,
    }


def _told(call: Callable[..., Any], *arguments: object) -> Any:
    """*call*, whose `StorageError` is a text for the script."""
    try:
        return call(*arguments)
    except StorageError as error:
        raise Refusal(str(error)) from error


def _flat(status: Status) -> Sequence[object]:
    """In the order of ``storage.lua``, numbers as floats; then whether there are keywords, and these."""
    *values, keywords = status
    flat: list[object] = [value if isinstance(value, bool) else float(value) for value in values]
    if keywords is not None:
        flat += [True, *map(lua_string, keywords)]
    return flat


def plugin_getenv(user: MailUser, key: str) -> bytes | None:
    """A setting of ``plugin { }``, which a field of the userdb overrides."""
    if key in user.fields:
        return lua_string(user.fields[key])
    if key in user.plugin:
        return lua_string(expand(user, user.plugin[key], Dialect.V2_3))
    return None


def expand(user: MailUser, template: str, dialect: Dialect, filters: "Mapping[str, Filter] | None" = None) -> str:
    """Fill in *template* for *user*, who may have more *filters*; a refusal has Dovecot's text."""
    from authlua.variables import ExpansionError, compile_template

    try:
        return compile_template(template, dialect).expand(user_variables(user, dialect, filters))
    except ExpansionError as error:
        raise Refusal(f"var_expand({template}) failed: {error}") from error


def user_variables(user: MailUser, dialect: Dialect, filters: "Mapping[str, Filter] | None" = None) -> "Variables":
    """What templates know of *user* (``core:2.3.21.1:src/lib-storage/mail-user.c:mail_user_var_expand_table``)."""
    return _UserVariables(user, _NAMES_2_3 if dialect is Dialect.V2_3 else _NAMES_2_4, filters or {})


class _UserVariables:
    def __init__(
        self,
        user: MailUser,
        table: "Mapping[str, Callable[[MailUser], str | None]]",
        filters: "Mapping[str, Filter]",
    ) -> None:
        self._user = user
        self._table = table
        self.filters = filters

    def lookup(self, name: str, /) -> str | None:
        prefix, colon, field = name.partition(":")
        if not colon:
            return self._table[name](self._user)
        if prefix == "userdb":
            return self._user.fields.get(field)
        if prefix == "env":
            return os.environ.get(field)
        raise KeyError(prefix)


def _part(number: int, of: Callable[[MailUser], str]) -> Callable[[MailUser], str]:
    return lambda user: of(user).partition("@")[number]


def _auth_user(user: MailUser) -> str:
    return user.auth_user or user.username


_NAMES_2_3: Mapping[str, Callable[[MailUser], str | None]] = {
    "user": lambda user: user.username,
    "username": _part(0, lambda user: user.username),
    "domain": _part(2, lambda user: user.username),
    "service": lambda user: user.service,
    "home": lambda user: user.home,
    "lip": lambda user: user.local_ip,
    "local_ip": lambda user: user.local_ip,
    "rip": lambda user: user.remote_ip,
    "remote_ip": lambda user: user.remote_ip,
    "pid": lambda user: str(os.getpid()),
    "i": lambda user: str(user.uid),
    "uid": lambda user: str(user.uid),
    "gid": lambda user: str(user.gid),
    "session": lambda user: user.session_id,
    "auth_user": _auth_user,
    "auth_username": _part(0, _auth_user),
    "auth_domain": _part(2, _auth_user),
    "hostname": lambda user: os.uname().nodename,
}
_NAMES_2_4: Mapping[str, Callable[[MailUser], str | None]] = {
    "user": lambda user: user.username,
    "service": lambda user: user.service,
    "protocol": lambda user: user.service,
    "local_ip": lambda user: user.local_ip,
    "remote_ip": lambda user: user.remote_ip,
    "local_port": lambda user: "",
    "remote_port": lambda user: "",
    "local_name": lambda user: "",
    "session": lambda user: user.session_id,
    "auth_user": _auth_user,
    "hostname": lambda user: os.uname().nodename,
    "owner_user": lambda user: user.username,
    "owner_home": lambda user: user.home,
    "master_user": lambda user: user.master_user,
    "home": lambda user: user.home,
}
