"""Composing what clients and masters hear, in Dovecot's order and spelling.

``core:2.3.21.1:src/auth/auth-request-handler.c:auth_str_append_extra_fields`` and around it.
"""

import hashlib
import hmac
from collections.abc import Iterable
from typing import NamedTuple

from authlua.auth.fields import PROXY_FIELDS, is_hidden
from authlua.dialect import Dialect
from authlua.fields import Fields
from authlua.protocol import Fail, Ok
from authlua.request import AuthRequest
from authlua.results import PassdbResult
from authlua.secret import Secret

Pairs = list[tuple[str, str | None]]


class _Spelling(NamedTuple):
    """How one release prints passdb fields."""

    bare: frozenset[str]
    """Printed without their value on OK lines."""
    valueless: str | None
    """What stands for a value where there is none; `None`: the bare name."""
    delay_temp_fail: bool
    """An internal failure waits in the failure queue like any other."""
    nodelay_shown: bool
    """FAIL shows ``nodelay`` before its code."""
    nodelay_lasts: bool
    """``nodelay`` counts even when the passdb that set it failed and its fields were taken back."""
    local_name_shown: bool
    """Userdb replies tell the TLS server name, and whether the user is the anonymous one, also without a login."""


_SPELLING = {
    Dialect.V2_3: _Spelling(frozenset({"nologin", "proxy"}), None, True, True, False, False),
    Dialect.V2_4_0: _Spelling(frozenset(), "yes", False, False, True, True),
    Dialect.V2_4: _Spelling(frozenset(), "yes", False, False, True, True),
}

_CODES = {PassdbResult.USER_DISABLED: "user_disabled", PassdbResult.PASS_EXPIRED: "pass_expired"}


class Replies:
    """Makes replies out of requests, as one Dovecot release does."""

    def __init__(self, dialect: Dialect, *, anonymous_username: str, failure_delay: bool) -> None:
        self._spelling = _SPELLING[dialect]
        self._never_failing = ("nologin", *PROXY_FIELDS[dialect])
        self._anonymous_username = anonymous_username
        self._failure_delay = failure_delay

    def ok(self, request: AuthRequest, *, login: bool) -> Ok:
        """The login succeeded.

        Args:
            login: the socket is one whose successes a master fetches, or a proxy acts on.
        """
        fields = request.passdb_fields
        pairs = self._passdb_pairs(fields, ok=True) if len(fields) else []
        self._append_names(pairs, request)
        if login and "proxy" in fields:
            if "pass" not in fields and request.password is not None:
                pairs.append(("pass", request.password.reveal().decode("utf-8", "surrogateescape")))
            if request.master_user and "master" not in fields:
                pairs.append(("master", request.master_user))
        keep = login and "nologin" not in fields and "proxy" not in fields
        return Ok(request.id, request.user or "", pairs, keep)

    def penalized(self, request: AuthRequest, result: PassdbResult) -> bool:
        """Whether a failure counts against the client's address: not when it is ours, nor with ``nodelay``."""
        return result is not PassdbResult.INTERNAL_FAILURE and not self._nodelay(request)

    def _nodelay(self, request: AuthRequest) -> bool:
        return "nodelay" in request.passdb_fields or (request.nodelay and self._spelling.nodelay_lasts)

    def fail(self, request: AuthRequest, result: PassdbResult) -> Fail:
        """The login failed, with *result*."""
        fields = request.passdb_fields
        nodelay = self._nodelay(request)
        for name in self._never_failing:
            fields.discard(name)
        pairs: Pairs = []
        user = request.original_user if request.user is None else request.user
        if user is not None:
            pairs.append(("user", user))
        if nodelay and self._spelling.nodelay_shown:
            pairs.append(("nodelay", None))
        if result is PassdbResult.INTERNAL_FAILURE:
            pairs.append(("code", "temp_fail"))
        elif request.master_user is not None:
            pairs.append(("code", "authz_fail"))
        elif result in _CODES:
            pairs.append(("code", _CODES[result]))
        if len(fields):
            pairs += self._passdb_pairs(fields, ok=False)
        self._append_names(pairs, request)
        internal = result is PassdbResult.INTERNAL_FAILURE and not self._spelling.delay_temp_fail
        return Fail(request.id, pairs, delay=self._failure_delay and not nodelay and not internal)

    def passdb(self, request: AuthRequest) -> Pairs:
        """The fields of a ``PASS`` reply."""
        return self._passdb_pairs(request.passdb_fields, ok=False)

    def userdb(self, request: AuthRequest) -> Pairs:
        """The fields of a ``USER`` reply to a lookup without authentication."""
        pairs = self._userdb_pairs(request.userdb_fields)
        if self._spelling.local_name_shown:
            if request.local_name is not None:
                pairs.insert(0, ("local_name", request.local_name))
            if self._anonymous_username and request.user == self._anonymous_username:
                pairs.append(("anonymous", None))
        return pairs

    def login(self, request: AuthRequest, *, token: str | None) -> Pairs:
        """The fields of a ``USER`` reply to a master's ``REQUEST``."""
        fields = request.userdb_fields or Fields()
        pairs = self._userdb_pairs(fields)
        if request.master_user is not None and "master_user" not in fields:
            pairs.append(("master_user", request.master_user))
        pairs.append(("auth_mech", request.mech))
        if self._anonymous_username and request.user == self._anonymous_username:
            pairs.append(("anonymous", None))
        if token is not None:
            pairs.append(("auth_token", token))
        if request.master_user is not None:
            pairs.append(("auth_user", request.master_user))
        elif request.original_user is not None and request.original_user != request.user:
            pairs.append(("auth_user", request.original_user))
        if request.local_name is not None and self._spelling.local_name_shown:
            pairs.append(("local_name", request.local_name))
        return pairs

    def _append_names(self, pairs: Pairs, request: AuthRequest) -> None:
        fields = request.passdb_fields
        original = request.original_user
        if original is not None and original != request.user and "original_user" not in fields:
            pairs.append(("original_user", original))
        if request.master_user is not None and "auth_user" not in fields:
            pairs.append(("auth_user", request.master_user))
        if self._anonymous_username and request.user == self._anonymous_username and "anonymous" not in fields:
            pairs.append(("anonymous", None))

    def _passdb_pairs(self, fields: Fields, *, ok: bool) -> Pairs:
        pairs: Pairs = []
        bare = self._spelling.bare
        for name, value in fields.by_name().items():
            if not is_hidden(name):
                pairs.append((name, None if ok and name in bare else self._spelled(value)))
        return pairs

    def _userdb_pairs(self, fields: Iterable[tuple[str, str | None]] | None) -> Pairs:
        return [(name, self._spelled(value)) for name, value in fields or ()]

    def _spelled(self, value: str | None) -> str | None:
        if value:
            return value
        # 2.3 does not tell an empty value from none
        valueless = self._spelling.valueless
        return value if valueless and value is not None else valueless


def auth_token(user: str, pid: str, session: str, service: str, secret: Secret) -> str:
    """The token that lets a mail process log in again as this session (``src/auth/auth-token.c:auth_token_get``)."""
    data = (pid + session + service).encode("utf-8", "surrogateescape") + secret.reveal()
    return hmac.new(user.encode("utf-8", "surrogateescape"), data, hashlib.sha1).hexdigest()
