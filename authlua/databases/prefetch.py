"""``prefetch``: what the passdb said of the user's mail when it let the user in."""

from collections.abc import Iterable

from authlua.listing import WholeListing
from authlua.request import AuthRequest
from authlua.results import UserdbReply, UserdbResult


class PrefetchUserdb:
    """Finds those for whom a passdb set some ``userdb_*`` field (``core:2.3.21.1:src/auth/userdb-prefetch.c``).

    Args:
        alone: there is no other userdb that could know the rest.
    """

    def __init__(self, *, alone: bool) -> None:
        self._alone = alone

    async def lookup(self, request: AuthRequest) -> UserdbReply:
        """The fields are in the request already."""
        if request.userdb_prefetched:
            return UserdbReply(UserdbResult.OK)
        if not self._alone:
            return UserdbReply(UserdbResult.USER_UNKNOWN)
        if request.mech:
            return UserdbReply(UserdbResult.INTERNAL_FAILURE, (), "passdb didn't return userdb entries")
        return UserdbReply(UserdbResult.INTERNAL_FAILURE, (), "userdb lookup not possible with only userdb prefetch")

    def iterate(self) -> WholeListing:
        """Nobody that another userdb would not list."""
        return WholeListing(self._nobody)

    async def _nobody(self) -> Iterable[str]:
        return ()
