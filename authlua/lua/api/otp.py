"""``dovecot.otp``, an addition of ours: second factors for scripts. docs/howto/second-factor.md shows it at work.

A code is good once. That it was used is remembered with the server, for all workers and, with ``[state]``, for all
servers; so a function that says yes waits for that, and where Lua cannot wait it is an error, never a yes.
"""

import hmac
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from authlua import onetime
from authlua.lua.calls import Refusal
from authlua.wishes import Service

HOTP_MEMORY = 300.0
"""Seconds that a counter is remembered as used: until long after the script has stored the next one."""

RECOVERY_MEMORY = 86400.0
"""The same for a recovery code."""


class _Option(NamedTuple):
    default: Any
    kind: type
    least: float = 0
    most: float = float("inf")


_SHAPE = {"digits": _Option(6, int, 6, 10), "algorithm": _Option("SHA1", str)}
_TIME = {**_SHAPE, "period": _Option(30, int, 1, 3600), "time": _Option(None, int)}
_OPTIONS: Mapping[str, Mapping[str, _Option]] = {
    "totp": {**_TIME, "window": _Option(1, int, 0, onetime.WIDEST), "once": _Option(True, bool)},
    "hotp": {**_SHAPE, "window": _Option(10, int, 0, onetime.WIDEST), "once": _Option(True, bool)},
    "code": {**_TIME, "counter": _Option(None, int, 0, 1 << 53)},
    "uri": {
        **{name: option for name, option in _TIME.items() if name != "time"},
        "account": _Option("", str),
        "issuer": _Option("", str),
        "counter": _Option(None, int, 0, 1 << 53),
    },
    "split": {"digits": _SHAPE["digits"], "separator": _Option("", str)},
}


_IN_LUA: Mapping[type, str] = {int: "a whole number", str: "a text", bool: "true or false"}


def _read(function: str, given: Any) -> dict[str, Any]:
    """The options of a call; raises `Refusal` for one that is none."""
    known, given = _OPTIONS[function], {} if given is None else given
    if not isinstance(given, Mapping):
        raise Refusal(f"dovecot.otp.{function}: expected a table of options")
    if unknown := [name for name in given if name not in known]:
        raise Refusal(f"dovecot.otp.{function}: no option '{unknown[0]}', there are {', '.join(known)}")
    chosen = {name: _value(f"dovecot.otp.{function}: {name}", given.get(name), known[name]) for name in known}
    if "algorithm" in chosen:
        chosen["algorithm"] = chosen["algorithm"].upper()
    return chosen


def _value(what: str, value: Any, option: _Option) -> Any:
    if value is None:
        return option.default
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # Lua before 5.3 has no others
    if type(value) is not option.kind:
        raise Refusal(f"{what}: expected {_IN_LUA[option.kind]}")
    if isinstance(value, int) and not option.least <= value <= option.most:
        raise Refusal(f"{what}: expected {option.least} to {option.most}")
    return value


def _codes(function: str, secret: Any, options: Mapping[str, Any]) -> onetime.Codes:
    try:
        return onetime.codes(_text(secret), digits=options["digits"], algorithm=options["algorithm"])
    except ValueError as error:
        raise Refusal(f"dovecot.otp.{function}: {error}") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected the secret, a text in base32")
    return value


def _typed(code: Any) -> str:
    """A code as it was typed; apps show it in groups. Lua may have made a number of it."""
    return str(int(code) if isinstance(code, float) else code).replace(" ", "")


async def _first(kind: str, secret: bytes, count: int, seconds: float) -> bool:
    """Whether nobody has used that code of that secret; from now on somebody has."""
    key = hmac.digest(secret, f"authlua {kind} {count}".encode(), "sha256")
    (first,) = await Service("state", (b"otp:" + key.hex()[:40].encode(), seconds))
    return bool(first)


async def totp(secret: Any = None, code: Any = None, options: Any = None) -> tuple[Any, ...]:
    """The time step that *code* is of, or nil and ``wrong`` or ``used``."""
    chosen = _read("totp", options)
    made = _codes("totp", secret, chosen)
    period, window = chosen["period"], chosen["window"]
    now = (int(time.time()) if chosen["time"] is None else chosen["time"]) // period
    if code is None:
        return None, "wrong"
    step = made.find(_typed(code), range(max(now - window, 0), now + window + 1))
    if step is None:
        return None, "wrong"
    if chosen["once"] and not await _first("totp", made.secret, step, period * 2.0 * (window + 1)):
        return None, "used"
    return (step,)


async def hotp(secret: Any = None, code: Any = None, counter: Any = None, options: Any = None) -> tuple[Any, ...]:
    """The counter to store from now on, or nil and ``wrong`` or ``used``."""
    chosen = _read("hotp", options)
    made = _codes("hotp", secret, chosen)
    start = _value("dovecot.otp.hotp: counter", counter, _Option(None, int, 0, 1 << 53))
    if start is None:
        raise Refusal("dovecot.otp.hotp: expected a counter")
    if code is None:
        return None, "wrong"
    found = made.find(_typed(code), range(start, start + chosen["window"] + 1))
    if found is None:
        return None, "wrong"
    if chosen["once"] and not await _first("hotp", made.secret, found, HOTP_MEMORY):
        return None, "used"
    return (found + 1,)


async def recovery(code: Any = None, stored: Any = None) -> tuple[Any, ...]:
    """Which of *stored* the recovery code is, or nil and ``wrong`` or ``used``."""
    if not isinstance(stored, Mapping) or not all(isinstance(one, str) for one in stored.values()):
        raise Refusal("dovecot.otp.recovery: expected a list of what recovery_codes gave to store")
    if code is None:
        return None, "wrong"
    places, hashes = list(stored), list(stored.values())
    found = onetime.find_recovery_code(_typed(code), hashes)
    if found is None:
        return None, "wrong"
    if not await _first("recovery", hashes[found].encode(), 0, RECOVERY_MEMORY):
        return None, "used"
    return (places[found],)


def recovery_codes(count: Any = 10) -> tuple[Any, ...]:
    """Fresh recovery codes for the user, and for each what to store of it."""
    wanted = _value("dovecot.otp.recovery_codes: count", count, _Option(10, int, 1, 100))
    made = onetime.make_recovery_codes(wanted)
    return made, [onetime.hash_recovery_code(code) for code in made]


def code(secret: Any = None, options: Any = None) -> str:
    """The code of a counter, or of now."""
    chosen = _read("code", options)
    made = _codes("code", secret, chosen)
    if chosen["counter"] is not None:
        return made.at(chosen["counter"])
    return made.at((int(time.time()) if chosen["time"] is None else chosen["time"]) // chosen["period"])


def secret(size: Any = 20) -> str:
    """A fresh secret in base32."""
    return onetime.make_secret(_value("dovecot.otp.secret: size", size, _Option(20, int, 16, 64)))


def uri(secret: Any = None, options: Any = None) -> str:
    """What a QR code shows to the user's app."""
    chosen = _read("uri", options)
    _codes("uri", secret, chosen)
    return onetime.uri(_text(secret), **chosen)


def split(password: Any = None, options: Any = None) -> tuple[Any, ...]:
    """A password and the code typed behind it; nil when there is none."""
    chosen = _read("split", options)
    if not isinstance(password, str):
        return (None,)
    return onetime.split(password, **chosen) or (None,)


TABLE = {function.__name__: function for function in (totp, hotp, recovery, recovery_codes, code, secret, uri, split)}
"""The members of ``dovecot.otp``."""
