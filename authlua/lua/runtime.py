"""Lua itself: one library for each version, and where it looks for modules."""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from authlua.errors import ConfigError

VERSIONS = {"5.1": "lua51", "5.2": "lua52", "5.3": "lua53", "5.4": "lua54", "5.5": "lua55", "luajit": "luajit21"}
"""What ``[lua] version`` may say, and lupa's module for it."""


_opened: list[str] = []  # versions, in the order of their states


def first_opened() -> str:
    """The version this process opened first, the only one whose C modules it can load.

    They look for Lua's functions among the global symbols, where those of the first version are found.
    """
    return _opened[0]


def open_lua(version: str, memory_limit: int = 0) -> Any:
    """A fresh Lua state with its standard library, in which strings are bytes.

    The library is opened with its symbols global, for C modules; yet it must prefer its own, or a second version in
    this process would call the functions of the first.
    """
    if version not in VERSIONS:
        raise ConfigError([f"lua.version: expected one of {', '.join(VERSIONS)}, got {version!r}"])
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL | getattr(os, "RTLD_DEEPBIND", 0))
    try:
        library = importlib.import_module(f"lupa.{VERSIONS[version]}")
    except ImportError as error:
        raise ConfigError([f"lua.version: the installed lupa has no Lua {version} ({error})"]) from error
    finally:
        sys.setdlopenflags(flags)
    _opened.append(version)
    return library.LuaRuntime(
        max_memory=memory_limit or None,
        encoding=None,
        unpack_returned_tuples=True,
        register_eval=False,
        register_builtins=False,
        attribute_handlers=(_no_attribute, _no_attribute),
    )


def _no_attribute(*_: object) -> None:
    raise AttributeError("not for Lua")


def search_paths(version: str, path: Sequence[str], cpath: Sequence[str]) -> tuple[str, str]:
    """``package.path`` and ``package.cpath``: the given templates, then those of Debian's interpreter."""
    number = "5.1" if version == "luajit" else version
    roots = (f"/usr/local/share/lua/{number}", f"/usr/local/lib/lua/{number}", f"/usr/share/lua/{number}")
    default = [f"{root}/{name}" for root in roots for name in ("?.lua", "?/init.lua")]
    default += ["./?.lua", "./?/init.lua"]
    machine = getattr(sys.implementation, "_multiarch", "")
    libraries = [f"/usr/local/lib/lua/{number}", *([f"/usr/lib/{machine}/lua/{number}"] if machine else [])]
    libraries += [f"/usr/lib/lua/{number}"]
    default_c = [f"{root}/?.so" for root in libraries] + [f"/usr/local/lib/lua/{number}/loadall.so", "./?.so"]
    return ";".join([*path, *default]), ";".join([*cpath, *default_c])
