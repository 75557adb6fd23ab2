"""What scripts see: one Lua file for each table, and the Python behind it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from authlua.lua.api import clients, dovecot, http, module, request, standard, twins
from authlua.lua.calls import Calls

WISHES = {
    **request.WISHES,
    **clients.WISHES,
    b"http_submit": http.http_submit,
    b"module": module.module_call,
    b"operation": twins.operation,
}

_PARTS = [
    Path(__file__).with_name(f"{part}.lua")
    for part in ("standard", "event", "request", "dovecot", "http", "dict", "dns", "doveadm", "module", "twins")
]
_BIT32 = Path(__file__).with_name("bit32.lua")


def parts(version: str) -> Sequence[Path]:
    """The Lua files for a version, in the order in which they are run."""
    return [_BIT32, *_PARTS] if version == "5.3" else _PARTS


def callbacks(calls: Calls) -> Mapping[str, Callable[..., Any]]:
    """All that Lua may call, by name."""
    sides = (standard, request, dovecot, http, clients, module, twins)
    return {name: function for side in sides for name, function in side.callbacks(calls).items()}
