"""The text of ``doveconf -n`` as blocks of settings, whatever they mean.

Both series print alike: ``name = value``, a line each, and ``name argument { … }``. What doveconf hides without ``-P``
stays recognizable (`is_hidden`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from authlua.dialect import Dialect
from authlua.errors import ConfigError

_HEADER = re.compile(r"# (?P<version>2\.(?P<minor>\d+)(?:\.(?P<patch>\d+))?[\d.]*)\S* \(")
_NAME = r'(?P<name>"(?:\\.|[^"\\])*"|[^\s"={}]+)'
_OPENS = re.compile(_NAME + r"(?:\s+(?P<argument>\S.*?))?\s*\{$")
_SETS = re.compile(_NAME + r"\s*=\s*(?P<value>.*)$")
_QUOTED = re.compile(r'"((?:\\.|[^"\\])*)"')
_HIDDEN = ("# hidden, use -P to show it", "#hidden_use-P_to_show#")


class Setting(NamedTuple):
    """What stands behind the ``=``, without quotes around it, and where."""

    value: str
    line: int


@dataclass
class Block:
    """``name argument { … }``, or the whole text, whose name is empty."""

    name: str = ""
    argument: str = ""
    line: int = 0
    settings: dict[str, Setting] = field(default_factory=dict)
    blocks: list["Block"] = field(default_factory=list)


class Version(NamedTuple):
    """Which Dovecot printed the text."""

    text: str
    """Its own name for itself, such as ``2.3.19.1``, or the series when only that can be told."""
    dialect: Dialect
    patch: int
    """The third number; 0 when it is not known."""


def is_hidden(value: str) -> bool:
    """Whether doveconf has put a remark in the place of *value*, or of a part of it."""
    return value == _HIDDEN[0] or _HIDDEN[1] in value


def parse(text: str) -> Block:
    """The blocks of *text*.

    Raises:
        ConfigError: some lines are neither a setting nor the start or end of a block; all of them are told.
    """
    root = Block()
    open_blocks = [root]
    problems = []
    comments = _HEADER.match(text) is None  # doveconf writes none behind a value, people do
    for number, line in _lines(text):
        if comments:
            line = re.split(r"\s+#", line, maxsplit=1)[0]
        inside = open_blocks[-1]
        if line == "}" and len(open_blocks) > 1:
            open_blocks.pop()
        elif sets := _SETS.fullmatch(line):
            inside.settings[_unquoted(sets["name"])] = Setting(_unquoted(sets["value"]), number)
        elif opens := _OPENS.fullmatch(line):
            block = Block(_unquoted(opens["name"]), _unquoted(opens["argument"] or ""), number)
            inside.blocks.append(block)
            open_blocks.append(block)
        elif line.startswith(("!include", "@")):
            problems.append(
                f"line {number}: {line.split()[0]} is for Dovecot to resolve, give what `doveconf -n` prints"
            )
        else:
            problems.append(f'line {number}: expected "name = value", "name {{" or "}}", got {line!r}')
    if len(open_blocks) > 1:
        problems.append(f"line {open_blocks[-1].line}: {open_blocks[-1].name} {{ has no end")
    if problems:
        raise ConfigError(problems)
    return root


def version_of(text: str, root: Block) -> Version | None:
    """The Dovecot that *text* is from, by its first line, else by its grammar; `None` when neither tells."""
    if header := _HEADER.match(text):
        patch = int(header["patch"] or 0)
        if int(header["minor"]) < 4:
            return Version(header["version"], Dialect.V2_3, patch)
        return Version(header["version"], Dialect.V2_4 if patch else Dialect.V2_4_0, patch)
    if "dovecot_config_version" in root.settings:
        return Version("2.4", Dialect.V2_4, 0)
    for block in root.blocks:
        if block.name in ("passdb", "userdb"):
            return Version("2.4", Dialect.V2_4, 0) if block.argument else Version("2.3", Dialect.V2_3, 0)
    return None


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Each line that says something, with its number; warnings that came along on the terminal are none."""
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if line and not line.startswith(("#", "doveconf: Warning:")):
            yield number, line


def _unquoted(text: str) -> str:
    quoted = _QUOTED.fullmatch(text)
    return re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
