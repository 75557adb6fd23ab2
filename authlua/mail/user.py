"""The user a mail script runs for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class MailUser:
    """What a mail process knows of its user (``core:2.3.21.1:src/lib-storage/mail-user.h``)."""

    username: str
    home: str | None = None
    uid: int = 0
    gid: int = 0
    service: str = ""
    """``imap``, ``pop3``, ``lmtp``, …, in lower case."""
    session_id: str = ""
    session_create_time: int = 0
    """Seconds since 1970."""
    nonexistent: bool = False
    anonymous: bool = False
    autocreated: bool = False
    mail_debug: bool = False
    fuzzy_search: bool = False
    dsyncing: bool = False
    admin: bool = False
    session_restored: bool = False
    local_ip: str = ""
    remote_ip: str = ""
    auth_user: str | None = None
    """Whose password was checked; `None`: the user's own."""
    master_user: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    """All fields the userdb returned."""
    plugin: Mapping[str, str] = field(default_factory=dict)
    """The settings of 2.3's ``plugin { }`` block, as templates."""


def user_from_fields(
    username: str,
    fields: Mapping[str, str],
    *,
    service: str,
    session_id: str,
    now: int,
    uid: int = 0,
    gid: int = 0,
    **more: Any,
) -> MailUser:
    """The user that a userdb reply describes; *uid* and *gid* where it names none, *more* what no field holds."""
    known = {name: fields[name] for name in ("auth_user", "master_user") if fields.get(name)}
    return MailUser(
        username=username,
        home=fields.get("home"),
        uid=_number(fields.get("uid", "")) or uid,
        gid=_number(fields.get("gid", "")) or gid,
        service=service,
        session_id=session_id,
        session_create_time=now,
        anonymous=_is_yes(fields, "anonymous"),
        admin=_is_yes(fields, "admin"),
        fields=fields,
        **{**known, **more},
    )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _is_yes(fields: Mapping[str, str], name: str) -> bool:
    """As ``core:2.3.21.1:src/lib-storage/mail-storage-service.c``: starts with y, Y or 1."""
    return fields.get(name, "")[:1] in ("y", "Y", "1")
