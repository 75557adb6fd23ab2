"""How an admin placed each passdb and userdb in its chain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from authlua.auth.cache import CacheKey
from authlua.auth.databases import Passdb, Userdb
from authlua.masks import mask
from authlua.request import AuthRequest
from authlua.variables import Template


class Rule(NamedTuple):
    """What one result does to the chain."""

    go_on: bool
    success: bool | None
    """The chain's success from here on; `None` leaves it."""
    verified: bool | None = False
    """Later passdbs need not check the password; `None`: only if this result was OK."""


RULES: Mapping[str, Rule] = {
    "return": Rule(False, None),
    "return-ok": Rule(False, True),
    "return-fail": Rule(False, False),
    "continue": Rule(True, None, None),
    "continue-ok": Rule(True, True, True),
    "continue-fail": Rule(True, False),
}
"""Dovecot's ``result_*`` values (``core:2.3.21.1:src/auth/auth-request.c:auth_request_handle_passdb_callback``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseEntry:
    """A passdb or userdb at its place in the chain."""

    id: int
    name: str = "lua"
    driver: str = "lua"
    result_success: Rule = RULES["return-ok"]
    result_failure: Rule = RULES["continue"]
    result_internalfail: Rule = RULES["continue"]
    skip: str = "never"
    default_fields: Sequence[tuple[str, Template]] = ()
    override_fields: Sequence[tuple[str, Template]] = ()
    verbose: bool | None = None
    cache_key: CacheKey | None = None
    """`None`: its answers are not cached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassdbEntry(DatabaseEntry):
    """A passdb at its place in the chain."""

    passdb: Passdb
    master: bool = False
    deny: bool = False
    mechanisms: Sequence[str] = ()
    """Upper case; ``LOOKUP`` stands for lookups without a mech. Empty: all."""
    username_filter: Sequence[str] = ()
    default_scheme: str = "PLAIN"

    def skipped(self, request: AuthRequest) -> str | None:
        """Why this passdb does not apply to *request*; `None` when it does."""
        if self.mechanisms and (request.mech or "LOOKUP") not in self.mechanisms:
            return "mechanism filtered"
        if self.username_filter and not _name_matches(self.username_filter, request.user or ""):
            return "username filtered"
        if self.skip != "never" and (self.skip == "authenticated") == request.skip_password_check:
            return f"skip={self.skip}"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserdbEntry(DatabaseEntry):
    """A userdb at its place in the chain."""

    userdb: Userdb
    lists: bool = True
    """It knows who there is; else a list of all users is made of the others."""
    asks_passdbs: bool = False
    """It finds everybody, so outside of a login the passdbs say whether the user is there."""

    def skipped(self, *, found: bool) -> bool:
        """Whether this userdb is passed over, given that one before it has *found* the user."""
        return self.skip != "never" and (self.skip == "found") == found


def _name_matches(patterns: Sequence[str], name: str) -> bool:
    excluded = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    included = [pattern for pattern in patterns if not pattern.startswith("!")]
    if any(mask(pattern)(name) for pattern in excluded):
        return False
    return not included or any(mask(pattern)(name) for pattern in included)
