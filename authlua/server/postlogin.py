"""Sessions of Dovecot's mail processes: the hooks of the mail script run before a session begins and when it has ended.

A mail process asks on the socket and waits; no answer refuses the session. Its end is the end of the process, which
serves one session as Dovecot is configured by default. The client's own connection comes along with the question. It
is closed at once, or the client would never see its session end; only a refusal is written to it first.
"""

import array
import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING

import trio

from authlua.errors import ScriptError
from authlua.lua import MailScript
from authlua.mail import MailUser, StorageError
from authlua.protocol import PostLogin, RemoteProtocolError, encode_postlogin, parse_postlogin
from authlua.server.mail import MailScripts, script_log

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from authlua.server.app import App
    from authlua.server.listeners import Listener

TIMEOUT = 60.0
"""Seconds in which a mail process must have asked; it waits as long for the answer."""

_FDS = 4
_DEINIT_TIMEOUT = 5.0


async def serve_postlogin(app: "App", listener: "Listener", sock: socket.socket) -> None:
    """Serve one session from its question to its end; never raises."""
    try:
        await _serve(app, listener, sock)
    except Exception:
        app.log.error("internal_error", listener=listener.name, exc_info=True)


async def _serve(app: "App", listener: "Listener", sock: socket.socket) -> None:
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(trio.socket.from_stdlib_socket(sock))
        clients: list[socket.socket] = []
        stack.callback(_close, clients)
        try:
            pid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            process = os.pidfd_open(pid)
            stack.callback(os.close, process)
            with trio.fail_after(TIMEOUT):
                question = await _question(connection, clients)
        except (RemoteProtocolError, OSError, trio.TooSlowError) as error:
            reason = str(error) or f"no question within {TIMEOUT:.0f} s"
            app.log.error("postlogin_failed", listener=listener.name, reason=reason)
            return
        scripts = app.core.mail
        if scripts is None:
            app.log.error("postlogin_failed", listener=listener.name, reason="there is no mail.script any more")
            return
        service = listener.settings.service
        known = {name: value or "" for name, value in question.fields.items()}
        addresses = {"local_ip": question.local_ip, "remote_ip": question.remote_ip}
        user = scripts.user(question.user, known, service=service, **addresses)
        log = app.log.bind(user=user.username, service=service, session=user.session_id, rip=user.remote_ip)
        script = await _begin(scripts, user, log, clients)
        if script is None:
            return
        try:
            with contextlib.suppress(OSError):  # the process is gone already, so its session is over
                await connection.send(encode_postlogin(question.user, {**question.fields, **script.fields}))
            connection.close()
            _close(clients)
            log.info("mail_session_began", pid=pid)
            await trio.lowlevel.wait_readable(process)
            await trio.to_thread.run_sync(script.deinit, limiter=scripts.limiter)
            log.info("mail_session_finished", pid=pid)
        finally:
            with trio.move_on_after(_DEINIT_TIMEOUT, shield=True):
                await trio.to_thread.run_sync(script.close)


async def _question(connection: trio.socket.SocketType, clients: list[socket.socket]) -> PostLogin:
    """What is asked; the open files that come with it are put into *clients*."""
    data = b""
    while True:
        piece, ancillary, _, _ = await connection.recvmsg(8192, socket.CMSG_SPACE(_FDS * 4))
        for level, kind, files in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers = array.array("i", files[: len(files) - len(files) % 4])
                clients += [socket.socket(fileno=number) for number in numbers]  # of TLS clients too, behind a proxy
        data += piece
        question = parse_postlogin(data)
        if question is not None:
            return question
        if not piece:
            raise RemoteProtocolError("post-login: the process went away before it had asked")


async def _begin(
    scripts: MailScripts, user: MailUser, log: "FilteringBoundLogger", clients: list[socket.socket]
) -> MailScript | None:
    """The script, when the session may begin; whoever is refused is told so by a line of their protocol."""

    def created() -> tuple[MailScript, str | None]:
        script = scripts.load(user, script_log(log, user))
        try:
            return script, script.created()
        except ScriptError:
            script.close()
            raise

    try:
        script, refusal = await trio.to_thread.run_sync(created, limiter=scripts.limiter)
    except (ScriptError, StorageError) as error:
        log.error(str(error))
        _tell(user, "Internal error occurred. Refer to server log for more information.", clients)
        return None
    if refusal is None:
        return script
    log.info("mail_session_refused", reason=refusal)
    _tell(user, refusal, clients)
    await trio.to_thread.run_sync(script.close, limiter=scripts.limiter)
    return None


def _close(clients: list[socket.socket]) -> None:
    while clients:
        clients.pop().close()


def _tell(user: MailUser, text: str, clients: list[socket.socket]) -> None:
    shown = " ".join(text.split())
    line = f"-ERR {shown}\r\n" if user.service == "pop3" else f"* BYE [ALERT] {shown}\r\n"
    for client in clients:
        with contextlib.suppress(OSError):  # whoever does not read it does not care
            client.send(line.encode("utf-8", "surrogateescape"), socket.MSG_DONTWAIT)
