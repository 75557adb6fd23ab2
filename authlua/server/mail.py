"""Mail scripts at work: the user from a userdb's reply, and a process with the user's rights that runs the hooks.

Nothing of a mail script runs in the server itself. A script that loops, crashes or eats memory ends its own process,
and what it can read is what its user can read.
"""

import os
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from authlua.config import Settings
from authlua.dialect import Dialect
from authlua.errors import ConfigError, ScriptError
from authlua.lua import ScriptLog
from authlua.mail import Maildir, MailUser, StorageError, user_from_fields
from authlua.server.mail_plan import MailPlan
from authlua.server.mail_process import MailProcess, MailZygote, Rights
from authlua.server.zygote import Zygote

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

JOBS = 8
"""Hooks that run at the same time, and processes that are kept for the next."""


class MailScripts:
    """What the settings say of mail scripts, and the processes that run them.

    Args:
        zygote: what processes are made from.
        trusts_owner: a user without a uid is fine, and whoever started us reads the mail.
    """

    def __init__(self, settings: Settings, zygote: Zygote | None = None, *, trusts_owner: bool = False) -> None:
        mail = settings.mail
        if mail.script is None:
            raise ConfigError(["mail.script: missing, and this needs a mail script"])
        self.dialect = mail.dialect if isinstance(mail.dialect, Dialect) else settings.server.dialect
        self.plan = MailPlan(
            script=str(mail.script),
            source=_source(mail.script),
            dialect=str(self.dialect),
            server_dialect=str(settings.server.dialect),
            version=settings.lua.version,
            path=[*settings.lua.path],
            cpath=[*settings.lua.cpath],
            settings={**mail.settings},
            memory_limit=settings.lua.memory_limit,
            timeout=settings.lua.timeout,
            location=mail.location,
            separator=mail.separator,
            attribute_dict=mail.attribute_dict,
            imap_password=mail.imap_password,
        )
        self.limiter = trio.CapacityLimiter(JOBS)
        self._ids = _number(mail.uid, _uid), _number(mail.gid, _gid)
        self._zygote = zygote
        self._forks: MailZygote | None = None
        self._trusts_owner = trusts_owner
        self._idle: list[MailProcess] = []
        self._closed = False

    def user(self, name: str, fields: Mapping[str, str], *, service: str, **more: str) -> MailUser:
        """The user *name* with the *fields* of its userdb reply; *more* as for `user_from_fields`."""
        session = fields.get("session_id") or uuid.uuid4().hex[:16]
        uid, gid = self._ids
        plugin = self.plan.settings if self.dialect is Dialect.V2_3 else {}
        now = int(time.time())
        return user_from_fields(
            name, fields, service=service, session_id=session, now=now, uid=uid, gid=gid, plugin=plugin, **more
        )

    def try_to_load(self, log: "FilteringBoundLogger") -> None:
        """Load the script here, for a user without mail, and let it go; raises `ScriptError`."""
        user = self.user("nobody", {}, service="authlua")
        self.plan.load(user, Maildir(Path("/nonexistent")), script_log(log, user)).close()

    # -- processes

    async def process(self, user: MailUser) -> MailProcess:
        """A process for *user*, to be given back; raises `StorageError`."""
        return self.process_with(await self.rights(user))

    def process_with(self, rights: Rights) -> MailProcess:
        """A process with these *rights*, to be given back; raises `StorageError`."""
        for process in reversed(self._idle):
            if process.rights == rights:
                self._idle.remove(process)
                if process.lives:
                    return process
                process.close()
        if self._zygote is None:
            raise StorageError("mail scripts were not configured when the server started: restart it")
        if self._forks is None:
            self._forks = MailZygote(self._zygote, self.plan)
        try:
            ours = self._forks.fork(rights)
        except OSError:  # somebody has killed it
            self._forks.close()
            self._forks = MailZygote(self._zygote, self.plan)
            ours = self._forks.fork(rights)
        return MailProcess(ours, rights, self.plan.timeout)

    def give_back(self, process: MailProcess) -> None:
        """Nobody needs *process* any more; if it is in order it is kept for somebody else."""
        if self._closed or not process.usable:
            process.close()
            return
        self._idle.append(process)
        if len(self._idle) > max(JOBS, self.limiter.total_tokens):
            self._idle.pop(0).close()

    def close(self) -> None:
        """Let the processes end; those with a session do so after it."""
        self._closed = True
        if self._forks is not None:
            self._forks.close()
        while self._idle:
            self._idle.pop().close()

    async def rights(self, user: MailUser) -> Rights:
        """Whose rights the script of *user* has; raises `StorageError` when that cannot be, or should not.

        A Maildir is read with the rights of its user. A server asks for a name and a password instead.
        """
        mine = Rights(os.geteuid(), os.getegid(), tuple(os.getgroups()))
        if not self.plan.is_maildir:
            return mine
        if self._zygote is None or not self._zygote.is_root:
            if user.uid in (0, mine.uid):
                return mine
            raise StorageError(
                f"the mail of {user.username} is read with the rights of uid {user.uid}, and authlua runs as uid "
                f"{mine.uid}, which cannot become others: run it as root, or as uid {user.uid}"
            )
        if user.uid == 0:
            if self._trusts_owner:
                return mine
            raise StorageError(
                f"the userdb names no uid but root's for {user.username}, and root reads nobody's mail: "
                "let it return uid and gid, or set mail.uid and mail.gid"
            )
        groups_of = user.fields.get("system_groups_user")
        if groups_of or not user.gid:
            return await trio.to_thread.run_sync(_looked_up, user, groups_of)
        return Rights(user.uid, user.gid, (user.gid,))


def _looked_up(user: MailUser, groups_of: str | None) -> Rights:
    """The rights of *user* by the system's own lists; may block."""
    import pwd

    gid = user.gid
    if not gid:
        try:
            gid = pwd.getpwuid(user.uid).pw_gid
        except KeyError:
            raise StorageError(
                f"the userdb names no gid for {user.username}, and the system has no user with uid {user.uid}: "
                "let it return a gid, or set mail.gid"
            ) from None
    groups = os.getgrouplist(groups_of, gid) if groups_of else [gid]
    return Rights(user.uid, gid, tuple(groups))


def _source(script: Path) -> str:
    try:
        return script.read_text("utf-8", "surrogateescape")
    except OSError as error:
        raise ScriptError(f"dlua_script_create_file({script}) failed: {error.strerror}") from error


def _number(name: str, look_up: Callable[[str], int]) -> int:
    """The number that *name* is or stands for; 0 for none."""
    return int(name or 0) if not name or name.isdecimal() else look_up(name)


def _uid(name: str) -> int:
    import pwd

    return pwd.getpwnam(name).pw_uid


def _gid(name: str) -> int:
    import grp

    return grp.getgrnam(name).gr_gid


def script_log(log: "FilteringBoundLogger", user: MailUser) -> ScriptLog:
    """Where a mail script's lines go, each with its user and session."""
    bound = log.bind(user=user.username, service=user.service, session=user.session_id)
    write: Mapping[str, Callable[..., object]] = {
        level: getattr(bound, level) for level in ("debug", "info", "warning", "error")
    }

    def line(level: str, text: str, request: object, fields: Mapping[str, object]) -> None:
        write[level](text, **fields)

    return line
