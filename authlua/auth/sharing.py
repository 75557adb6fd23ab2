"""Work that several requests want at the same time is done once.

The first to come does it; the others wait for its `Flight` to land and take what it brought. If it brought nothing,
because its client went away, the next one takes over.
"""

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from authlua.auth.cache import CacheKey
from authlua.auth.databases import CredentialsKeeper, Passdb, Userdb
from authlua.errors import ScriptError
from authlua.request import AuthRequest
from authlua.results import PassdbReply, UserdbReply
from authlua.secret import Secret
from authlua.wishes import Flight

T = TypeVar("T")


class Sharing(Generic[T]):
    """What is being fetched at the moment, by key."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, Flight] = {}

    async def fetch(self, key: Hashable, fetch: Callable[[], Awaitable[T]]) -> T:
        """What *fetch* brings, or what another `fetch` of the same *key* that is under way does.

        Raises whatever *fetch* raises; of a failure of somebody else's, the text.
        """
        while (flight := self._flights.get(key)) is not None:
            await flight
            if flight.failure is not None:
                raise ScriptError(flight.failure)
            if flight.brought is not None:
                brought: T = flight.brought
                return brought
        flight = self._flights[key] = Flight()
        try:
            result = await fetch()
            flight.brought = result
            return result
        except ScriptError as error:
            flight.failure = str(error)
            raise
        finally:
            del self._flights[key]
            flight.land()


class SharedPassdb:
    """A passdb that is asked once when several ask it the same: the same key and, if it judges it, password."""

    def __init__(self, passdb: Passdb, key: CacheKey) -> None:
        self._passdb = passdb
        self._key = key
        self.verifies = passdb.verifies
        if isinstance(passdb, CredentialsKeeper):
            self.set_credentials = passdb.set_credentials
        self._lookups: Sharing[PassdbReply] = Sharing()
        self._verifications: Sharing[PassdbReply] = Sharing()

    async def verify_plain(self, request: AuthRequest, password: Secret) -> PassdbReply:
        """Is this the user's password?"""
        key = self._key.expand(request), password
        return await self._verifications.fetch(key, lambda: self._passdb.verify_plain(request, password))

    async def lookup(self, request: AuthRequest) -> PassdbReply:
        """The user's stored password and fields."""
        return await self._lookups.fetch(self._key.expand(request), lambda: self._passdb.lookup(request))


class SharedUserdb:
    """A userdb that is asked once when several ask it the same."""

    def __init__(self, userdb: Userdb, key: CacheKey) -> None:
        self._key = key
        self._userdb = userdb
        self._lookups: Sharing[UserdbReply] = Sharing()
        self.iterate = userdb.iterate

    async def lookup(self, request: AuthRequest) -> UserdbReply:
        """The user's fields."""
        return await self._lookups.fetch(self._key.expand(request), lambda: self._userdb.lookup(request))
