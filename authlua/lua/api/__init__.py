"""What scripts see: one Lua file for each table, and the Python behind it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from authlua.lua.api import dovecot, http, module, request
from authlua.lua.calls import Calls

WISHES = {**request.WISHES, b"http_submit": http.http_submit, b"module": module.module_call}

PARTS = [Path(__file__).with_name(f"{part}.lua") for part in ("event", "request", "dovecot", "http", "module")]
"""The Lua files, in the order in which they are run."""


def callbacks(calls: Calls) -> Mapping[str, Callable[..., Any]]:
    """All that Lua may call, by name."""
    return {**request.callbacks(calls), **dovecot.callbacks(calls), **http.callbacks(calls), **module.callbacks(calls)}
