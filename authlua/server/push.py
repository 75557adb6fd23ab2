"""Push notifications of Dovecot's deliveries, handed to the script's push-notification functions.

Dovecot hears at once that its notification has arrived; the script runs afterwards, with the rights of its user.
"""

import socket
from typing import TYPE_CHECKING

import trio

from authlua.errors import ScriptError
from authlua.mail import MailUser, StorageError
from authlua.protocol import NotFound, Push, PushReader, RemoteProtocolError, UserFound, encode_answer
from authlua.server.driving import complete
from authlua.server.mail import MailScripts, script_log

if TYPE_CHECKING:
    from authlua.server.app import App
    from authlua.server.core import Core
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
    app.core.holds += 1
    app.tasks.start_soon(_notify, app, app.core, scripts, push)
    return 200


async def _notify(app: "App", core: "Core", scripts: MailScripts, push: Push) -> None:
    """Run the script for one notification; whatever goes wrong is in the log."""
    try:
        user = await _user(app, core, scripts, push)
        if user is not None:
            async with scripts.limiter:
                await _run(app, scripts, user, push)
    except Exception:
        app.log.error("internal_error", user=push.user, exc_info=True)
    finally:
        core.release()


async def _user(app: "App", core: "Core", scripts: MailScripts, push: Push) -> MailUser | None:
    """The user of the notification, as the userdb knows them."""
    from authlua.auth import new_request

    fields: dict[str, str] = {}
    name = push.user
    match await complete(core.auth.lookup_user(new_request([("service", "lmtp")], id=1), name)):
        case UserFound(_, name, found):
            fields = {field: value or "" for field, value in found}
        case NotFound():
            app.log.error("push_failed", user=name, reason="the userdb does not know this user")
            return None
        case failed:
            app.log.error("push_failed", user=name, reason=failed.reason or "the userdb failed")
            return None
    return scripts.user(name, fields, service="lmtp")


async def _run(app: "App", scripts: MailScripts, user: MailUser, push: Push) -> None:
    log = script_log(app.log, user)
    try:
        process = await scripts.process(user)
        try:
            await process.push(user, push, log)
        finally:
            scripts.give_back(process)
    except (ScriptError, StorageError) as error:
        log("error", str(error), None, {})
        return
    app.log.info(
        "push_notification_finished", user=user.username, event_name=push.event, mailbox=push.folder, uid=push.uid
    )
