"""What a passdb or a userdb can answer, in Dovecot's numbers.

Lua scripts see these very numbers as ``dovecot.auth.PASSDB_RESULT_*`` and
``dovecot.auth.USERDB_RESULT_*``; the names without prefix are what the command line prints.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class PassdbResult(IntEnum):
    """Dovecot's ``enum passdb_result`` (``core:2.3.21.1:src/auth/passdb.h``)."""

    OK = 1
    PASSWORD_MISMATCH = 0
    INTERNAL_FAILURE = -1
    SCHEME_NOT_AVAILABLE = -2
    USER_UNKNOWN = -3
    USER_DISABLED = -4
    PASS_EXPIRED = -5
    NEXT = -6


class UserdbResult(IntEnum):
    """Dovecot's ``enum userdb_result`` (``core:2.3.21.1:src/auth/userdb.h``).

    ``USER_UNKNOWN`` has another value than its namesake in `PassdbResult`, as in Dovecot.
    """

    OK = 1
    INTERNAL_FAILURE = -1
    USER_UNKNOWN = -2


# what dataclass, or NamedTuple, would make of these takes longer than all that is done with one
@dataclass(init=False, slots=True)
class PassdbReply:
    """One passdb's answer, before the chain has looked at it."""

    result: PassdbResult
    fields: Sequence[tuple[str, str | None]] = ()
    """What it wants set, in order, special names included (``password``, ``user``, ``userdb_…``)."""
    text: str = ""
    """Why, in words for the log alone; never sent to a client. Empty: the result says it all."""

    def __init__(self, result: PassdbResult, fields: Sequence[tuple[str, str | None]] = (), text: str = "") -> None:
        self.result = result
        self.fields = fields
        self.text = text

    def __repr__(self) -> str:
        return f"PassdbReply({self.result.name}, {[name for name, _ in self.fields]})"


@dataclass(init=False, slots=True)
class UserdbReply:
    """One userdb's answer, before the chain has looked at it."""

    result: UserdbResult
    fields: Sequence[tuple[str, str | None]] = ()
    text: str = ""

    def __init__(self, result: UserdbResult, fields: Sequence[tuple[str, str | None]] = (), text: str = "") -> None:
        self.result = result
        self.fields = fields
        self.text = text

    def __repr__(self) -> str:
        return f"UserdbReply({self.result.name}, {[name for name, _ in self.fields]})"
