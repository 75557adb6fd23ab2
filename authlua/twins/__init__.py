"""Twins of the Lua modules that block: what stands behind ``require "socket"`` in a script that many logins share.

`open_twins` gives, for one Lua state, the functions that the Lua side (``authlua/lua/modules``) calls.
"""

from collections.abc import Callable, Mapping
from typing import Any

from authlua.twins.datagrams import Datagrams
from authlua.twins.http import Http
from authlua.twins.operations import Operation, Waits
from authlua.twins.pools import Seats
from authlua.twins.processes import Processes
from authlua.twins.resources import Leases
from authlua.twins.selecting import Selecting
from authlua.twins.sockets import Sockets
from authlua.twins.sql import Sql
from authlua.twins.threads import Threads
from authlua.twins.tls import Tls

__all__ = ["Operation", "Waits", "open_twins"]

THREADS = 100
"""How many threads there may be for what cannot but block."""

_threads = Threads(THREADS)


def open_twins(waits: Waits) -> Mapping[str, Callable[..., Any]]:
    """The functions for one Lua state."""
    leases = Leases(waits)
    sockets = Sockets(waits, leases, _threads)
    return {
        "left": leases.left,
        "finish": Operation.now,
        "seats_new": Seats,
        "seats_take": lambda call, seats: seats.take(call, waits, leases),
        **sockets.functions(),
        **Datagrams(waits, leases, sockets).functions(),
        **Selecting(waits, leases).functions(),
        **Processes(waits).functions(),
        **Http(waits, sockets).functions(),
        **Tls(waits, leases).functions(),
        **Sql(waits, leases, _threads).functions(),
    }
