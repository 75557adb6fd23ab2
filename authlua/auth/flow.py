"""From a request to its verdict: the heart of the house.

Everything here is ``async`` and knows no event loop. It awaits what it was handed, and wishes of `authlua.wishes`;
with a database that never waits, a whole login runs in one ``send(None)``.
"""

import os
import socket
import time
from binascii import b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from authlua.auth.cache import Cache
from authlua.auth.databases import Log
from authlua.auth.entries import PassdbEntry, UserdbEntry
from authlua.auth.events import Observe
from authlua.auth.fields import PROXY_FIELDS, FieldSetter, delay_until
from authlua.auth.names import NameRefused, Names
from authlua.auth.passdbs import PassdbChain, Wanted
from authlua.auth.penalty import WAITS, Penalty
from authlua.auth.policy import Policy, PolicyOptions
from authlua.auth.replies import Replies, auth_token
from authlua.auth.userdbs import UserdbChain
from authlua.dialect import Dialect
from authlua.listing import Listing
from authlua.passwords import LIMITS, Limits
from authlua.protocol import Fail, Failed, NotFound, Ok, PassFound, UserFound
from authlua.request import AuthRequest
from authlua.results import PassdbResult, UserdbResult
from authlua.sasl import (
    DOVECOT_TOKEN,
    MECHS,
    Challenge,
    ChannelBinding,
    CheckToken,
    Connection,
    LookupCredentials,
    MechInfo,
    MechWish,
    Offload,
    PassdbField,
    Refused,
    Service,
    SetAnonymous,
    SetCertificateUser,
    SetCredentials,
    SetRealm,
    SetUser,
    Succeeded,
    Terms,
    Verdict,
    VerifyPlain,
)
from authlua.secret import Secret
from authlua.variables import compile_template
from authlua.wishes import Ask, Compute, Sleep
from authlua.wishes import Service as ServiceWish

_STARTED = time.time()
"""When the server did; a reload makes another `Auth`, but no other server."""

DNS_PATIENCE = 10.0
"""Seconds that the name of the host to proxy to may take to be looked up, unless the passdb says otherwise."""

DNS_SLOW = 0.5
"""Seconds after which that is told to the log."""

_NUL = "NUL in the client's data"

_FAILURE_DATA_IN_REPLY = {Dialect.V2_3: False, Dialect.V2_4_0: True, Dialect.V2_4: True}
"""Whether a client that takes a mech's last data with a reply takes it with a failure, too (2.3.21 always sends it so,
earlier 2.3 never)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthOptions:
    """How requests are decided, in Dovecot's ``auth_*`` words."""

    dialect: Dialect
    mechanisms: Sequence[str] = ("PLAIN",)
    realms: Sequence[str] = ()
    openid_configuration_url: str = ""
    gssapi_hostname: str = ""
    krb5_keytab: str = ""
    use_winbind: bool = False
    winbind_helper_path: str = ""
    username_chars: str = ""
    username_translation: str = ""
    username_format: str = ""
    default_realm: str = ""
    master_user_separator: str = ""
    anonymous_username: str = "anonymous"
    failure_delay: float = 2.0
    internal_failure_delay: float = 2.0
    allow_weak_schemes: bool = True
    limits: Limits = LIMITS
    ssl_require_client_cert: bool = False
    ssl_username_from_cert: bool = False
    proxy_self: Sequence[str] = ()
    cache_size: int = 0
    cache_ttl: float = 3600.0
    cache_negative_ttl: float = 3600.0
    cache_verify_password_with_worker: bool = False
    policy: PolicyOptions | None = None
    verbose: bool = False
    verbose_passwords: str = "no"
    debug: bool = False


class Auth:
    """Decides logins and lookups.

    Args:
        passdbs, userdbs: in the order they are asked.
        token_secret: 32 random bytes that sign auth tokens; `None`: no tokens are given out.
        penalty: makes addresses that fail wait; `None`: nobody waits.
        observe: hears of the answers of passdbs, userdbs and the policy server; `None` costs nothing.
    """

    def __init__(
        self,
        options: AuthOptions,
        *,
        passdbs: Sequence[PassdbEntry],
        userdbs: Sequence[UserdbEntry],
        log: Log,
        token_secret: Secret | None = None,
        penalty: Penalty | None = None,
        observe: Observe | None = None,
    ) -> None:
        dialect = options.dialect
        self.options = options
        self.mechs: Sequence[MechInfo] = [MECHS[name] for name in options.mechanisms]
        self.terms = Terms(
            dialect=dialect,
            enabled=frozenset(options.mechanisms),
            realms=options.realms,
            openid_configuration_url=options.openid_configuration_url,
            gssapi_hostname=options.gssapi_hostname,
            krb5_keytab=options.krb5_keytab,
            use_winbind=options.use_winbind,
            winbind_helper=options.winbind_helper_path,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            started=_STARTED,
        )
        """What its mechs know of the server."""
        self._log = log
        self._verbose = options.verbose or options.debug
        self._debug = options.debug
        self._token_secret = token_secret
        self._penalty = penalty
        self._names = Names(
            dialect,
            chars=options.username_chars,
            translation=options.username_translation,
            format=compile_template(options.username_format, dialect) if options.username_format else None,
            default_realm=options.default_realm,
            separator=options.master_user_separator,
            masters=any(entry.master for entry in passdbs),
        )
        self.cache = (
            Cache(options.cache_size, ttl=options.cache_ttl, negative_ttl=options.cache_negative_ttl)
            if options.cache_size and options.cache_ttl
            else None
        )
        self.policy: Policy | None = None
        if options.policy is not None:
            verbose = options.verbose or options.debug
            self.policy = Policy(options.policy, dialect=dialect, log=log, verbose=verbose, observe=observe)
        self._setter = setter = FieldSetter(dialect, self._note)
        self._passdbs = PassdbChain(
            passdbs,
            dialect=dialect,
            setter=setter,
            log=log,
            internal_failure_delay=options.internal_failure_delay,
            allow_weak_schemes=options.allow_weak_schemes,
            limits=options.limits,
            verbose=options.verbose,
            verbose_passwords=options.verbose_passwords,
            debug=options.debug,
            needs_certificate=options.ssl_require_client_cert,
            cache=self.cache,
            cache_verify_elsewhere=options.cache_verify_password_with_worker,
            policy=self.policy,
            observe=observe,
        )
        self._userdbs = UserdbChain(
            userdbs,
            dialect=dialect,
            setter=setter,
            log=log,
            internal_failure_delay=options.internal_failure_delay,
            verbose=options.verbose,
            verbose_passwords=options.verbose_passwords,
            debug=options.debug,
            exists=lambda request: self._passdbs.lookup(request, Wanted("")),
            cache=self.cache,
            observe=observe,
        )
        self._replies = Replies(
            dialect, anonymous_username=options.anonymous_username, failure_delay=options.failure_delay > 0
        )

    # --- a login -------------------------------------------------------------

    async def authenticate(self, request: AuthRequest, initial: Secret | None, *, login: bool) -> Ok | Fail:
        """Let the request's mech talk until it knows the verdict.

        Args:
            initial: the client's initial response.
            login: successes wait for a master, and proxying is resolved.
        """
        if self.options.ssl_require_client_cert:
            reason = self._certificate_problem(request)
            if reason is not None:
                return Fail(request.id, [("reason", reason)])
        if not self.options.ssl_username_from_cert:
            request.cert_username = None
        penalty = self._penalty
        ip = None if penalty is None or request.no_penalty else request.rip
        level = 0
        if penalty is not None and ip is not None:
            level = penalty.level(ip) if penalty.shared is None else await penalty.shared_level(ip)
            if level:
                await Sleep(WAITS[level])
        verdict = await self._converse(request, initial)
        result, data = (verdict, b"") if isinstance(verdict, PassdbResult) else self._judge(request, verdict)
        if result is PassdbResult.OK and self.policy is not None and not await self.policy.allows_success(request):
            result = PassdbResult.PASSWORD_MISMATCH
        if result is PassdbResult.OK:
            until = request.passdb_fields.get("delay_until")
            pause = (delay_until(until) or 0.0) - time.time() if until is not None else 0.0
            if pause > 0:
                await Sleep(pause)
            if data:
                await self._tell(request, data, in_reply=request.final_resp_ok)
            if login and len(request.passdb_fields):
                result = await self._finish_proxy(request)
            if result is PassdbResult.OK:
                request.result = result
                if penalty is not None and ip is not None:
                    penalty.succeeded(ip)
                return self._replies.ok(request, login=login)
        elif data:
            in_reply = request.final_resp_ok and _FAILURE_DATA_IN_REPLY[self.options.dialect]
            await self._tell(request, data, in_reply=in_reply)
        request.result = result
        if penalty is not None and ip is not None and self._replies.penalized(request, result):
            penalty.failed(ip, level, request)
        return self._replies.fail(request, result)

    def temporary_failure(self, request: AuthRequest) -> Fail:
        """The reply to a request that could not be decided; it is not delayed."""
        return self._replies.fail(request, PassdbResult.INTERNAL_FAILURE)._replace(delay=False)

    def tell_unanswered(self, request: AuthRequest, seconds: float) -> None:
        """The client has not answered for so long that the request is given up."""
        text = f"Request timed out waiting for client to continue authentication ({seconds:.0f} secs)"
        self._note("info", text, request)

    def _certificate_problem(self, request: AuthRequest) -> str | None:
        # from 2.4.2 on a passdb may know the fingerprint of what was shown
        shown = self.options.dialect is Dialect.V2_4 and (
            request.ssl_client_cert_fp or request.ssl_client_cert_pubkey_fp
        )
        if not request.valid_client_cert and not shown:
            return "Client didn't present valid SSL certificate"
        if self.options.ssl_username_from_cert and not request.cert_username:
            return "SSL certificate didn't contain username"
        return None

    async def _converse(self, request: AuthRequest, initial: Secret | None) -> Verdict:
        info = MECHS.get(request.mech, DOVECOT_TOKEN)
        if initial is not None and not info.allow_nul and 0 in initial.reveal():
            return Refused(_NUL)
        mech = info.start(initial, self.terms)
        answer: Any = None
        wanted: Wanted | None = None
        while True:
            try:
                wish = mech.send(answer)
            except StopIteration as done:
                verdict: Verdict = done.value
                return verdict
            if isinstance(wish, SetUser):
                answer = self._set_user(request, wish)
            elif isinstance(wish, VerifyPlain):
                result = await self._passdbs.verify_plain(request, wish.password)
                if wish.final:
                    return result
                answer = result
            elif isinstance(wish, Challenge):
                answer = await Ask(wish.data, wish.binding)
                if answer is not None and not info.allow_nul and 0 in answer.reveal():
                    return Refused(_NUL)
            elif isinstance(wish, LookupCredentials):
                wanted = Wanted(wish.scheme, wish.realm)
                answer = await self._passdbs.lookup(request, wanted)
                if answer is PassdbResult.OK:
                    answer = wanted.credentials
            elif isinstance(wish, SetCredentials):
                if wanted is None:
                    raise AssertionError("credentials are looked up before others are stored")
                answer = await self._passdbs.set_credentials(request, wanted, f"{{{wish.scheme}}}", wish.value)
            elif isinstance(wish, Offload):
                answer = await Compute(wish.function, *wish.args)
            else:
                answer = self._grant(request, wish)

    def _grant(self, request: AuthRequest, wish: MechWish) -> Any:
        """The wishes of few mechs."""
        match wish:
            case SetCertificateUser(login_user):
                if request.cert_username:
                    return self._set_user(request, SetUser("", login_user))
                self._note("info", "username not known", request)
                return ""
            case SetRealm(realm):
                request.realm = realm
                return None
            case SetAnonymous(trace):
                request.user = self.options.anonymous_username
                self._note("info", f"anonymous login: {ascii(trace)[1:-1]}", request)
                return None
            case CheckToken():
                return self._check_token(request, wish)
            case Connection():
                return request.cuid
            case Service():
                return request.service
            case PassdbField(name):
                return request.passdb_fields.get(name)
            case ChannelBinding():
                return request.channel_binding
        raise AssertionError(f"a mech wishes for {wish}")

    def _judge(self, request: AuthRequest, verdict: Succeeded | Refused) -> tuple[PassdbResult, bytes]:
        """The result that a mech's own *verdict* stands for, and what the client is to be told."""
        if isinstance(verdict, Succeeded):
            return PassdbResult.OK, verdict.data
        if verdict.reason:
            self._note(verdict.level, verdict.reason, request)
        return verdict.result, verdict.data

    async def _tell(self, request: AuthRequest, data: bytes, *, in_reply: bool) -> None:
        """Give the client a mech's last *data*: with the reply, or as a challenge whose answer means nothing."""
        if in_reply:
            request.passdb_fields["resp"] = b2a_base64(data, newline=False).decode("ascii")
        else:
            await Ask(data)

    def _set_user(self, request: AuthRequest, wish: SetUser) -> str:
        try:
            self._names.set_user(request, wish.user)
            if wish.login_user is not None:
                self._names.set_login_user(request, wish.login_user)
        except NameRefused as refusal:
            self._note("info", str(refusal), request)
            return ""
        return request.user or ""

    def _check_token(self, request: AuthRequest, wish: CheckToken) -> PassdbResult:
        secret = self._token_secret
        if secret is None or Secret(
            auth_token(request.user or "", wish.pid, wish.session, wish.service, secret).encode()
        ) != Secret(wish.token.reveal().lower()):
            self._note("info", "token is not valid", request)
            return PassdbResult.PASSWORD_MISMATCH
        self._setter.set_userdb_field(request, "client_service", wish.service)
        return PassdbResult.OK

    async def _finish_proxy(self, request: AuthRequest) -> PassdbResult:
        """Decide whether, and where to, the client is proxied (``auth_request_proxy_finish``)."""
        fields = request.passdb_fields
        if "proxy" not in fields and "proxy_maybe" not in fields:
            return PassdbResult.OK
        request.log_name = "proxy"
        host = fields.get("host")
        if host is None:
            if "proxy_maybe" in fields:
                fields.discard("proxy_maybe")
                fields["proxy"] = None
            for name, value in (("lip", request.lip), ("lport", str(request.lport) if request.lport else None)):
                if value is not None:
                    fields[name] = value
            return PassdbResult.OK
        ip = host if _is_ip(host) else fields.get("hostip")
        if self.options.dialect is not Dialect.V2_3 and ip == host and fields.get("hostip", host) != host:
            self._log("error", f"host and hostip are both IPs, but they don't match: {host}", request, {})
            return PassdbResult.INTERNAL_FAILURE
        if ip is None:
            ip = await self._resolve(request, host)
            if ip is None:
                return PassdbResult.INTERNAL_FAILURE
            fields["hostip"] = ip
        elif not _is_ip(ip):
            self._log("error", f"hostip is not an IP address: {ip}", request, {})
            return PassdbResult.INTERNAL_FAILURE
        mine = ip == request.real_lip or ip in self.options.proxy_self
        port = fields.get("port")
        mine = mine and (port is None or port == str(request.lport))
        if "proxy_maybe" in fields:
            if not mine:
                fields.discard("proxy_maybe")
                fields["proxy"] = None
            else:
                always = "proxy_always" in fields
                for name in PROXY_FIELDS[self.options.dialect]:
                    fields.discard(name)
                if always:
                    fields["proxy"] = None
        return PassdbResult.OK

    async def _resolve(self, request: AuthRequest, host: str) -> str | None:
        """An address of *host*, unless it takes longer to find than ``proxy_timeout``."""
        patience = request.passdb_fields.get("proxy_timeout") or ""
        started = time.perf_counter()
        seconds = float(int(patience)) if patience.isascii() and patience.isdigit() else DNS_PATIENCE
        problem, _, addresses = await ServiceWish("dns", (host, seconds))
        took = time.perf_counter() - started
        if problem:
            self._log("error", f"DNS lookup for {host} failed: {problem}", request, {})
            return None
        if took > DNS_SLOW:
            self._log("warning", f"DNS lookup for {host} took {took:.3f} s", request, {})
        first: str = addresses[0]
        return first

    # --- lookups -------------------------------------------------------------

    async def fetch_login(self, request: AuthRequest, id: int, *, wants_token: bool) -> UserFound | NotFound | Failed:
        """Answer a master's ``REQUEST`` for a login that succeeded."""
        result = await self._userdbs.lookup(request)
        if result is UserdbResult.OK and not request.tempfail:
            token = None
            if wants_token and request.session_pid is not None and self._token_secret is not None:
                token = auth_token(
                    request.user or "",
                    str(request.session_pid),
                    request.session or "",
                    request.service,
                    self._token_secret,
                )
            return UserFound(id, request.user or "", self._replies.login(request, token=token))
        if result is UserdbResult.USER_UNKNOWN:
            self._userdbs.tell_missing(request)
        return self._no_user(request, id, result)

    async def lookup_user(self, request: AuthRequest, name: str) -> UserFound | NotFound | Failed:
        """Answer ``USER``: where does *name*'s mail live?"""
        if not self._set_user(request, SetUser(name)):
            return NotFound(request.id)
        result = await self._userdbs.lookup(request)
        if result is UserdbResult.OK and not request.tempfail:
            return UserFound(request.id, request.user or "", self._replies.userdb(request))
        return self._no_user(request, request.id, result)

    def _no_user(self, request: AuthRequest, id: int, result: UserdbResult) -> NotFound | Failed:
        if request.tempfail:
            return Failed(id, request.userdb_fields.get("reason") if request.userdb_fields else None)
        return NotFound(id) if result is UserdbResult.USER_UNKNOWN else Failed(id)

    async def lookup_passdb(
        self, request: AuthRequest, name: str
    ) -> tuple[PassdbResult, PassFound | NotFound | Failed]:
        """Answer ``PASS``: what would the passdbs say of *name*, the password aside?

        The result itself comes along, for those who want to know more than the wire tells.
        """
        if not self._set_user(request, SetUser(name)):
            return PassdbResult.USER_UNKNOWN, NotFound(request.id)
        result = await self._passdbs.lookup(request, Wanted(""))
        if result is PassdbResult.OK:
            result = await self._finish_proxy(request)
        match result:
            case PassdbResult.OK:
                return result, PassFound(request.id, request.user or "", self._replies.passdb(request))
            case PassdbResult.USER_UNKNOWN | PassdbResult.USER_DISABLED | PassdbResult.PASS_EXPIRED:
                return result, NotFound(request.id)
            case PassdbResult.SCHEME_NOT_AVAILABLE:
                return result, Failed(request.id, "Configured passdbs don't support credentials lookups")
            case _:
                return result, Failed(request.id)

    def list_users(self) -> Listing:
        """The names of all users."""
        return self._userdbs.iterate()

    def _note(self, level: str, text: str, request: AuthRequest) -> None:
        """Log *text*, if lines of that level are wanted of this request."""
        if level in ("error", "warning") or (self._verbose if level == "info" else self._debug) or request.debug:
            self._log(level, text, request, {})


def _is_ip(text: str) -> bool:
    from ipaddress import ip_address

    try:
        ip_address(text)
    except ValueError:
        return False
    return True
