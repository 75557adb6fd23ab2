"""OAUTHBEARER (RFC 7628) and XOAUTH2: a bearer token in place of a password.

The passdbs judge the token as if it were the password. That is what Dovecot 2.3 does. Dovecot 2.4 asks its ``oauth2``
settings instead and no passdb ever sees the token; as here a script is the judge, it is asked in both dialects, and
only what the client hears differs (``core:2.3.19.1:src/auth/mech-oauth2.c``, ``core:2.4.1:src/auth/mech-oauth2.c``).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from authlua.dialect import Dialect
from authlua.results import PassdbResult
from authlua.sasl.scram import unescape
from authlua.sasl.wishes import (
    Challenge,
    Mech,
    MechInfo,
    Refused,
    SetUser,
    Terms,
    Verdict,
    VerifyPlain,
    octets,
    text,
)
from authlua.secret import Secret


class _Bearer(NamedTuple):
    """What a client's message says."""

    user: bytes | None
    token: bytes | None


class _Problem(NamedTuple):
    """What is wrong with a message."""

    reason: str
    status: str
    code: str
    """The status in the manner of HTTP, for XOAUTH2."""


_INVALID_TOKEN = ("invalid_token", "401")
_INVALID_REQUEST = ("invalid_request", "400")
_NOT_SUPPORTED = ("request_not_supported", "400")
_INSUFFICIENT_SCOPE = ("insufficient_scope", "403")

_STATUS: Mapping[Dialect, Mapping[PassdbResult, tuple[str, str]]] = {
    Dialect.V2_3: {
        result: _INVALID_TOKEN
        for result in PassdbResult
        if result not in (PassdbResult.OK, PassdbResult.INTERNAL_FAILURE)
    },
    Dialect.V2_4: {
        PassdbResult.PASSWORD_MISMATCH: _INVALID_TOKEN,
        PassdbResult.USER_UNKNOWN: _INVALID_TOKEN,  # from 2.4.2 on; before, nothing was told
        PassdbResult.USER_DISABLED: _INSUFFICIENT_SCOPE,
        PassdbResult.PASS_EXPIRED: _INSUFFICIENT_SCOPE,
    },
}


def _oauthbearer(message: bytes) -> _Bearer | _Problem:
    """``gs2-header ^A key=value ^A … ^A``, read as loosely as Dovecot does up to 2.4.1."""
    header, *fields = message.split(b"\1")
    if not header:
        return _Problem("Invalid continued data", *_INVALID_TOKEN)
    user: bytes | None = None
    for part in filter(None, header.split(b",")):
        match part[:1]:
            case b"n" | b"y":
                pass
            case b"f":
                return _Problem("Client requested non-standard mechanism", *_NOT_SUPPORTED)
            case b"p":
                return _Problem("Client requested and used channel-binding", *_NOT_SUPPORTED)
            case b"a":
                user = unescape(part[2:]) if part[1:2] == b"=" else None
                if user is None:
                    return _Problem("Invalid username escaping", *_INVALID_REQUEST)
            case _:
                return _Problem("Invalid gs2-header in request", *_INVALID_REQUEST)
    return _fields(fields, user)


def _xoauth2(message: bytes) -> _Bearer | _Problem:
    """``user=NAME ^A auth=Bearer TOKEN ^A ^A``."""
    fields = message.split(b"\1")
    users = [field[5:] for field in fields if field.startswith(b"user=")]
    return _fields(fields, users[-1] if users else None)


def _fields(fields: list[bytes], user: bytes | None) -> _Bearer | _Problem:
    token: bytes | None = None
    for field in fields:
        if field.startswith(b"auth="):
            kind, token = field[5:12], field[12:]
            if kind.lower() != b"bearer " or not token or b"\r" in token or b"\n" in token:
                return _Problem("Invalid continued data", *_INVALID_TOKEN)
    return _Bearer(user, token)


Parse = Callable[[bytes], _Bearer | _Problem]
Tell = Callable[[str, str, Terms], bytes]


def _mech(parse: Parse, tell: Tell, missing_user: tuple[str, str]) -> Callable[[Secret | None, Terms], Mech]:
    def oauth2(initial: Secret | None, terms: Terms) -> Mech:
        """One message; a refusal is explained to the client in JSON."""

        def refuse(reason: str, status: str, code: str) -> Verdict:
            # 2.3 explains nothing to a client whose message it cannot read
            return Refused(reason, b"" if terms.dialect is Dialect.V2_3 else tell(status, code, terms))

        said = parse(octets((yield Challenge(b"")) if initial is None else initial))
        if isinstance(said, _Problem):
            return refuse(*said)
        if said.user is not None and not (yield SetUser(text(said.user))):
            return refuse("", *_INVALID_REQUEST)
        if said.token is None:
            return refuse("Missing token", *_INVALID_TOKEN)
        if said.user is None:
            return refuse("Missing username", *missing_user)
        result: PassdbResult = yield VerifyPlain(Secret(said.token))
        told = _STATUS.get(terms.dialect, _STATUS[Dialect.V2_4]).get(result)
        return result if told is None else Refused("", tell(*told, terms), result)

    return oauth2


def _tell_oauthbearer(status: str, code: str, terms: Terms) -> bytes:
    return _json(terms, {"status": status} if terms.dialect is Dialect.V2_3 else {"status": status, "scope": "mail"})


def _tell_xoauth2(status: str, code: str, terms: Terms) -> bytes:
    order = ("status", "schemes") if terms.dialect is Dialect.V2_3 else ("schemes", "status")
    values = {"status": code, "schemes": "bearer"}
    return _json(terms, {**{name: values[name] for name in order}, "scope": "mail"})


def _json(terms: Terms, values: dict[str, str]) -> bytes:
    import json

    if terms.openid_configuration_url:
        values["openid-configuration"] = terms.openid_configuration_url
    return json.dumps(values, separators=(",", ":")).encode()


OAUTHBEARER = MechInfo("OAUTHBEARER", _mech(_oauthbearer, _tell_oauthbearer, _INVALID_REQUEST), ("plaintext",))
XOAUTH2 = MechInfo("XOAUTH2", _mech(_xoauth2, _tell_xoauth2, _INVALID_TOKEN), ("plaintext",))
