"""Tab escaping: how a field holds bytes that would end it or the line.

The escape byte is 0x01 (``core:2.3.21.1:src/lib/strescape.c``). Text is `str` with undecodable bytes as
surrogates, so any byte makes the round trip.
"""

import re
from typing import Final

_ESCAPES: Final = str.maketrans({"\0": "\x010", "\x01": "\x011", "\t": "\x01t", "\r": "\x01r", "\n": "\x01n"})
_MEANING = {"0": "\0", "1": "\x01", "t": "\t", "r": "\r", "n": "\n"}
_ESCAPED: Final = re.compile("\x01(.?)", re.DOTALL)


def escape(text: str) -> str:
    """*text* as it may stand in a field."""
    # none of the five is printable, and this test costs next to nothing
    return text if text.isprintable() else text.translate(_ESCAPES)


def unescape(text: str) -> str:
    """What a field means; an unknown letter after the escape byte stands for itself, a lone last one for nothing."""
    if "\x01" not in text:
        return text
    return _ESCAPED.sub(lambda match: _MEANING.get(match[1], match[1]), text)


def unescape_string(text: str) -> str:
    """What a field means to a server that keeps C strings: as `unescape`, up to the first NUL."""
    return unescape(text).partition("\0")[0] if "\x01" in text else text
