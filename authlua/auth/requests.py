"""From what a client or master said to an `AuthRequest`."""

from collections.abc import Callable
from functools import lru_cache
from socket import AF_INET6, inet_aton, inet_ntoa, inet_ntop, inet_pton

from authlua.protocol import Params, unescape
from authlua.request import AuthRequest


def new_request(params: Params, *, id: int, mech: str = "", client_pid: int = 0) -> AuthRequest:
    """A request with all that its parameters say (``src/auth/auth-request-fields.c:auth_request_import*``).

    Unknown names and unusable values are ignored; of repeated ones the last counts, but ``real_*`` default to the
    first address and port.
    """
    request = AuthRequest("", mech=mech, id=id, client_pid=client_pid)
    known = _TAKE if mech else _TAKE_FOR_LOOKUP
    for name, value in params:
        take = known.get(name)
        if take is not None:
            take(request, value or "")
    return request


@lru_cache(maxsize=4096)
def _ip(text: str) -> str | None:
    """*text* as an IP address is usually written, if it is one (``src/lib/net.c:net_addr2ip``)."""
    try:
        if ":" not in text:
            return inet_ntoa(inet_aton(text))
        if text[0] == "[" and text[-1] == "]":
            text = text[1:-1]
        return inet_ntop(AF_INET6, inet_pton(AF_INET6, text))
    except (OSError, ValueError):
        return None


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    return port if port <= 65535 else 0


def _lip(request: AuthRequest, value: str) -> None:
    ip = _ip(value)
    if ip is not None:
        request.lip = ip
        if request.real_lip is None:
            request.real_lip = ip


def _rip(request: AuthRequest, value: str) -> None:
    ip = _ip(value)
    if ip is not None:
        request.rip = ip
        if request.real_rip is None:
            request.real_rip = ip


def _lport(request: AuthRequest, value: str) -> None:
    port = _port(value)
    if port:
        request.lport = port
        if not request.real_lport:
            request.real_lport = port


def _rport(request: AuthRequest, value: str) -> None:
    port = _port(value)
    if port:
        request.rport = port
        if not request.real_rport:
            request.real_rport = port


def _real(name: str, read: Callable[[str], str | int | None]) -> Callable[[AuthRequest, str], None]:
    def take(request: AuthRequest, value: str) -> None:
        read_value = read(value)
        if read_value:
            setattr(request, name, read_value)

    return take


def _service(request: AuthRequest, value: str) -> None:
    request.service = value


def _session(request: AuthRequest, value: str) -> None:
    request.session = value


def _text(name: str) -> Callable[[AuthRequest, str], None]:
    return lambda request, value: setattr(request, name, value)


def _flag(name: str) -> Callable[[AuthRequest, str], None]:
    return lambda request, value: setattr(request, name, True)


def _secured(request: AuthRequest, value: str) -> None:
    request.secured = "TLS" if value == "tls" else "secured"


def _forward_fields(request: AuthRequest, value: str) -> None:
    for item in map(unescape, value.split("\t")):
        name, equals, content = item.partition("=")
        if equals:
            request.passdb_fields[f"forward_{name}"] = content
        elif name:
            request.passdb_fields[name] = None
    request.passdb_fields.snapshot()


_TAKE_FOR_LOOKUP: dict[str, Callable[[AuthRequest, str], None]] = {
    "service": _service,
    "protocol": _service,
    "session": _session,
    "lip": _lip,
    "rip": _rip,
    "lport": _lport,
    "rport": _rport,
    "real_lip": _real("real_lip", _ip),
    "real_rip": _real("real_rip", _ip),
    "real_lport": _real("real_lport", _port),
    "real_rport": _real("real_rport", _port),
    "local_name": _text("local_name"),
    "client_id": _text("client_id"),
    "forward_fields": _forward_fields,
    "debug": _flag("debug"),
    "ssl_ja3_hash": _text("ssl_ja3_hash"),
    "ssl_client_cert_fp": _text("ssl_client_cert_fp"),
    "ssl_client_cert_pubkey_fp": _text("ssl_client_cert_pubkey_fp"),
}
"""What any request may say."""

_TAKE = {
    **_TAKE_FOR_LOOKUP,
    "secured": _secured,
    "final-resp-ok": _flag("final_resp_ok"),
    "no-penalty": _flag("no_penalty"),
    "valid-client-cert": _flag("valid_client_cert"),
    "cert_username": _text("cert_username"),
}
