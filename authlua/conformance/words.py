"""The vocabulary of ``script.lua``, read from the script itself: which names of users mean something there."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path

SCRIPT = Path(__file__).with_name("script.lua")

_TABLE = re.compile(r"^fields\.(passdb|userdb) = \{$(.*?)^\}$", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r'^  (\w+) = \{ "(\w+)"', re.MULTILINE)

PASSDB_CODES = (
    "ok",
    "mis",
    "int",
    "sch",
    "unk",
    "dis",
    "exp",
    "nxt",
    "half",
    "huge",
    "one",
    "text",
    "yes",
    "tab",
    "no",
)
USERDB_CODES = ("ok", "int", "unk", "one", "text", "yes", "tab", "no")
RAISES = ("err-x", "errt-x", "void-x")
SECONDS = ("t", "n", "o", "b", "i", "f", "m", *(f"s{number}" for number in range(12)))
"""What may come second: a table, nil, an empty table, a boolean, a number, a function, a table with a metatable, …"""

SLOW = frozenset({"pbkdf2", "pbkdf2bad", "sha512crypt", "crypt", "cryptbad", "blfcrypt", "blfbad", "argonbad"})
SLOW |= frozenset({"scram256", "scrambad", "uidname", "uidunknown", "gidunknown", "uidempty", "uidbig", "uidnegative"})
SLOW |= frozenset({"uidgidfile", "uidgidfilegone", "md5crypt", "md5bare", "proxyhostip", "delayrandom"})
"""Words whose answer may come later than those of the questions behind it."""

BROKEN = frozenset({"pwbadb64", "sha256short", "sha256bad", "smd5short", "scrambad"})
BROKEN |= frozenset({"pbkdf2bad", "cryptbad", "blfbad", "argonbad"})
"""Stored passwords that are no values of their scheme."""

ROLLED_BACK = frozenset({"nopwpass", "noauthpass"})
"""Words that fail with ``nopassword`` set."""

SPOILING = frozenset({"fail", "failno", "nets", "netsother", "netslocal", "netsbad", "netsempty", "realnets"})
SPOILING |= frozenset({"delayfar", "delaytext", "delayodd", "delayempty", "userempty", "usernameempty", "utempfail"})
"""Words that may make a lookup fail that has found its user."""


@functools.cache
def fields(kind: str) -> Mapping[str, str]:
    """The words for fields of *kind*, ``passdb`` or ``userdb``, and the group of each; one of a group may be used."""
    tables = {match[1]: dict(_FIELD.findall(match[2])) for match in _TABLE.finditer(SCRIPT.read_text())}
    return tables[kind]
