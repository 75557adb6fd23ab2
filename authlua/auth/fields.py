"""Fields with a meaning: what a passdb or userdb may set, and what setting it does.

``core:2.3.21.1:src/auth/auth-request.c:auth_request_set_field`` and
``auth-request-fields.c:auth_request_set_userdb_field`` in Dovecot.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from random import randrange
from typing import Final

from authlua.dialect import Dialect
from authlua.fields import Fields
from authlua.request import AuthRequest

HIDDEN: Final = frozenset(
    {
        "user",
        "username",
        "domain",
        "login_user",
        "allow_nets",
        "allow_real_nets",
        "fail",
        "delay_until",
        "noauthenticate",
        "check_client_fp",
        "check_client_cert_fp",
        "check_client_pubkey_fp",
    }
)
"""Passdb fields that are acted on and never sent. So is everything that begins with ``userdb_``."""

FINGERPRINTS = ("check_client_fp", "check_client_cert_fp", "check_client_pubkey_fp")
"""From 2.4.2 on: the fingerprint that the client's certificate, its public key, or either of them must have."""

_PROXY_FIELDS = ("proxy", "proxy_maybe", "proxy_always", "host", "port", "destuser")
PROXY_FIELDS = {
    Dialect.V2_3: _PROXY_FIELDS,
    Dialect.V2_4_0: (*_PROXY_FIELDS, "hostip"),
    Dialect.V2_4: (*_PROXY_FIELDS, "hostip"),
}
"""What goes when there is no proxying (``core:2.4.1:src/auth/auth-request.c:auth_request_proxy_finish_failure``)."""

MAX_ORDINARY: Final = 1024
"""Names of fields that are remembered as ordinary ones."""

MAX_DELAY = 300
"""Seconds that ``delay_until`` may hold a success back."""

_USERDB_SPECIAL: Final = frozenset({"tempfail", "user", "username", "domain", "userdb_import", "system_user"})
"""Userdb fields with a meaning, or another name."""

_KEEP_WORD = {Dialect.V2_3: "protected", Dialect.V2_4_0: "default", Dialect.V2_4: "default"}

Note = Callable[[str, str, AuthRequest], None]
"""``note(level, text, request)``: a line for the log."""


def is_hidden(name: str) -> bool:
    """Whether passdb field *name* stays off the wire."""
    return name in HIDDEN or name.startswith("userdb_")


class FieldSetter:
    """Sets fields on requests, as one Dovecot release does."""

    def __init__(self, dialect: Dialect, note: Note) -> None:
        self._keep_word = _KEEP_WORD[dialect]
        self._note = note
        self._special: dict[str, Callable[[AuthRequest, str], None]] = {
            "user": self._change_user,
            "username": self._change_local_part,
            "domain": self._change_domain,
            "login_user": self._change_login_user,
            "allow_nets": lambda request, nets: self._allow(request, "allow_nets", nets, request.rip),
            "allow_real_nets": lambda request, nets: self._allow(request, "allow_real_nets", nets, request.real_rip),
            "fail": self._fail,
            "nodelay": self._nodelay,
            "delay_until": self._check_delay,
        }
        if dialect is Dialect.V2_4:
            self._special.update({name: partial(self._check_fingerprint, name) for name in FINGERPRINTS})
        self._renamed = False
        """The log has been told of the one field that has another name now."""
        self._ordinary: dict[str, str] = {}
        """Names seen before that mean nothing to us, so that no rule need be tried on them again: the userdb field
        that one is for, ``""`` if it is for none."""

    def set_passdb_fields(
        self, request: AuthRequest, fields: Iterable[tuple[str, str | None]], *, default_scheme: str
    ) -> None:
        """Fields from a passdb, in order."""
        ordinary = self._ordinary
        passdb_fields = request.passdb_fields.changing()
        for name, value in fields:
            userdb_name = ordinary.get(name)
            if userdb_name is None:
                self.set_passdb_field(request, name, value, default_scheme=default_scheme)
                continue
            passdb_fields[name] = value
            if userdb_name:
                if request.userdb_fields is None:
                    request.userdb_fields = Fields()
                request.userdb_fields.changing()[userdb_name] = value

    def set_passdb_field(self, request: AuthRequest, name: str, value: str | None, *, default_scheme: str) -> None:
        """One field from a passdb."""
        if ":" in name:
            kept = self._suffix(request.passdb_fields, name)
            if kept is None:
                return
            name = kept
        if name in ("password", "password_noscheme"):
            self._set_password(request, value or "", default_scheme, parse=name == "password")
        elif name.startswith("userdb_"):
            request.passdb_fields[name] = value
            if name == "userdb_userdb_import":
                for key, imported in _imported(value):
                    self.set_userdb_field(request, key, imported)
            else:
                bare = name.removeprefix("userdb_")
                self.set_userdb_field(request, bare, value)
                if bare and ":" not in bare and bare not in _USERDB_SPECIAL:
                    self._remember(name, bare)
        elif name == "passdb_import":
            for key, imported in _imported(value):
                self.set_passdb_field(request, key, imported, default_scheme=default_scheme)
        elif name == "noauthenticate":
            request.passdb_fields["noauthenticate"] = value
            request.passdb_fields["nopassword"] = None
        else:
            act = self._special.get(name)
            if act is not None:
                act(request, value or "")
            else:
                self._remember(name, "")
            request.passdb_fields[name] = value

    def _remember(self, name: str, userdb_name: str) -> None:
        if len(self._ordinary) < MAX_ORDINARY:
            self._ordinary[name] = userdb_name

    def set_userdb_field(self, request: AuthRequest, name: str, value: str | None) -> None:
        """One field from a userdb, or a passdb's ``userdb_`` field without its prefix."""
        if request.userdb_fields is None:
            request.userdb_fields = Fields()
        fields = request.userdb_fields
        if ":" in name:
            kept = self._suffix(fields, name)
            if kept is None:
                return
            name = kept
        if name in ("", " "):
            return  # the latter is what Dovecot's cache writes when there is nothing; the former is no name
        if name == "tempfail":
            request.tempfail = True
        elif name in ("user", "username", "domain"):
            self._special[name](request, value or "")
        elif name == "userdb_import":
            for key, imported in _imported(value):
                self.set_userdb_field(request, key, imported)
        elif name == "system_user":
            if not self._renamed:
                self._renamed = True
                self._note("warning", "Replace system_user with system_groups_user", request)
            fields["system_groups_user"] = value
        else:
            fields[name] = value

    def _suffix(self, fields: Fields, name: str) -> str | None:
        """*name* without its suffix, or `None` when there is nothing left to set."""
        base, _, suffix = name.rpartition(":")
        if suffix == self._keep_word:
            return None if base in fields else base
        if suffix == "remove":
            fields.discard(base)
            return None
        return name

    def _set_password(self, request: AuthRequest, value: str, default_scheme: str, *, parse: bool) -> None:
        if request.credentials is not None:
            self._note("error", "Multiple password values not supported", request)
            return
        if parse and ((value.startswith("{") and "}" in value) or value.startswith("$1$")):
            request.credentials = value
        else:
            request.credentials = f"{{{default_scheme}}}{value}" if value else ""

    def _change_user(self, request: AuthRequest, value: str) -> None:
        if not value:
            self._note("error", "username attempted to be changed to empty", request)
            request.failed = True
        elif value != request.user:
            self._note("debug", f"username changed {request.user} -> {value}", request)
            request.user = value

    def _change_local_part(self, request: AuthRequest, value: str) -> None:
        domain = request.domain
        self._change_user(request, value if "@" in value or domain is None else f"{value}@{domain}")

    def _change_domain(self, request: AuthRequest, value: str) -> None:
        self._change_user(request, f"{request.username}@{value}")

    def _change_login_user(self, request: AuthRequest, value: str) -> None:
        request.requested_login_user = value

    def _fail(self, request: AuthRequest, value: str) -> None:
        request.failed = True

    def _nodelay(self, request: AuthRequest, value: str) -> None:
        request.nodelay = True

    def _check_delay(self, request: AuthRequest, value: str) -> None:
        if delay_until(value) is None:
            self._note("error", f"delay_until is not a time at most {MAX_DELAY} s ahead: {value}", request)
            request.failed = True

    def _check_fingerprint(self, name: str, request: AuthRequest, wanted: str) -> None:
        if not wanted:
            self._note("info", f"{name} check failed: value was empty", request)
            request.failed = True
            return
        shown = [
            None if name == "check_client_pubkey_fp" else request.ssl_client_cert_fp,
            None if name == "check_client_cert_fp" else request.ssl_client_cert_pubkey_fp,
        ]
        if request.secured == "TLS" and wanted in shown:
            self._note("debug", f"{name} check success: {wanted} matches client certificate", request)
            request.fingerprint_matched = True
        else:
            self._note("info", f"{name} check failed: {wanted} does not match client certificate", request)
            request.failed = True

    def _allow(self, request: AuthRequest, name: str, nets: str, ip: str | None) -> None:
        if ip is None:
            if "local" not in nets.replace(",", " ").split():
                self._note("info", f"{name} check failed: Remote IP not known and 'local' missing", request)
                request.failed = True
            return
        from ipaddress import ip_address, ip_network

        address = ip_address(ip)
        for net in nets.replace(",", " ").split():
            if net == "local":
                continue
            try:
                network = ip_network(net, strict=False)
            except ValueError:
                self._note("info", f"{name}: Invalid network '{net}'", request)
                continue
            if address.version == network.version and address in network:
                self._note("debug", f"{name}: Matching for network {net}", request)
                return
        self._note("info", f"{name} check failed: IP {ip} not in allowed networks", request)
        request.failed = True


def delay_until(value: str) -> float | None:
    """When a success with this ``delay_until`` may be told: seconds since the epoch, chance included.

    `None` when the value is no ``TIME[+RANDOM]``, or too far ahead.
    """
    text, plus, spread = value.partition("+")
    if not text.isdecimal() or (plus and not spread.isdecimal()):
        return None
    latest = int(time.time()) + MAX_DELAY
    if int(text) > latest:
        return None
    return min(int(text) + (randrange(int(spread)) if spread and int(spread) else 0), latest)


def _imported(value: str | None) -> Iterable[tuple[str, str]]:
    for item in (value or "").split("\t"):
        name, _, content = item.partition("=")
        if name:
            yield name, content
