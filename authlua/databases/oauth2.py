"""``oauth2``: a token instead of a password, judged by the server that issued it or by its signature.

A client gives the token with OAUTHBEARER or XOAUTH2; or, as a password grant, the passdb fetches one for the user's
password. What follows is ``core:2.3.21.1:src/auth/db-oauth2.c``, and its like in 2.4 where they differ.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from authlua.databases.tokens import Claims, Keys, Rules, TokenJudge, TokenRefused, as_text, read_json
from authlua.dialect import Dialect
from authlua.request import AuthRequest
from authlua.results import PassdbReply, PassdbResult
from authlua.secret import Secret
from authlua.urls import parse_url
from authlua.variables import ExpansionError, Template, Variables, compile_template, request_variables
from authlua.wishes import Service

USER_AGENT = "dovecot-oauth2-passdb"

IDLE_TIME = 60.0
"""Seconds that a connection is kept for the next question."""

TOKEN_MECHS = ("OAUTHBEARER", "XOAUTH2")

MISMATCH = PassdbResult.PASSWORD_MISMATCH
FAILURE = PassdbResult.INTERNAL_FAILURE


class OAuth2Options(NamedTuple):
    """Dovecot's settings of these names, without ``oauth2_``."""

    tokeninfo_url: str = ""
    introspection_url: str = ""
    grant_url: str = ""
    introspection_mode: str = "auth"
    """``auth``, ``get``, ``post`` or ``local``."""
    force_introspection: bool = False
    username_attribute: str = "email"
    username_validation_format: str = "%{user}"
    active_attribute: str = ""
    active_value: str = ""
    scope: Sequence[str] = ()
    issuers: Sequence[str] = ()
    client_id: str = ""
    client_secret: str = ""
    use_grant_password: bool = False
    send_auth_headers: bool = False
    token_expire_grace: float = 0
    fields: Sequence[tuple[str, str]] = ()
    """Templates, in which ``%{oauth2:NAME}`` is a claim."""
    timeout: float = 60
    """Seconds."""
    tls: tuple[tuple[str, Any], ...] = ()
    """The HTTP client's ``ssl_client_*``."""

    def __repr__(self) -> str:
        return "<OAuth2Options>"


class _Refused(Exception):
    def __init__(self, result: PassdbResult, text: str) -> None:
        super().__init__(text)
        self.result = result


class _Answer(NamedTuple):
    """What a server said in JSON, with a status from 200 to 299 or from 400 to 499."""

    status: int
    claims: Claims

    @property
    def valid(self) -> bool:
        return self.status < 300


class OAuth2Passdb:
    """Judges tokens.

    Args:
        keys: for ``introspection_mode = "local"``.
    """

    verifies = True

    def __init__(self, options: OAuth2Options, keys: Keys | None, *, dialect: Dialect, id: int) -> None:
        self._options = options
        self._dialect = dialect
        self._id = id
        self._format: Template = compile_template(options.username_validation_format, dialect)
        self._fields = [(name, compile_template(value, dialect)) for name, value in options.fields]
        self._local: TokenJudge | None = None
        if keys is not None:
            rules = Rules(options.issuers, options.client_id, options.scope, options.token_expire_grace)
            self._local = TokenJudge(keys, rules, dialect)
        client = {"user_agent": USER_AGENT, "request_timeout": options.timeout, "max_idle_time": IDLE_TIME}
        self._client = json.dumps({**client, "auto_retry": False, **dict(options.tls)}).encode()

    async def verify_plain(self, request: AuthRequest, password: Secret) -> PassdbReply:
        """Is this a good token of the user's, or does it get us one?"""
        try:
            stage, token, claims = await self._claims(request, password.reveal().decode("utf-8", "surrogateescape"))
            try:
                self._check_active(claims)
                self._check_user(request, claims)
                self._check_scope(claims)
                fields = self._expanded(request, token, claims)
            except _Refused as refusal:
                raise _Refused(refusal.result, f"{stage} failed: {refusal}") from None
        except _Refused as refusal:
            return PassdbReply(refusal.result, (), f"oauth2 failed: {refusal}")
        return PassdbReply(PassdbResult.OK, [*fields, ("token", token)])

    async def lookup(self, request: AuthRequest) -> PassdbReply:
        """Nobody tells passwords."""
        return PassdbReply(PassdbResult.SCHEME_NOT_AVAILABLE, (), "passdb doesn't support credential lookups")

    # --- what is known of the token ------------------------------------------

    async def _claims(self, request: AuthRequest, given: str) -> tuple[str, str, Claims]:
        """The last stage that had a say, the token, and what is known of it."""
        options = self._options
        if options.use_grant_password and (self._dialect is Dialect.V2_3 or request.mech not in TOKEN_MECHS):
            stage = "Password grant"
            claims = await self._grant(request, given)
            token = claims["access_token"]
        elif not given:
            raise _Refused(MISMATCH, "Token validation failed: No token provided")
        elif self._local is not None:
            return "Local validation", given, await self._judged(self._local, given)
        elif not options.tokeninfo_url:
            return "Introspection", given, await self._introspected(request, given)
        else:
            stage, token = "Token validation", given
            claims = await self._token_info(request, token)
        if not options.force_introspection and self._says_all(claims):
            return stage, token, claims
        if self._local is not None:
            return "Local validation", token, claims | await self._judged(self._local, token)
        try:
            self._check_active(claims)
        except _Refused as refusal:
            raise _Refused(refusal.result, f"Token is not valid: {refusal}") from None
        if options.introspection_url:
            return "Introspection", token, claims | await self._introspected(request, token)
        return stage, token, claims

    async def _judged(self, judge: TokenJudge, token: str) -> Claims:
        try:
            return await judge.claims(token)
        except TokenRefused as refusal:
            raise _Refused(MISMATCH, f"Local validation failed: {refusal}") from None

    async def _grant(self, request: AuthRequest, password: str) -> Claims:
        options = self._options
        form = [("grant_type", "password"), ("username", request.user or ""), ("password", password)]
        form += [("client_id", options.client_id), ("client_secret", options.client_secret)] * bool(options.client_id)
        form += [("scope", " ".join(options.scope))] * bool(options.scope)
        answer = await self._ask("Password grant", request, options.grant_url, form=form)
        if answer.valid:
            if "access_token" not in answer.claims:
                raise _Refused(FAILURE, "Password grant failed: OAuth2 token missing from reply")
            return answer.claims
        error = answer.claims.get("error", "OAuth2 server returned failure without error field")
        raise _Refused(MISMATCH if error == "invalid_grant" else FAILURE, f"Password grant failed: {error}")

    async def _token_info(self, request: AuthRequest, token: str) -> Claims:
        stage = "Token validation"
        answer = await self._ask(stage, request, self._options.tokeninfo_url + _quoted(token), bearer=token)
        if not answer.valid:
            raise _Refused(MISMATCH, "Token validation failed: Invalid token")
        return answer.claims

    async def _introspected(self, request: AuthRequest, token: str) -> Claims:
        options = self._options
        stage = "Introspection"
        url = options.introspection_url
        us = [("client_id", options.client_id), ("client_secret", options.client_secret)]
        is_2_3 = self._dialect is Dialect.V2_3
        match options.introspection_mode:
            case "post":
                answer = await self._ask(stage, request, url, form=[("token", token), *(us if is_2_3 else ())])
            case "get":
                more = "".join(f"&{name}={_quoted(value)}" for name, value in us if value or is_2_3)
                answer = await self._ask(stage, request, url + _quoted(token) + more)
            case _:
                answer = await self._ask(stage, request, url, bearer=token)
                if answer.status == 401:
                    # nothing but the token was shown, so that is what was refused
                    raise _Refused(MISMATCH, "Introspection failed: Invalid token")
        return answer.claims

    # --- asking --------------------------------------------------------------

    async def _ask(
        self,
        stage: str,
        request: AuthRequest,
        url: str,
        *,
        form: Sequence[tuple[str, str]] = (),
        bearer: str = "",
    ) -> _Answer:
        headers = self._auth_headers(request) if self._options.send_auth_headers else []
        payload = None
        if form:
            payload = "&".join(f"{name}={_quoted(value)}" for name, value in form).encode()
            headers += ["Content-Type", "application/x-www-form-urlencoded"]
        if bearer and self._options.introspection_mode == "auth" and parse_url(url).userinfo is None:
            if not bearer.isprintable():  # a line break would be the end of the header, and the beginning of another
                raise _Refused(MISMATCH, f"{stage} failed: Invalid token")
            headers += ["Authorization", f"Bearer {bearer}"]
        method = b"POST" if form else b"GET"
        told = "\n".join(headers).encode("utf-8", "surrogateescape")
        asked = (self._client, method, url.encode("latin-1", "replace"), payload, False, told)
        status, reason, _, body, problem, *_ = await Service("http", asked)
        if status // 100 not in (2, 4) or problem:
            raise _Refused(FAILURE, f"{stage} failed: {problem or reason.decode('utf-8', 'replace')} ({status})")
        try:
            return _Answer(status, _claims_of(body))
        except ValueError as error:
            raise _Refused(FAILURE, f"{stage} failed: {error}") from None

    def _auth_headers(self, request: AuthRequest) -> list[str]:
        """Who wants to log in from where, for the server's own decisions."""
        service = "X-Dovecot-Auth-Service" if self._dialect is Dialect.V2_3 else "X-Dovecot-Auth-Protocol"
        found = [(service, request.service)]
        for name, ip, port in (("Local", request.lip, request.lport), ("Remote", request.rip, request.rport)):
            if ip is not None:
                found.append((f"X-Dovecot-Auth-{name}", f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"))
        return [word for header in found if header[1].isprintable() for word in header]

    # --- what it must say ----------------------------------------------------

    def _says_all(self, claims: Claims) -> bool:
        """Whether nobody else has to be asked about the token."""
        options = self._options
        wanted = {options.username_attribute, options.active_attribute} - {""}
        if self._dialect is Dialect.V2_3:
            names = [name for _, template in self._fields for name in template.variables]
            wanted |= {name.split(":")[1] for name in names if name.startswith("oauth2:")}
        return wanted <= claims.keys()

    def _check_active(self, claims: Claims) -> None:
        name, wanted = self._options.active_attribute, self._options.active_value
        if not name:
            return
        value = claims.get(name)
        if value is None and self._dialect is not Dialect.V2_3:
            raise _Refused(MISMATCH, "Missing active_attribute from token")
        if wanted and value not in (None, wanted):
            raise _Refused(MISMATCH, "Provided token is not valid")

    def _check_user(self, request: AuthRequest, claims: Claims) -> None:
        claim = claims.get(self._options.username_attribute)
        if claim is None:
            raise _Refused(FAILURE, "No username returned")
        try:
            theirs = self._format.expand(_OfUser(claim))
            ours = request.user or ""
            if self._dialect is Dialect.V2_3:
                ours = self._format.expand(request_variables(request, self._dialect, id=str(self._id)))
        except ExpansionError as error:
            raise _Refused(FAILURE, f"var_expand({self._format.text}) failed: {error}") from None
        if ours != theirs:
            raise _Refused(PassdbResult.USER_UNKNOWN, f"Username '{ours}' did not match '{theirs}'")

    def _check_scope(self, claims: Claims) -> None:
        wanted = self._options.scope
        if wanted:
            scope, audience = claims.get("scope"), claims.get("aud", "")
            by_tabs = scope is None and self._dialect is not Dialect.V2_3
            given = (audience if scope is None else scope).split("\t" if by_tabs else " ")
            if not set(wanted) & set(given):
                raise _Refused(PassdbResult.USER_DISABLED, f"Token is not valid for scope '{' '.join(wanted)}'")

    def _expanded(self, request: AuthRequest, token: str, claims: Claims) -> list[tuple[str, str | None]]:
        variables = request_variables(request, self._dialect, id=str(self._id))
        found: list[tuple[str, str | None]] = []
        for name, template in self._fields:
            try:
                found.append((name, template.expand(_WithClaims(variables, token, claims, name, self._dialect))))
            except ExpansionError as error:
                raise _Refused(FAILURE, f"var_expand({template.text}) failed: {error}") from None
        return found


class _OfUser:
    """The variables of a name that a server has told."""

    def __init__(self, user: str) -> None:
        name, _, domain = user.partition("@")
        self._values = {"user": user, "username": name, "domain": domain}

    def lookup(self, name: str) -> str | None:
        return self._values[name]


class _WithClaims:
    """The request's variables, and those of its token."""

    def __init__(self, variables: Variables, token: str, claims: Claims, field: str, dialect: Dialect) -> None:
        self._variables = variables
        self._token = token
        self._claims = claims
        self._field = field
        self._is_2_3 = dialect is Dialect.V2_3

    def lookup(self, name: str) -> str | None:
        if name.startswith("oauth2:"):
            claim = name.removeprefix("oauth2:")
            if self._is_2_3:
                claim, _, default = claim.partition(":")
                return self._claims.get(claim, default)
            if claim not in self._claims:
                raise ExpansionError(f"oauth2: Field '{claim}' not found")
            return self._claims[claim]
        if name == "$" and self._is_2_3:
            return self._claims.get(self._field)
        if name == "token" and not self._is_2_3:
            return self._token
        return self._variables.lookup(name)


def _claims_of(body: bytes) -> Claims:
    """What a server's answer says; raises `ValueError` for one that makes no sense."""
    if not body:
        return {}
    try:
        said = read_json(body)
    except ValueError:
        raise ValueError("Invalid JSON in response") from None
    if not isinstance(said, dict):
        raise ValueError("Invalid JSON in response")
    claims = {name: as_text(value) for name, value in said.items() if not isinstance(value, dict | list)}
    for name, value in claims.items():
        if name.lower() == "expires_in" and not (value.isascii() and value.isdigit() and int(value[:11]) < 1 << 32):
            raise ValueError(f"Malformed number '{value}' in expires_in")
        if name.lower() == "token_type" and value.lower() != "bearer":
            raise ValueError(f"Expected Bearer token, got '{value}'")
    return claims


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")
