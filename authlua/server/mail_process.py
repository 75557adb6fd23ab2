"""The server's hold on a process for mail scripts, see `authlua.server.mail_worker`."""

import json
import marshal
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, NamedTuple

import trio

from authlua.errors import ScriptError
from authlua.lua import ScriptLog
from authlua.mail import MailUser
from authlua.protocol import Push
from authlua.server.mail_plan import LENGTH, MailPlan, encode_frame
from authlua.server.zygote import Zygote

GRACE = 5.0
"""Seconds after its time that a process may need to be gone; one that waits for a disk cannot be ended."""

MAX_FRAME = 16 << 20
"""Bytes of what a process may say at once."""


_USER = [field.name for field in fields(MailUser)]


def _plain(user: MailUser) -> dict[str, Any]:
    return {name: getattr(user, name) for name in _USER}


class Rights(NamedTuple):
    """Whose rights a process has."""

    uid: int
    gid: int
    groups: tuple[int, ...]


class Verdict(NamedTuple):
    """What came of ``mail_user_created``."""

    refusal: str | None
    fields: Mapping[str, str]
    """To be set for the session."""
    lasts: bool
    """There are hooks to be run at the session's end, so the process is the session's until then."""


class MailZygote:
    """A process that knows *plan* and has everything loaded, from which others are forked."""

    def __init__(self, zygote: Zygote, plan: MailPlan) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, open(os.memfd_create("authlua-mail"), "wb") as file:
            file.write(json.dumps(asdict(plan)).encode())
            file.flush()
            zygote.fork("mail_worker", (), theirs.fileno(), file.fileno())

    def fork(self, rights: Rights) -> socket.socket:
        """A process with *rights*, by its socket; raises `OSError` when this one is gone."""
        ours, theirs = socket.socketpair()
        with theirs:
            order = (rights.uid, rights.gid, [*rights.groups])
            try:
                socket.send_fds(self._sock, [marshal.dumps(order)], [theirs.fileno()])
            except OSError:
                ours.close()
                raise
        return ours

    def close(self) -> None:
        """Let it end; it takes none of its processes with it."""
        self._sock.close()


class MailProcess:
    """One process, which does one thing at a time."""

    def __init__(self, ours: socket.socket, rights: Rights, timeout: float) -> None:
        self.rights = rights
        self.usable = True
        """It can be asked something else."""
        self._plain = ours
        self._sock = trio.socket.from_stdlib_socket(ours)
        self._timeout = timeout
        self._buffer = bytearray()

    @property
    def lives(self) -> bool:
        """It has not ended while nobody asked it anything."""
        try:
            return bool(self._plain.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False

    async def begin(self, user: MailUser, log: ScriptLog) -> Verdict:
        """Call ``mail_user_created`` in a fresh state; `ScriptError` when that fails."""
        return Verdict(*await self._ask(log, "begin", _plain(user)))

    async def end(self, log: ScriptLog) -> bool:
        """Call the deinit hooks; false if one failed, which is logged."""
        (fine,) = await self._ask(log, "end")
        return bool(fine)

    async def leave(self, log: ScriptLog) -> None:
        """Unload the script."""
        await self._ask(log, "leave")

    async def push(self, user: MailUser, push: Push, log: ScriptLog) -> None:
        """Call the push-notification functions."""
        await self._ask(log, "push", _plain(user), push)

    async def run(self, users: Sequence[MailUser], log: ScriptLog, outcome: Callable[[str, str | None], None]) -> None:
        """A whole session for each of *users*; *outcome* hears of each when it is over, in order."""
        await self._ask(log, "run", [_plain(user) for user in users], outcome=outcome)

    def close(self) -> None:
        """Let it end, as soon as it has done what it was asked for."""
        self._sock.close()

    async def _ask(
        self, log: ScriptLog, *question: object, outcome: Callable[[str, str | None], None] | None = None
    ) -> Sequence[Any]:
        """The words behind ``done``."""
        self.usable = False
        started = trio.current_time()
        try:
            await trio.SocketStream(self._sock).send_all(encode_frame(*question))
            while True:
                with trio.fail_after(self._timeout + GRACE if self._timeout else float("inf")):
                    kind, *words = await self._next()
                if kind == "log":
                    log(words[0], words[1], None, words[2])
                elif kind == "outcome" and outcome is not None:
                    outcome(words[0], words[1])
                    started = trio.current_time()
                elif kind == "done":
                    self.usable = not words[0]
                    return words[1:]
                elif kind == "failed":
                    self.usable = not words[0]
                    raise ScriptError(words[1])
                else:
                    raise ValueError(kind)
        except (OSError, EOFError, ValueError, trio.TooSlowError, trio.BrokenResourceError) as error:
            if self._timeout and trio.current_time() - started >= self._timeout:
                raise ScriptError(f"a hook took longer than {self._timeout:g} s (lua.timeout)") from error
            raise ScriptError("the process of the mail script has ended unexpectedly") from error

    async def _next(self) -> list[Any]:
        while True:
            if len(self._buffer) >= LENGTH.size:
                (size,) = LENGTH.unpack_from(self._buffer)
                if size > MAX_FRAME:
                    raise ValueError(f"a frame of {size} bytes")
                end = LENGTH.size + size
                if len(self._buffer) >= end:
                    frame: list[Any] = json.loads(self._buffer[LENGTH.size : end])
                    del self._buffer[:end]
                    return frame
            data = await self._sock.recv(65536)
            if not data:
                raise EOFError
            self._buffer += data
