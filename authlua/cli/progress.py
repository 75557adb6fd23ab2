"""A line on the terminal that says how far a long command has come."""

import sys
import time

_WIDTH = 30
_INTERVAL = 0.1


class Progress:
    """How many of *total* are done; silent unless standard error is a terminal."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._shown = False
        self._started = self._last = time.monotonic()
        self._on = sys.stderr.isatty()

    def show(self, done: int, failed: int) -> None:
        """Draw it again, a few times a second at most."""
        now = time.monotonic()
        if not self._on or (self._shown and now - self._last < _INTERVAL):
            return
        self._last = now
        sys.stderr.write("\r" + line(done, self._total, failed, done / max(now - self._started, 0.001)) + "\x1b[K")
        sys.stderr.flush()
        self._shown = True

    def clear(self) -> None:
        """Make room for other output."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            self._shown = False


def line(done: int, total: int | None, failed: int, rate: float) -> str:
    """``[######……] 20/100, 1 failed, 50/s``"""
    bar = ""
    if total:
        full = _WIDTH * done // total
        bar = f"[{'#' * full}{'.' * (_WIDTH - full)}] "
    return f"{bar}{done}{f'/{total}' if total else ''}, {failed} failed, {rate:.0f}/s"
