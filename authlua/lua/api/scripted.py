"""The filters of 2.4.1 and later that are functions in Lua: ``%{user | lua_call('fn', 'more')}`` and ``lua_file``.

What they say is what a Dovecot 2.4.1 said to the templates of ``tests/mail/test_scripted_filters.py``; rules:
``core:2.4.4:src/plugins/mail-lua/mail-lua-plugin.c:mail_lua_script_call``.
"""

from collections.abc import Callable, Mapping

from authlua.lua.conversion import text
from authlua.variables import Arguments, ExpansionError, Filter, State, each, some_arguments

Call = Callable[..., tuple[bool, bytes]]
"""``call(name, *values)`` of a script; whether all is well, and the result or what went wrong."""


def filters(own: Call, of_file: Callable[[str], Call]) -> Mapping[str, Filter]:
    """The filters, where *own* is the user's script and *of_file* gives the script at a path."""

    def lua_call(state: State, arguments: Arguments) -> None:
        some_arguments(arguments)
        name, *values = _values(state, arguments)
        _apply(state, own, name, values)

    def lua_file(state: State, arguments: Arguments) -> None:
        if len(arguments) < 2:
            raise ExpansionError("Missing parameters")
        path, name, *values = _values(state, arguments)
        _apply(state, of_file(text(path)), name, values)

    return {"lua_call": lua_call, "lua_file": lua_file}


def _values(state: State, arguments: Arguments) -> list[bytes]:
    """Texts all of them; the first has to be one."""
    found = list(each(arguments, len(arguments)))
    return [state.string(found[0]), *[state.anything(argument) for argument in found[1:]]]


def _apply(state: State, call: Call, name: bytes, values: list[bytes]) -> None:
    if state.is_set:
        values.append(state.value)
    fine, result = call(name, *values)
    if not fine:
        raise ExpansionError(f"{text(name)}(user) failed: {text(result)}")
    state.replace(result)
