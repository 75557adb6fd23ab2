"""From a stream of bytes to lines, within a limit."""

from collections.abc import Iterator
from typing import Final

from authlua.protocol.errors import RemoteProtocolError


class Lines:
    """Collects bytes and gives back whole lines as text.

    Args:
        limit: the longest line in bytes, its LF included.
    """

    __slots__ = ("_limit", "_rest")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that *data* completes, without LF and one CR before it.

        As for Dovecot's C strings, a NUL hides the rest of its line.

        Raises:
            RemoteProtocolError: a line is longer than the limit; those before it are given first.
        """
        if self._rest:
            data = self._rest + data
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        if end:
            text = data[:end].decode("utf-8", "surrogateescape")
            lines = text.split("\n")
            lines.pop()
            # the plain case first: nothing here needs a second look
            if end <= self._limit and "\r" not in text and "\0" not in text:
                yield from lines
            else:
                yield from self._inspect(lines)
        if len(self._rest) >= self._limit:
            raise RemoteProtocolError(f"a line is longer than {self._limit} bytes")

    def _inspect(self, lines: list[str]) -> Iterator[str]:
        for line in lines:
            if len(line) >= self._limit // 4 and len(line.encode("utf-8", "surrogateescape")) >= self._limit:
                raise RemoteProtocolError(f"a line is longer than {self._limit} bytes")
            line = line.removesuffix("\r")
            yield line.partition("\0")[0] if "\0" in line else line


def split_param(field: str) -> tuple[str, str | None]:
    """``name=value`` at its first ``=``; without one the field is a flag and has no value."""
    name, equals, value = field.partition("=")
    return name, value if equals else None


_MAX_ID: Final = 0xFFFFFFFF


def parse_number(text: str) -> int | None:
    """An unsigned 32-bit decimal number, or `None`."""
    if not 0 < len(text) <= 20:
        return None
    number = 0
    for char in text:
        digit = ord(char) - 48
        if not 0 <= digit <= 9:
            return None
        number = number * 10 + digit
    return number if number <= _MAX_ID else None


def parse_version(line: str, *, exact: bool) -> int:
    """The minor version of a ``VERSION`` line of major 1.

    Args:
        exact: a minor must be there, and nothing behind it; else only the major counts.

    Raises:
        RemoteProtocolError: it is no such line.
    """
    word, *numbers = line.split("\t")
    if word != "VERSION":
        raise RemoteProtocolError("the first line must be VERSION")
    if not numbers or parse_number(numbers[0]) != 1:
        raise RemoteProtocolError("VERSION must name protocol major version 1")
    minor = parse_number(numbers[1]) if len(numbers) > 1 else None
    if exact and (minor is None or len(numbers) != 2):
        raise RemoteProtocolError("VERSION must name a major and a minor version and nothing else")
    return minor or 0
