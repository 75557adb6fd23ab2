"""Mail as scripts see it: users, mailboxes and mails as read-only views, and Maildir++ as one store of them.

Knows neither Lua nor event loops; what it does may block. A store is anything that offers `Storage`.
"""

from authlua.mail.imap import ImapReader, Response, Word
from authlua.mail.imap import encode as encode_imap
from authlua.mail.mailbox import Mailbox, UserMetadata
from authlua.mail.maildir import Maildir
from authlua.mail.names import from_utf7, to_utf7
from authlua.mail.storage import (
    ALL_FLAGS,
    FLAG_NAMES,
    PREFIX_DOVECOT,
    PREFIX_DOVECOT_PVT,
    PREFIX_DOVECOT_PVT_SERVER,
    SEEN,
    Box,
    BoxFlag,
    Item,
    Mail,
    Status,
    Storage,
    StorageError,
    SyncFlag,
)
from authlua.mail.user import MailUser, user_from_fields

__all__ = [
    "ALL_FLAGS",
    "FLAG_NAMES",
    "PREFIX_DOVECOT",
    "PREFIX_DOVECOT_PVT",
    "PREFIX_DOVECOT_PVT_SERVER",
    "SEEN",
    "Box",
    "BoxFlag",
    "ImapReader",
    "Item",
    "Mail",
    "MailUser",
    "Mailbox",
    "Maildir",
    "Response",
    "Status",
    "Storage",
    "StorageError",
    "SyncFlag",
    "UserMetadata",
    "Word",
    "encode_imap",
    "from_utf7",
    "to_utf7",
    "user_from_fields",
]
