"""Settings as Dovecot 2.4 writes them: times and sizes with units, numbers, switches.

Each reader raises `ValueError` in Dovecot's words (seen on 2.4.1).
"""

import re

UNITS = {
    "milliseconds": 0.001,
    "msecs": 0.001,
    "ms": 0.001,
    "seconds": 1,
    "secs": 1,
    "minutes": 60,
    "mins": 60,
    "hours": 3600,
    "days": 86400,
    "weeks": 604800,
}
UNSIGNED = 2**32


def read_time(said: str) -> float:
    """Seconds; 0 for no limit."""
    if said in ("infinite", "unlimited"):
        return 86400.0 * 365
    match = re.fullmatch(r"([0-9]+) *([A-Za-z]*)", said)
    if match is None:
        raise ValueError(f"Invalid time interval: {said}")
    number, unit = int(match[1]), match[2].lower()
    if not unit:
        if number:
            raise ValueError(f"Time interval '{said}' is missing units (add e.g. 's' for seconds)")
        return 0
    for name, seconds in UNITS.items():
        if name.startswith(unit) and unit not in ("m", "mi"):
            return number * seconds
    if unit in ("m", "mi"):
        return number * 60
    raise ValueError(f"Invalid time interval: {said}")


def read_number(said: str) -> int:
    """A number that is not negative."""
    if said == "unlimited":
        return UNSIGNED - 1
    if re.fullmatch(r"-[0-9]+", said):
        raise ValueError(f"Invalid number {said}: Number too small")
    if not re.fullmatch(r"[0-9]+", said):
        raise ValueError(f"Invalid number {said}: Not a valid number")
    if int(said) >= UNSIGNED:
        raise ValueError(f"Invalid number {said}: Number too large")
    return int(said)


def read_switch(said: str) -> bool:
    """Yes or no."""
    if said.lower() in ("yes", "y", "1"):
        return True
    if said.lower() == "no":
        return False
    raise ValueError(f"Invalid boolean value: {said} (use yes or no)")


def read_size(said: str) -> int:
    """Bytes; 0 for no limit."""
    match = re.fullmatch(r"([0-9]+) *([bkmgt]?)(?:i?b)?", said.lower())
    if match is None and said != "unlimited":
        raise ValueError(f"Invalid size: {said}")
    return 0 if match is None else int(match[1]) << 10 * "bkmgt".index(match[2] or "b")
