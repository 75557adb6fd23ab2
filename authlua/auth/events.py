"""Dovecot's events about requests, and what they say (``core:2.3.21.1:src/auth/auth-request-fields.c``).

An event is told to whoever observes: it is counted and, with ``debug``, logged. The one about a whole login,
``auth_request_finished``, is the server's.
"""

from collections.abc import Mapping, Sequence

from authlua.auth.databases import PassdbEntry, UserdbEntry
from authlua.dialect import Dialect
from authlua.request import AuthRequest
from authlua.results import PassdbResult, UserdbResult


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

    def __init__(self, entries: Sequence[PassdbEntry | UserdbEntry], dialect: Dialect) -> None:
        self._about = {entry.id: _about_database(entry, dialect) for entry in entries}
        self._finished: dict[tuple[int, PassdbResult | UserdbResult, str], dict[str, str]] = {}

    def started(self, id: int) -> Mapping[str, str]:
        """Which passdb or userdb it is."""
        return self._about[id]

    def finished(self, id: int, result: PassdbResult | UserdbResult, cache: str = "") -> Mapping[str, str]:
        """What it said, and whether that was in the cache, ``hit`` or ``miss``."""
        fields = self._finished.get((id, result, cache))
        if fields is None:
            fields = {**self._about[id], "result": result.name.lower()}
            if cache:
                fields["cache"] = cache
            self._finished[id, result, cache] = fields
        return fields


def _about_database(entry: PassdbEntry | UserdbEntry, dialect: Dialect) -> dict[str, str]:
    """Which passdb or userdb it is: 2.3 calls it by its driver first, 2.4 by its name."""
    kind = "passdb" if isinstance(entry, PassdbEntry) else "userdb"
    if dialect is Dialect.V2_3:
        return {kind: entry.driver, f"{kind}_name": entry.name, f"{kind}_id": str(entry.id)}
    return {kind: entry.name, f"{kind}_driver": entry.driver, f"{kind}_id": str(entry.id)}
