"""Mail scripts at work: the user from a userdb's reply, its mail from where the settings say, the hooks in a thread.

A script and its storage block, so everything of theirs runs in threads, at most `JOBS` at a time.
"""

import shlex
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

import trio

from authlua.config import MailSettings, Settings
from authlua.dialect import Dialect
from authlua.errors import ConfigError
from authlua.lua import MailScript, ScriptLog, ScriptOptions, load_mail_script, user_variables
from authlua.mail import Maildir, MailUser, Storage, StorageError, user_from_fields
from authlua.secret import Secret
from authlua.services import ImapServer, ImapStorage, exec_server, imap_server
from authlua.variables import ExpansionError, compile_template

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

JOBS = 8
"""Hooks that run at the same time."""


class MailScripts:
    """What the settings say of mail scripts, ready to be loaded for one user after the other."""

    def __init__(self, settings: Settings) -> None:
        mail = settings.mail
        if mail.script is None:
            raise ConfigError(["mail.script: missing, and this needs a mail script"])
        self.mail: MailSettings = mail
        self.script: Path = mail.script
        self.dialect = mail.dialect if isinstance(mail.dialect, Dialect) else settings.server.dialect
        self.server_dialect = settings.server.dialect
        self.options = ScriptOptions(
            version=settings.lua.version, path=settings.lua.path, cpath=settings.lua.cpath, settings=mail.settings
        )
        self.limiter = trio.CapacityLimiter(JOBS)

    def user(self, name: str, fields: Mapping[str, str], *, service: str, **more: str) -> MailUser:
        """The user *name* with the *fields* of its userdb reply; *more* as for `user_from_fields`."""
        session = fields.get("session_id") or uuid.uuid4().hex[:16]
        user = user_from_fields(name, fields, service=service, session_id=session, now=int(time.time()), **more)
        return replace(user, plugin=self.options.settings) if self.dialect is Dialect.V2_3 else user

    def load(self, user: MailUser, log: ScriptLog) -> MailScript:
        """Load the script for *user*; blocks.

        Raises `ScriptError`, or `StorageError` when there is no way to the user's mail.
        """
        return load_mail_script(
            self.script, user, self.storage(user), log=log, dialect=self.dialect, options=self.options
        )

    def try_to_load(self, log: "FilteringBoundLogger") -> None:
        """Load the script for a user without mail, and let it go; raises `ScriptError`."""
        user = self.user("nobody", {}, service="authlua")
        storage = Maildir(Path("/nonexistent"))
        write = script_log(log, user)
        load_mail_script(self.script, user, storage, log=write, dialect=self.dialect, options=self.options).close()

    def storage(self, user: MailUser) -> Storage:
        """The mail of *user*; raises `StorageError`."""
        location = self.mail.location
        if location.startswith("exec:"):
            command = [self._expand(word, user) for word in shlex.split(location.removeprefix("exec:"))]
            return ImapStorage(exec_server(command))
        if location.startswith(("imap://", "imaps://")):
            return ImapStorage(self._imap_server(urlsplit(self._expand(location, user)), user))
        return self._maildir(user)

    def _imap_server(self, url: SplitResult, user: MailUser) -> ImapServer:
        tls = url.scheme == "imaps"
        try:
            port = url.port or (993 if tls else 143)
        except ValueError as error:
            raise StorageError(f"mail.location: {error}") from error
        return imap_server(
            url.hostname or "localhost",
            port,
            tls=tls,
            user=user.username,
            master=unquote(url.username or ""),
            password=Secret(self.mail.imap_password.encode()),
        )

    def _maildir(self, user: MailUser) -> Maildir:
        where = self._expand(self.mail.location, user)
        attributes = self._expand(self.mail.attribute_dict, user).removeprefix("file:")
        return Maildir(
            self._path(where.removeprefix("maildir:"), user),
            attributes=self._path(attributes, user) if attributes else None,
            separator=self.mail.separator,
        )

    def _expand(self, template: str, user: MailUser) -> str:
        try:
            return compile_template(template, self.server_dialect).expand(user_variables(user, self.server_dialect))
        except ExpansionError as error:
            raise StorageError(f"mail: {template}: {error}") from error

    def _path(self, text: str, user: MailUser) -> Path:
        if text == "~" or text.startswith("~/"):
            if not user.home:
                raise StorageError(f"mail.location: {text} needs a home, and the userdb gave none")
            text = user.home + text[1:]
        return Path(text)


def script_log(log: "FilteringBoundLogger", user: MailUser) -> ScriptLog:
    """Where a mail script's lines go, each with its user and session."""
    bound = log.bind(user=user.username, service=user.service, session=user.session_id)
    write: Mapping[str, Callable[..., object]] = {
        level: getattr(bound, level) for level in ("debug", "info", "warning", "error")
    }

    def line(level: str, text: str, request: object, fields: Mapping[str, object]) -> None:
        write[level](text, **fields)

    return line
