"""What becomes of a Dovecot configuration: tables of an ``authlua.toml``, and what could not be put there."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from authlua.config import (
    DURATION,
    FIELDS,
    FILTER,
    MECHANISMS,
    NUMBER,
    SECTIONS,
    SETTINGS,
    SIZE,
    SWITCH,
    VERBOSE,
    WORDS,
    Context,
    Kind,
    keys,
)
from authlua.dialect import Dialect
from authlua.doveconf.parsing import Setting, Version
from authlua.errors import ConfigError

_UNITS = {"ms": "ms", "mi": "m", "s": "s", "m": "m", "h": "h", "d": "d", "w": "w"}


class Left(NamedTuple):
    """A setting of auth that has no counterpart, or none with this value."""

    line: int
    name: str
    """As in Dovecot's configuration, with the block it is in."""
    why: str


@dataclass
class Table:
    """One table of the TOML file."""

    section: str
    """Such as ``passdb``."""
    line: int = 0
    """Where it comes from; 0 when that is no single block."""
    keys: dict[str, object] = field(default_factory=dict)
    """As TOML has them."""
    remarks: list[str] = field(default_factory=list)
    """What a reader of the file should know."""
    left: list[Left] = field(default_factory=list)


class Site:
    """The tables as they grow.

    Args:
        version: the Dovecot whose configuration it is.
        mechanisms: those that authlua knows, in upper case.
    """

    def __init__(self, version: Version, mechanisms: Collection[str]) -> None:
        self.version = version
        self.server = Table("server", keys={"dialect": str(version.dialect)})
        self.log = Table("log")
        self.lua = Table("lua")
        self.auth = Table("auth")
        self.passdbs: list[Table] = []
        self.userdbs: list[Table] = []
        self.listeners: list[Table] = []
        self.elsewhere: list[str] = []
        """Names of settings and blocks that are not of auth."""
        self._context = Context(Path("/"), version.dialect, mechanisms)

    @property
    def dialect(self) -> Dialect:
        """Whose templates the file has."""
        return self.version.dialect

    @property
    def tables(self) -> Sequence[Table]:
        """All that say something, in the order of the file."""
        single = [table for table in (self.server, self.log, self.lua, self.auth) if table.keys or table.left]
        return [*single, *self.passdbs, *self.userdbs, *self.listeners]

    @property
    def left(self) -> Sequence[Left]:
        """All that could not be carried over, in the order of the original."""
        return sorted(left for table in self.tables for left in table.left)

    def put(self, table: Table, key: str, setting: Setting, name: str) -> None:
        """*setting*, which Dovecot calls *name*, as *key* of *table*, or among what is left."""
        kind = keys(SECTIONS[table.section])[key].kind
        try:
            value = toml_value(kind, setting.value)
            kind.read(value, self._context)
        except ValueError as error:
            table.left.append(Left(setting.line, name, str(error)))
        else:
            table.keys[key] = value

    def put_fields(self, table: Table, key: str, fields: Sequence[tuple[str, Setting]], name: str) -> None:
        """*fields*, each with the line it is from, as *key* of *table*; those whose templates are none are left."""
        kind = keys(SECTIONS[table.section])[key].kind
        taken = {}
        for field_name, setting in fields:
            try:
                kind.read({field_name: setting.value}, self._context)
            except ValueError as error:
                table.left.append(Left(setting.line, f"{name} {field_name}", str(error)))
            else:
                taken[field_name] = setting.value
        if taken:
            known = table.keys.get(key, {})
            table.keys[key] = {**known, **taken} if isinstance(known, dict) else taken

    def put_mechanisms(self, table: Table, setting: Setting, name: str) -> bool:
        """The names of mechanisms that authlua has too; false when there are none left."""
        kind = keys(SECTIONS[table.section])["mechanisms"].kind
        known = []
        for word in setting.value.split():
            try:
                kind.read([word], self._context)
            except ValueError:
                table.left.append(Left(setting.line, f"{name}: {word}", "authlua has no such mechanism"))
            else:
                known.append(word.lower())
        table.keys["mechanisms"] = known
        return bool(known)


def toml_value(kind: Kind, text: str) -> object:
    """Dovecot's *text* as TOML has values of *kind*; `ValueError` says what it should have been."""
    if kind is SWITCH:
        return is_yes(text)
    if kind is VERBOSE:
        return "default" if text in ("", "default") else is_yes(text)
    if kind in (WORDS, FILTER, MECHANISMS):
        return text.replace(",", " ").split()
    if kind.name == NUMBER.name:
        return int(text) if text.isdecimal() else text
    if kind is DURATION:
        return _duration(text)
    if kind is SIZE:
        return text.replace(" ", "")
    if kind in (FIELDS, SETTINGS):
        raise AssertionError("tables are put a field at a time")
    return text


def is_yes(text: str) -> bool:
    """A switch as Dovecot reads it (``core:2.3.21.1:src/lib-settings/settings-parser.c:get_bool``)."""
    if text.lower() in ("yes", "y", "1"):
        return True
    if text.lower() in ("no", "n", "0", ""):
        return False
    raise ValueError(f"expected yes or no, got {text!r}")


def _duration(text: str) -> str:
    """``1 days`` as ``1d``; the units by their beginnings, as Dovecot takes them."""
    match = re.fullmatch(r"(\d+)\s*([a-z]*)", text.lower())
    if match is None:
        raise ValueError(f"expected a time such as 2 secs, got {text!r}")
    unit = next((short for word, short in _UNITS.items() if match[2].startswith(word)), "s")
    return f"{int(match[1]) * 7}d" if unit == "w" else match[1] + unit


def refuse_hidden(names: Sequence[tuple[int, str]]) -> None:
    """Stop when *names*, lines and names of settings of auth, hold anything.

    Raises:
        ConfigError: the one who ran doveconf should have it show what it hides.
    """
    if names:
        raise ConfigError(
            [
                *(f"line {line}: {name}: doveconf has hidden the value" for line, name in sorted(names)),
                "give what `doveconf -nP` prints, which shows passwords and keys",
            ]
        )
