"""The log: structlog set up once, one line and one write for each event.

Whatever a value holds, an event stays on its line: control characters and undecodable bytes are escaped.
A `Secret` shows as ``<hidden>``, a value of `None` is left out, times are given to the millisecond.

`text` is for people, ``json`` and ``logfmt`` are for programs (times in UTC), ``journal`` marks the priority for
systemd's journal (sd-daemon(3)) and leaves the time to it, ``dovecot`` speaks to the log process of a Dovecot that
started us (`core:2.3.21.1:src/lib/failures.c:i_internal_error_handler`).
"""

import json
import os
import time
from collections.abc import Callable, MutableMapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

Event = MutableMapping[str, Any]
Render = Callable[[object, str, Event], str]

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
        _Writer(fd, render),
        processors=[render],
        wrapper_class=_logger_class(structlog.make_filtering_bound_logger(level), level),
        context_class=dict,
    ).bind()
    return logger


def _logger_class(base: Any, level: str) -> Any:
    """*base* with methods whose own arguments cannot be mistaken for fields: a script may name a field ``event``."""

    def method(name: str) -> Callable[..., None]:
        def log(self: Any, event: str, /, **fields: Any) -> None:
            (line,), _ = self._process_event(name, event, fields)
            self._logger.msg(line)

        return log

    def bind(self: Any, /, **fields: Any) -> Any:
        return type(self)(self._logger, self._processors, {**self._context, **fields})

    names = list(_TEXT)
    enabled = names[names.index(level) :]
    return type("Log", (base,), {"bind": bind, **{name: method(name) for name in enabled}})


class _Writer:
    """Puts a finished line on a descriptor with one write.

    A log that cannot be written must not end the server: lines that fail are counted, and the next line that
    succeeds is preceded by one that says how many were lost.
    """

    def __init__(self, fd: int, render: Render) -> None:
        self._fd = fd
        self._render = render
        self._lost = 0

    def msg(self, line: str) -> None:
        data = line.encode("utf-8", "backslashreplace")
        try:
            if self._lost:
                os.write(
                    self._fd, self._render(None, "error", {"event": "log_lines_lost", "count": self._lost}).encode()
                )
                self._lost = 0
            while rest := data[os.write(self._fd, data) :]:
                data = rest
        except OSError:
            self._lost += 1


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


def _plain(value: object) -> str:
    """*value* as text on one line, as it may stand between two spaces."""
    kind = type(value)
    if kind is str:
        text: str = value  # type: ignore[assignment]
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


def _event(event: Event) -> str:
    """The event's name or text; spaces stay as they are."""
    if "exc_info" in event:
        _add_traceback(event)
    text = event.pop("event")
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


def _pairs(event: Event) -> str:
    return "".join([_label(name) + _plain(value) for name, value in event.items() if value is not None])


def _text(logger: object, method: str, event: Event) -> str:
    return f"{_local.now()} {_TEXT[method]} {_event(event)}{_pairs(event)}\n"


def _coloured(logger: object, method: str, event: Event) -> str:
    name = _event(event)
    pairs = [f"\033[2m{_label(name)}\033[0m{_plain(value)}" for name, value in event.items() if value is not None]
    level = f"\033[{_COLOUR[method]}m{_TEXT[method]}\033[0m"
    return f"\033[2m{_local.now()}\033[0m {level} \033[1m{name}\033[0m{''.join(pairs)}\n"


def _journal(logger: object, method: str, event: Event) -> str:
    return f"{_PRIORITY[method]}{_event(event)}{_pairs(event)}\n"


def _dovecot(logger: object, method: str, event: Event) -> str:
    return f"{_DOVECOT[method]}{_event(event)}{_pairs(event)}\n"


def _logfmt(logger: object, method: str, event: Event) -> str:
    text = _plain(_event(event))
    _drop_our_names(event)
    return f"time={_utc.now()}Z level={method} event={text}{_pairs(event)}\n"


def _drop_our_names(event: Event) -> None:
    """Where time and level are fields too, nobody else's fields may be called so."""
    if "time" in event:
        del event["time"]
    if "level" in event:
        del event["level"]


def _json(logger: object, method: str, event: Event) -> str:
    if "exc_info" in event:
        _add_traceback(event)
    _drop_our_names(event)
    fields = event if None not in event.values() else {k: v for k, v in event.items() if v is not None}
    line = _encode({"time": f"{_utc.now()}Z", "level": method, **fields})
    if "\\ud" in line:  # maybe half a surrogate pair, which is no valid JSON
        line = _encode({"time": f"{_utc.now()}Z", "level": method, **{_valid(k): _valid(v) for k, v in fields.items()}})
    return f"{line}\n"


def _valid(value: Any) -> Any:
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") if type(value) is str else value


def _unknown(value: object) -> object:
    """What JSON shows of a value that is none of its own types."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


_encode = json.JSONEncoder(default=_unknown, separators=(",", ":"), check_circular=False).encode
