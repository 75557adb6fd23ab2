"""Dovecot's events about requests, and what they say (``core:2.3.21.1:src/auth/auth-request-fields.c``).

An event is told to whoever observes: it is counted and, with ``debug``, logged. The one about a whole login,
``auth_request_finished``, is the server's.
"""

from collections.abc import Callable, Mapping, Sequence

from authlua.auth.entries import DatabaseEntry, PassdbEntry
from authlua.dialect import Dialect
from authlua.request import AuthRequest
from authlua.results import PassdbResult, UserdbResult


class Event:
    """One of Dovecot's events, and what it says of the passdb, userdb, policy server or worker it is about."""

    __slots__ = ("fields", "name", "tally")

    def __init__(self, name: str, fields: Mapping[str, str]) -> None:
        self.name = name
        self.fields = fields
        self.tally: object = None
        """For whoever counts: where it was counted before, as the same events happen with every login."""


Observe = Callable[[Event, AuthRequest | None, float], None]
"""``observe(event, request, seconds)``: *event* has happened, and took so long."""


def about_request(request: AuthRequest, dialect: Dialect) -> dict[str, object]:
    """The fields that every event about *request* has, in Dovecot's words; what is not known is `None`."""
    is_2_3 = dialect is Dialect.V2_3
    return {
        "user": request.user,
        "original_user": request.original_user,
        "translated_user": request.translated_user,
        "login_user": request.requested_login_user,
        "master_user": request.master_user,
        "mechanism": request.mech or None,
        "service" if is_2_3 else "protocol": request.service,
        "session": request.session,
        "client_id": request.client_id,
        "local_name": request.local_name,
        "local_ip": request.lip,
        "local_port": request.lport or None,
        "remote_ip": request.rip,
        "remote_port": request.rport or None,
        "real_local_ip": request.real_lip,
        "real_local_port": request.real_lport or None,
        "real_remote_ip": request.real_rip,
        "real_remote_port": request.real_rport or None,
        "realm": request.realm,
        "transport": {"": "insecure", "TLS": "TLS"}.get(request.secured, "trusted" if is_2_3 else "secured"),
    }


class Told:
    """What is told of passdbs and userdbs; what is told with every login is put together once."""

    def __init__(self, entries: Sequence[DatabaseEntry], dialect: Dialect) -> None:
        self._about = {entry.id: _about_database(entry, dialect) for entry in entries}
        kinds = {entry.id: "passdb" if isinstance(entry, PassdbEntry) else "userdb" for entry in entries}
        self._started = {id: Event(f"auth_{kind}_request_started", self._about[id]) for id, kind in kinds.items()}
        self._finished_name = {id: f"auth_{kind}_request_finished" for id, kind in kinds.items()}
        self._finished: dict[tuple[int, PassdbResult | UserdbResult, str], Event] = {}

    def started(self, id: int) -> Event:
        """That passdb or userdb is asked."""
        return self._started[id]

    def finished(self, id: int, result: PassdbResult | UserdbResult, cache: str = "") -> Event:
        """It has said *result*, and whether that was in the cache, ``hit`` or ``miss``."""
        event = self._finished.get((id, result, cache))
        if event is None:
            fields = {**self._about[id], "result": result.name.lower()}
            if cache:
                fields["cache"] = cache
            event = self._finished[id, result, cache] = Event(self._finished_name[id], fields)
        return event


def _about_database(entry: DatabaseEntry, dialect: Dialect) -> dict[str, str]:
    """Which passdb or userdb it is: 2.3 calls it by its driver first, 2.4 by its name."""
    kind = "passdb" if isinstance(entry, PassdbEntry) else "userdb"
    if dialect is Dialect.V2_3:
        return {kind: entry.driver, f"{kind}_name": entry.name, f"{kind}_id": str(entry.id)}
    return {kind: entry.name, f"{kind}_driver": entry.driver, f"{kind}_id": str(entry.id)}
