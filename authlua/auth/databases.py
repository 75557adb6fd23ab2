"""What the chains need from a passdb or userdb, and how an admin placed each of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from authlua.auth.cache import CacheKey
from authlua.listing import Listing
from authlua.masks import mask
from authlua.request import AuthRequest
from authlua.results import PassdbReply, UserdbReply
from authlua.secret import Secret
from authlua.variables import Template

Log = Callable[[str, str, AuthRequest | None, Mapping[str, object]], None]
"""``log(level, text, request, fields)`` with level ``debug``, ``info``, ``warning`` or ``error``."""

Observe = Callable[[str, AuthRequest | None, Mapping[str, str], float], None]
"""``observe(event, request, fields, seconds)``: one of Dovecot's events has happened, and took so long."""


class Passdb(Protocol):
    """Knows passwords. Its methods await only wishes; a failure is a `ScriptError`."""

    verifies: bool
    """`verify_plain` judges passwords itself; else they are compared with what `lookup` returns."""

    async def verify_plain(self, request: AuthRequest, password: Secret) -> PassdbReply:
        """Is this the user's password?"""
        ...

    async def lookup(self, request: AuthRequest) -> PassdbReply:
        """The user's stored password and fields."""
        ...


@runtime_checkable
class CredentialsKeeper(Protocol):
    """A passdb that can also store passwords; OTP needs one."""

    async def set_credentials(self, request: AuthRequest, stored: Secret) -> bool:
        """Keep *stored*, ``{SCHEME}data``, as the user's password from now on; whether that is done."""
        ...


class Userdb(Protocol):
    """Knows where mail lives. Its methods await only wishes; a failure is a `ScriptError`."""

    async def lookup(self, request: AuthRequest) -> UserdbReply:
        """The user's fields."""
        ...

    def iterate(self) -> Listing:
        """The names of all users."""
        ...


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
class PassdbEntry:
    """A passdb at its place in the chain."""

    passdb: Passdb
    id: int
    name: str = "lua"
    driver: str = "lua"
    result_success: Rule = RULES["return-ok"]
    result_failure: Rule = RULES["continue"]
    result_internalfail: Rule = RULES["continue"]
    skip: str = "never"
    master: bool = False
    deny: bool = False
    mechanisms: Sequence[str] = ()
    """Upper case; ``LOOKUP`` stands for lookups without a mech. Empty: all."""
    username_filter: Sequence[str] = ()
    default_scheme: str = "PLAIN"
    default_fields: Sequence[tuple[str, Template]] = ()
    override_fields: Sequence[tuple[str, Template]] = ()
    verbose: bool | None = None
    cache_key: CacheKey | None = None
    """`None`: its answers are not cached."""

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
class UserdbEntry:
    """A userdb at its place in the chain."""

    userdb: Userdb
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
