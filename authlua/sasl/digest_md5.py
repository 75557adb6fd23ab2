"""DIGEST-MD5, RFC 2831, in its first form: no subsequent authentication, no protection of what follows."""

import re
from binascii import b2a_base64
from collections.abc import Callable, Mapping
from hashlib import md5
from hmac import compare_digest

from authlua.results import PassdbResult
from authlua.sasl.wishes import (
    Challenge,
    LookupCredentials,
    Mech,
    MechInfo,
    Refused,
    SetRealm,
    SetUser,
    Succeeded,
    Terms,
    octets,
    text,
)
from authlua.secret import Secret

_QUOTED = re.compile(rb'(?:\\.|[^"])*', re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_BLANKS = b" \t\r\n"


def digest_md5(initial: Secret | None, terms: Terms) -> Mech:
    """A list of directives out, another in; an initial response is passed over.

    What is refused, and what is passed over, is as in Dovecot (``core:2.3.21.1:src/auth/mech-digest-md5.c``).
    """
    nonce = b2a_base64(terms.random(16), newline=False)
    realms = b"".join(b'realm="%b",' % realm.encode() for realm in terms.realms or ("",))
    challenge = b'%bnonce="%b",qop="auth",charset="utf-8",algorithm="md5-sess"' % (realms, nonce)
    response = _parse(octets((yield Challenge(challenge))), nonce)
    if isinstance(response, str):
        return Refused(response)
    name, realm = text(response["username"]), text(response.get("realm", b""))
    joined = bool(realm) and "@" not in name
    authzid = response.get("authzid")
    if not (yield SetUser(f"{name}@{realm}" if joined else name, None if authzid is None else text(authzid))):
        return PassdbResult.USER_UNKNOWN
    if realm:
        yield SetRealm(realm)
    stored = yield LookupCredentials("DIGEST-MD5", None if joined else realm)
    if isinstance(stored, PassdbResult):
        return stored
    if len(stored.reveal()) != 16:
        return Refused("invalid credentials length", level="error")
    if not compare_digest(kd(stored, response, b"AUTHENTICATE"), response["response"]):
        return Refused("Password mismatch")
    return Succeeded(b"rspauth=" + kd(stored, response, b""))


def kd(stored: Secret, response: Mapping[str, bytes], method: bytes) -> bytes:
    """``response-value`` of RFC 2831 section 2.1.2.1; with an empty *method* the one the server answers with."""
    start = [stored.reveal(), response["nonce"], response["cnonce"]]
    if "authzid" in response:
        start.append(response["authzid"])
    order = [_hex(start), *(response[key] for key in ("nonce", "nc", "cnonce", "qop"))]
    return _hex([*order, _hex([method, response.get("digest-uri", b"")])])


def _hex(parts: list[bytes]) -> bytes:
    return md5(b":".join(parts), usedforsecurity=False).hexdigest().encode()


def _number(value: bytes) -> int | None:
    return int(value[-20:]) if value.isdigit() else None


def _check_count(value: bytes) -> str:
    number = _number(value)
    if number is None:
        return "nonce-count value invalid"
    return "" if number == 1 else "re-auth not supported currently"


def _check_qop(value: bytes) -> str:
    if value.lower() not in (b"auth", b"auth-int", b"auth-conf"):
        return f"Unknown QoP value: {ascii(text(value[:32]))[1:-1]}"
    return "" if value.lower() == b"auth" else "Nonallowed QoP requested"


_CHECKS: Mapping[str, Callable[[bytes], str]] = {
    "username": lambda value: "" if value else "empty username",
    "cnonce": lambda value: "" if value else "cnonce can't contain empty value",
    "nc": _check_count,
    "qop": _check_qop,
    "digest-uri": lambda value: "" if b"/" in value else "Invalid digest-uri",
    "maxbuf": lambda value: "" if _number(value) else "Invalid maxbuf value",
    "charset": lambda value: "" if value.lower() == b"utf-8" else "Only utf-8 charset is allowed",
    "response": lambda value: "" if len(value) == 32 else "Invalid response value",
    "authzid": lambda value: "" if value else "empty authzid",
}
_ONCE = {
    "username": "username",
    "cnonce": "cnonce",
    "nc": "nonce-count",
    "maxbuf": "maxbuf",
    "authzid": "authzid",
}


def _parse(data: bytes, nonce: bytes) -> dict[str, bytes] | str:
    """The directives of a client's response, or what is wrong with it."""
    if not data:
        return "Client sent no input"
    found: dict[str, bytes] = {}
    for key, value in _pairs(data):
        if key == "realm":
            if value:
                found.setdefault(key, value)
            continue
        if key == "nonce" and value != nonce:
            return "Invalid nonce"
        if key in _ONCE and key in found:
            return f"{_ONCE[key]} must not exist more than once"
        problem = _CHECKS[key](value) if key in _CHECKS else ""
        if problem:
            return problem
        found[key] = value
    for key in ("nonce", "cnonce", "username"):
        if key not in found:
            return f"Missing {key} parameter"
    return {"nc": b"00000001", "qop": b"auth", "response": b"", **found}


def _pairs(data: bytes) -> list[tuple[str, bytes]]:
    """``key=value`` and ``key="value"``, between commas.

    Blanks before a quoted value are skipped, before another they belong to it; what has no ``=`` is passed over.
    """
    pairs = []
    at, end = 0, len(data)
    while at < end:
        comma, equals = data.find(b",", at), data.find(b"=", at)
        if equals < 0 or 0 <= comma < equals:
            at = comma + 1 or end
            continue
        key = data[at:equals].strip(_BLANKS).decode("latin-1").lower()
        start = end - len(data[equals + 1 :].lstrip(_BLANKS))
        quoted = _QUOTED.match(data, start + 1) if data[start : start + 1] == b'"' else None
        if quoted is None:
            at = (data.find(b",", start) + 1) or end + 1
            pairs.append((key, data[equals + 1 : at - 1].rstrip(_BLANKS)))
        else:
            at = quoted.end() + 1
            pairs.append((key, _ESCAPE.sub(rb"\1", quoted[0])))
    return pairs


DIGEST_MD5 = MechInfo("DIGEST-MD5", digest_md5, ("dictionary", "active", "mutual-auth"), looks_up=True)
