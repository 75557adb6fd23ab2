"""The ``auth_request``: one login or lookup, from the first line to the last.

The protocol edge fills it, the chain changes it, scripts and templates read it through
`VARIABLES_2_3` and `VARIABLES_2_4`, the names Dovecot gives its parts.
"""

from collections.abc import Callable, Mapping
from socket import AF_INET6, inet_aton, inet_ntoa, inet_ntop, inet_pton
from types import MappingProxyType
from typing import Any, Final

from authlua.fields import Fields
from authlua.results import PassdbResult
from authlua.secret import Secret

_NOTHING: Mapping[str, str | None] = MappingProxyType({})


class AuthRequest:
    """One authentication, or one lookup without authentication when *mech* is empty.

    Names of users (``core:2.3.21.1:src/auth/auth-request.h``):

    * ``user``: the name now; translation, passdb fields and a master login change it. `None` until known.
    * ``original_user``: the name as the client gave it (the master's in a master login).
    * ``translated_user``: after translation, before any passdb; what the cache is keyed by.
    * ``requested_login_user``: who a master wants to become, while that is being decided.
    * ``master_user``: the master, once decided.

    What the client said is read from its parameters when somebody asks; an unusable value counts as none
    (``core:2.3.21.1:src/auth/auth-request-fields.c``).

    Args:
        params: what the client said, by name; of what it said twice, the last.
        mech: upper case; empty for a lookup without authentication (Dovecot's ``none``/``lookup``).
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
    cuid: int = 0
    """The number of the connection it came on."""
    channel_binding: bytes | None = None
    """What binds the exchange to the client's TLS channel, once the client process has told."""
    userdb_fields: Fields | None = None
    """`None` until a passdb's ``userdb_*`` field or a userdb starts the userdb reply."""
    skip_password_check: bool = False
    passdbs_seen_user_unknown: bool = False
    passdbs_seen_internal_failure: bool = False
    userdbs_seen_internal_failure: bool = False
    nodelay: bool = False
    """Some passdb asked that a failure be told at once, whether or not that passdb failed."""
    failed: bool = False
    """A field spoilt this lookup (``allow_nets``, ``fail``, an empty user name)."""
    tempfail: bool = False
    """A userdb field asked for a temporary failure."""
    userdb_prefetched: bool = False
    """A passdb started the userdb reply."""
    result: PassdbResult | None = None
    """What the login came to; `None` as long as that is open."""
    policy_asked: bool = False
    """The policy server was asked before the first passdb."""
    policy_refused: bool = False
    policy_delay: int = 0
    """Seconds the policy server let it wait, or would have."""
    fingerprint_matched = False
    """A passdb knew the client's certificate (``check_client_fp``)."""
    log_name = ""
    """Who speaks of it in the log: the passdb or userdb at work, ``policy`` or ``proxy``; empty: the mech."""
    cached: bool | None = None
    """The last passdb asked was answered from the cache; `None`: it is not cached."""

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
            params = {"service": service, **params}
        self.params = params
        self.mech = mech
        self.id = id
        self.client_pid = client_pid
        self.passdb_fields = Fields()
        self.debug = "debug" in params
        """The client wants this request's every step logged."""
        self.cert_username: str | None = _text(params, "cert_username")
        """The name in the client's certificate."""

    def state(self) -> tuple[Any, ...]:
        """All that a script may ask of this request, as plain values for another process; not its password."""
        kept = (
            self.mech,
            self.id,
            self.user,
            self.original_user,
            self.translated_user,
            self.requested_login_user,
            self.master_user,
            self.realm,
            self.session_pid,
            self.cuid,
            self.skip_password_check,
            self.passdbs_seen_user_unknown,
            self.passdbs_seen_internal_failure,
            self.userdbs_seen_internal_failure,
            self.nodelay,
            self.failed,
            self.tempfail,
            self.userdb_prefetched,
            self.cert_username,
        )
        userdb = self.userdb_fields
        return dict(self.params), kept, list(self.passdb_fields), None if userdb is None else list(userdb)

    @staticmethod
    def restored(state: tuple[Any, ...], password: bytes | None = None) -> "AuthRequest":
        """The request that `state` was taken of; as in Dovecot's workers, the client's process is not known here."""
        params, kept, passdb_fields, userdb_fields = state
        request = AuthRequest(params=params)
        (
            request.mech,
            request.id,
            request.user,
            request.original_user,
            request.translated_user,
            request.requested_login_user,
            request.master_user,
            request.realm,
            request.session_pid,
            request.cuid,
            request.skip_password_check,
            request.passdbs_seen_user_unknown,
            request.passdbs_seen_internal_failure,
            request.userdbs_seen_internal_failure,
            request.nodelay,
            request.failed,
            request.tempfail,
            request.userdb_prefetched,
            request.cert_username,
        ) = kept
        if passdb_fields:
            request.passdb_fields = Fields(passdb_fields)
        if userdb_fields is not None:
            request.userdb_fields = Fields(userdb_fields)
        if password is not None:
            request.password = Secret(password)
        return request

    # --- what the client said ------------------------------------------------

    @property
    def service(self) -> str:
        """2.3 says ``service``, 2.4 ``protocol``; the last one counts."""
        params = self.params
        if "protocol" not in params:
            return params.get("service") or ""
        said = [value for name, value in params.items() if name in ("service", "protocol")]
        return said[-1] or ""

    @property
    def session(self) -> str | None:
        """The session id of the client process."""
        return _text(self.params, "session")

    @property
    def lip(self) -> str | None:
        """The address the client connected to."""
        return _ip(self.params.get("lip"))

    @property
    def rip(self) -> str | None:
        """The client's address."""
        return _ip(self.params.get("rip"))

    @property
    def lport(self) -> int:
        """The port the client connected to; 0 if it is not known."""
        return _port(self.params.get("lport"))

    @property
    def rport(self) -> int:
        """The client's port; 0 if it is not known."""
        return _port(self.params.get("rport"))

    @property
    def real_lip(self) -> str | None:
        """`lip`, before any proxy in between."""
        return _ip(self.params.get("real_lip")) or self.lip

    @property
    def real_rip(self) -> str | None:
        """`rip`, behind which there may be a proxy in between."""
        return _ip(self.params.get("real_rip")) or self.rip

    @property
    def real_lport(self) -> int:
        """The port that belongs to `real_lip`."""
        return _port(self.params.get("real_lport")) or self.lport

    @property
    def real_rport(self) -> int:
        """The port that belongs to `real_rip`."""
        return _port(self.params.get("real_rport")) or self.rport

    @property
    def local_name(self) -> str | None:
        """The TLS server name the client asked for."""
        return _text(self.params, "local_name")

    @property
    def client_id(self) -> str | None:
        """What the client said of itself (IMAP's ID)."""
        return _text(self.params, "client_id")

    @property
    def secured(self) -> str:
        """``""``, ``"secured"`` or ``"TLS"``, the values of ``%{secured}``."""
        params = self.params
        if "secured" not in params:
            return ""
        return "TLS" if params["secured"] == "tls" else "secured"

    @property
    def valid_client_cert(self) -> bool:
        """The client has shown a certificate, and somebody has verified it: the client process, or a passdb."""
        return self.fingerprint_matched or "valid-client-cert" in self.params

    @property
    def ssl_ja3_hash(self) -> str | None:
        """A hash of how the client speaks TLS."""
        return _text(self.params, "ssl_ja3_hash")

    @property
    def ssl_client_cert_fp(self) -> str | None:
        """The fingerprint of the client's certificate."""
        return _text(self.params, "ssl_client_cert_fp")

    @property
    def ssl_client_cert_pubkey_fp(self) -> str | None:
        """The fingerprint of the public key in the client's certificate."""
        return _text(self.params, "ssl_client_cert_pubkey_fp")

    @property
    def no_penalty(self) -> bool:
        """Failures of this request count against no address."""
        return "no-penalty" in self.params

    @property
    def final_resp_ok(self) -> bool:
        """The client takes a mech's last data together with the reply."""
        return "final-resp-ok" in self.params

    # --- names ---------------------------------------------------------------

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


def _text(params: Mapping[str, str | None], name: str) -> str | None:
    """Of *name*; ``""`` when it was said without a value."""
    value = params.get(name)
    return "" if value is None and name in params else value


def _ip(text: str | None) -> str | None:
    """*text* as an IP address is usually written, if it is one (``core:2.3.21.1:src/lib/net.c:net_addr2ip``)."""
    if text is None:
        return None
    ip = _ips.get(text)
    if ip is None:
        ip = _parse_ip(text)
        if ip is not None:
            if len(_ips) >= MAX_IPS:
                _ips.clear()
            _ips[text] = ip
    return ip


MAX_IPS: Final = 4096
"""How many addresses are remembered."""

_ips: Final[dict[str, str]] = {}


def _parse_ip(text: str) -> str | None:
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
