"""What the chains need from a passdb or userdb."""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from authlua.listing import Listing
from authlua.request import AuthRequest
from authlua.results import PassdbReply, UserdbReply
from authlua.secret import Secret

Log = Callable[[str, str, AuthRequest | None, Mapping[str, object]], None]
"""``log(level, text, request, fields)`` with level ``debug``, ``info``, ``warning`` or ``error``."""


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
