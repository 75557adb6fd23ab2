"""What commands print: fields aligned for people, or JSON."""

import json
import sys
from collections.abc import Iterable

Fields = Iterable[tuple[str, str | None]]


def say(text: str = "") -> None:
    """Print *text*, whose undecodable bytes come out as they came in."""
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")


def one_line(text: str) -> str:
    """*text* without control characters, which could end the line or command the terminal."""
    if text.isprintable():
        return text
    return "".join([f"\\x{ord(c):02x}" if ord(c) < 32 or 127 <= ord(c) < 160 else c for c in text])


def say_fields(fields: Fields) -> None:
    """Print *fields* indented, names and values in two columns."""
    rows = [(one_line(name), "" if value is None else one_line(value)) for name, value in fields]
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        say(f"  {name:{width}}  {value}".rstrip())


def say_json(value: object) -> None:
    """Print *value* as JSON."""
    say(json.dumps(value, ensure_ascii=False, indent=2))


def json_text(text: str) -> str:
    r"""*text* for JSON, which cannot hold bytes that are not UTF-8: they become ``\xNN``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def json_fields(fields: Fields) -> dict[str, str]:
    """*fields* as a JSON object in their order; one without a value is ``""``."""
    return {json_text(name): json_text(value or "") for name, value in fields}


def hide_password(fields: Fields, *, show: bool) -> list[tuple[str, str | None]]:
    """*fields* with what is secret in them hidden, unless *show* is wanted."""
    return [(name, value if show or not value or not _is_secret(name) else "<hidden>") for name, value in fields]


def _is_secret(name: str) -> bool:
    return name.partition(":")[0] in ("password", "password_noscheme", "pass", "token", "auth_token")
