"""The event that a notification becomes: the table that Dovecot's own push-notification Lua driver would hand over.

What the notification does not say of a mail is read from the mail itself.
"""

from email import message_from_bytes
from email.utils import parsedate_tz

from authlua.lua import decoded_header
from authlua.mail import FLAG_NAMES, Mailbox, StorageError
from authlua.protocol import Push


def event_of(mailbox: Mailbox, push: Push) -> dict[str, object]:
    """The event table of a mail that came; what only the mail tells is left out when the mail cannot be read.

    ``core:2.3.21.1:src/plugins/push-notification/push-notification-driver-lua.c``
    """
    event: dict[str, object] = {
        "name": push.event[:1].upper() + push.event[1:],
        "mailbox": push.folder,
        "uid": float(push.uid),
        "uid_validity": float(push.uidvalidity),
        "snippet": push.snippet,
        "from": push.sender,
        **_address("from", push.sender),
    }
    if push.subject is not None:
        event["subject"] = decoded_header(push.subject)
    try:
        header = message_from_bytes(mailbox.header(push.uid))
        mail = next((mail for mail in mailbox.mails() if mail.uid == push.uid), None)
    except StorageError:
        return event
    finally:
        mailbox.close()
    when = parsedate_tz(str(header["Date"])) if header["Date"] else None
    event["date"], event["tz"] = _time(when)
    event["to"] = str(header["To"] or "")
    event |= _address("to", event["to"])
    if header["Message-ID"]:
        event["message_id"] = str(header["Message-ID"]).strip()
    if mail is not None:
        event["flags"] = [name for bit, name in enumerate(FLAG_NAMES) if mail.flags >> bit & 1]
        event["keywords"] = list(mail.keywords)
    return event


def _time(when: tuple[int | None, ...] | None) -> tuple[float, float]:
    """Seconds since 1970 and the minutes east of UTC; zeros without a date."""
    import calendar

    if when is None:
        return 0.0, 0.0
    offset = when[9] or 0
    parts = [part or 0 for part in when[:6]]
    return float(calendar.timegm((*parts, 0, 0, 0)) - offset), offset / 60


def _address(field: str, text: object) -> dict[str, object]:
    """Address and name of the first mailbox in *text*."""
    from email.utils import getaddresses

    name, address = (getaddresses([str(text)]) or [("", "")])[0]
    return {f"{field}_address": address, f"{field}_display_name": decoded_header(name)}
