"""The comparators of ``if`` and ``switch``, and what Dovecot takes for a number."""

import operator
import re
from collections.abc import Callable

from authlua.variables.regexp import search

NUMERIC: dict[bytes, Callable[[int, int], bool]] = {
    b"==": operator.eq,
    b"<": operator.lt,
    b"<=": operator.le,
    b">": operator.gt,
    b">=": operator.ge,
    b"!=": operator.ne,
}
TEXTUAL: dict[bytes, Callable[[bytes, bytes], bool]] = {
    b"eq": operator.eq,
    b"lt": operator.lt,
    b"le": operator.le,
    b"gt": operator.gt,
    b"ge": operator.ge,
    b"ne": operator.ne,
    b"*": lambda value, mask: wildcard_match(value, mask),
    b"!*": lambda value, mask: not wildcard_match(value, mask),
    b"~": lambda value, pattern: search(pattern, value) is not None,
    b"!~": lambda value, pattern: search(pattern, value) is None,
}


def signed(text: bytes) -> int | None:
    """*text* as Dovecot's ``intmax_t``: digits, perhaps a minus, 64 bits; else `None`."""
    if re.fullmatch(rb"-?[0-9]{1,100}", text) is None:
        return None
    number = int(text)
    return number if -(1 << 63) <= number < 1 << 63 else None


def unsigned(text: bytes, bits: int) -> int | None:
    """*text* as a number of that many bits, digits and nothing else; else `None`."""
    if re.fullmatch(rb"[0-9]{1,100}", text) is None:
        return None
    number = int(text)
    return number if number < 1 << bits else None


def wildcard_match(value: bytes, mask: bytes) -> bool:
    """Whether all of *value* fits *mask*, where ``*`` is any text and ``?`` any byte; nothing escapes them."""
    at, place = 0, 0
    star, resume = -1, 0
    while at < len(value):
        if place < len(mask) and mask[place] == 0x2A:
            star, resume = place, at
            place += 1
        elif place < len(mask) and mask[place] in (0x3F, value[at]):
            at += 1
            place += 1
        elif star >= 0:  # let the last star take one byte more
            resume += 1
            at, place = resume, star + 1
        else:
            return False
    return not mask[place:].strip(b"*")
