"""Lines on their way to a descriptor."""

import os
from threading import get_ident
from typing import Final

from authlua.logs.lines import Event, Render

ATOMIC: Final = 4096
"""Bytes up to which a write to a pipe stays in one piece, whoever else writes there (``PIPE_BUF`` on Linux)."""


class Writer:
    """Puts finished lines on a descriptor, each with one write, or a few that belong to the same moment together.

    A log that cannot be written must not end the server: lines that fail are counted, and the next line that
    succeeds is preceded by one that says how many were lost.
    """

    def __init__(self, fd: int, render: Render) -> None:
        self._fd = fd
        self._render = render
        self._lost = 0
        self._held: list[bytes] | None = None
        self._holder = 0
        self._size = 0

    def write(self, level: str, event: str, fields: Event) -> None:
        """Write a line about *event*; *fields* is the writer's to change."""
        data = self._render(level, event, fields).encode("utf-8", "backslashreplace")
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
                os.write(self._fd, self._render("error", "log_lines_lost", {"count": self._lost}).encode())
                self._lost = 0
            while rest := data[os.write(self._fd, data) :]:
                data = rest
        except OSError:
            self._lost += lines
