"""The auth cache: what passdbs and userdbs answered, kept for a while, within a bound.

One cache serves all databases of a configuration; a reload begins with an empty one. Rules are those of
``core:2.3.21.1:src/auth/auth-cache.c`` and ``passdb-cache.c``; what is done with an entry stands in the chains.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from authlua.dialect import Dialect
from authlua.masks import mask
from authlua.protocol import escape
from authlua.request import AuthRequest
from authlua.variables import ExpansionError, Template, request_variables

Pairs = Sequence[tuple[str, str | None]]

ENTRY_SIZE = 600
"""Bytes that an entry takes beside its texts: objects, and its place in the table."""

FIELD_SIZE = 180
"""Bytes that a field takes beside its texts."""

_USER = frozenset({"user", "username", "domain"})


class Entry:
    """What one database answered about one user."""

    __slots__ = ("created", "credentials", "fields", "last_success", "size")

    def __init__(self, credentials: str | None, fields: Pairs | None, created: float, *, success: bool) -> None:
        self.credentials = credentials
        """The stored password with its scheme; empty or `None`: any password will do."""
        self.fields = fields
        """What the lookup set; `None`: there is no such user."""
        self.created = created
        self.last_success = success
        """The last login that used this entry knew the password."""
        self.size = 0

    def __repr__(self) -> str:
        # names only: values may be secrets
        return "unknown user" if self.fields is None else " ".join(["password", *(name for name, _ in self.fields)])


class Statistics(NamedTuple):
    """How the cache fares, counted from its start."""

    hits: int
    misses: int
    entries: int
    size: int
    """Bytes, estimated."""
    evicted: int


class Cache:
    """Entries by key; when they outgrow *size* bytes, those that were not used for longest go.

    Args:
        ttl, negative_ttl: seconds that a user who exists, or does not, is remembered.
        clock: seconds from anywhere, never going back.
    """

    def __init__(
        self, size: int, *, ttl: float, negative_ttl: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = max(size, 1024)
        self._ttl = ttl
        self._negative_ttl = negative_ttl
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._size = self._hits = self._misses = self._evicted = 0

    def find(self, key: str) -> Entry | None:
        """The entry of *key*, unless it is too old. Counted as a hit or a miss."""
        entry = self._entries.get(key)
        if entry is None or self._age(entry) > (self._negative_ttl if entry.fields is None else self._ttl):
            self._misses += 1
            return None
        self._hits += 1
        del self._entries[key]
        self._entries[key] = entry
        return entry

    def any_age(self, key: str) -> Entry | None:
        """The entry of *key*, however old: what is left when the database fails."""
        return self._entries.get(key)

    def may_be_outdated(self, entry: Entry) -> bool:
        """Whether a wrong password may mean that it was changed: the last one was right, or that is long ago."""
        return entry.last_success or self._age(entry) > self._negative_ttl

    def keep(self, key: str, credentials: str | None, fields: Pairs, *, success: bool) -> None:
        """Remember a user that exists."""
        self._keep(key, Entry(credentials, fields, self._clock(), success=success))

    def keep_unknown(self, key: str) -> None:
        """Remember that there is no such user."""
        if self._negative_ttl:
            self._keep(key, Entry(None, None, self._clock(), success=False))

    def forget(self, key: str) -> None:
        """What is known of *key* is about to be no longer true."""
        if key in self._entries:
            self._drop(key)

    def flush(self, users: Sequence[str] = ()) -> int:
        """Forget *users*, which may be masks, or everybody when none is named; how many entries that were.

        A user's entries are those whose key begins with that name (``auth-cache.c:auth_cache_node_is_user``).
        """
        if not users:
            dropped = list(self._entries)
        else:
            wanted = [mask(escape(user)) for user in users]
            dropped = [key for key in self._entries if any(fits(key.split("\t", 2)[1]) for fits in wanted)]
        for key in dropped:
            self._drop(key)
        return len(dropped)

    def statistics(self) -> Statistics:
        """Counters so far, and what is kept now."""
        return Statistics(self._hits, self._misses, len(self._entries), self._size, self._evicted)

    def _age(self, entry: Entry) -> float:
        return self._clock() - entry.created

    def _keep(self, key: str, entry: Entry) -> None:
        if key in self._entries:
            self._drop(key)
        entry.size = ENTRY_SIZE + len(key) + len(entry.credentials or "")
        entry.size += sum(FIELD_SIZE + len(name) + len(value or "") for name, value in entry.fields or ())
        if entry.size > self._limit:
            return
        self._entries[key] = entry
        self._size += entry.size
        while self._size > self._limit:
            self._drop(next(iter(self._entries)))
            self._evicted += 1

    def _drop(self, key: str) -> None:
        self._size -= self._entries.pop(key).size


def _of_requests(names: Iterable[str], dialect: Dialect, *, unknown_is_wrong: bool) -> list[str]:
    """Those of *names* that are a matter of the request, and not of the machine or the moment."""
    variables = request_variables(AuthRequest(""), dialect, id="")
    found = []
    for name in names:
        prefix, colon, _ = name.partition(":")
        if not colon:
            try:
                variables.lookup(name)
            except KeyError:
                if unknown_is_wrong:
                    raise ExpansionError(f"Unknown variable '{name}'") from None
                continue
        elif prefix not in ("passdb", "userdb"):
            continue
        found.append(name)
    return found


class CacheKey:
    """What the answer of one database depends on: the variables of its template, in fixed order.

    As in ``auth-cache.c:auth_cache_parse_key``, neither the text between them nor what any request gets the same
    matters, and a local part together with a domain is the user.

    Args:
        kind: ``P`` for a passdb, ``U`` for a userdb.
        names: those of the variables.
    """

    def __init__(self, kind: str, id: int, names: Iterable[str], dialect: Dialect) -> None:
        names = dict.fromkeys(names)
        if names.keys() & {"username"} and names.keys() & {"domain"}:
            names["user"] = None
        if "user" in names:
            names.pop("username", None)
            names.pop("domain", None)
        # who is asked about stands first, where a flush looks for it
        self._names = sorted(names, key=lambda name: (name not in _USER, name))
        self._start = f"{kind}{id}"
        self._dialect = dialect

    @classmethod
    def of_template(
        cls, kind: str, id: int, template: Template, dialect: Dialect, fields: Iterable[Template] = ()
    ) -> "CacheKey | None":
        """The key; `None` when *template* has no variable, so that all users would share one entry.

        *fields* are templates of fields set beside the database's own, whose variables count too. Raises
        `ExpansionError` for a variable that 2.4 does not know; 2.3 passes over it.
        """
        names = _of_requests(template.variables, dialect, unknown_is_wrong=dialect is not Dialect.V2_3)
        if not names:
            return None
        for one in fields:
            names += _of_requests([name for name in one.variables if ":" not in name], dialect, unknown_is_wrong=False)
        return cls(kind, id, names, dialect)

    def expand(self, request: AuthRequest) -> str:
        """The key for *request*, whose user counts as it was before any database changed it."""
        variables = request_variables(request, self._dialect, id=self._start[1:])
        user = request.user
        request.user = request.translated_user
        try:
            values = [variables.lookup(name) for name in self._names]
        finally:
            request.user = user
        start = self._start if request.master_user is None else f"{self._start}+{escape(request.master_user)}"
        return "\t".join([start, *(escape(value or "") for value in values)])
