"""Databases of a few lines, and a driver for cores that never wait."""

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any

from authlua.auth import RULES, Auth, AuthOptions, CacheKey, Observe, PassdbEntry, Penalty, UserdbEntry
from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.listing import WholeListing
from authlua.request import AuthRequest
from authlua.results import PassdbReply, PassdbResult, UserdbReply, UserdbResult
from authlua.secret import Secret
from authlua.wishes import Wish

Fields = Mapping[str, str | None]


class DictPassdb:
    """User → fields, or a result that is none."""

    verifies = False

    def __init__(self, users: Mapping[str, Fields | PassdbResult | Exception]) -> None:
        self.users = users
        self.asked: list[str] = []

    async def verify_plain(self, request: AuthRequest, password: Secret) -> PassdbReply:
        raise AssertionError("this passdb only looks up")

    async def lookup(self, request: AuthRequest) -> PassdbReply:
        self.asked.append(request.user or "")
        found = self.users.get(request.user or "", PassdbResult.USER_UNKNOWN)
        if isinstance(found, Exception):
            raise found
        if isinstance(found, PassdbResult):
            return PassdbReply(found, (), "text" if found is PassdbResult.INTERNAL_FAILURE else "")
        return PassdbReply(PassdbResult.OK, list(found.items()))


class DictUserdb:
    """User → fields, or a result that is none."""

    def __init__(self, users: Mapping[str, Fields | UserdbResult | Exception]) -> None:
        self.users = users

    async def lookup(self, request: AuthRequest) -> UserdbReply:
        found = self.users.get(request.user or "", UserdbResult.USER_UNKNOWN)
        if isinstance(found, Exception):
            raise found
        if isinstance(found, UserdbResult):
            return UserdbReply(found, (), "text")
        return UserdbReply(UserdbResult.OK, list(found.items()))

    def iterate(self) -> WholeListing:
        async def names() -> Iterable[str]:
            return list(self.users)

        return WholeListing(names)


class House:
    """An `Auth` over such databases, and what it logged."""

    def __init__(
        self,
        *passdbs: "Mapping[str, Fields | PassdbResult | Exception] | DictPassdb",
        userdbs: Sequence[Mapping[str, Fields | UserdbResult | Exception]] = (),
        dialect: Dialect = Dialect.V2_3,
        placed: Sequence[Mapping[str, Any]] = (),
        userdb_key: CacheKey | None = None,
        penalty: Penalty | None = None,
        observe: Observe | None = None,
        **options: Any,
    ) -> None:
        self.log: list[tuple[str, str]] = []
        self.passdbs = [one if isinstance(one, DictPassdb) else DictPassdb(one) for one in passdbs]
        entries = [
            PassdbEntry(passdb=passdb, id=id, **_rules(placed[id - 1] if id <= len(placed) else {}))
            for id, passdb in enumerate(self.passdbs, 1)
        ]
        self.auth = Auth(
            AuthOptions(
                **{"dialect": dialect, "mechanisms": ("PLAIN", "LOGIN"), "internal_failure_delay": 0, **options}
            ),
            passdbs=entries,
            userdbs=[
                UserdbEntry(userdb=DictUserdb(users), id=id, cache_key=userdb_key)
                for id, users in enumerate(userdbs, 1)
            ],
            log=lambda level, text, request, fields: self.log.append((level, text)),
            token_secret=Secret(b"s" * 32),
            penalty=penalty,
            observe=observe,
        )


def _rules(placed: Mapping[str, Any]) -> dict[str, Any]:
    return {key: RULES[value] if key.startswith("result_") else value for key, value in placed.items()}


def run(core: Coroutine[Wish, Any, Any], *granted: type[Wish]) -> Any:
    """What *core* comes to; it must not wait for anything but what is *granted*, which is answered `None`."""
    try:
        while isinstance(wish := core.send(None), granted):
            pass
    except StopIteration as done:
        return done.value
    raise AssertionError(f"the core waits for {wish}")


__all__ = ["DictPassdb", "DictUserdb", "House", "ScriptError", "run"]
