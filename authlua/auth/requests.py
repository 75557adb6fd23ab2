"""From what a client or master said to an `AuthRequest`."""

from authlua.protocol import Params, unescape
from authlua.request import AuthRequest

_REMEMBERED = {"lip": "real_lip", "rip": "real_rip", "lport": "real_lport", "rport": "real_rport"}


def new_request(params: Params, *, id: int, mech: str = "", client_pid: int = 0) -> AuthRequest:
    """A request with all that its parameters say.

    Unknown names and unusable values are ignored; of repeated ones the last counts, but ``real_*`` default to the
    first address and port.
    """
    named = dict(params)
    if len(named) != len(params):
        for name, value in params:
            if name in _REMEMBERED:
                named.setdefault(_REMEMBERED[name], value)
    request = AuthRequest(params=named, mech=mech, id=id, client_pid=client_pid)
    if "forward_fields" in named:
        _forward(request, named["forward_fields"] or "")
    return request


def _forward(request: AuthRequest, fields: str) -> None:
    """Fields of an earlier hop: passdb fields that no failing passdb takes back.

    A field without a value keeps its bare name, as Dovecot does.
    """
    for item in map(unescape, fields.split("\t")):
        name, equals, content = item.partition("=")
        if equals:
            request.passdb_fields[f"forward_{name}"] = content
        elif name:
            request.passdb_fields[name] = None
    request.passdb_fields.snapshot()
