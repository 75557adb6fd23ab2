"""What scripts see: one Lua file for each table, and the Python behind it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from authlua.lua.api import clients, dovecot, http, module, request, twins
from authlua.lua.calls import Calls

WISHES = {
    **request.WISHES,
    **clients.WISHES,
    b"http_submit": http.http_submit,
    b"module": module.module_call,
    b"operation": twins.operation,
}

PARTS = [
    Path(__file__).with_name(f"{part}.lua")
    for part in ("event", "request", "dovecot", "http", "dict", "dns", "doveadm", "module", "twins")
]
"""The Lua files, in the order in which they are run."""


def callbacks(calls: Calls) -> Mapping[str, Callable[..., Any]]:
    """All that Lua may call, by name."""
    parts = (request, dovecot, http, clients, module, twins)
    return {name: function for part in parts for name, function in part.callbacks(calls).items()}
