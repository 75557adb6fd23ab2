"""What a mail script sees of a store: numbers with Dovecot's names, and the few operations a backend has to offer.

Everything blocks: a mail script runs in a thread of its own, so its storage may wait.
Rules of the values: ``core:2.3.21.1:src/lib-storage/mail-storage.h`` and ``mailbox-lua.c``.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import IntFlag
from typing import NamedTuple, Protocol

from authlua.errors import AuthluaError


class StorageError(AuthluaError):
    """The store cannot do what it was asked; the text is the one Dovecot gives to its clients."""


class Item(IntFlag):
    """What a status may be asked for (``STATUS_*``)."""

    MESSAGES = 0x1
    RECENT = 0x2
    UIDNEXT = 0x4
    UIDVALIDITY = 0x8
    UNSEEN = 0x10
    FIRST_UNSEEN_SEQ = 0x20
    KEYWORDS = 0x40
    HIGHESTMODSEQ = 0x80
    PERMANENT_FLAGS = 0x200
    FIRST_RECENT_UID = 0x400
    HIGHESTPVTMODSEQ = 0x2000


class BoxFlag(IntFlag):
    """How a mailbox is opened (``MAILBOX_FLAG_*``)."""

    READONLY = 0x1
    SAVEONLY = 0x2
    DROP_RECENT = 0x4
    NO_INDEX_FILES = 0x10
    KEEP_LOCKED = 0x20
    IGNORE_ACLS = 0x100
    AUTO_CREATE = 0x1000
    AUTO_SUBSCRIBE = 0x2000


class SyncFlag(IntFlag):
    """How a mailbox is looked at anew (``MAILBOX_SYNC_FLAG_*``)."""

    FULL_READ = 0x1
    FULL_WRITE = 0x2
    """Gone in 2.4."""
    FAST = 0x4
    NO_EXPUNGES = 0x8
    FIX_INCONSISTENT = 0x40
    EXPUNGE = 0x80
    FORCE_RESYNC = 0x100


PREFIX_DOVECOT = "vendor/vendor.dovecot/"
PREFIX_DOVECOT_PVT = PREFIX_DOVECOT + "pvt/"
PREFIX_DOVECOT_PVT_SERVER = PREFIX_DOVECOT_PVT + "server/"

ALL_FLAGS = 0x1F
r"""``\Answered``, ``\Flagged``, ``\Deleted``, ``\Seen`` and ``\Draft`` as one number."""

SEEN = 8
r"""``\Seen`` alone."""

FLAG_NAMES = ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft")
"""The flags in the order of their bits, which is also the order in which scripts get them."""


class Status(NamedTuple):
    """A mailbox in numbers; what was not asked for is 0, false or `None`."""

    messages: int = 0
    recent: int = 0
    uidvalidity: int = 0
    uidnext: int = 0
    unseen: int = 0
    first_unseen_seq: int = 0
    first_recent_uid: int = 0
    highest_modseq: int = 0
    highest_pvt_modseq: int = 0
    permanent_flags: int = 0
    flags: int = 0
    nonpermanent_modseqs: bool = False
    no_modseq_tracking: bool = False
    permanent_keywords: bool = False
    allow_new_keywords: bool = False
    have_guids: bool = True
    have_save_guids: bool = True
    have_only_guid128: bool = False
    keywords: Sequence[str] | None = None

    def only(self, items: int) -> "Status":
        """What is shown to somebody who asked for *items*.

        Any item brings messages, uidvalidity, uidnext and first_recent_uid along
        (``core:2.3.19.1:src/lib-storage/index/index-status.c:index_storage_get_open_status``).
        """
        if not items:
            return Status(
                have_guids=self.have_guids,
                have_save_guids=self.have_save_guids,
                have_only_guid128=self.have_only_guid128,
            )
        hidden: dict[str, object] = {}
        for item, fields in _SHOWN.items():
            if not items & item:
                hidden.update(dict.fromkeys(fields))
        return self._replace(**{name: Status._field_defaults[name] for name in hidden})


_SHOWN: Mapping[Item, Sequence[str]] = {
    Item.RECENT: ("recent",),
    Item.UNSEEN: ("unseen",),
    Item.FIRST_UNSEEN_SEQ: ("first_unseen_seq",),
    Item.KEYWORDS: ("keywords",),
    Item.HIGHESTMODSEQ: ("highest_modseq", "nonpermanent_modseqs", "no_modseq_tracking"),
    Item.HIGHESTPVTMODSEQ: ("highest_pvt_modseq",),
    Item.PERMANENT_FLAGS: ("permanent_flags", "flags", "permanent_keywords", "allow_new_keywords"),
}


class Mail(NamedTuple):
    """One mail, as far as a mailbox knows it without reading it."""

    seq: int
    uid: int
    flags: int
    """Bits, named in `FLAG_NAMES`."""
    keywords: Sequence[str]
    size: int
    """Bytes."""
    received: int
    """When it came, in seconds since 1970."""


class Box(Protocol):
    """An open mailbox of a backend. Each method raises `StorageError`."""

    def sync(self, flags: int) -> None:
        """Look at the store anew."""

    def status(self, items: int) -> Status:
        """The state as of the last sync; may hold more than was asked for."""

    def mails(self) -> Iterator[Mail]:
        """All mails in the order of their UIDs, as of the last sync, none of them read before it is wanted."""

    def header(self, uid: int) -> bytes:
        """The header of the mail *uid*."""

    def attribute(self, key: str) -> bytes | None:
        """The metadata value under *key*, ``/private/…`` or ``/shared/…``."""

    def set_attribute(self, key: str, value: bytes | None) -> None:
        """Set or, with `None`, delete the metadata value under *key*."""

    def attributes(self, prefix: str) -> Mapping[str, bytes]:
        """All metadata at or below *prefix*, which does not end in a slash."""

    def close(self) -> None:
        """Let go of it; never raises."""


class Storage(Protocol):
    """All mailboxes of one user."""

    @property
    def separator(self) -> str:
        """Stands between the parts of a mailbox's visible name."""

    def storage_name(self, vname: str) -> str:
        """What the store calls the mailbox that users see as *vname*."""

    def check_name(self, vname: str) -> None:
        """Raise `StorageError` when no mailbox can have this name."""

    def open(self, vname: str, flags: int) -> Box:
        """Open a mailbox; raises `StorageError`."""

    def mailboxes(self) -> Iterator[str]:
        """The visible names of all mailboxes, INBOX first."""

    def close(self) -> None:
        """Let go of everything; never raises."""
