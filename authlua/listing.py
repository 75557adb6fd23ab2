"""A list of users on its way, piece by piece, so that it need never be in memory as a whole."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

PIECE = 1000
"""Names that travel together."""


class Listing(Protocol):
    """The users of a userdb. Who asks for the next piece says that there is room for it."""

    async def piece(self) -> Sequence[str]:
        """Some more names; none when those were all. Awaits only wishes.

        Raises:
            ScriptError: they cannot be listed, or not further.
        """
        ...

    def close(self) -> None:
        """Nobody wants the rest; after the end, too."""
        ...


class WholeListing:
    """A list that is known at once.

    Args:
        fetch: gives all names, when the first are wanted.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Iterable[str]]]) -> None:
        self._fetch = fetch
        self._rest: Iterator[str] | None = None

    async def piece(self) -> Sequence[str]:
        """Some more names."""
        if self._rest is None:
            self._rest = iter(await self._fetch())
        return list(islice(self._rest, PIECE))

    def close(self) -> None:
        """Let go of the rest."""
        self._rest = iter(())
