"""What a script may notice of the Dovecot release it was written for; one table, read everywhere in this room."""

from collections.abc import Mapping
from typing import NamedTuple

from authlua.dialect import Dialect
from authlua.request import VARIABLES_2_3, VARIABLES_2_4, Variable


class Rules(NamedTuple):
    """The differences between dialects, as far as scripts see them."""

    dialect: Dialect
    variables: Mapping[str, Variable]
    """The members of an ``auth_request``; 2.4 has ``id`` besides."""
    is_2_4: bool
    """Settings go to ``script_init``, whose result does not count; time, tab and net helpers; a database id."""
    has_response_from_template: bool
    has_base64: bool
    has_forced_debug: bool
    strings_set_fields: bool
    """A string beside OK (in 2.3 also beside NEXT) holds fields, ``key=value`` and spaces between."""
    ok: frozenset[str]
    """What may come second beside OK, in Lua's words."""
    other: frozenset[str]
    """What may come second beside any other code."""
    ok_problem: str
    other_problem: str


_STRING = frozenset({"string"})
_TABLE = frozenset({"table"})
_NIL = frozenset({"nil"})

RULES: Mapping[Dialect, Rules] = {
    Dialect.V2_3: Rules(
        dialect=Dialect.V2_3,
        variables=VARIABLES_2_3,
        is_2_4=False,
        has_response_from_template=True,
        has_base64=False,
        has_forced_debug=False,
        strings_set_fields=True,
        ok=_STRING | _TABLE,
        other=_STRING | _TABLE,
        ok_problem="invalid return value (expected string or table, got",
        other_problem="invalid return value (expected string or table, got",
    ),
    Dialect.V2_4_0: Rules(
        dialect=Dialect.V2_4_0,
        variables=VARIABLES_2_4,
        is_2_4=True,
        has_response_from_template=True,
        has_base64=False,
        has_forced_debug=False,
        strings_set_fields=True,
        ok=_NIL | _STRING | _TABLE,
        other=_NIL | _STRING | _TABLE,
        ok_problem="invalid return value (expected nil, string or table, got",
        other_problem="invalid return value (expected nil, string or table, got",
    ),
    Dialect.V2_4: Rules(
        dialect=Dialect.V2_4,
        variables=VARIABLES_2_4,
        is_2_4=True,
        has_response_from_template=False,
        has_base64=True,
        has_forced_debug=True,
        strings_set_fields=False,
        ok=_NIL | _TABLE,
        other=_NIL | _STRING,
        ok_problem="invalid return value (expected nil or table, got",
        other_problem="invalid error return value (expected nil or string, got",
    ),
}
"""`core:2.3.21.1:src/auth/db-lua.c:auth_lua_call_lookup` and its successors in 2.4.0 and 2.4.1."""
