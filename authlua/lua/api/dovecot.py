"""The Python side of ``dovecot.lua``: flags, clocks, addresses, escapings."""

import binascii
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from authlua.lua.api.request import expand
from authlua.lua.calls import Calls
from authlua.lua.conversion import c_string, text

_ESCAPES = {b"\0": b"\0010", b"\1": b"\0011", b"\t": b"\1t", b"\n": b"\1n", b"\r": b"\1r"}
_ESCAPED = {escape[1:]: byte for byte, escape in _ESCAPES.items()}


def callbacks(calls: Calls) -> Mapping[str, Callable[..., Any]]:
    """What ``dovecot.lua`` finds in its ``host``."""
    return {
        "log": calls.lua_log,
        "has_flag": lambda value, flag: value & flag == flag,
        "set_flag": lambda value, flag: value | flag,
        "clear_flag": lambda value, flag: value & ~flag,
        "cpu": time.thread_time,
        "lower": calls.lowered,
        "clock": lambda: divmod(time.time_ns() // 1000, 1_000_000),
        "nanoseconds": time.time_ns,
        "microseconds": lambda: time.time_ns() // 1000,
        "net_ip_family": lambda address: net_ip_family(text(address)),
        "tabescape": lambda data: tabescape(c_string(data)),
        "tabunescape": lambda data: c_string(tabunescape(c_string(data))),
        "base64_encode": lambda data: binascii.b2a_base64(data, newline=False),
        "base64_decode": base64_decode,
        "expand": lambda template: expand(calls, None, template),
    }


def net_ip_family(address: str) -> int:
    """4 or 6, or 0 for what is no address (``core:2.4.4:src/lib/net.c:net_addr2ip``)."""
    import socket

    if ":" not in address:
        if address.split() != [address]:
            return 0
        try:
            socket.inet_aton(address)
        except OSError:
            return 0
        return 4
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    try:
        socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):
        return 0
    return 6


def tabescape(data: bytes) -> bytes:
    """*data* as one word of a tab-separated line (``core:2.3.21.1:src/lib/strescape.c:str_tabescape``)."""
    return re.sub(rb"[\0\x01\t\n\r]", lambda match: _ESCAPES[match[0]], data)


def tabunescape(data: bytes) -> bytes:
    """Undo `tabescape`; an unknown escape is the byte itself, a lone ``\\001`` at the end goes."""
    return re.sub(rb"(?s)\x01(.?)", lambda match: _ESCAPED.get(match[1], match[1]), data)


def base64_decode(data: bytes) -> bytes:
    """All of *data* that can be decoded; white space counts for nothing."""
    match = re.match(rb"[A-Za-z0-9+/]*", re.sub(rb"[ \t\r\n]", b"", data))
    assert match is not None
    digits = match[0]
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))
