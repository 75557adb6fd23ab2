"""Lines on their way to a descriptor."""

import os
from threading import get_ident
from typing import Any, Final

from authlua.logs.lines import Event, Form, Format

ATOMIC: Final = 4096
"""Bytes up to which a write to a pipe stays in one piece, whoever else writes there (``PIPE_BUF`` on Linux)."""


class Writer:
    """Puts finished lines on a descriptor, each with one write, or a few that belong to the same moment together.

    A log that cannot be written must not end the server: lines that fail are counted, and the next line that
    succeeds is preceded by one that says how many were lost.
    """

    def __init__(self, fd: int, format: Format) -> None:
        self._fd = fd
        self._format = format
        self._lost = 0
        self._held: list[bytes] | None = None
        self._holder = 0
        self._size = 0

    def write(self, level: str, event: str, fields: Event) -> None:
        """Write a line about *event*; *fields* is the writer's to change."""
        self._take(self._format.line(level, event, fields))

    def tell(self, level: str, form: Form, values: list[Any]) -> None:
        """Write a line about an event of that *form*."""
        self._take(self._format.filled(level, form, values))

    def _take(self, line: str) -> None:
        data = line.encode("utf-8", "backslashreplace")
        if self._held is None or get_ident() != self._holder:
            self._put(data, 1)
            return
        if self._size + len(data) > ATOMIC:
            self._put_held()
        self._held.append(data)
        self._size += len(data)

    def hold(self) -> None:
        """Keep this thread's lines back until `release`, or until there are too many for one write."""
        if self._held is None:
            self._holder = get_ident()
            self._held = []

    def release(self) -> None:
        """Write what was held."""
        self._put_held()
        self._held = None

    def _put_held(self) -> None:
        if self._held:
            lines = len(self._held)
            data = b"".join(self._held)
            self._held.clear()
            self._size = 0
            self._put(data, lines)

    def _put(self, data: bytes, lines: int) -> None:
        try:
            if self._lost:
                os.write(self._fd, self._format.line("error", "log_lines_lost", {"count": self._lost}).encode())
                self._lost = 0
            while rest := data[os.write(self._fd, data) :]:
                data = rest
        except OSError:
            self._lost += lines
