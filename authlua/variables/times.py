"""The filters that convert times: ``epoch``, ``from_epoch``, ``date`` and ``iso8601``.

A time is what ``%{time:unix}`` gives: seconds since 1970, perhaps with a fraction. These filters are newer than any
release so far (``core:main:src/lib-var-expand/expansion-filter.c``, of June 2026).
"""

import re
import time
from collections.abc import Callable, Mapping

from authlua.variables.comparison import signed
from authlua.variables.state import Argument, Arguments, State, shown
from authlua.variables.template import ExpansionError, QuotingError

_UNITS = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}
"""How many of them a second has."""

_NANOSECONDS = 1_000_000_000

_ZONES: Mapping[str, Callable[[int], time.struct_time]] = {
    "utc": time.gmtime,
    "gmt": time.gmtime,
    "local": time.localtime,
}


def _words(state: State, arguments: Arguments, *names: str) -> dict[str, str]:
    """What the parameters *names* are, each given by its place or by its name."""
    words = {}
    for argument in arguments:
        words[_name(argument, names)] = shown(state.string(argument))
    return words


def _name(argument: Argument, names: tuple[str, ...]) -> str:
    if argument.key is None:
        if argument.place >= len(names):
            raise ExpansionError("Too many positional parameters")
        return names[argument.place]
    if argument.key not in names:
        raise ExpansionError(f"Unsupported key '{argument.key}'")
    return argument.key


def _timestamp(text: bytes) -> tuple[int, int]:
    """Seconds and nanoseconds; more digits than those do not count."""
    found = re.fullmatch(rb"(-?[0-9]+)(?:\.([0-9]*))?", text)
    seconds = None if found is None else signed(found[1])
    if found is None or seconds is None:
        raise QuotingError(f"Invalid timestamp '{shown(text)}'")
    return seconds, int((found[2] or b"")[:9].ljust(9, b"0"))


def _parts_of_a_second(unit: str, filter: str) -> int:
    try:
        return _UNITS[unit]
    except KeyError:
        raise QuotingError(f"Unsupported unit '{unit}' for '{filter}'") from None


def epoch(state: State, arguments: Arguments) -> None:
    """``epoch([unit])``: a time as a whole number of that unit."""
    unit = _words(state, arguments, "unit").get("unit", "s")
    text = state.take_text("convert to epoch")
    seconds, nanoseconds = _timestamp(text)
    parts = _parts_of_a_second(unit, "epoch")
    number = signed(b"%d" % (seconds * parts + nanoseconds * parts // _NANOSECONDS))
    if number is None:
        raise QuotingError(f"Timestamp '{shown(text)}' out of range for unit '{unit}'")
    state.set(b"%d" % number)


def from_epoch(state: State, arguments: Arguments) -> None:
    """``from_epoch([unit])``: a number of that unit as a time."""
    unit = _words(state, arguments, "unit").get("unit", "s")
    text = state.take_text("convert from epoch")
    number = signed(text)
    if number is None:
        raise QuotingError(f"Invalid timestamp '{shown(text)}'")
    parts = _parts_of_a_second(unit, "from_epoch")
    seconds, rest = divmod(abs(number), parts)
    state.set(b"%s%d.%09d" % (b"-" if number < 0 else b"", seconds, rest * (_NANOSECONDS // parts)))


def _broken_down(text: bytes, zone: str, filter: str) -> time.struct_time:
    seconds, _ = _timestamp(text)
    if zone not in _ZONES:
        raise QuotingError(f"Unsupported timezone '{zone}' for '{filter}'")
    try:
        return _ZONES[zone](seconds)
    except (OverflowError, OSError, ValueError):  # where Dovecot ends its process
        raise QuotingError(f"Timestamp '{shown(text)}' out of range") from None


def date(state: State, arguments: Arguments) -> None:
    """``date(format[, tz])``: a time as strftime(3) writes it."""
    words = _words(state, arguments, "format", "tz")
    if "format" not in words:
        raise ExpansionError("Missing date format")
    when = _broken_down(state.take_text("format as date"), words.get("tz", "utc"), "date")
    state.set(time.strftime(words["format"], when).encode("utf-8", "surrogateescape"))


def iso8601(state: State, arguments: Arguments) -> None:
    """``iso8601([tz])``: a time as ISO 8601 writes it."""
    zone = _words(state, arguments, "tz").get("tz", "utc")
    when = _broken_down(state.take_text("format as ISO 8601"), zone, "iso8601")
    minutes = when.tm_gmtoff // 60
    suffix = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}" if zone == "local" else "Z"
    year, month, day, hour, minute, second = when[:6]
    state.set(f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{suffix}".encode())
