"""A script as a passdb or a userdb: loaded, asked, closed."""

import os
from collections.abc import Sequence
from pathlib import Path

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua.api.request import fill_in_settings
from authlua.lua.calls import DEFAULTS, Definition, ScriptLog, ScriptOptions
from authlua.lua.conversion import c_string, text
from authlua.lua.detect import detect
from authlua.lua.engine import MISSING, RAISED, WISH, Engine, Full, Step
from authlua.lua.replies import PASSDB_LOOKUP, PASSWORD_VERIFY, SET_CREDENTIALS, USERDB_LOOKUP, Judge, users
from authlua.lua.script import (
    Script,
    Scripts,
    create,
    discard,
    raised,
    read,
    register_dovecot,
    renew,
    script_init,
    script_unref,
)
from authlua.request import AuthRequest
from authlua.results import PassdbReply, UserdbReply
from authlua.secret import Secret


class _Database:
    """One loaded script."""

    def __init__(self, script: Script, definition: Definition, cache_key: str | None) -> None:
        self.source = script.source
        """The script's text as it was loaded; the file may have changed since."""
        self._script = script
        self._judge = Judge(script.calls)
        self._definition = definition if definition != script.calls.definition else None
        self._debug = script.calls.options.debug
        self._closed = False
        self.cache_key = cache_key
        """The template a 2.4 script gave for the cache's key; `None` if it gave none."""

    @property
    def dialect(self) -> Dialect:
        """The dialect the script is run in."""
        return self._script.dialect

    @property
    def busy(self) -> int:
        """How many calls wait for something; closing ends them with a `ScriptError`."""
        return self._script.engine.busy

    def _start(self, name: bytes, request: AuthRequest, password: bytes | None = None) -> tuple[Engine, Step]:
        """Begin a call; with the engine it runs in."""
        if self._debug or request.debug:
            self._script.calls.log("debug", f"Calling {name.decode()}", request, {})
        engine = self._script.engine
        try:
            return engine, engine.start(name, request, password, self._definition)
        except Full:
            renew(self._script)
            engine = self._script.engine
            return engine, engine.start(name, request, password, self._definition)

    def close(self) -> None:
        """Call ``script_deinit``, whose error is only logged, and free the Lua state, unless others share it; once."""
        if not self._closed:
            self._closed = True
            script_unref(self._script)


class LuaPassdb(_Database):
    """A passdb in Lua. Its methods await only wishes, and end in one ``send(None)`` if the script never waits."""

    def __init__(self, script: Script, definition: Definition, cache_key: str | None) -> None:
        super().__init__(script, definition, cache_key)
        self.verifies = script.engine.defines("auth_password_verify")
        self.looks_up = script.engine.defines("auth_passdb_lookup")
        """The script judges passwords itself; decided when it was loaded, as in Dovecot."""

    async def verify_plain(self, request: AuthRequest, password: Secret) -> PassdbReply:
        """Call ``auth_password_verify(request, password)``.

        Raises `ScriptError` with the text to log when the function fails or returns a wrong shape.
        """
        engine, step = self._start(b"auth_password_verify", request, c_string(password.reveal()))
        if step[0] == WISH:
            step = await engine.finish(step)
        return self._judge.passdb(PASSWORD_VERIFY, step, request)

    async def lookup(self, request: AuthRequest) -> PassdbReply:
        """Call ``auth_passdb_lookup(request)``.

        Raises `ScriptError` with the text to log when the function fails or returns a wrong shape.
        """
        engine, step = self._start(b"auth_passdb_lookup", request)
        if step[0] == WISH:
            step = await engine.finish(step)
        return self._judge.passdb(PASSDB_LOOKUP, step, request)


class StoringLuaPassdb(LuaPassdb):
    """A passdb in Lua that can also store passwords."""

    async def set_credentials(self, request: AuthRequest, stored: Secret) -> bool:
        """Call ``auth_passdbset_credentials(request, "{SCHEME}data")``, an addition of ours.

        Raises `ScriptError` with the text to log unless the function says ``PASSDB_RESULT_OK``.
        """
        engine, step = self._start(SET_CREDENTIALS.name.encode(), request, c_string(stored.reveal()))
        if step[0] == WISH:
            step = await engine.finish(step)
        self._judge.stored(step)
        return True


class LuaUserdb(_Database):
    """A userdb in Lua. Its methods await only wishes, and end in one ``send(None)`` if the script never waits."""

    async def lookup(self, request: AuthRequest) -> UserdbReply:
        """Call ``auth_userdb_lookup(request)``.

        Raises `ScriptError` with the text to log when the function fails or returns a wrong shape.
        """
        engine, step = self._start(b"auth_userdb_lookup", request)
        if step[0] == WISH:
            step = await engine.finish(step)
        return self._judge.userdb(USERDB_LOOKUP, step, request)

    def iterate(self) -> "LuaListing":
        """The names that ``auth_userdb_iterate()`` gives."""
        return LuaListing(self._script)


class LuaListing:
    """The users that a script lists: a table, in Lua's order, or what its iterator function gives.

    The errors have the text to log; so has that for a script without such a function.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._engine = script.engine
        self._call = 0
        self._more = True

    async def piece(self) -> Sequence[str]:
        """Some more names."""
        if not self._more:
            return ()
        if not self._call:
            if self._script.calls.options.debug:
                self._script.calls.log("debug", "Calling auth_userdb_iterate", None, {})
            try:
                self._call, step = self._engine.start_listing(b"auth_userdb_iterate")
            except Full:
                renew(self._script)
                self._engine = self._script.engine
                self._call, step = self._engine.start_listing(b"auth_userdb_iterate")
        else:
            step = self._engine.list_more(self._call)
        if step[0] == WISH:
            step = await self._engine.finish(step)
        self._more, names = users(step)
        return names

    def close(self) -> None:
        """Let the script's iterator go."""
        self._engine.end_listing(self._call)


def load_passdb(
    path: Path | str,
    *,
    log: ScriptLog,
    server_dialect: Dialect,
    dialect: Dialect | None = None,
    options: ScriptOptions = DEFAULTS,
    source: bytes | None = None,
    scripts: Scripts | None = None,
) -> LuaPassdb:
    """Load the script at *path*, or its text *source*, as a passdb.

    *dialect* is what the script was written for; `None` reads it off the script, and *server_dialect* decides when that
    shows nothing. A script of that path among *scripts* is used again, as it was loaded. Raises `ScriptError` with
    Dovecot's text for whatever keeps the script from starting.
    """
    definition = Definition("passdb", options.id)
    loaded = _load(definition, path, log, dialect, server_dialect, options, source, scripts)
    stores = loaded[0].engine.defines(SET_CREDENTIALS.name)
    return StoringLuaPassdb(*loaded) if stores else LuaPassdb(*loaded)


def load_userdb(
    path: Path | str,
    *,
    log: ScriptLog,
    server_dialect: Dialect,
    dialect: Dialect | None = None,
    options: ScriptOptions = DEFAULTS,
    source: bytes | None = None,
    scripts: Scripts | None = None,
) -> LuaUserdb:
    """Load the script at *path* as a userdb; the rest as in `load_passdb`."""
    definition = Definition("userdb", options.id)
    return LuaUserdb(*_load(definition, path, log, dialect, server_dialect, options, source, scripts))


def _load(
    definition: Definition,
    path: Path | str,
    log: ScriptLog,
    dialect: Dialect | None,
    server_dialect: Dialect,
    options: ScriptOptions,
    source: bytes | None,
    scripts: Scripts | None,
) -> tuple[Script, Definition, str | None]:
    name = os.fspath(path)
    failed = _Failed(definition.database, name, dialect or server_dialect)
    script = scripts.again(name) if scripts is not None else None
    if script is not None:
        failed.dialect = script.dialect
    else:
        try:
            if source is None:
                source = read(name)
            if dialect is None:
                failed.dialect = dialect = detect(source) or server_dialect
            script = create(name, source, "@" + name, log, dialect, options, scripts, definition.database)
        except ScriptError as error:
            raise failed.to_read(str(error)) from error
    try:
        cache_key = _run(script, failed)
    except BaseException:
        discard(script)
        raise
    return script, definition, cache_key


class _Failed:
    """Names what failed, as Dovecot does in each dialect."""

    def __init__(self, database: str, script: str, dialect: Dialect) -> None:
        self.database = database
        self.script = script
        self.dialect = dialect

    def to_read(self, problem: str) -> ScriptError:
        return self._error(f"Lua script '{self.script}': ", problem)

    def to_be_set_up(self, problem: str) -> ScriptError:
        return self._error("", problem)

    def to_start(self, problem: str) -> ScriptError:
        return self._error("script_init() failed: ", problem)

    def to_give_a_key(self, problem: str) -> ScriptError:
        return self._error(f"auth_{self.database}_get_cache_key() failed: ", problem)

    def _error(self, place_2_4: str, problem: str) -> ScriptError:
        place = "initialization failed: " if self.dialect is Dialect.V2_3 else place_2_4
        return ScriptError(f"{self.database}-lua: {place}{problem}")


def _run(script: Script, failed: _Failed) -> str | None:
    """Run the script, and call what it wants called at the start; its cache key, if it names one."""
    register_dovecot(script)
    if script.calls.rules.is_2_4 and not script.initialised:
        try:
            fill_in_settings(script.calls)
        except ScriptError as error:
            raise failed.to_be_set_up(str(error)) from error
    try:
        script_init(script)
    except ScriptError as error:
        raise failed.to_start(str(error)) from error
    if not script.calls.rules.is_2_4:
        return None
    try:
        return _cache_key(script.engine, f"auth_{failed.database}_get_cache_key", failed)
    except MemoryError as error:
        raise failed.to_give_a_key("not enough memory (lua.memory_limit)") from error


def _cache_key(engine: Engine, name: str, failed: _Failed) -> str | None:
    step = engine.call(name)
    if step[0] == MISSING:
        return None
    if step[0] == RAISED:
        raise failed.to_give_a_key(raised(name, 0, 1, step))
    kind, value = step[1:]
    if kind == b"string":
        return text(value)
    if kind in (b"integer", b"float"):
        return str(value)
    raise failed.to_give_a_key(f"db-lua: {name} invalid return value (expected string, got {kind.decode()})")
