"""SCRAM, RFC 5802, with SHA-1 and (RFC 7677) SHA-256; alone or bound to the TLS channel, under one name or the other.

A client that binds says so in its first message, whichever name it chose (``-PLUS`` or not); that is allowed when the
server offers the ``-PLUS`` name at all (``core:2.4.1:src/lib-auth/auth-scram-server.c``). SASLprep is never applied.
"""

from binascii import b2a_base64
from collections.abc import Callable
from hashlib import new
from hmac import compare_digest, digest
from typing import NamedTuple

from authlua.passwords import MalformedHash, ScramKeys, from_base64, scram_keys
from authlua.results import PassdbResult
from authlua.sasl.wishes import (
    Challenge,
    ChannelBinding,
    LookupCredentials,
    Mech,
    MechInfo,
    Refused,
    SetUser,
    Succeeded,
    Terms,
    octets,
    text,
)
from authlua.secret import Secret


class _First(NamedTuple):
    """The client's first message (RFC 5802 section 7)."""

    header: bytes
    """The GS2 header with both its commas."""
    binding: str
    """The kind of channel binding; empty without one."""
    authzid: bytes | None
    user: bytes
    nonce: bytes
    bare: bytes
    """All behind the header."""


def unescape(name: bytes) -> bytes | None:
    """A ``saslname`` with its ``=2C`` and ``=3D`` turned back; `None` when it has any other ``=``."""
    head, *tails = name.split(b"=")
    parts = [head]
    for tail in tails:
        character = {b"2C": b",", b"3D": b"="}.get(tail[:2])
        if character is None:
            return None
        parts += [character, tail[2:]]
    return b"".join(parts)


def _first(message: bytes, scheme: str, terms: Terms) -> _First | str:
    """The client's first message, or what is wrong with it."""
    flag, comma, rest = message.partition(b",")
    if not comma:
        return "Invalid initial client message: Missing first ',' in GS2 header"
    authzid, comma, bare = rest.partition(b",")
    if not comma:
        return "Invalid initial client message: Missing second ',' in GS2 header"
    fields = bare.split(b",")
    if len(fields) < 2:
        return "Invalid initial client message: Missing nonce field"
    problem = _flag_problem(flag, scheme, terms)
    if problem:
        return problem
    target = None
    if authzid:
        if not authzid.startswith(b"a="):
            return "Invalid authzid field"
        target = unescape(authzid[2:])
        if target is None:
            return "authzid escaping is invalid"
    if fields[0].startswith(b"m"):
        return "Mandatory extension(s) not supported"
    if not fields[0].startswith(b"n="):
        return "Invalid username field"
    user = unescape(fields[0][2:])
    if user is None:
        return "Username escaping is invalid"
    if not fields[1].startswith(b"r="):
        return "Invalid client nonce"
    header = message[: len(message) - len(bare)]
    return _First(header, text(flag[2:]) if flag[:1] == b"p" else "", target, user, fields[1][2:], bare)


def _flag_problem(flag: bytes, scheme: str, terms: Terms) -> str:
    """What is wrong with the client's word on channel binding; of ``y`` and ``n`` only the first letter counts."""
    offered = f"{scheme}-PLUS" in terms.enabled
    match flag[:1]:
        case b"p":
            if flag[1:2] != b"=" or len(flag) < 3:
                return "Invalid GS2 header"
            return "" if offered else "Channel binding not supported"
        case b"y":
            return "Potential downgrade attack detected" if offered else ""
        case b"n":
            return "Channel binding required" if offered and scheme not in terms.enabled else ""
        case _:
            return "Invalid GS2 header"


def _mech(scheme: str, algorithm: str) -> Callable[[Secret | None, Terms], Mech]:
    def scram(initial: Secret | None, terms: Terms) -> Mech:
        """Two messages each way; the last of them proves the server's knowledge and comes with the success."""
        first = _first(octets((yield Challenge(b"")) if initial is None else initial), scheme, terms)
        if isinstance(first, str):
            return Refused(first)
        if not (yield SetUser(text(first.user), None if first.authzid is None else text(first.authzid))):
            return PassdbResult.USER_UNKNOWN
        stored = yield LookupCredentials(scheme)
        if isinstance(stored, PassdbResult):
            return stored
        try:
            keys = scram_keys(scheme, stored.reveal())
        except MalformedHash as error:
            return Refused(str(error))
        nonce = first.nonce + _nonce(terms)
        answer = b"r=%b,s=%b,i=%d" % (nonce, keys.salt, keys.iterations)
        final = octets((yield Challenge(answer, first.binding)))
        bound: bytes | None = b""
        if first.binding:
            bound = yield ChannelBinding()
        return _verdict(algorithm, keys, first, final, nonce, answer, bound)

    return scram


def _nonce(terms: Terms) -> bytes:
    """64 printable characters without a comma."""
    return bytes(byte % 93 + 33 for byte in terms.random(64)).replace(b",", b"~")


def _verdict(
    algorithm: str, keys: ScramKeys, first: _First, final: bytes, nonce: bytes, answer: bytes, bound: bytes | None
) -> Succeeded | Refused:
    """RFC 5802 sections 3 and 7: is the client's last message one that only the owner of the password could write?"""
    fields = final.split(b",")
    if len(fields) < 3:
        return Refused("Invalid final client message")
    if bound is None:
        return Refused("Channel binding failed")
    if not compare_digest(fields[0], b"c=" + b2a_base64(first.header + bound, newline=False)):
        return Refused("Invalid channel binding data")
    if not compare_digest(fields[1], b"r=" + nonce):
        return Refused("Wrong nonce")
    if not fields[-1].startswith(b"p"):
        return Refused("Invalid ClientProof")
    proof = from_base64(fields[-1][2:])
    if proof is None:
        return Refused("Invalid base64 encoding")
    if len(proof) != len(keys.stored):
        return Refused("Invalid ClientProof length")
    message = b",".join([first.bare, answer, *fields[:-1]])
    signature = digest(keys.stored, message, algorithm)
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    if not compare_digest(new(algorithm, client_key).digest(), keys.stored):
        return Refused("Password mismatch")
    return Succeeded(b"v=" + b2a_base64(digest(keys.server, message, algorithm), newline=False))


def _pair(scheme: str, algorithm: str) -> tuple[MechInfo, MechInfo]:
    start = _mech(scheme, algorithm)
    return (
        MechInfo(scheme, start, ("mutual-auth",), looks_up=True),
        MechInfo(f"{scheme}-PLUS", start, ("mutual-auth", "channel-binding"), looks_up=True),
    )


SCRAM_SHA_1, SCRAM_SHA_1_PLUS = _pair("SCRAM-SHA-1", "sha1")
SCRAM_SHA_256, SCRAM_SHA_256_PLUS = _pair("SCRAM-SHA-256", "sha256")
