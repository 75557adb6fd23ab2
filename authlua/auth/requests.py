"""From what a client or master said to an `AuthRequest`."""

from collections.abc import Mapping

from authlua.dialect import Dialect
from authlua.protocol import Params, unescape
from authlua.request import AuthRequest, is_usable

_OF_LOGINS = ("secured", "final-resp-ok", "no-penalty", "valid-client-cert", "cert_username")
"""Parameters that count in an AUTH alone."""
_REMEMBERED = {"lip": "real_lip", "rip": "real_rip", "lport": "real_lport", "rport": "real_rport"}


def new_request(
    params: Params,
    *,
    id: int,
    mech: str = "",
    client_pid: int = 0,
    dialect: Dialect = Dialect.V2_4,
    named: Mapping[str, str | None] | None = None,
) -> AuthRequest:
    """A request with all that its parameters say.

    Unknown names and unusable values are ignored; of repeated ones the last counts, but ``real_*`` default to the
    first address and port, and all ``forward_fields`` count.

    Args:
        named: ``dict(params)``, where that is at hand.
    """
    if named is None:
        named = dict(params)
    if len(named) != len(params):
        named = {name: value for name, value in params if is_usable(name, value)}
        for name, value in params:
            if name in _REMEMBERED and is_usable(name, value):
                named.setdefault(_REMEMBERED[name], value)
    if not mech:
        named = {name: value for name, value in named.items() if name not in _OF_LOGINS}
    request = AuthRequest(params=named, mech=mech, id=id, client_pid=client_pid)
    if "forward_fields" in named:
        for name, value in params:
            if name == "forward_fields":
                _forward(request, value or "", dialect)
    return request


def _forward(request: AuthRequest, fields: str, dialect: Dialect) -> None:
    """Fields of an earlier hop: passdb fields that no failing passdb takes back.

    One without a value has none in 2.4 and an empty one in 2.3 (2.4.1 as it first came lost its ``forward_`` as well).
    """
    for item in map(unescape, fields.split("\t")):
        name, equals, content = item.partition("=")
        if name or equals:
            bare = not equals and dialect is not Dialect.V2_3
            request.passdb_fields[f"forward_{name}"] = None if bare else content
    request.passdb_fields.snapshot()
