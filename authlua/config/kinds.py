"""Kinds of values: how TOML becomes one, and how it is written back."""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from authlua.dialect import Dialect
from authlua.urls import parse_redis_url


class Context(NamedTuple):
    """What reading a value may depend on."""

    directory: Path
    """Where relative paths of the file start."""
    dialect: Dialect
    """Whose template language the file uses."""
    mechanisms: Collection[str]
    """The SASL mechanisms there are, in upper case."""


class Kind(NamedTuple):
    """One kind of value: its name in the manual, how TOML becomes the value, and how it is written back.

    *read* raises `ValueError` with what was expected.
    """

    name: str
    read: Callable[[Any, Context], Any]
    show: Callable[[Any], object] = lambda value: value


def _is(kind: type, expected: str) -> Callable[[Any, Context], Any]:
    def read(value: Any, context: Context) -> Any:
        if type(value) is not kind:
            raise ValueError(expected)
        return value

    return read


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def _read_duration(value: Any, context: Context) -> float:
    if type(value) in (int, float) and 0 <= value < float("inf"):
        return float(value)
    if type(value) is str and (match := re.fullmatch(r"(\d+(?:\.\d+)?) *(ms|s|m|h|d)", value)):
        return float(match[1]) * _UNITS[match[2]]
    raise ValueError('expected a time such as "500ms", "2s", "5m" or "1h", or a number of seconds')


def _show_duration(seconds: float) -> str:
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:.0f}{unit}"
    return f"{seconds * 1000:.0f}ms" if seconds else "0s"


def _read_size(value: Any, context: Context) -> int:
    if type(value) is int and value >= 0:
        return value
    if type(value) is str and (match := re.fullmatch(r"(\d+) *([KMGT]?)B?", value, re.IGNORECASE)):
        return int(match[1]) * _SIZES[match[2].upper()]
    raise ValueError('expected a size such as "64M" or "1G", or a number of bytes')


def _show_size(size: int) -> object:
    for unit in ("T", "G", "M", "K"):
        if size and size % _SIZES[unit] == 0:
            return f"{size // _SIZES[unit]}{unit}"
    return size


def _read_mode(value: Any, context: Context) -> int:
    if type(value) is str and re.fullmatch(r"0?[0-7]{3}", value):
        return int(value, 8)
    raise ValueError('expected an octal file mode as text, such as "0660"')


def _read_path(value: Any, context: Context) -> Path:
    if type(value) is not str or not value or "\0" in value:
        raise ValueError("expected a path")
    return context.directory / value


def _read_location(value: Any, context: Context) -> str:
    template = _read_template(value, context)
    if not template.startswith(("maildir:", "imap://", "imaps://", "exec:")):
        raise ValueError('expected "maildir:PATH", "imap://HOST", "imaps://HOST" or "exec:COMMAND"')
    return template


def _read_attribute_dict(value: Any, context: Context) -> str:
    template = _read_template(value, context)
    if template and not template.startswith("file:"):
        raise ValueError('expected "file:PATH", or an empty text')
    return template


def _read_key_dict(value: Any, context: Context) -> str:
    """Dovecot's dict of keys, or a JWK Set; a relative path starts beside the file."""
    if type(value) is str and not value:
        return ""
    for kind in ("fs:posix:prefix=", "jwks:"):
        if type(value) is str and value.startswith(kind) and value != kind and "\0" not in value:
            path = value.removeprefix(kind)
            return kind + (path if path.startswith("/") else f"{context.directory}/{path}")
    raise ValueError('expected "fs:posix:prefix=DIRECTORY/" or "jwks:FILE"')


def _read_words(value: Any, context: Context) -> tuple[str, ...]:
    if type(value) is not list or not all(type(word) is str and word for word in value):
        raise ValueError('expected a list of words such as ["a", "b"]')
    return tuple(value)


def _read_paths(value: Any, context: Context) -> tuple[str, ...]:
    return tuple(str(context.directory / word) for word in _read_words(value, context))


def _read_mechanisms(value: Any, context: Context) -> tuple[str, ...]:
    known = ", ".join(name.lower() for name in context.mechanisms)
    if type(value) is not list or not all(type(name) is str and name.upper() in context.mechanisms for name in value):
        raise ValueError(f"expected a list of mechanisms out of {known}")
    if not value:
        raise ValueError(f"expected at least one mechanism out of {known}")
    return tuple(dict.fromkeys(name.upper() for name in value))


def _read_filter(value: Any, context: Context) -> tuple[str, ...]:
    known = [*context.mechanisms, "NONE", "LOOKUP"]
    if type(value) is not list or not all(type(name) is str and name.upper() in known for name in value):
        raise ValueError(f"expected a list of mechanisms out of {', '.join(known).lower()}")
    return tuple(name.upper() for name in value)


def _read_template(value: Any, context: Context) -> str:
    from authlua.variables import ExpansionError, compile_template

    if type(value) is not str:
        raise ValueError(f"expected a template of Dovecot {context.dialect}")
    try:
        compile_template(value, context.dialect)
    except ExpansionError as error:
        raise ValueError(f"expected a template of Dovecot {context.dialect} ({error})") from error
    return value


def _read_file(value: Any, context: Context) -> str:
    path = Path(_read_template(value, context))
    if path.is_absolute() or not value:
        return str(path) if value else ""
    directory = str(context.directory)
    return f"{directory.replace('%', '%%') if context.dialect is Dialect.V2_3 else directory}/{value}"


def _read_fields(value: Any, context: Context) -> tuple[tuple[str, str], ...]:
    if type(value) is not dict or not all(type(field) in (str, int) for field in value.values()):
        raise ValueError('expected a table of fields such as { uid = 5000, "home:protected" = "/srv/mail/%u" }')
    return tuple((name, _read_template(str(field), context)) for name, field in value.items())


def _read_settings(value: Any, context: Context) -> Mapping[str, str]:
    if type(value) is not dict or not all(type(v) is str for v in value.values()):
        raise ValueError('expected a table of texts such as { url = "http://localhost/" }')
    return value


def _read_translation(value: Any, context: Context) -> str:
    if type(value) is not str or len(value.encode()) % 2:
        raise ValueError("expected pairs of bytes, each the one to change and what it becomes")
    return value


def _read_verbose_passwords(value: Any, context: Context) -> str:
    if type(value) is not str or not re.fullmatch(r"no|(?:yes|plain|sha1)(?::[1-9]\d*)?", value):
        raise ValueError("expected no, plain or sha1, the last two also with a length such as sha1:6")
    return value.replace("yes", "plain")


def _read_verbose(value: Any, context: Context) -> bool | None:
    if value == "default":
        return None
    if type(value) is not bool:
        raise ValueError('expected "default", true or false')
    return value


def _read_redis(value: Any, context: Context) -> str:
    if type(value) is not str:
        raise ValueError("expected the URL of a Redis")
    if value:
        parse_redis_url(value)
    return value


def _read_address(value: Any, context: Context) -> str:
    if type(value) is str and (match := re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):(\d+)", value)):
        port = int(match[1])
        if 0 < port < 65536:
            return value
    raise ValueError('expected an address and a port such as "127.0.0.1:12345" or "[::1]:12345"')


TEXT = Kind("text", _is(str, "expected a text"))
SWITCH = Kind("true or false", _is(bool, "expected true or false"))
DURATION = Kind("time", _read_duration, _show_duration)
SIZE = Kind("size", _read_size, _show_size)
MODE = Kind("octal mode", _read_mode, lambda mode: f"{mode:04o}")
PATH = Kind("path", _read_path, str)
PATHS = Kind("list of paths", _read_paths, list)
WORDS = Kind("list of words", _read_words, list)
MECHANISMS = Kind("list of mechanisms", _read_mechanisms, lambda names: [name.lower() for name in names])
FILTER = Kind("list of mechanisms", _read_filter, lambda names: [name.lower() for name in names])
TEMPLATE = Kind("template", _read_template)
LOCATION = Kind("template", _read_location)
ATTRIBUTE_DICT = Kind("template", _read_attribute_dict)
KEY_DICT = Kind("place of keys", _read_key_dict)
FILE = Kind("path template", _read_file)
FIELDS = Kind(
    "table of templates",
    _read_fields,
    lambda fields: {name: "<hidden>" if name.startswith("pass") else value for name, value in fields},
)
ATTRIBUTES = Kind("table of templates", _read_fields, dict)
# a script's own settings may be anything, connection strings included, so their values are never shown
SETTINGS = Kind("table of texts", _read_settings, lambda settings: dict.fromkeys(settings, "<hidden>"))
SECRET = Kind("text", _is(str, "expected a text"), lambda secret: secret and "<hidden>")
TRANSLATION = Kind("text", _read_translation)
REDIS = Kind("URL of a Redis", _read_redis, lambda url: url and "<hidden>")
VERBOSE = Kind("default, true or false", _read_verbose, lambda value: "default" if value is None else value)
VERBOSE_PASSWORDS = Kind("no, plain or sha1, with an optional :length", _read_verbose_passwords)
ADDRESS = Kind("address", _read_address)


def number(low: int = 0, high: int | None = None) -> Kind:
    """A whole number from *low* up to *high*, or to any."""
    expected = f"expected a whole number from {low} " + ("on" if high is None else f"to {high}")

    def read(value: Any, context: Context) -> int:
        if type(value) is not int or value < low or (high is not None and value > high):
            raise ValueError(expected)
        return value

    return Kind("number", read)


NUMBER = number()
UID = number(0, (1 << 32) - 2)

HIDDEN = (SETTINGS, SECRET, FIELDS, REDIS)
"""Kinds whose values may be secret: they are in no repr and in no error message."""


def one_of(*choices: str) -> Kind:
    """One word of *choices*."""

    def read(value: Any, context: Context) -> str:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return str(value)

    return Kind(", ".join(choices), read)


HASH = one_of("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3-256", "sha3-512")._replace(
    name="name of a hash"
)


def words_of(*choices: str) -> Kind:
    """A list of some of *choices*."""

    def read(value: Any, context: Context) -> tuple[str, ...]:
        if type(value) is not list or not all(word in choices for word in value):
            raise ValueError(f"expected a list of words out of {', '.join(choices)}")
        return tuple(dict.fromkeys(value))

    return Kind("list of words", read, list)


def dialect_or(*others: str) -> Kind:
    """Which Dovecot, or one word of *others*."""
    words = one_of(*others, *Dialect)

    def read(value: Any, context: Context) -> str:
        word: str = words.read(value, context)
        return word if word in others else Dialect(word)

    return Kind(words.name, read, str)
