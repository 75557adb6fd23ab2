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
from authlua.lua import ScriptLog
from authlua.mail import MailUser, StorageError
from authlua.protocol import PostLogin, RemoteProtocolError, encode_postlogin, parse_postlogin
from authlua.server.mail import MailScripts, script_log
from authlua.server.mail_process import MailProcess, Verdict

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from authlua.server.app import App
    from authlua.server.listeners import Listener

TIMEOUT = 60.0
"""Seconds in which a mail process must have asked; it waits as long for the answer."""

_FDS = 4


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
            handle = os.pidfd_open(pid)
            stack.callback(os.close, handle)
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
        session = await _begin(scripts, user, log, clients)
        if session is None:
            return
        process, verdict = session
        try:
            with contextlib.suppress(OSError):  # the process is gone already, so its session is over
                await connection.send(encode_postlogin(question.user, {**question.fields, **verdict.fields}))
            connection.close()
            _close(clients)
            log.info("mail_session_began", pid=pid)
            if not verdict.lasts:
                scripts.give_back(process)
            await trio.lowlevel.wait_readable(handle)
            if verdict.lasts:
                await _end(scripts, process, script_log(log, user))
            log.info("mail_session_finished", pid=pid)
        finally:
            if verdict.lasts:
                scripts.give_back(process)


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
) -> tuple[MailProcess, Verdict] | None:
    """The process and what it said, when the session may begin; who is refused is told by a line of their protocol."""
    try:
        async with scripts.limiter:
            process = await scripts.process(user)
            try:
                verdict = await process.begin(user, script_log(log, user))
            except BaseException:
                scripts.give_back(process)
                raise
    except (ScriptError, StorageError) as error:
        log.error(str(error))
        _tell(user, "Internal error occurred. Refer to server log for more information.", clients)
        return None
    if verdict.refusal is None:
        return process, verdict
    log.info("mail_session_refused", reason=verdict.refusal)
    _tell(user, verdict.refusal, clients)
    scripts.give_back(process)
    return None


async def _end(scripts: MailScripts, process: MailProcess, log: ScriptLog) -> None:
    """Call what is left to be called; a failure is only logged, as nobody is there to hear of it."""
    async with scripts.limiter:
        try:
            await process.end(log)
            await process.leave(log)
        except ScriptError as error:
            log("error", f"mail-lua: {error}", None, {})


def _close(clients: list[socket.socket]) -> None:
    while clients:
        clients.pop().close()


def _tell(user: MailUser, text: str, clients: list[socket.socket]) -> None:
    shown = " ".join(text.split())
    line = f"-ERR {shown}\r\n" if user.service == "pop3" else f"* BYE [ALERT] {shown}\r\n"
    for client in clients:
        with contextlib.suppress(OSError):  # whoever does not read it does not care
            client.send(line.encode("utf-8", "surrogateescape"), socket.MSG_DONTWAIT)
