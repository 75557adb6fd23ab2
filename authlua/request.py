"""The ``auth_request``: one login or lookup, from the first line to the last.

The protocol edge fills it, the chain changes it, scripts and templates read it through
`VARIABLES_2_3` and `VARIABLES_2_4`, the names Dovecot gives its parts.
"""

from collections.abc import Callable, Iterable, Mapping

from authlua.fields import Fields
from authlua.secret import Secret

Params = Iterable[tuple[str, str | None]]


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
    session: str | None = None
    lip: str | None = None
    rip: str | None = None
    lport = 0
    rport = 0
    real_lip: str | None = None
    real_rip: str | None = None
    real_lport = 0
    real_rport = 0
    local_name: str | None = None
    client_id: str | None = None
    session_pid: int | None = None
    secured = ""
    """``""``, ``"secured"`` or ``"TLS"``, the values of ``%{secured}``."""
    valid_client_cert = False
    cert_username: str | None = None
    ssl_ja3_hash: str | None = None
    ssl_client_cert_fp: str | None = None
    ssl_client_cert_pubkey_fp: str | None = None
    no_penalty = False
    final_resp_ok = False
    debug = False
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
    cached: bool | None = None
    """The last passdb asked was answered from the cache; `None`: it is not cached."""

    def __init__(self, service: str, *, mech: str = "", id: int = 0, client_pid: int = 0) -> None:
        self.service = service
        self.mech = mech
        """Upper case; empty for a lookup without authentication (Dovecot's ``none``/``lookup``)."""
        self.id = id
        self.client_pid = client_pid
        self.passdb_fields = Fields()

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
