"""What a process has to know to run mail scripts: plain values, the way they travel, and what is made of them there."""

import json
import shlex
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from authlua.dialect import Dialect
from authlua.lua import MailScript, ScriptLog, ScriptOptions, load_mail_script, user_variables
from authlua.mail import Maildir, MailUser, Storage, StorageError
from authlua.secret import Secret
from authlua.services import ImapServer, ImapStorage, exec_server, fulfil_now, imap_server
from authlua.variables import ExpansionError, compile_template

if TYPE_CHECKING:
    from collections.abc import Callable

    import trio


LENGTH = struct.Struct("!I")
"""In front of each frame; the rest of it is JSON."""


def encode_frame(*words: object) -> bytes:
    """*words* as they travel between the server and a process for mail scripts."""
    data = json.dumps(words).encode()
    return LENGTH.pack(len(data)) + data


@dataclass(frozen=True, slots=True, kw_only=True)
class MailPlan:
    """What the settings say of mail scripts."""

    script: str
    source: str
    """The script's text, for a process that may not read its file."""
    dialect: str
    server_dialect: str
    """The language of templates."""
    version: str
    path: Sequence[str]
    cpath: Sequence[str]
    settings: Mapping[str, str]
    memory_limit: int
    timeout: float
    """Seconds that a hook may take; 0: as long as it likes."""
    location: str
    separator: str
    attribute_dict: str
    imap_password: str = field(repr=False)

    @property
    def is_maildir(self) -> bool:
        """The mail is read where it lies, which takes the rights of its user."""
        return self.location.startswith("maildir:")

    def load(self, user: MailUser, storage: Storage, log: ScriptLog, *, in_process: bool = False) -> MailScript:
        """Load the script for *user*; raises `ScriptError`.

        *in_process*: in one that can be ended, so the script may run as long as that lasts.
        """
        options = ScriptOptions(
            version=self.version,
            path=self.path,
            cpath=self.cpath,
            settings=self.settings,
            memory_limit=self.memory_limit,
            now=fulfil_now,
            loading=0 if in_process else ScriptOptions().loading,
        )
        return load_mail_script(
            self.script,
            user,
            storage,
            log=log,
            dialect=Dialect(self.dialect),
            options=options,
            source=self.source.encode("utf-8", "surrogateescape"),
        )

    def storage(self, user: MailUser, loop: "Callable[[], trio.lowlevel.TrioToken] | None" = None) -> Storage:
        """The mail of *user*; *loop* gives the event loop to those who need one. Raises `StorageError`."""
        if self.location.startswith("exec:"):
            command = [self._expand(word, user) for word in shlex.split(self.location.removeprefix("exec:"))]
            return ImapStorage(exec_server(command), loop)
        if self.location.startswith(("imap://", "imaps://")):
            return ImapStorage(self._imap_server(urlsplit(self._expand(self.location, user)), user), loop)
        attributes = self._expand(self.attribute_dict, user).removeprefix("file:")
        return Maildir(
            self.maildir(user),
            attributes=_path(attributes, user) if attributes else None,
            separator=self.separator,
        )

    def maildir(self, user: MailUser) -> Path:
        """Where the Maildir of *user* is."""
        return _path(self._expand(self.location.removeprefix("maildir:"), user), user)

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
            password=Secret(self.imap_password.encode()),
        )

    def _expand(self, template: str, user: MailUser) -> str:
        dialect = Dialect(self.server_dialect)
        try:
            return compile_template(template, dialect).expand(user_variables(user, dialect))
        except ExpansionError as error:
            raise StorageError(f"mail: {template}: {error}") from error


def _path(text: str, user: MailUser) -> Path:
    if text == "~" or text.startswith("~/"):
        if not user.home:
            raise StorageError(f"mail.location: {text} needs a home, and the userdb gave none")
        text = user.home + text[1:]
    return Path(text)
