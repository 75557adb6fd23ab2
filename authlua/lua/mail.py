"""A mail script: Dovecot's mail-lua plugin, its hooks called one after the other for one user.

Everything here blocks, so it belongs into a thread. A script has a Lua state for each user, and its globals last from
one hook to the next.
Rules: ``core:2.3.21.1:src/plugins/mail-lua/mail-lua-plugin.c``.
"""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua.api import storage as api
from authlua.lua.calls import DEFAULTS, ScriptLog, ScriptOptions
from authlua.lua.conversion import lua_string, text
from authlua.lua.script import (
    Script,
    Scripts,
    create,
    read,
    register_dovecot,
    script_create_file,
    script_create_string,
    script_init,
    script_unref,
)
from authlua.mail import Mail, Mailbox, MailUser, Storage

if TYPE_CHECKING:
    from authlua.variables import Filter

user_variables = api.user_variables
decoded_header = api.decoded_header

_PART = Path(api.__file__).with_name("storage.lua")


# -- for Python extensions, under Dovecot's names (core:2.3.21.1:src/lib-storage/mail-storage-lua.h) -------------------

_shared = Scripts()
"""Those that templates name with ``lua_file``; they stay."""
_loaded: "WeakValueDictionary[tuple[str, str], Script]" = WeakValueDictionary()


def register_mail_storage(script: Script) -> None:
    """Let *script* see ``dovecot.storage`` and use the objects that are pushed; any script, an auth script too.

    Best before it is initialised, as its main chunk may want the constants. Once is enough.
    """
    if not script.engine.extended(_PART.stem):
        script.engine.extend(_PART, api.callbacks(script.dialect, script.engine.table, partial(_filters, script)))


def push_mail_user(script: Script, user: MailUser, storage: Storage) -> Any:
    """A new mail_user object for *user*, whose mail is in *storage*; an argument for `pcall`."""
    handle = api.UserHandle(user, storage)
    return _enter(script, "new_user", script.engine.table(api.user_fields(handle, script.dialect)))


def push_mailbox(script: Script, mailbox: Mailbox) -> Any:
    """A new mailbox object, an argument for `pcall`; the script may free it, else it is closed with its storage."""
    names = lua_string(mailbox.vname), lua_string(mailbox.name)
    return _enter(script, "new_mailbox", api.MailboxHandle(mailbox), *names)


def push_mail(script: Script, mailbox: Mailbox, mail: Mail) -> Any:
    """A new mail object for *mail* of *mailbox*, an argument for `pcall`."""
    fields = script.engine.table(api.mail_fields(mail, script.engine.table))
    names = lua_string(mailbox.vname), lua_string(mailbox.name)
    return _enter(script, "new_mail", fields, api.MailboxHandle(mailbox), *names, float(mail.uid))


def mail_lua_get_script(user: MailUser) -> Script | None:
    """The mail script that is loaded for *user* in this session, if there is one."""
    return _loaded.get((user.username, user.session_id))


def _filters(script: Script, handle: api.UserHandle) -> "Mapping[str, Filter]":
    """``lua_call`` and ``lua_file``, which templates have from 2.4.1 on."""
    if script.dialect is not Dialect.V2_4:
        return {}
    from authlua.lua.api.scripted import Call, filters

    def own(name: bytes, *values: bytes) -> Any:
        user = script.engine.table(api.user_fields(handle, script.dialect))
        return _enter(script, "filter", name, user, *values)

    def of_file(path: str) -> Call:
        from authlua.variables import ExpansionError

        try:
            shared = _shared_script(path, script)
        except ScriptError as error:
            raise ExpansionError(str(error)) from None
        return lambda name, *values: _enter(shared, "filter", name, None, *values)

    return filters(own, of_file)


def _shared_script(path: str, like: Script) -> Script:
    """The script at *path*, loaded once for this process in the manner of another; raises `ScriptError`."""
    calls = like.calls
    known = _shared.again(path)
    if known is not None:
        return known
    script = script_create_file(path, log=calls.log, dialect=like.dialect, options=calls.options)
    register_dovecot(script)
    register_mail_storage(script)
    script_init(script)
    _shared.keep(script)
    return script


def _enter(script: Script, name: str, *arguments: Any) -> Any:
    """Call what ``storage.lua`` has for Python under *name*."""
    if not script.engine.extended(_PART.stem):
        raise ValueError(f"register_mail_storage() has not been called for {script.name}")
    return script.engine.enter(_PART.stem, name, *arguments)


# -- a session ---------------------------------------------------------------------------------------------------------


class MailScript:
    """A loaded mail script with its user.

    `created` comes first. When it refuses or fails, or the script does not have it, no other hook is run.
    """

    def __init__(self, script: Script, user: MailUser, storage: Storage) -> None:
        self._script = script
        self._engine = script.engine
        self._calls = script.calls
        self._handle = api.UserHandle(user, storage)
        self._has_user = False
        _loaded[user.username, user.session_id] = script
        self.fields: dict[str, str] = {}
        """The userdb fields that ``mail_user_created`` wants set: its third result, which only authlua looks at."""

    @property
    def has_more(self) -> bool:
        """Whether the script has anything left to be called; nothing can be added to it while no hook runs."""
        hooks = ("mail_user_deinit_pre", "mail_user_deinit", "script_deinit")
        return not self._engine.closed and any(map(self._engine.defines, hooks))

    def created(self) -> str | None:
        """Call ``mail_user_created(user)``; its text when it refuses the user, `None` when all is well.

        Raises `ScriptError` with the text to log when the function fails.
        """
        if not self._engine.defines("mail_user_created"):
            self.close()
            return None
        refusal = self._hook("mail_user_created")
        self._has_user = refusal is None
        return refusal

    def deinit(self) -> bool:
        """Call ``mail_user_deinit_pre(user)`` and ``mail_user_deinit(user)``; false if one failed, which is logged."""
        fine = True
        for name in ("mail_user_deinit_pre", "mail_user_deinit"):
            if not self._has_user:
                break
            if not self._engine.defines(name):
                continue
            try:
                problem = self._hook(name)
            except ScriptError as error:
                self._log(f"mail-lua: {error}")
                fine = False
            else:
                if problem is not None:
                    self._log(f"mail-lua: {name}(user) failed: {problem}")
                    fine = False
        self._has_user = False
        return fine

    def close(self) -> None:
        """Call ``script_deinit``, whose error is only logged, and free the Lua state; once."""
        if self._engine.closed:
            return
        script_unref(self._script)
        _loaded.pop((self._handle.user.username, self._handle.user.session_id), None)
        self._handle.storage.close()

    def mailbox(self, name: str) -> Mailbox:
        """The user's mailbox of that name."""
        return Mailbox(self._handle.storage, name)

    def notify(self, suffix: str, event: Mapping[str, object]) -> None:
        """Call the push-notification functions for one *event*; what fails is logged, and the rest goes on.

        *suffix* is what stands behind ``dovecot_lua_notify_event_``. Values are texts, numbers or lists of texts.
        """
        fields = {lua_string(name): self._pushed(value) for name, value in event.items()}
        user = self._engine.table(api.user_fields(self._handle, self._calls.rules.dialect))
        failures = _enter(self._script, "notify", suffix.encode(), user, self._engine.table(fields))
        for failure in failures if isinstance(failures, tuple) else (failures,):
            if failure is not None:
                self._log(f"push-notification-lua: {text(failure)}")
        self._collect("dovecot_lua_notify_end_txn")
        self._handle.storage.close()

    def _pushed(self, value: object) -> object:
        if isinstance(value, list):
            return self._engine.table([lua_string(one) for one in value])
        return lua_string(value) if isinstance(value, str) else value

    def _hook(self, name: str) -> str | None:
        """The text of a negative result."""
        fields = self._engine.table(api.user_fields(self._handle, self._calls.rules.dialect))
        step = _enter(self._script, "hook", name.encode(), fields)
        if step is None:
            return None
        ok, *rest = step if isinstance(step, tuple) else (step,)
        self._collect(name)
        self._handle.storage.close()
        if not ok:
            message = "(null)" if not rest or rest[0] is None else text(rest[0])
            raise ScriptError(f"{name}(user) failed: lua_pcall({name}, 1, 2) failed: {message}")
        negative, shown, *pairs = rest if len(rest) > 1 else (rest[0], None)
        self.fields = {text(key): text(value) for key, value in zip(pairs[::2], pairs[1::2], strict=True)}
        return ("(null)" if shown is None else text(shown)) if negative else None

    def _collect(self, name: str) -> None:
        """What Dovecot collects after a hook; a mailbox that is left would end its process."""
        survivors = _enter(self._script, "survivors")
        for item in survivors if isinstance(survivors, tuple) else (survivors,):
            if isinstance(item, api.MailboxHandle) and item.mailbox is not None:
                self._calls.log("warning", f"{name}(user): mailbox {item.mailbox.vname} was not freed", None, {})
                item.mailbox.close()
                item.mailbox = None

    def _log(self, message: str) -> None:
        self._calls.log("error", message, None, {})


def prepare_mail_scripts(version: str) -> None:
    """Load what every script of Lua *version* needs from authlua's own files."""
    options = ScriptOptions(version=version)
    script = script_create_string("", log=lambda *_: None, dialect=Dialect.V2_4, options=options)
    register_mail_storage(script)
    script_unref(script)


def load_mail_script(
    path: Path | str,
    user: MailUser,
    storage: Storage,
    *,
    log: ScriptLog,
    dialect: Dialect,
    options: ScriptOptions = DEFAULTS,
    source: bytes | None = None,
) -> MailScript:
    """Load the script at *path*, or its text *source*, for *user*, whose mail is in *storage*.

    Raises `ScriptError` with Dovecot's text for whatever keeps the script from starting.
    """
    name = os.fspath(path)
    try:
        script = create(name, read(name) if source is None else source, "@" + name, log, dialect, options)
    except ScriptError as error:
        failed = f"dlua_script_create_auto() failed: Lua script '{name}'"
        if dialect is Dialect.V2_3:
            failed = f"dlua_script_create_file({name}) failed"
        raise ScriptError(f"{failed}: {error}") from error
    try:
        register_dovecot(script)
        register_mail_storage(script)
        script_init(script)
    except ScriptError as error:
        script_unref(script)
        raise ScriptError(f"dlua_script_init({name}) failed: {error}") from error
    return MailScript(script, user, storage)
