"""Text and bytes at the border to Lua, the only place where one becomes the other.

Lua strings are bytes. Text is UTF-8 in which undecodable bytes are surrogates, so both ways lose nothing.
What Dovecot handles as a C string ends at its first NUL (`text`, `c_string`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

MAX_DEPTH = 20
"""Tables within tables that are followed; a table that holds itself has no end."""


def lua_string(text: str) -> bytes:
    """*text* as a Lua string."""
    return text.encode("utf-8", "surrogateescape")


def text(data: bytes) -> str:
    """A Lua string as text, up to its first NUL."""
    if 0 in data:
        data = data[: data.index(0)]
    return data.decode("utf-8", "surrogateescape")


def whole_text(data: bytes) -> str:
    """A Lua string as text, NULs included."""
    return data.decode("utf-8", "surrogateescape")


def c_string(data: bytes) -> bytes:
    """*data* up to its first NUL."""
    return data[: data.index(0)] if 0 in data else data


def to_lua(table: Callable[[Any], Any], value: Any) -> Any:
    """A plain *value* of Python's as Lua has it; *table* makes tables of dicts and lists whose values are Lua's.

    What came from Lua stays what it is. Raises `ValueError` for what a script must not see.
    """
    if isinstance(value, str):
        return lua_string(value)
    if value is None or isinstance(value, bytes | bool | int | float) or _is_lua(value):
        return value
    if isinstance(value, Mapping):
        return table({to_lua(table, key): to_lua(table, one) for key, one in value.items()})
    if isinstance(value, Sequence):
        return table([to_lua(table, one) for one in value])
    raise ValueError(f"a {type(value).__name__}, which is nothing for Lua")


def from_lua(value: Any, depth: int = 0) -> Any:
    """A value of Lua's as plain Python: texts with their NULs, tables as dicts.

    Raises `ValueError` for functions, coroutines, userdata, and tables without end.
    """
    if isinstance(value, bytes):
        return whole_text(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if not _is_lua(value) or not hasattr(value, "items"):
        raise ValueError("a function, a coroutine or a userdata, which is nothing for Python")
    if depth == MAX_DEPTH:
        raise ValueError(f"a table of more than {MAX_DEPTH} tables within each other")
    return {from_lua(key, depth + 1): from_lua(one, depth + 1) for key, one in value.items()}


def _is_lua(value: Any) -> bool:
    return type(value).__module__.startswith("lupa.")
