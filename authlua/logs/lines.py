"""Events as lines, in each format; whatever a value holds, an event stays on its line."""

import json
import time
from collections.abc import Callable
from typing import Any, Final

Event = dict[str, Any]
Render = Callable[[str, str, Event], str]
"""``render(level, text, fields)``: the event as a line."""

ABOUT: Final = "\0about"
"""A field that no script can have: what people read in front of the line, and programs find in the fields `_ABOUT`."""

_ABOUT: Final = ("user", "rip", "session", "passdb", "userdb")

LEVELS: Final = ("debug", "info", "warning", "error", "critical")

# what each format calls a level
_TEXT: Final = {"debug": "debug  ", "info": "info   ", "warning": "warning", "error": "error  ", "critical": "fatal  "}
_COLOUR = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
_PRIORITY = {"debug": "<7>", "info": "<6>", "warning": "<4>", "error": "<3>", "critical": "<2>"}
_DOVECOT = {"debug": "\1\1", "info": "\1\2", "warning": "\1\3", "error": "\1\4", "critical": "\1\5"}


class _Clock:
    """Times as text; the second, and the millisecond, is formatted once and remembered."""

    def __init__(self, format: str, broken_down: Callable[[float], time.struct_time]) -> None:
        self._format = format
        self._broken_down = broken_down
        self._millisecond = -1
        self._second = -1
        self._whole = ""
        self._text = ""

    def now(self) -> str:
        now = time.time()
        millisecond = int(now * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            second, rest = divmod(millisecond, 1000)
            if second != self._second:
                self._whole = time.strftime(self._format, self._broken_down(second))
                self._second = second
            self._text = f"{self._whole}.{rest:03d}"
        return self._text


_local: Final = _Clock("%Y-%m-%d %H:%M:%S", time.localtime)
_utc: Final = _Clock("%Y-%m-%dT%H:%M:%S", time.gmtime)


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


def _label(name: str) -> str:
    """A field's name (a script may have chosen it) and what stands around it."""
    label = _labels.get(name)
    if label is None:
        if len(_labels) >= MAX_LABELS:
            _labels.clear()
        label = _labels[name] = f" {_plain(name)}="
    return label


MAX_LABELS: Final = 1024
"""How many names of fields are remembered."""

_labels: Final[dict[str, str]] = {}


def _pairs(fields: Event) -> str:
    parts: list[str] = []
    empty = False
    for name, value in fields.items():
        if value is None:
            continue
        parts.append(_label(name))
        if type(value) is str:
            parts.append(value)
            empty = empty or not value
        else:
            parts.append(_plain(value))
    line = "".join(parts)
    pairs = len(parts) // 2
    # nearly always no text needs quotes, which a few looks at the whole tell: none has a blank or an equals sign
    if not empty and line.count(" ") == pairs == line.count("=") and '"' not in line and line.isprintable():
        return line
    return "".join([_label(name) + _plain(value) for name, value in fields.items() if value is not None])


def text(level: str, text: str, fields: Event) -> str:
    """For people."""
    return f"{_local.now()} {_TEXT[level]} {_shown(text, fields)}{_pairs(fields)}\n"


def coloured(level: str, text: str, fields: Event) -> str:
    """For people at a terminal."""
    name = _shown(text, fields)
    pairs = [f"\033[2m{_label(name)}\033[0m{_plain(value)}" for name, value in fields.items() if value is not None]
    how = f"\033[{_COLOUR[level]}m{_TEXT[level]}\033[0m"
    return f"\033[2m{_local.now()}\033[0m {how} \033[1m{name}\033[0m{''.join(pairs)}\n"


def journal(level: str, text: str, fields: Event) -> str:
    """With the priority that sd-daemon(3) describes; the journal has its own clock."""
    return f"{_PRIORITY[level]}{_shown(text, fields)}{_pairs(fields)}\n"


def dovecot(level: str, text: str, fields: Event) -> str:
    """For the log process of a Dovecot that started us."""
    return f"{_DOVECOT[level]}{_shown(text, fields)}{_pairs(fields)}\n"


def logfmt(level: str, text: str, fields: Event) -> str:
    """All in pairs, times in UTC."""
    _drop_our_names(fields)
    event = _plain(_shown(text, fields))
    return f"time={_utc.now()}Z level={level} event={event}{_pairs(fields)}\n"


def _drop_our_names(fields: Event) -> None:
    """Where time, level and event are fields too, nobody else's fields may be called so; `ABOUT` is there in fields."""
    for name in ("time", "level", "event", ABOUT):
        if name in fields:
            del fields[name]


def as_json(level: str, text: str, fields: Event) -> str:
    """An object a line, times in UTC."""
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


_encode: Final = json.JSONEncoder(default=_unknown, separators=(",", ":"), check_circular=False).encode
