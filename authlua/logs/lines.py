"""Events as lines, in each format; whatever a value holds, an event stays on its line."""

import json
from collections.abc import Callable, Sequence
from time import gmtime, localtime, strftime, struct_time, time
from typing import Any, Final

Event = dict[str, Any]

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

    def __init__(self, format: str, broken_down: Callable[[float], struct_time]) -> None:
        self._format = format
        self._broken_down = broken_down
        self._millisecond = -1
        self._second = -1
        self._whole = ""
        self._text = ""

    def now(self) -> str:
        millisecond = int(time() * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            second = millisecond // 1000
            if second != self._second:
                self._whole = strftime(self._format, self._broken_down(second))
                self._second = second
            self._text = f"{self._whole}.{str(1000 + millisecond % 1000)[1:]}"
        return self._text


_local: Final = _Clock("%Y-%m-%d %H:%M:%S", localtime)
_utc: Final = _Clock("%Y-%m-%dT%H:%M:%S", gmtime)


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


def _pairs(labels: Sequence[str], values: list[Any]) -> str:
    """As they stand on a line, those that have a value."""
    parts: list[str] = []
    empty = False
    for at, value in enumerate(values):
        if value is not None:
            parts.append(labels[at])
            text: str = value if type(value) is str else _plain(value)
            parts.append(text)
            empty = empty or not text
    line = "".join(parts)
    # nearly always no text needs quotes, which one look at the whole tells: all that is special are the labels' own
    # blanks and equals signs
    if not empty and line.isascii() and len(line.encode().translate(None, _SPECIAL)) == len(line) - len(parts):
        return line
    pairs = zip(labels, values, strict=True)
    return "".join([label + _plain(value) for label, value in pairs if value is not None])


_SPECIAL: Final = b' "=\x7f' + bytes(range(32))
"""What a text may not hold that stands on a line without quotes, of ASCII."""


class Form:
    """An event that is told again and again with the same fields: what its lines share is put together once."""

    def __init__(self, event: str, names: Sequence[str]) -> None:
        self.event = event
        self.names = names
        self._labels = [_label(name) for name in names]

    def pairs(self, values: list[Any]) -> str:
        """The fields on a line, each with its value of *values*."""
        return _pairs(self._labels, values)

    def fields(self, values: list[Any]) -> Event:
        """The fields by name."""
        return dict(zip(self.names, values, strict=True))


class Format:
    """How events become lines."""

    def line(self, level: str, text: str, fields: Event) -> str:
        """The line about an event."""
        raise AssertionError("each format says how")

    def filled(self, level: str, form: Form, values: list[Any]) -> str:
        """The line about an event of that *form*."""
        return self.line(level, form.event, form.fields(values))


class InPairs(Format):
    """What the event is, then its fields, after a beginning that hangs on the level."""

    def __init__(self, begin: Callable[[str], str]) -> None:
        self._begin = begin

    def line(self, level: str, text: str, fields: Event) -> str:
        shown = _shown(text, fields)
        labels = [_label(name) for name in fields]
        return f"{self._begin(level)}{shown}{_pairs(labels, list(fields.values()))}\n"

    def filled(self, level: str, form: Form, values: list[Any]) -> str:
        return f"{self._begin(level)}{form.event}{form.pairs(values)}\n"


def _text(level: str) -> str:
    return f"{_local.now()} {_TEXT[level]} "


def _journal(level: str) -> str:
    return _PRIORITY[level]


def _dovecot(level: str) -> str:
    return _DOVECOT[level]


class Coloured(Format):
    """For people at a terminal."""

    def line(self, level: str, text: str, fields: Event) -> str:
        name = _shown(text, fields)
        pairs = [f"\033[2m{_label(name)}\033[0m{_plain(value)}" for name, value in fields.items() if value is not None]
        how = f"\033[{_COLOUR[level]}m{_TEXT[level]}\033[0m"
        return f"\033[2m{_local.now()}\033[0m {how} \033[1m{name}\033[0m{''.join(pairs)}\n"


class Logfmt(Format):
    """All in pairs, times in UTC."""

    def line(self, level: str, text: str, fields: Event) -> str:
        if "exc_info" in fields:
            _add_traceback(fields)
        _drop_our_names(fields)
        labels = [_label(name) for name in fields]
        return f"time={_utc.now()}Z level={level} event={_plain(text)}{_pairs(labels, list(fields.values()))}\n"


def _drop_our_names(fields: Event) -> None:
    """Where time, level and event are fields too, nobody else's fields may be called so; `ABOUT` is there in fields."""
    for name in ("time", "level", "event", ABOUT):
        if name in fields:
            del fields[name]


class Json(Format):
    """An object a line, times in UTC."""

    def line(self, level: str, text: str, fields: Event) -> str:
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

FORMATS: Final[dict[str, Format]] = {
    "text": InPairs(_text),
    "coloured": Coloured(),
    "json": Json(),
    "logfmt": Logfmt(),
    "journal": InPairs(_journal),
    "dovecot": InPairs(_dovecot),
}
