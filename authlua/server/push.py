"""Push notifications of Dovecot's deliveries, handed to the script's push-notification functions.

Dovecot hears at once that its notification has arrived; the script runs afterwards, in a thread.
What the notification does not say of a mail is read from the mail itself.
"""

import socket
from email import message_from_bytes
from email.utils import parsedate_tz
from typing import TYPE_CHECKING

import trio

from authlua.errors import ScriptError
from authlua.lua import decoded_header
from authlua.mail import FLAG_NAMES, Mailbox, MailUser, StorageError
from authlua.protocol import NotFound, Push, PushReader, RemoteProtocolError, UserFound, encode_answer
from authlua.server.driving import complete
from authlua.server.mail import MailScripts, script_log

if TYPE_CHECKING:
    from authlua.server.app import App
    from authlua.server.listeners import Listener

TIMEOUT = 300.0
"""Seconds that a connection may stay idle."""
WAITING = 1000
"""Notifications whose script has not run yet; more are refused, and Dovecot sends them again."""


async def serve_push(app: "App", listener: "Listener", sock: socket.socket) -> None:
    """Take notifications from one connection until it ends; never raises."""
    reader = PushReader()
    with trio.socket.from_stdlib_socket(sock) as connection:
        try:
            while True:
                with trio.fail_after(TIMEOUT):
                    data = await connection.recv(65536)
                if not data:
                    return
                for push in reader.receive(data):
                    await connection.send(encode_answer(_accept(app, push)))
        except RemoteProtocolError as error:
            app.log.error("push_failed", listener=listener.name, reason=str(error))
            await _refuse(connection)
        except (OSError, trio.TooSlowError):
            return  # the connection is over, and all that it brought has been taken


async def _refuse(connection: trio.socket.SocketType) -> None:
    try:
        await connection.send(encode_answer(400))
    except OSError:
        return  # nobody waits for it


def _accept(app: "App", push: Push) -> int:
    """Start the script; the status for Dovecot."""
    scripts = app.core.mail
    if scripts is None or scripts.limiter.statistics().tasks_waiting >= WAITING:
        app.log.error("push_failed", user=push.user, reason="too many are waiting" if scripts else "no mail.script")
        return 503
    app.tasks.start_soon(_notify, app, scripts, push)
    return 200


async def _notify(app: "App", scripts: MailScripts, push: Push) -> None:
    """Run the script for one notification; whatever goes wrong is in the log."""
    try:
        user = await _user(app, scripts, push)
        if user is not None:
            await trio.to_thread.run_sync(_run, app, scripts, user, push, limiter=scripts.limiter)
    except Exception:
        app.log.error("internal_error", user=push.user, exc_info=True)


async def _user(app: "App", scripts: MailScripts, push: Push) -> MailUser | None:
    """The user of the notification, as the userdb knows them."""
    from authlua.auth import new_request

    fields: dict[str, str] = {}
    name = push.user
    match await complete(app.core.auth.lookup_user(new_request([("service", "lmtp")], id=1), name)):
        case UserFound(_, name, found):
            fields = {field: value or "" for field, value in found}
        case NotFound():
            app.log.error("push_failed", user=name, reason="the userdb does not know this user")
            return None
        case failed:
            app.log.error("push_failed", user=name, reason=failed.reason or "the userdb failed")
            return None
    return scripts.user(name, fields, service="lmtp")


def _run(app: "App", scripts: MailScripts, user: MailUser, push: Push) -> None:
    """Blocks."""
    log = script_log(app.log, user)
    try:
        script = scripts.load(user, log)
    except (ScriptError, StorageError) as error:
        log("error", str(error), None, {})
        return
    try:
        suffix = {"messageNew": "message_new", "messageAppend": "message_append"}[push.event]
        script.notify(suffix, event_of(script.mailbox(push.folder), push))
        app.log.info(
            "push_notification_finished", user=user.username, event_name=push.event, mailbox=push.folder, uid=push.uid
        )
    finally:
        script.close()


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
