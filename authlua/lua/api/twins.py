"""The Python side of ``twins.lua``: which modules have twins, their Lua files, and the wish to wait for one of them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from authlua.lua.calls import Calls
from authlua.wishes import Errand

MODULES = Path(__file__).parent.parent / "modules"

FAMILY = {
    "DBI": "DBI",
    "luasql.mysql": "luasql",
    "luasql.postgres": "luasql",
    "luasql.sqlite3": "luasql",
    "ltn12": "socket",
    "mime": "socket",
    "redis": "redis",
    "socket": "socket",
    "socket.headers": "socket",
    "socket.http": "socket",
    "socket.unix": "socket",
    "socket.url": "socket",
    "ssl": "ssl",
    "ssl.https": "ssl",
}
"""Each module that has a twin, and the word for it in ``[lua] twins``."""

SUBSTITUTES = ("cjson", "cjson.safe", "json")
"""Modules that never wait: ours serve where there are no others."""


def modules(families: Collection[str]) -> Sequence[str]:
    """The modules of *families*."""
    return [module for module, family in FAMILY.items() if family in families]


def callbacks(calls: Calls) -> Mapping[str, Callable[..., Any]]:
    """What ``twins.lua`` finds in its ``host``."""
    options = calls.options
    if options.operations is None:
        return {}
    return {
        "null": object,
        "identity": lambda thing: b"0x%x" % id(thing),
        "twin": lambda name: source(name.decode()),
        **options.operations(),
    }


def source(module: str) -> bytes:
    """The Lua text of *module*, which some have in common."""
    file = {"cjson.safe": "cjson"}.get(module, "luasql" if module.startswith("luasql.") else module)
    return (MODULES / f"{file}.lua").read_bytes()


async def operation(calls: Calls, call: int, rest: Errand) -> tuple[Any, ...]:
    """Wait for the rest of what a module has begun."""
    results: tuple[Any, ...] = await rest
    return results
