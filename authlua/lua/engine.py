"""One Lua state with one script in it, and the calls that run in it."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from authlua.errors import ScriptError
from authlua.listing import PIECE
from authlua.lua.api import WISHES, callbacks, parts, twins
from authlua.lua.calls import Calls, Definition, Refusal, ScriptOptions, no_engine
from authlua.lua.conversion import lua_string, text
from authlua.lua.runtime import first_opened, open_lua, search_paths
from authlua.request import AuthRequest

DONE: Final = 0
RAISED: Final = 1
WISH: Final = 2
MISSING: Final = 3
REFUSED: Final = 4
"""How a step begins; ``driver.lua`` has the same numbers.

=======  =================================================================================================
DONE     the code, then the second result: `None`; bytes (and ``number`` if it was one); `True` and keys and values;
         `False` and a type
RAISED   the message with its traceback, `None` if the error value is no text
WISH     the call, the kind of wish, its arguments
MISSING  the name of the global function that is none
REFUSED  what was returned instead of a code, or instead of a list
=======  =================================================================================================
"""

Step = tuple[Any, ...]

RESERVE = 1 << 20
"""Bytes of a limited state that are left for the arguments of calls."""

PATIENCE = 0.02
"""Seconds of processor time that a call with a budget may take without waiting, however few its instructions."""

GROWTH = 16 << 20
"""Bytes that a call with a budget may add to a limited state without waiting, as one instruction may ask for them all.

It may add half as many in any case; what exactly is reckoned anew only when a state has grown or shrunk by much.
"""

LOADING_TIME = 20.0
"""Seconds of processor time that a script may take outside of calls, as when it loads."""

_DRIVER = Path(__file__).with_name("driver.lua")
_NAME = b"=[authlua]"

_LIFTED = ("5.1", "5.2", "5.3", "luajit")
"""To these a small string may mean a table of all strings twice as large, and there is no way to refuse it."""

_bytecode: dict[tuple[str, Path], bytes] = {}


class Full(ScriptError):
    """What the script keeps leaves no room for calls."""


class Engine:
    """Runs one script. Knows no event loop: a call that must wait is a `Step` that says what for."""

    def __init__(self, calls: Calls, options: ScriptOptions) -> None:
        self._calls = calls
        self._requests = calls.requests
        self._listings: set[int] = set()
        self._last = 0
        runtime = open_lua(options.version, options.memory_limit)
        path, cpath = search_paths(options.version, options.path, options.cpath)
        package = runtime.globals()[b"package"]
        package[b"path"], package[b"cpath"] = lua_string(path), lua_string(cpath)
        self._version = options.version
        calls.table = runtime.table_from
        entries = runtime.eval("loadstring or load")(self._compiled(runtime, _DRIVER), _NAME)(
            runtime.table_from({name.encode(): _guarded(calls, f) for name, f in callbacks(calls).items()}),
            runtime.table_from(_lua_options(runtime, calls, options)),
        )
        self._parts = {
            part.stem: entries[b"add"](self._compiled(runtime, part), _NAME) for part in parts(options.version)
        }
        self._runtime: Any = runtime
        self._used = runtime.get_memory_used
        self._limit = self._ceiling = options.memory_limit
        self._most = max(options.memory_limit - RESERVE, options.memory_limit // 2) if options.memory_limit else None
        self._has_budget = options.budget > 0
        self._lowest, self._highest = 0, self._most or 0
        """Between these, what the state takes needs no more thought when a call begins."""
        self._let_grow()
        self._retired = False
        if options.memory_limit and options.version in _LIFTED:
            calls.lower = self._lower
            entries = {name: _lifted(runtime, calls.lower, entries[name]) for name in entries}
        self._start = entries[b"start"]
        self._continue = entries[b"continue"]
        self._entries: Any = entries

    # -- loading ------------------------------------------------------------------------------------------------

    def compile(self, source: bytes, name: str) -> str | None:
        """Compile the script, which Lua is to call *name*; what is wrong with it, with its line."""
        message = self._entries[b"compile"](source, os.fsencode(name))
        return None if message is None else text(message)

    def register_dovecot(self) -> None:
        """Let the script see ``dovecot``."""
        self._entries[b"register"]()

    def run(self) -> Step:
        """Run the compiled script's main chunk."""
        return self._checked(self._entries[b"run"]())

    def call(self, name: str, *arguments: Any) -> Step:
        """Call a global function outside any request: DONE, the result's kind and value; RAISED; or MISSING."""
        self._let_grow()
        return self._checked(self._entries[b"call"](name.encode(), *arguments))

    def pcall(self, name: str, *arguments: Any) -> Step:
        """Call a global function outside any request: DONE and all its results; RAISED; or MISSING."""
        self._let_grow()
        step: Any = self._entries[b"pcall"](name.encode(), *arguments)
        return self._checked(step if isinstance(step, tuple) else (step,))

    def table(self, values: Mapping[bytes, object] | Sequence[object]) -> Any:
        """*values* as a Lua table, to be an argument of `call`."""
        return self._runtime.table_from(values)

    def extend(self, part: Path, functions: Mapping[str, Callable[..., Any]]) -> None:
        """Build one more part of what the script sees, with *functions* to call; once is enough."""
        if part.stem not in self._parts:
            host = self._runtime.table_from({name.encode(): _guarded(self._calls, f) for name, f in functions.items()})
            self._parts[part.stem] = self._entries[b"add"](self._compiled(self._runtime, part), _NAME, host)

    def extended(self, part: str) -> bool:
        """Whether the script sees *part*."""
        return part in self._parts

    def enter(self, part: str, name: str, *arguments: Any) -> Any:
        """Call what the file *part* has for Python under *name*."""
        result = self._parts[part][name.encode()](*arguments)
        if self._calls.bug is not None:
            self._raise_bug()
        return result

    def _compiled(self, runtime: Any, part: Path) -> bytes:
        """A file of ours as bytecode, made once for all states of a version: to parse it takes most of their time."""
        code = _bytecode.get((self._version, part))
        if code is None:
            compile = runtime.eval("function(source, name) return string.dump((loadstring or load)(source, name)) end")
            code = _bytecode[self._version, part] = compile(part.read_bytes(), _NAME)
        return code

    def defines(self, name: str) -> bool:
        """Whether *name* is a global function now."""
        return bool(self._entries[b"defines"](name.encode()))

    # -- requests -----------------------------------------------------------------------------------------------

    @property
    def busy(self) -> int:
        """How many calls are waiting for something, lists that are not at their end included."""
        return len(self._requests) + len(self._listings)

    def start(
        self, name: bytes, request: AuthRequest, password: bytes | None = None, definition: Definition | None = None
    ) -> Step:
        """Call the global function *name* for *request*, and for *definition*, if the script was loaded for another."""
        call = self._last = self._last + 1
        self._requests[call] = request
        if definition is not None:
            self._calls.definitions[call] = definition
        flags = 0
        if request.skip_password_check:
            flags = 1
        if request.passdbs_seen_user_unknown:
            flags |= 2
        if request.passdbs_seen_internal_failure:
            flags |= 4
        if request.userdbs_seen_internal_failure:
            flags |= 8
        if request.debug:
            flags |= 16
        user = request.user
        try:
            if self._most is not None and not self._lowest <= self._used() <= self._highest:
                self._make_room()
            step: Step = self._start(
                name, call, None if user is None else user.encode("utf-8", "surrogateescape"), flags, password
            )
        except MemoryError as error:
            self._forget(call)
            raise self._exhausted(name) from error
        except BaseException:
            self._forget(call)
            raise
        if step[0] != WISH:
            del self._requests[call]
            if definition is not None:
                del self._calls.definitions[call]
            if self._calls.bug is not None:
                self._raise_bug()
        return step

    def start_listing(self, name: bytes) -> tuple[int, Step]:
        """Call the global function *name* for a list of users: the call's number, and its first step.

        DONE comes with whether there may be more, and some users. Then ask `list_more`, and in the end `end_listing`.
        """
        self._make_room()
        self._let_grow()
        call = self._last = self._last + 1
        self._listings.add(call)
        try:
            return call, self._checked(self._start(name, call))
        except MemoryError as error:
            raise self._exhausted(name) from error

    def list_more(self, call: int) -> Step:
        """Some more users of the listing *call*."""
        if self._runtime is None:
            raise ScriptError(f"{self._calls.script}: unloaded while users were listed")
        try:
            self._make_room()
            self._let_grow()
            return self._checked(self._entries[b"list_more"](call))
        except MemoryError as error:
            raise self._exhausted(b"auth_userdb_iterate") from error

    def end_listing(self, call: int) -> None:
        """Forget the listing *call*, if there is one."""
        self._listings.discard(call)
        if self._runtime is not None:
            self._entries[b"end_listing"](call)
            if self._retired and not self.busy:
                self.close()

    async def finish(self, step: Step) -> Step:
        """Fulfil the wishes of the call that *step* belongs to until it has returned."""
        while step[0] == WISH:
            _, call, kind, *arguments = step
            try:
                answer = await WISHES[kind](self._calls, call, *arguments)
                if self._runtime is None:
                    raise ScriptError(f"{self._calls.script}: unloaded while a call was waiting")
                self._make_room(*answer)
                step = self._continue(call, *answer)
            except MemoryError as error:
                self._abandon(call)
                raise self._exhausted(b"the script") from error
            except BaseException:
                self._abandon(call)
                raise
            if step[0] != WISH:
                self._forget(call)
            self._checked(step)
        return step

    def _make_room(self, *values: Any) -> None:
        """See to it that *values* can be given to Lua, which would end the process if it had no memory for them.

        Raises `Full` when not even collecting its garbage helps.
        """
        if self._most is None:
            return
        most = self._most - sum(len(value) for value in values if isinstance(value, bytes))
        used: int = self._used()
        if used > most:
            self._runtime.set_max_memory(self._ceiling + RESERVE)
            self._entries[b"collect"]()
            self._runtime.set_max_memory(self._ceiling)
            used = self._used()
            if used > most:
                raise Full(f"{self._calls.script}: what it keeps is more than lua.memory_limit leaves room for")
        if self._has_budget:
            used += self._most - most
            self._ceiling = min(self._limit, used + GROWTH * 3 // 4)
            self._lowest, self._highest = used - GROWTH // 4, min(self._most, used + GROWTH // 4)
            self._runtime.set_max_memory(self._ceiling)

    def _let_grow(self) -> None:
        """Let the state have all that it may have; the next call decides anew what it may add."""
        if self._has_budget and self._most is not None:
            self._ceiling, self._highest = self._limit, -1
            self._runtime.set_max_memory(self._ceiling)

    def _lower(self) -> None:
        """Limit the memory that was lifted for the arguments of a call."""
        self._runtime.set_max_memory(self._ceiling)

    @staticmethod
    def _exhausted(name: bytes) -> ScriptError:
        return ScriptError(f"{text(name)}: not enough memory (lua.memory_limit)")

    def _forget(self, call: int) -> None:
        self._requests.pop(call, None)
        self._calls.definitions.pop(call, None)
        if self._retired and not self.busy:
            self.close()

    def _abandon(self, call: int) -> None:
        self._forget(call)
        if self._runtime is not None:
            self._entries[b"abandon"](call)

    # -- the end ------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the state is gone."""
        return self._runtime is None

    def retire(self) -> None:
        """Close as soon as no call waits; there will be no others."""
        self._retired = True
        if not self.busy:
            self.close()

    def close(self) -> None:
        """Let go of the state and all its memory."""
        self._used = None
        self._runtime = self._entries = self._start = self._continue = None
        self._parts.clear()
        self._calls.table = no_engine
        self._calls.lower = None
        self._requests.clear()

    def _checked(self, step: Step) -> Step:
        if self._calls.bug is not None:
            self._raise_bug()
        return step

    def _raise_bug(self) -> None:
        bug, self._calls.bug = self._calls.bug, None
        assert bug is not None
        raise bug


def _lua_options(runtime: Any, calls: Calls, options: ScriptOptions) -> dict[bytes, Any]:
    rules = calls.rules
    variables = [*rules.variables, "id"] if rules.is_2_4 else [*rules.variables]
    return {
        b"piece": PIECE,
        b"limited": bool(options.memory_limit),
        b"lifted": bool(options.memory_limit) and options.version in _LIFTED,
        b"is_auth": calls.definition.database in ("passdb", "userdb"),
        b"c_modules_of": first_opened().encode(),
        b"version": options.version.encode(),
        b"script": os.fsencode(calls.script),
        b"debug": options.debug,
        b"budget": options.budget,
        b"twins": lua_string(" ".join(twins.modules(options.twins))),
        b"substitutes": lua_string(" ".join(twins.SUBSTITUTES)),
        b"patience": PATIENCE,
        b"loading": options.loading,
        b"loading_time": LOADING_TIME,
        b"verbose": options.verbose or options.debug,
        b"is_2_4": rules.is_2_4,
        b"has_response_from_template": rules.has_response_from_template,
        b"has_base64": rules.has_base64,
        b"has_forced_debug": rules.has_forced_debug,
        b"variables": runtime.table_from({name.encode(): True for name in variables}),
    }


def _lifted(runtime: Any, lower: Callable[[], None], function: Callable[..., Any]) -> Callable[..., Any]:
    """*function* of Lua's, whose arguments are given while memory is not limited; it limits it first of all."""

    def call(*arguments: Any) -> Any:
        runtime.set_max_memory(0)
        try:
            return function(*arguments)
        finally:
            lower()

    return call


def _guarded(calls: Calls, function: Callable[..., Any]) -> Callable[..., Any]:
    """*function* such that no exception ever enters Lua: a refusal is nil and its text.

    Anything else it raises is a bug of ours (or a script that reached for `debug`); it is kept for whoever called Lua.
    """

    def callback(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Refusal as refusal:
            return None, lua_string(str(refusal))
        except BaseException as bug:
            calls.bug = bug
            return None, b"authlua failed; its log says why"

    return callback
