"""The Python side of ``module.lua``: what packages bring for scripts, by entry points ``authlua.lua_modules``.

An entry point named ``dovecot.NAME`` is the table ``dovecot.NAME`` of every script; with any other name it is what
``require`` gives for that name, unless a file of that name is found first. What it points at is

* a mapping: its functions become functions, all else becomes what it is in Lua, tables from dicts and lists; or
* a `pathlib.Path` of a Lua file, run when it is required.

A function gets plain values, texts as `str` (a byte that is no UTF-8 is a surrogate, as in file names) and tables as
dicts. It returns one, a tuple of several, or `None`; `authlua.lua.Refusal` becomes an error in Lua, and anything else
it raises fails the script's call and is logged with its traceback. An ``async`` one may await the wishes
`authlua.wishes.Compute` and `authlua.wishes.Sleep`, and the server serves others meanwhile.
"""

import inspect
import time
from collections.abc import Coroutine, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from authlua.lua.calls import Calls, Refusal
from authlua.lua.conversion import from_lua, lua_string, text, to_lua
from authlua.wishes import Compute, Service, Sleep, Wish

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "authlua.lua_modules"

OURS = {"dovecot.otp": "authlua.lua.api.otp"}
"""What authlua itself adds in this way: the name, and whose ``TABLE`` it is."""

Result = tuple[Any, ...]


@lru_cache
def _found() -> "Mapping[str, EntryPoint]":
    from importlib.metadata import entry_points

    # the package that comes first in the path wins, as with imports
    return {point.name: point for point in reversed(tuple(entry_points(group=GROUP)))}


@lru_cache
def _brought(name: str) -> Mapping[str, Any] | Path | None:
    """What the entry point *name* points at; `None` when there is no such."""
    if name in OURS:
        ours: Mapping[str, Any] = import_module(OURS[name]).TABLE
        return ours
    point = _found().get(name)
    if point is None:
        return None
    try:
        brought = point.load()
    except Exception as error:
        raise Refusal(f"the entry point {name} = {point.value}: {type(error).__name__}: {error}") from error
    if not isinstance(brought, Mapping | Path):
        raise Refusal(f"the entry point {name} = {point.value}: expected a mapping or a path, got {brought!r}")
    return brought


def callbacks(calls: Calls) -> Mapping[str, Any]:
    """What ``module.lua`` finds in its ``host``."""

    def module(name: bytes) -> Result:
        """``table``, then each member's name and its value, or for a function `None`; or ``source``, a text, a path."""
        brought = _brought(text(name))
        if brought is None:
            return ()
        if isinstance(brought, Path):
            try:
                return b"source", brought.read_bytes(), b"@" + lua_string(str(brought))
            except OSError as error:
                raise Refusal(f"{brought}: {error.strerror}") from error
        flat: list[Any] = [b"table"]
        for key, value in brought.items():
            flat += [lua_string(key), None if callable(value) else to_lua(calls.table, value)]
        return tuple(flat)

    def call(name: bytes, member: bytes, *arguments: Any) -> Result:
        """`True` and the results, or `False` when that may have to wait."""
        function = _member(name, member)
        if inspect.iscoroutinefunction(function):
            return (False,)
        return True, *_results(calls, function(*_plain(arguments)))

    def call_now(name: bytes, member: bytes, *arguments: Any) -> Result:
        """The same for one that has to wait here and now."""
        return True, *_results(calls, _waited(calls, _member(name, member)(*_plain(arguments))))

    return {"module": module, "module_call": call, "module_call_now": call_now}


async def module_call(calls: Calls, call: int, name: bytes, member: bytes, *arguments: Any) -> Result:
    """Fulfil the wish of a call of an ``async`` function."""
    try:
        return True, *_results(calls, await _member(name, member)(*_plain(arguments)))
    except Refusal as refusal:
        return None, lua_string(str(refusal))


def _member(name: bytes, member: bytes) -> Any:
    brought = _brought(text(name))
    assert isinstance(brought, Mapping), "Lua asks for members of what it was given"
    return brought[text(member)]


def _plain(arguments: Sequence[Any]) -> list[Any]:
    try:
        return [from_lua(argument) for argument in arguments]
    except ValueError as error:
        raise Refusal(f"an argument is {error}") from error


def _results(calls: Calls, result: Any) -> Result:
    results = result if isinstance(result, tuple) else (result,)
    return tuple(to_lua(calls.table, one) for one in results)


def _waited(calls: Calls, coroutine: Coroutine[Wish, Any, Any]) -> Any:
    """What *coroutine* comes to, its wishes fulfilled on the spot."""
    answer: Any = None
    failure: Exception | None = None
    while True:
        try:
            wish = coroutine.send(answer) if failure is None else coroutine.throw(failure)
        except StopIteration as done:
            return done.value
        answer, failure = None, None
        try:
            if isinstance(wish, Compute):
                answer = wish.function(*wish.args)
            elif isinstance(wish, Sleep):
                time.sleep(wish.seconds)
            elif isinstance(wish, Service) and wish.name != "state" and calls.options.now is not None:
                answer = calls.options.now(wish)
            else:
                raise Refusal(f"a {type(wish).__name__} cannot be waited for here")
        except Exception as error:
            failure = error
