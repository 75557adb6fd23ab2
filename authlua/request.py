"""The ``auth_request``: one login or lookup, from the first line to the last.

The protocol edge fills it, the chain changes it, scripts and templates read it through
`VARIABLES_2_3` and `VARIABLES_2_4`, the names Dovecot gives its parts.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from socket import AF_INET6, inet_aton, inet_ntoa, inet_ntop, inet_pton
from types import MappingProxyType
from typing import Any

from authlua.fields import Fields
from authlua.results import PassdbResult
from authlua.secret import Secret

Params = Iterable[tuple[str, str | None]]

_PLAIN = frozenset({str, int, bool, type(None)})

_NOTHING: Mapping[str, str | None] = MappingProxyType({})


class AuthRequest:
    """One authentication, or one lookup without authentication when *mech* is empty.

    Names of users (``core:2.3.21.1:src/auth/auth-request.h``):

    * ``user``: the name now; translation, passdb fields and a master login change it. `None` until known.
    * ``original_user``: the name as the client gave it (the master's in a master login).
    * ``translated_user``: after translation, before any passdb; what the cache is keyed by.
    * ``requested_login_user``: who a master wants to become, while that is being decided.
    * ``master_user``: the master, once decided.
    """

    # defaults stand on the class: most requests change few of them, and a request is made for every login
    user: str | None = None
    original_user: str | None = None
    translated_user: str | None = None
    requested_login_user: str | None = None
    master_user: str | None = None
    realm: str | None = None
    password: Secret | None = None
    credentials: str | None = None
    """The stored password (with its scheme) the passdb came up with; never printed."""
    session_pid: int | None = None
    cuid = 0
    """The number of the connection it came on."""
    channel_binding: bytes | None = None
    """What binds the exchange to the client's TLS channel, once the client process has told."""
    userdb_fields: Fields | None = None
    """`None` until a passdb's ``userdb_*`` field or a userdb starts the userdb reply."""
    skip_password_check = False
    passdbs_seen_user_unknown = False
    passdbs_seen_internal_failure = False
    userdbs_seen_internal_failure = False
    nodelay = False
    """Some passdb asked that a failure be told at once, whether or not that passdb failed."""
    failed = False
    """A field spoilt this lookup (``allow_nets``, ``fail``, an empty user name)."""
    tempfail = False
    """A userdb field asked for a temporary failure."""
    userdb_prefetched = False
    """A passdb started the userdb reply."""
    result: PassdbResult | None = None
    """What the login came to; `None` as long as that is open."""
    policy_asked = False
    """The policy server was asked before the first passdb."""
    policy_refused = False
    policy_delay = 0
    """Seconds the policy server let it wait, or would have."""
    cached: bool | None = None
    """The last passdb asked was answered from the cache; `None`: it is not cached."""

    # what the client said is read from its parameters when somebody asks, once (`_READ`)
    service: str
    session: str | None
    lip: str | None
    rip: str | None
    lport: int
    rport: int
    real_lip: str | None
    real_rip: str | None
    real_lport: int
    real_rport: int
    local_name: str | None
    client_id: str | None
    secured: str
    """``""``, ``"secured"`` or ``"TLS"``, the values of ``%{secured}``."""
    valid_client_cert: bool
    cert_username: str | None
    ssl_ja3_hash: str | None
    ssl_client_cert_fp: str | None
    ssl_client_cert_pubkey_fp: str | None
    no_penalty: bool
    final_resp_ok: bool
    debug: bool

    def __init__(
        self,
        service: str | None = None,
        *,
        params: Mapping[str, str | None] = _NOTHING,
        mech: str = "",
        id: int = 0,
        client_pid: int = 0,
    ) -> None:
        if service is not None:
            self.service = service
        self._params = params
        self.mech = mech
        """Upper case; empty for a lookup without authentication (Dovecot's ``none``/``lookup``)."""
        self.id = id
        self.client_pid = client_pid
        self.passdb_fields = Fields()

    def state(self) -> tuple[Any, ...]:
        """All that a script may ask of this request, as plain values for another process; not its password."""
        kept = {name: value for name, value in self.__dict__.items() if type(value) in _PLAIN and name != "credentials"}
        userdb = self.userdb_fields
        return dict(self._params), kept, list(self.passdb_fields), None if userdb is None else list(userdb)

    @classmethod
    def restored(cls, state: tuple[Any, ...], password: bytes | None = None) -> "AuthRequest":
        """The request that `state` was taken of."""
        params, kept, passdb_fields, userdb_fields = state
        request = cls(params=params)
        request.__dict__.update(kept)
        request.passdb_fields = Fields(passdb_fields)
        if userdb_fields is not None:
            request.userdb_fields = Fields(userdb_fields)
        if password is not None:
            request.password = Secret(password)
        return request

    def __getattr__(self, name: str) -> Any:
        """What the client said about *name*; an unusable value counts as none."""
        read = _READ.get(name)
        if read is None:
            raise AttributeError(f"AuthRequest has no {name}")
        value = self.__dict__[name] = read(self)
        return value

    @property
    def username(self) -> str | None:
        """The user's local part, before the first ``@``."""
        return None if self.user is None else self.user.partition("@")[0]

    @property
    def domain(self) -> str | None:
        """All after the first ``@``; `None` without one."""
        return _domain(self.user)

    @property
    def auth_user(self) -> str | None:
        """Whose password was checked: the master, else the original user."""
        return self.master_user or self.original_user

    def __repr__(self) -> str:
        return f"<AuthRequest {self.mech or 'lookup'} {self.service} user={self.user!r}>"


@lru_cache(maxsize=4096)
def _ip(text: str | None) -> str | None:
    """*text* as an IP address is usually written, if it is one (``core:2.3.21.1:src/lib/net.c:net_addr2ip``)."""
    if text is None:
        return None
    try:
        if ":" not in text:
            # inet_aton passes over whatever follows a space, and so does 2.3; 2.4 does not
            return None if any(map(str.isspace, text)) else inet_ntoa(inet_aton(text))
        if text[0] == "[" and text[-1] == "]":
            text = text[1:-1]
        return inet_ntop(AF_INET6, inet_pton(AF_INET6, text))
    except (OSError, ValueError):
        return None


def _port(text: str | None) -> int:
    """A port from 1 to 65535; 0 for anything else."""
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= 5):
        return 0
    port = int(text)
    return port if port <= 65535 else 0


def is_usable(name: str, value: str | None) -> bool:
    """Whether parameter *name* takes *value*, which it ignores otherwise."""
    if name in ("lip", "rip", "real_lip", "real_rip"):
        return _ip(value) is not None
    return name not in ("lport", "rport", "real_lport", "real_rport") or _port(value) != 0


def _text(name: str) -> Callable[[AuthRequest], object]:
    def read(request: AuthRequest) -> str | None:
        params = request._params
        return (params[name] or "") if name in params else None

    return read


def _flag(name: str) -> Callable[[AuthRequest], object]:
    return lambda request: name in request._params


def _service(request: AuthRequest) -> str:
    """2.3 says ``service``, 2.4 ``protocol``; the last one counts."""
    params = request._params
    if "protocol" not in params:
        return params.get("service") or ""
    said = [value for name, value in params.items() if name in ("service", "protocol")]
    return said[-1] or ""


def _secured(request: AuthRequest) -> str:
    params = request._params
    if "secured" not in params:
        return ""
    return "TLS" if params["secured"] == "tls" else "secured"


_READ: Mapping[str, Callable[[AuthRequest], object]] = {
    "service": _service,
    "session": _text("session"),
    "lip": lambda r: _ip(r._params.get("lip")),
    "rip": lambda r: _ip(r._params.get("rip")),
    "lport": lambda r: _port(r._params.get("lport")),
    "rport": lambda r: _port(r._params.get("rport")),
    "real_lip": lambda r: _ip(r._params.get("real_lip")) or r.lip,
    "real_rip": lambda r: _ip(r._params.get("real_rip")) or r.rip,
    "real_lport": lambda r: _port(r._params.get("real_lport")) or r.lport,
    "real_rport": lambda r: _port(r._params.get("real_rport")) or r.rport,
    "local_name": _text("local_name"),
    "client_id": _text("client_id"),
    "secured": _secured,
    "valid_client_cert": _flag("valid-client-cert"),
    "cert_username": _text("cert_username"),
    "ssl_ja3_hash": _text("ssl_ja3_hash"),
    "ssl_client_cert_fp": _text("ssl_client_cert_fp"),
    "ssl_client_cert_pubkey_fp": _text("ssl_client_cert_pubkey_fp"),
    "no_penalty": _flag("no-penalty"),
    "final_resp_ok": _flag("final-resp-ok"),
    "debug": _flag("debug"),
}
"""How each attribute follows from the parameters (``core:2.3.21.1:src/auth/auth-request-fields.c``)."""


def _local(name: str | None) -> str | None:
    return None if name is None else name.partition("@")[0]


def _domain(name: str | None) -> str | None:
    if name is None:
        return None
    _, at, domain = name.partition("@")
    return domain if at else None


def _domain_first(request: AuthRequest) -> str | None:
    domain = _domain(request.user)
    return None if domain is None else domain.partition("@")[0]


def _domain_last(request: AuthRequest) -> str | None:
    domain = _domain(request.user)
    return None if domain is None else domain.rpartition("@")[2]


Variable = Callable[[AuthRequest], str | None]

_COMMON: dict[str, Variable] = {
    "user": lambda r: r.user,
    "domain_first": _domain_first,
    "domain_last": _domain_last,
    "home": lambda r: None,
    "local_ip": lambda r: r.lip,
    "remote_ip": lambda r: r.rip,
    "local_port": lambda r: str(r.lport),
    "remote_port": lambda r: str(r.rport),
    "real_local_ip": lambda r: r.real_lip,
    "real_remote_ip": lambda r: r.real_rip,
    "real_local_port": lambda r: str(r.real_lport),
    "real_remote_port": lambda r: str(r.real_rport),
    "session": lambda r: r.session,
    "password": lambda r: None if r.password is None else r.password.reveal().decode("utf-8", "surrogateescape"),
    "secured": lambda r: r.secured,
    "cert": lambda r: "valid" if r.valid_client_cert else "",
    "login_user": lambda r: r.requested_login_user,
    "master_user": lambda r: r.master_user,
    "original_user": lambda r: r.original_user,
    "auth_user": lambda r: r.auth_user,
    "local_name": lambda r: r.local_name,
    "client_id": lambda r: r.client_id,
}

VARIABLES_2_3: Mapping[str, Variable] = {
    **_COMMON,
    "username": lambda r: r.username,
    "domain": lambda r: r.domain,
    "service": lambda r: r.service,
    "lip": _COMMON["local_ip"],
    "rip": _COMMON["remote_ip"],
    "lport": _COMMON["local_port"],
    "rport": _COMMON["remote_port"],
    "real_lip": _COMMON["real_local_ip"],
    "real_rip": _COMMON["real_remote_ip"],
    "real_lport": _COMMON["real_local_port"],
    "real_rport": _COMMON["real_remote_port"],
    "pid": lambda r: str(r.client_pid),
    "session_pid": lambda r: None if r.session_pid is None else str(r.session_pid),
    "mech": lambda r: r.mech,
    "mechanism": lambda r: r.mech,
    "login_username": lambda r: _local(r.requested_login_user),
    "login_domain": lambda r: _domain(r.requested_login_user),
    "orig_user": _COMMON["original_user"],
    "orig_username": lambda r: _local(r.original_user),
    "orig_domain": lambda r: _domain(r.original_user),
    "original_username": lambda r: _local(r.original_user),
    "original_domain": lambda r: _domain(r.original_user),
    "auth_username": lambda r: _local(r.auth_user),
    "auth_domain": lambda r: _domain(r.auth_user),
}
"""Long names of Dovecot 2.3's auth variables (``core:2.3.21.1:src/auth/auth-request-var-expand.c``)."""

VARIABLES_2_4: Mapping[str, Variable] = {
    **_COMMON,
    "protocol": lambda r: r.service,
    "client_pid": lambda r: str(r.client_pid),
    "session_pid": lambda r: "" if r.session_pid is None else str(r.session_pid),
    "mechanism": lambda r: r.mech or None,
    "ssl_ja3_hash": lambda r: r.ssl_ja3_hash,
    "ssl_client_cert_fp": lambda r: r.ssl_client_cert_fp,
    "ssl_client_cert_pubkey_fp": lambda r: r.ssl_client_cert_pubkey_fp,
    "owner_user": _COMMON["user"],
}
"""Names of Dovecot 2.4's auth variables (``core:2.4.4:src/auth/auth-request-var-expand.c``)."""
