"""Dovecot's wildcard masks: ``*`` is any text, ``?`` any character, all else means itself."""

import re
from collections.abc import Callable


def mask(pattern: str, *, ignore_case: bool = False) -> Callable[[str], object]:
    """A test whether a whole text fits *pattern* (``core:2.3.21.1:src/lib/wildcard-match.c``)."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.compile(expression, re.DOTALL | (re.IGNORECASE if ignore_case else 0)).fullmatch
