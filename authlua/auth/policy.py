"""The policy server: an outside judge, such as weakforced, of who may try to log in, and how soon.

Wire and rules are Dovecot's (``core:2.3.21.1:src/auth/auth-policy.c``).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple

from authlua.auth.databases import Log
from authlua.auth.events import Event, Observe
from authlua.dialect import Dialect
from authlua.errors import Unreachable
from authlua.request import AuthRequest
from authlua.results import PassdbResult
from authlua.variables import ExpansionError, Template, Variables, request_variables
from authlua.wishes import Service, Sleep

USER_AGENT = "dovecot/auth-policy-client"

IDLE_TIME = 10.0
"""Seconds that a connection is kept for the next question."""

_FAIL_TYPES = {
    PassdbResult.OK: "",
    PassdbResult.INTERNAL_FAILURE: "internal",
    PassdbResult.NEXT: "internal",
    PassdbResult.PASSWORD_MISMATCH: "credentials",
    PassdbResult.SCHEME_NOT_AVAILABLE: "credentials",
    PassdbResult.PASS_EXPIRED: "expired",
    PassdbResult.USER_DISABLED: "disabled",
    PassdbResult.USER_UNKNOWN: "account",
}


class PolicyOptions(NamedTuple):
    """Dovecot's ``auth_policy_*`` settings."""

    server_url: str
    api_header: str = ""
    """``Name: value``, or the value of an ``X-API-Key``."""
    timeout: float = 2.0
    """Seconds."""
    hash_mech: str = "sha256"
    hash_nonce: str = ""
    hash_truncate: int = 12
    """Bits; 0 keeps all."""
    request_attributes: Sequence[tuple[str, Template]] = ()
    reject_on_fail: bool = False
    check_before_auth: bool = True
    check_after_auth: bool = True
    report_after_auth: bool = True
    log_only: bool = False

    def __repr__(self) -> str:
        return "<PolicyOptions>"


class Policy:
    """Asks the policy server, and tells it how logins went."""

    def __init__(
        self, options: PolicyOptions, *, dialect: Dialect, log: Log, verbose: bool, observe: Observe | None = None
    ) -> None:
        self._observe = observe
        self._options = options
        self._dialect = dialect
        self._log = log
        self._verbose = verbose
        self._headers = _headers(options.api_header)
        client = {"user_agent": USER_AGENT, "request_absolute_timeout": options.timeout, "auto_redirect": False}
        self._client = json.dumps({**client, "auto_retry": False, "max_idle_time": IDLE_TIME}).encode()
        # keys such as a/b end up in objects
        self._attributes = sorted(options.request_attributes, key=lambda one: one[0])

    async def allows_attempt(self, request: AuthRequest) -> bool:
        """Before the first passdb of *request*, once: may this be tried? Waits as long as the server wants."""
        if request.policy_asked or not self._options.check_before_auth:
            return not request.policy_refused
        request.policy_asked = True
        seconds = await self._ask(request)
        if seconds > 0:
            request.policy_delay = seconds
            if not request.no_penalty:
                await Sleep(seconds)
        return seconds >= 0

    async def allows_success(self, request: AuthRequest) -> bool:
        """When *request* has succeeded: does it remain so?"""
        return not self._options.check_after_auth or await self._ask(request) >= 0

    async def report(self, request: AuthRequest, result: PassdbResult) -> None:
        """Tell how *request* ended. Nobody waits for this."""
        if not self._options.report_after_auth:
            return
        body = self._body(request, fail_type="policy" if request.policy_refused else _FAIL_TYPES[result])
        if body is None:
            return
        body["success"] = result is PassdbResult.OK
        body["policy_reject"] = request.policy_refused
        try:
            await self._send("report", request, body)
        except Unreachable as error:
            self._log("warning", f"Policy server: {error}", request, {"event_name": "auth_policy_request_failed"})

    async def _ask(self, request: AuthRequest) -> int:
        """Seconds to wait; negative: refused."""
        request.log_name = "policy"
        try:
            return await self._judged(request)
        finally:
            request.log_name = ""

    async def _judged(self, request: AuthRequest) -> int:
        failed = -1 if self._options.reject_on_fail else 0
        body = self._body(request, fail_type="")
        if body is None:
            return failed
        try:
            status, message = await self._send("allow", request, body)
        except Unreachable as error:
            self._log("warning", f"Policy server: {error}", request, {"event_name": "auth_policy_request_failed"})
            status, message = failed, ""
        if status and self._options.log_only:
            action = "refused" if status < 0 else "delayed"
            self._log("info", f"Policy check action '{action}' ignored", request, {})
            return 0
        if status < 0:
            request.policy_refused = True
            if message:
                request.passdb_fields["reason"] = message
            if self._verbose or request.debug:
                text = "Authentication failure due to policy server refusal"
                self._log("info", f"{text}: {message}" if message else text, request, {})
        if status and (self._verbose or request.debug):
            action = "drop connection" if status < 0 else f"tarpit {status} second(s)"
            self._log("info", f"Policy check action is {action}", request, {})
        return status

    def _body(self, request: AuthRequest, *, fail_type: str) -> dict[str, Any] | None:
        """The attributes as the server gets them; `None` when one cannot be expanded."""
        body: dict[str, Any] = {}
        variables = _PolicyVariables(request, self._dialect, self._options, fail_type)
        for name, template in self._attributes:
            *outer, last = name.split("/")
            place = body
            for key in outer:
                place = place.setdefault(key, {})
            try:
                place[last] = template.expand(variables)
            except ExpansionError as error:
                self._log("error", f"Failed to expand policy_request_attributes: {name}: {error}", request, {})
                return None
        return body

    async def _send(self, command: str, request: AuthRequest, attributes: Mapping[str, Any]) -> tuple[int, str]:
        """What the server says to an ``allow``; to a ``report`` it has nothing to say."""
        content = json.dumps({**attributes, "tls": request.secured == "TLS"}, ensure_ascii=False, separators=(",", ":"))
        started = perf_counter()
        fields = {"mode": command, "result": "failed"}
        try:
            answer = await self._post(command, content)
            judgement = _judgement(answer) if command == "allow" else (0, "")
            fields["result"] = "answered"
            if command == "allow":
                fields["policy_response"] = str(judgement[0])
        finally:
            if self._observe is not None:
                self._observe(Event("auth_policy_request_finished", fields), request, perf_counter() - started)
        return judgement

    async def _post(self, command: str, content: str) -> bytes:
        url = self._options.server_url
        where = f"{url}{'' if url.endswith('&') else '?'}command={command}"
        body = content.encode("utf-8", "surrogateescape")
        asked = (self._client, b"POST", where.encode("latin-1", "replace"), body, False, self._headers)
        status, reason, _, payload, problem, *_ = await Service("http", asked)
        if status // 10 != 20 or problem:
            told = problem or f"{status} {reason.decode('latin-1')}"
            raise Unreachable(f"{command}: {told}")
        answer: bytes = payload
        return answer


def _judgement(answer: bytes) -> tuple[int, str]:
    """What the server said; raises `Unreachable` when that is nothing."""
    try:
        said = json.loads(answer)
    except ValueError:
        raise Unreachable("allow: expected JSON") from None
    status, message = (said.get("status"), said.get("msg", "")) if isinstance(said, dict) else (None, "")
    if type(status) is not int or type(message) is not str:
        raise Unreachable("allow: expected an object with a number as its status and a text as its msg")
    return status, message


def _headers(api_header: str) -> bytes:
    """Name, line feed, value and so on."""
    headers = ["Content-Type", "application/json"]
    if api_header:
        name, colon, value = api_header.partition(":")
        headers += [name.strip(), value.strip()] if colon else ["X-API-Key", api_header]
    return "\n".join(headers).encode("latin-1", "replace")


class _PolicyVariables:
    """The request's variables, and those that only the policy server sees."""

    def __init__(self, request: AuthRequest, dialect: Dialect, options: PolicyOptions, fail_type: str) -> None:
        self._request = request
        self._variables: Variables = request_variables(request, dialect)
        self._options = options
        self._fail_type = fail_type

    def lookup(self, name: str) -> str | None:
        if name == "requested_username":
            return self._user()
        if name == "hashed_password":
            return self._hashed()
        if name == "fail_type":
            return self._fail_type
        return self._variables.lookup(name)

    def _user(self) -> str:
        return self._request.requested_login_user or self._request.user or ""

    def _hashed(self) -> str:
        options = self._options
        data = f"{options.hash_nonce}{self._user()}\0".encode("utf-8", "surrogateescape")
        if self._request.password is not None:
            data += self._request.password.reveal()
        digest = hashlib.new(options.hash_mech.replace("sha3-", "sha3_"), data).digest()
        bits = options.hash_truncate
        if 0 < bits < len(digest) * 8:
            length = -(-bits // 8)
            digest = (int.from_bytes(digest[:length]) >> (length * 8 - bits)).to_bytes(length)
        return digest.hex()
