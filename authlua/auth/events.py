"""Dovecot's events about requests, and what they say (``core:2.3.21.1:src/auth/auth-request-fields.c``).

An event is told to whoever observes: it is counted and, with ``debug``, logged. The one about a whole login,
``auth_request_finished``, is the server's.
"""

from authlua.auth.databases import PassdbEntry, UserdbEntry
from authlua.dialect import Dialect
from authlua.request import AuthRequest


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


def about_database(entry: PassdbEntry | UserdbEntry, dialect: Dialect) -> dict[str, str]:
    """Which passdb or userdb it was: 2.3 calls it by its driver first, 2.4 by its name."""
    kind = "passdb" if isinstance(entry, PassdbEntry) else "userdb"
    if dialect is Dialect.V2_3:
        return {kind: entry.driver, f"{kind}_name": entry.name, f"{kind}_id": str(entry.id)}
    return {kind: entry.name, f"{kind}_driver": entry.driver, f"{kind}_id": str(entry.id)}
