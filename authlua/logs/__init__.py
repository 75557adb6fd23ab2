"""The log: structlog set up once, one line and one write for each event.

Whatever a value holds, an event stays on its line: control characters and undecodable bytes are escaped.
A `Secret` shows as ``<hidden>``, a value of `None` is left out, times are given to the millisecond.

`text` is for people, ``json`` and ``logfmt`` are for programs (times in UTC), ``journal`` marks the priority for
systemd's journal (sd-daemon(3)) and leaves the time to it, ``dovecot`` speaks to the log process of a Dovecot that
started us (`core:2.3.21.1:src/lib/failures.c:i_internal_error_handler`).
"""

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from authlua.logs import lines
from authlua.logs.lines import ABOUT, FORMATS, Form
from authlua.logs.writer import ATOMIC, Writer

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["ABOUT", "ATOMIC", "Form", "Tell", "Writer", "open_log", "teller", "writer_of"]

Tell = Callable[[list[Any]], None]
"""``tell(values)``: the event has happened once more, with a value for each of its fields, `None` for none."""


def open_log(format: str, level: str, fd: int = 2) -> "FilteringBoundLogger":
    """A logger that writes events of *level* (debug, info, warning, error) and above to *fd*.

    *format* is one of those above, or ``auto``: ``journal`` when *fd* is the journal's, else ``text``.
    Text is coloured on a terminal.
    """
    import structlog

    if format == "auto":
        format = "journal" if _is_journal(fd) else "text"
    if format == "text" and os.isatty(fd):
        format = "coloured"
    logger: FilteringBoundLogger = structlog.wrap_logger(
        Writer(fd, FORMATS[format]),
        wrapper_class=_logger_class(structlog.make_filtering_bound_logger(level), level),
        context_class=dict,
    ).bind()
    return logger


def writer_of(log: "FilteringBoundLogger") -> "Writer | None":
    """What writes the lines of *log*; `None` if `open_log` did not make it."""
    writer = log._logger  # type: ignore[attr-defined]
    return writer if isinstance(writer, Writer) else None


def teller(log: "FilteringBoundLogger", level: str, form: Form) -> Tell | None:
    """What ``log.info(event, **fields)`` does when *level* is ``info``; `None` if nothing of that level is written.

    For the one line that every login gets: fifteen keyword arguments cost as much as the line itself.
    """
    import logging

    if not log.is_enabled_for(getattr(logging, level.upper())):
        return None
    writer = writer_of(log)
    if writer is not None and not log._context:
        return partial(writer.tell, level, form)
    method = getattr(log, level)
    return lambda values: method(form.event, **form.fields(values))


def _logger_class(base: Any, level: str) -> Any:
    """*base* with methods whose own arguments cannot be mistaken for fields: a script may name a field ``event``."""

    def method(name: str) -> Callable[..., None]:
        def log(self: Any, event: str, /, **fields: Any) -> None:
            if self._context:
                fields = {**self._context, **fields}
            self._logger.write(name, event, fields)

        return log

    def bind(self: Any, /, **fields: Any) -> Any:
        return type(self)(self._logger, self._processors, {**self._context, **fields})

    enabled = lines.LEVELS[lines.LEVELS.index(level) :]
    return type("Log", (base,), {"bind": bind, **{name: method(name) for name in enabled}})


def _is_journal(fd: int) -> bool:
    """Whether *fd* is the stream that ``JOURNAL_STREAM`` names (systemd.exec(5))."""
    try:
        stat = os.fstat(fd)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"
