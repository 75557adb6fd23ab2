"""The log: structlog set up once, one line and one write for each event.

Whatever a value holds, an event stays on its line: control characters and undecodable bytes are escaped.
A `Secret` shows as ``<hidden>``, a value of `None` is left out, times are given to the millisecond.

`text` is for people, ``json`` and ``logfmt`` are for programs (times in UTC), ``journal`` marks the priority for
systemd's journal (sd-daemon(3)) and leaves the time to it, ``dovecot`` speaks to the log process of a Dovecot that
started us (`core:2.3.21.1:src/lib/failures.c:i_internal_error_handler`).
"""

import json
import os
import re
import time
from collections.abc import Callable, MutableMapping
from functools import lru_cache
from threading import get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

Event = MutableMapping[str, Any]
Render = Callable[[str, str, Event], str]
"""``render(level, text, fields)``: the event as a line."""

ABOUT = "\0about"
"""A field that no script can have: what people read in front of the line, and programs find in the fields `_ABOUT`."""

_ABOUT = ("user", "rip", "session", "passdb", "userdb")

# method name → what each format calls that level
_TEXT = {"debug": "debug  ", "info": "info   ", "warning": "warning", "error": "error  ", "critical": "fatal  "}
_COLOUR = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
_PRIORITY = {"debug": "<7>", "info": "<6>", "warning": "<4>", "error": "<3>", "critical": "<2>"}
_DOVECOT = {"debug": "\1\1", "info": "\1\2", "warning": "\1\3", "error": "\1\4", "critical": "\1\5"}


def open_log(format: str, level: str, fd: int = 2) -> "FilteringBoundLogger":
    """A logger that writes events of *level* (debug, info, warning, error) and above to *fd*.

    *format* is one of those above, or ``auto``: ``journal`` when *fd* is the journal's, else ``text``.
    Text is coloured on a terminal.
    """
    import structlog

    if format == "auto":
        format = "journal" if _is_journal(fd) else "text"
    render = {
        "text": _coloured if format == "text" and os.isatty(fd) else _text,
        "json": _json,
        "logfmt": _logfmt,
        "journal": _journal,
        "dovecot": _dovecot,
    }[format]
    logger: FilteringBoundLogger = structlog.wrap_logger(
        Writer(fd, render),
        wrapper_class=_logger_class(structlog.make_filtering_bound_logger(level), level),
        context_class=dict,
    ).bind()
    return logger


def writer_of(log: "FilteringBoundLogger") -> "Writer | None":
    """What writes the lines of *log*; `None` if `open_log` did not make it."""
    writer = log._logger  # type: ignore[attr-defined]
    return writer if isinstance(writer, Writer) else None


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

    names = list(_TEXT)
    enabled = names[names.index(level) :]
    return type("Log", (base,), {"bind": bind, **{name: method(name) for name in enabled}})


ATOMIC = 4096
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


def _is_journal(fd: int) -> bool:
    """Whether *fd* is the stream that ``JOURNAL_STREAM`` names (systemd.exec(5))."""
    try:
        stat = os.fstat(fd)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"


class _Clock:
    """Times as text; the second is formatted once and remembered."""

    def __init__(self, format: str, broken_down: Callable[[float], time.struct_time]) -> None:
        self._format = format
        self._broken_down = broken_down
        self._second = -1
        self._text = ""

    def now(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._text = time.strftime(self._format, self._broken_down(now))
            self._second = second
        return f"{self._text}.{int((now - second) * 1000):03d}"


_local = _Clock("%Y-%m-%d %H:%M:%S", time.localtime)
_utc = _Clock("%Y-%m-%dT%H:%M:%S", time.gmtime)


_is_bare = re.compile(r"[!#-<>-~]+").fullmatch
"""Whether a text is plain ASCII without blanks, quotes and equals signs: nearly all are."""


def _plain(value: object) -> str:
    """*value* as text on one line, as it may stand between two spaces."""
    kind = type(value)
    if kind is str:
        text: str = value  # type: ignore[assignment]
        if _is_bare(text):
            return text
    elif kind is int:
        return str(value)
    elif kind is float:
        return f"{value:.6g}"
    elif kind is bool:
        return "true" if value else "false"
    else:
        text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
    if text.isprintable() and " " not in text and '"' not in text and "=" not in text and text:
        return text
    return f'"{_escaped(text)}"'


def _escaped(value: str) -> str:
    """*value* with backslashes and double quotes escaped as in most languages, and all that does not print."""
    if value.isprintable() and '"' not in value and "\\" not in value:
        return value
    return "".join([char if char.isprintable() and char not in '"\\' else _escape(char) for char in value])


def _escape(char: str) -> str:
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}.get(char)
    if named:
        return named
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _shown(text: object, fields: Event) -> str:
    """The event's name or text, its spaces as they are; a traceback among *fields* becomes text."""
    if "exc_info" in fields:
        _add_traceback(fields)
    if ABOUT in fields:
        text = f"{fields.pop(ABOUT)}{text}"
        for name in _ABOUT:
            fields.pop(name, None)
    return text if type(text) is str and text.isprintable() else _escaped(str(text))


def _add_traceback(event: Event) -> None:
    """Replace ``exc_info`` by the traceback as text."""
    import sys
    import traceback

    error = event.pop("exc_info")
    if error is True:
        error = sys.exc_info()[1]
    elif isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["traceback"] = "".join(traceback.format_exception(error))


@lru_cache(1024)
def _label(name: str) -> str:
    """A field's name (a script may have chosen it) and what stands around it."""
    return f" {_plain(name)}="


def _pairs(fields: Event) -> str:
    return "".join([_label(name) + _plain(value) for name, value in fields.items() if value is not None])


def _text(level: str, text: str, fields: Event) -> str:
    return f"{_local.now()} {_TEXT[level]} {_shown(text, fields)}{_pairs(fields)}\n"


def _coloured(level: str, text: str, fields: Event) -> str:
    name = _shown(text, fields)
    pairs = [f"\033[2m{_label(name)}\033[0m{_plain(value)}" for name, value in fields.items() if value is not None]
    how = f"\033[{_COLOUR[level]}m{_TEXT[level]}\033[0m"
    return f"\033[2m{_local.now()}\033[0m {how} \033[1m{name}\033[0m{''.join(pairs)}\n"


def _journal(level: str, text: str, fields: Event) -> str:
    return f"{_PRIORITY[level]}{_shown(text, fields)}{_pairs(fields)}\n"


def _dovecot(level: str, text: str, fields: Event) -> str:
    return f"{_DOVECOT[level]}{_shown(text, fields)}{_pairs(fields)}\n"


def _logfmt(level: str, text: str, fields: Event) -> str:
    _drop_our_names(fields)
    event = _plain(_shown(text, fields))
    return f"time={_utc.now()}Z level={level} event={event}{_pairs(fields)}\n"


def _drop_our_names(fields: Event) -> None:
    """Where time, level and event are fields too, nobody else's fields may be called so; `ABOUT` is there in fields."""
    for name in ("time", "level", "event", ABOUT):
        if name in fields:
            del fields[name]


def _json(level: str, text: str, fields: Event) -> str:
    if "exc_info" in fields:
        _add_traceback(fields)
    _drop_our_names(fields)
    if None in fields.values():
        fields = {k: v for k, v in fields.items() if v is not None}
    line = _encode({"time": f"{_utc.now()}Z", "level": level, "event": text, **fields})
    if "\\ud" in line:  # maybe half a surrogate pair, which is no valid JSON
        valid = {_valid(k): _valid(v) for k, v in fields.items()}
        line = _encode({"time": f"{_utc.now()}Z", "level": level, "event": _valid(text), **valid})
    return f"{line}\n"


def _valid(value: Any) -> Any:
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") if type(value) is str else value


def _unknown(value: object) -> object:
    """What JSON shows of a value that is none of its own types."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


_encode = json.JSONEncoder(default=_unknown, separators=(",", ":"), check_circular=False).encode
