"""A script as C code in Dovecot holds it: created, initialised, called, and let go by the last who holds it.

The functions are those of Dovecot's own interface to Lua, without the ``dlua_`` in front
(``core:2.3.21.1:src/lib-lua/dlua-script.h``). All of them run on the spot: what a script waits for in here, it and its
caller wait for, so a script that asks somebody else belongs into a thread.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua.calls import DEFAULTS, Calls, ScriptLog, ScriptOptions
from authlua.lua.conversion import from_lua, lua_string, text, to_lua
from authlua.lua.engine import MISSING, RAISED, Engine, Step
from authlua.lua.rules import RULES


class Script:
    """A script in a Lua state of its own, and how many hold it."""

    def __init__(
        self, name: str, source: bytes, chunk: str, engine: Engine, calls: Calls, scripts: "Scripts | None"
    ) -> None:
        self.chunk = chunk
        """What Lua calls it; when that is nothing, by its text."""
        self.name = name
        """Its path; of a text, its SHA-1; of a stream, the stream's name."""
        self.source = source
        """Its text as it was loaded; a file may have changed since."""
        self.engine = engine
        self.calls = calls
        self.references = 1
        self.initialised = False
        self.scripts = scripts

    @property
    def dialect(self) -> Dialect:
        """The dialect it is run in."""
        return self.calls.rules.dialect


class Scripts:
    """The scripts that are loaded, each once: who creates one of the same name again gets the same, globals and all.

    So did Dovecot 2.3.0 to 2.3.13 (``core:2.3.13:src/lib-lua/dlua-script.c:dlua_script_find_previous_script``).
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Script] = {}

    def __len__(self) -> int:
        return len(self._loaded)

    def __iter__(self) -> Iterator[Script]:
        return iter(self._loaded.values())

    def again(self, name: str) -> Script | None:
        """The script of that name, held by one more."""
        script = self._loaded.get(name)
        if script is not None:
            script_ref(script)
        return script

    def keep(self, script: Script) -> None:
        """It is loaded now."""
        self._loaded[script.name] = script

    def forget(self, script: Script) -> None:
        """Nobody holds it any more."""
        self._loaded.pop(script.name, None)


class Event(NamedTuple):
    """What lines of the log may be about, Dovecot's ``struct event``: `push_event` gives it to a script."""

    prefix: str = ""
    """Stands before every line, after those of the *parent*."""
    fields: Mapping[str, str | int] = {}
    """Every line carries them, and those of the *parent*."""
    parent: "Event | None" = None


# -- created, held, let go ------------------------------------------------------------------------------------------


def script_create_file(
    path: Path | str,
    *,
    log: ScriptLog,
    dialect: Dialect,
    options: ScriptOptions = DEFAULTS,
    scripts: Scripts | None = None,
    database: str = "",
) -> Script:
    """Compile the script in the file *path*; it runs when it is initialised.

    Args:
        log: gets the script's lines.
        dialect: the Dovecot it was written for.
        scripts: where to look first for a script of this name that is loaded already.
        database: ``passdb`` or ``userdb``, for an auth script.

    Raises:
        ScriptError: it cannot be read, or does not parse.
    """
    name = os.fspath(path)
    script = scripts.again(name) if scripts is not None else None
    return script or create(name, read(name), "@" + name, log, dialect, options, scripts, database)


def script_create_string(
    source: str | bytes,
    *,
    log: ScriptLog,
    dialect: Dialect,
    options: ScriptOptions = DEFAULTS,
    scripts: Scripts | None = None,
) -> Script:
    """Compile the script *source*, whose name is its SHA-1; the rest as in `script_create_file`."""
    code = lua_string(source) if isinstance(source, str) else source
    name = hashlib.sha1(code, usedforsecurity=False).hexdigest()
    script = scripts.again(name) if scripts is not None else None
    return script or create(name, code, "", log, dialect, options, scripts)


def script_create_stream(
    stream: IO[bytes],
    name: str,
    *,
    log: ScriptLog,
    dialect: Dialect,
    options: ScriptOptions = DEFAULTS,
    scripts: Scripts | None = None,
) -> Script:
    """Compile what *stream* holds from where it stands, as the script *name*; the rest as in `script_create_file`."""
    if not name:
        raise ValueError("a stream needs a name")
    script = scripts.again(name) if scripts is not None else None
    if script is not None:
        return script
    try:
        source = stream.read()
    except OSError as error:
        raise ScriptError(f"read({name}) failed: {error.strerror or error}") from error
    return create(name, source, name, log, dialect, options, scripts)


def script_ref(script: Script) -> None:
    """Hold *script*, too."""
    script.references += 1


def script_unref(script: Script) -> None:
    """Let *script* go. The last who does ends it: ``script_deinit``, whose error is logged, and all memory is freed."""
    if script.references == 0:
        return
    script.references -= 1
    if script.references == 0:
        if script.scripts is not None:
            script.scripts.forget(script)
        step = script.engine.call("script_deinit")
        if step[0] == RAISED:
            script.calls.log("error", f"script_deinit() failed: {raised('script_deinit', 0, 0, step)}", None, {})
        script.engine.close()


def renew(script: Script) -> None:
    """Load *script* again, as its state is full of what it keeps; what waits in there ends there.

    Raises `ScriptError` when it does not start.
    """
    calls = script.calls
    calls.log("error", f"{script.name}: lua.memory_limit is reached; the script is loaded again", None, {})
    fresh = create(script.name, script.source, script.chunk, calls.log, script.dialect, calls.options, None,
                   calls.definition.database)  # fmt: skip
    try:
        register_dovecot(fresh)
        script_init(fresh)
    except ScriptError:
        fresh.engine.close()
        raise
    full, script.engine, script.calls = script.engine, fresh.engine, fresh.calls
    full.retire()


def discard(script: Script) -> None:
    """Let *script* go, which did not start for the one who wanted it; it is not told, unless others hold it."""
    if script.references > 1:
        script_unref(script)
        return
    script.references = 0
    if script.scripts is not None:
        script.scripts.forget(script)
    script.engine.close()


def read(path: str) -> bytes:
    """The text of the script at *path*; a `ScriptError` with Dovecot's words."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        failed = (
            f"lua_load({path}) failed: cannot open {path}" if os.access(path, os.F_OK) else f"access({path}) failed"
        )
        raise ScriptError(f"{failed}: {error.strerror}") from error


def create(
    name: str,
    source: bytes,
    chunk: str,
    log: ScriptLog,
    dialect: Dialect,
    options: ScriptOptions,
    scripts: Scripts | None = None,
    database: str = "",
) -> Script:
    """Compile *source*; *chunk* is what Lua calls it, and when that is nothing, by its text."""
    calls = Calls(name, database, RULES[dialect], options, log)
    try:
        engine = Engine(calls, options)
        problem = engine.compile(source, chunk or text(source))
    except MemoryError as error:
        raise ScriptError("not enough memory (lua.memory_limit)") from error
    if problem is not None:
        engine.close()
        raise ScriptError(f"lua_load({name if chunk else '<string>'}) failed: {problem}")
    script = Script(name, source, chunk, engine, calls, scripts)
    if scripts is not None:
        scripts.keep(script)
    return script


# -- what it sees, and what it does ---------------------------------------------------------------------------------


def register_dovecot(script: Script) -> None:
    """Let *script* see the table ``dovecot``; before it is initialised, as its main chunk may want it."""
    script.engine.register_dovecot()


def script_init(script: Script) -> None:
    """Run the main chunk and then ``script_init``; once for all who hold *script*.

    The order and the rules are those of 2.3.16 and later (``core:2.3.16:src/lib-lua/dlua-script.c:dlua_script_init``).

    Raises:
        ScriptError: one of them failed, or ``script_init`` refuses; the script is of no use then.
    """
    if script.initialised:
        return
    script.initialised = True
    engine = script.engine
    try:
        step = engine.run()
        if step[0] == RAISED:
            raise ScriptError(f"lua_pcall({script.name}) failed: {message(step)}")
        _check_load(engine.call("script_load"))
        if script.calls.rules.is_2_4:
            settings = {lua_string(name): lua_string(value) for name, value in script.calls.options.settings.items()}
            step = engine.call("script_init", engine.table(settings))
            if step[0] == RAISED:
                raise ScriptError(raised("script_init", 1, 0, step))
        else:
            _check_init(script.name, engine.call("script_init"))
    except MemoryError as error:
        raise ScriptError("not enough memory (lua.memory_limit)") from error


def _check_load(step: Step) -> None:
    """``script_load`` may return nothing, nil or 0; anything else refuses the script."""
    if step[0] == RAISED:
        raise ScriptError(raised("script_load", 0, 1, step))
    if step[0] != MISSING and step[1] != b"nil" and step[2] != 0:
        kind, value = step[1:]
        shown = repr(text(value)) if isinstance(value, bytes) else kind.decode() if value is None else str(value)
        raise ScriptError(f"script_load() refused: expected 0 or nothing, got {shown}")


def _check_init(name: str, step: Step) -> None:
    """In 2.3 ``script_init`` gets nothing and must return the integer 0."""
    if step[0] == MISSING:
        return
    if step[0] == RAISED:
        raise ScriptError(raised("script_init", 0, 1, step))
    if step[1] != b"integer":
        kind = step[1].decode()
        raise ScriptError(f"script_init() returned non-number ({kind}; {name} has to return 0, or be of dialect 2.4)")
    if step[2] != 0:
        raise ScriptError(f"Script init failed (script_init in {name} returned {step[2]}, and 0 means success)")


def script_has_function(script: Script, name: str) -> bool:
    """Whether *name* is a global function now."""
    return script.engine.defines(name)


def pcall(script: Script, name: str, *arguments: Any) -> tuple[Any, ...]:
    """Call the global function *name*; its results, which must be plain: tables are dicts, texts are `str`.

    *arguments* are plain values, mappings and sequences of them, and what was pushed.

    Raises:
        ScriptError: there is no such function, it failed, or a result means nothing to Python.
    """
    engine = script.engine
    failed = f"lua_pcall({name}, {len(arguments)}, -1) failed"
    step = engine.pcall(name, *(to_lua(engine.table, argument) for argument in arguments))
    if step[0] == MISSING:
        raise ScriptError(f"'{name}' is not a function")
    if step[0] == RAISED:
        raise ScriptError(f"{failed}: {message(step)}")
    try:
        return tuple(map(from_lua, step[1:]))
    except ValueError as error:
        raise ScriptError(f"{failed}: a result is {error}") from error


def push_event(script: Script, event: Event) -> Any:
    """A new event object that stands for *event*, an argument for `pcall`."""
    parent = None if event.parent is None else push_event(script, event.parent)
    prefix = lua_string(event.prefix) if event.prefix else None
    fields = [part for key, value in event.fields.items() for part in (lua_string(key), to_lua(_no_tables, value))]
    return script.engine.enter("event", "push", parent, prefix, *fields)


def _no_tables(value: object) -> Any:
    raise ValueError(f"the field of an event is a text or a whole number, not {value!r}")


# -- words ----------------------------------------------------------------------------------------------------------


def raised(name: str, arguments: int, results: int, step: Step) -> str:
    """Dovecot's words for an error in the Lua function *name*; *step* is RAISED."""
    return f"lua_pcall({name}, {arguments}, {results}) failed: {message(step)}"


def message(step: Step) -> str:
    """The error's text; *step* is RAISED."""
    return "(null)" if step[1] is None else text(step[1])
