"""``static``: the same fields for everybody, whatever the name."""

from collections.abc import Iterable

from authlua.databases.compared import Compared
from authlua.databases.fields import Fields, compiled, expanded
from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.listing import WholeListing
from authlua.request import AuthRequest
from authlua.results import PassdbReply, PassdbResult, UserdbReply, UserdbResult


class _Static:
    """Args:
    fields: templates, expanded for each request.
    """

    def __init__(self, fields: Iterable[tuple[str, str]], *, dialect: Dialect, id: int) -> None:
        self._fields: Fields = compiled(fields, dialect)
        self._dialect = dialect
        self._id = id


class StaticPassdb(_Static, Compared):
    """Everybody is there; a field ``password``, or ``nopassword``, says who gets in."""

    async def lookup(self, request: AuthRequest) -> PassdbReply:
        """The fields."""
        return PassdbReply(PassdbResult.OK, expanded(self._fields, request, self._dialect, self._id))


class StaticUserdb(_Static):
    """Everybody's mail is where the fields say."""

    async def lookup(self, request: AuthRequest) -> UserdbReply:
        """The fields."""
        return UserdbReply(UserdbResult.OK, expanded(self._fields, request, self._dialect, self._id))

    def iterate(self) -> WholeListing:
        """Nobody knows who there is."""
        return WholeListing(self._nobody)

    async def _nobody(self) -> Iterable[str]:
        raise ScriptError("userdb static cannot list users")
