"""The client's side of the mechanisms that take a password or a token, to try them by hand."""

import re
from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Callable, Generator, Mapping
from hashlib import md5, new, pbkdf2_hmac
from hmac import compare_digest, digest
from os import urandom
from typing import NamedTuple

from authlua.errors import AuthluaError

Client = Generator[bytes | None, bytes, None]
"""Yields the initial response (`None`: there is none), is sent each challenge, and yields the answer."""


class ProofError(AuthluaError):
    """The server let us in, and did not prove that it knows the password."""


class Identity(NamedTuple):
    """Who logs in, with what, and as whom (empty: as themselves)."""

    user: bytes
    password: bytes
    target: bytes = b""
    service: bytes = b"imap"

    def __repr__(self) -> str:
        return f"Identity({self.user!r}, <hidden>)"


def plain(who: Identity) -> Client:
    """RFC 4616."""
    yield b"%b\0%b\0%b" % (who.target, who.user, who.password)


def login(who: Identity) -> Client:
    """Two questions, two answers."""
    yield None
    yield who.user
    yield who.password


def cram_md5(who: Identity) -> Client:
    """RFC 2195."""
    challenge = yield None
    yield who.user + b" " + digest(who.password, challenge, "md5").hex().encode()


def digest_md5(who: Identity) -> Client:
    """RFC 2831; the realm is what follows the name's last ``@``."""
    challenge = yield None
    nonce = _directives(challenge).get(b"nonce", b"")
    cnonce = urandom(12).hex().encode()
    name, _, realm = who.user.rpartition(b"@") if b"@" in who.user else (who.user, b"", b"")
    uri = who.service + b"/localhost"
    start = [_md5(b":".join([name, realm, who.password])), nonce, cnonce]
    if who.target:
        start.append(who.target)

    def proof(method: bytes) -> bytes:
        parts = [_hex(b":".join(start)), nonce, b"00000001", cnonce, b"auth", _hex(method + b":" + uri)]
        return _hex(b":".join(parts))

    answer = b'username="%b",realm="%b",nonce="%b",cnonce="%b",nc=00000001,qop=auth,digest-uri="%b",response=%b'
    answer %= _quoted(name), _quoted(realm), nonce, cnonce, uri, proof(b"AUTHENTICATE")
    answer += b",charset=utf-8"
    if who.target:
        answer += b',authzid="%b"' % _quoted(who.target)
    verdict = yield answer
    if not compare_digest(verdict, b"rspauth=" + proof(b"")):
        raise ProofError("the server does not prove that it knows the password: its rspauth is wrong")
    yield b""


def _directives(challenge: bytes) -> dict[bytes, bytes]:
    pairs = [part.partition(b"=") for part in challenge.split(b",")]
    return {name: value.strip(b'"') for name, _, value in pairs}


def _quoted(text: bytes) -> bytes:
    return text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def _md5(data: bytes) -> bytes:
    return md5(data, usedforsecurity=False).digest()


def _hex(data: bytes) -> bytes:
    return _md5(data).hex().encode()


def _scram(algorithm: str) -> Callable[[Identity], Client]:
    def scram(who: Identity) -> Client:
        """RFC 5802, without channel binding."""
        header = b"n,%b," % (b"a=" + _saslname(who.target) if who.target else b"")
        nonce = urandom(18).hex().encode()
        bare = b"n=%b,r=%b" % (_saslname(who.user), nonce)
        challenge = yield header + bare
        fields = dict(field.split(b"=", 1) for field in challenge.split(b",") if b"=" in field)
        try:
            salt, iterations = a2b_base64(fields[b"s"]), int(fields[b"i"])
        except (KeyError, ValueError, Error):
            raise AuthluaError(f"the server's challenge is not SCRAM's: {challenge!a}") from None
        if not fields.get(b"r", b"").startswith(nonce) or not 0 < iterations < 10_000_000:
            raise AuthluaError("the server's challenge is not an answer to our message")
        final = b"c=%b,r=%b" % (b2a_base64(header, newline=False), fields[b"r"])
        message = b",".join([bare, challenge, final])
        salted = pbkdf2_hmac(algorithm, who.password, salt, iterations)
        client_key = digest(salted, b"Client Key", algorithm)
        signature = digest(new(algorithm, client_key).digest(), message, algorithm)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        verdict = yield final + b",p=" + b2a_base64(proof, newline=False)
        server_key = digest(salted, b"Server Key", algorithm)
        if not compare_digest(verdict, b"v=" + b2a_base64(digest(server_key, message, algorithm), newline=False)):
            raise ProofError("the server does not prove that it knows the password: its signature is wrong")
        yield b""

    return scram


def _saslname(name: bytes) -> bytes:
    return name.replace(b"=", b"=3D").replace(b",", b"=2C")


def external(who: Identity) -> Client:
    """RFC 4422; the certificate's name comes as a parameter, ``-x cert_username=NAME``."""
    yield who.target


def anonymous(who: Identity) -> Client:
    """RFC 4505; the name is left as the trace."""
    yield who.user


def oauthbearer(who: Identity) -> Client:
    """RFC 7628; the password is the token."""
    yield b"n,a=%b,\1auth=Bearer %b\1\1" % (_saslname(who.user), who.password)
    yield b"\1"


def otp(who: Identity) -> Client:
    """RFC 2444 and 2289; the password is the pass phrase, and each login uses one step of its chain up."""
    from authlua.passwords import otp_fold

    challenge = yield b"%b\0%b" % (who.target, who.user)
    found = re.match(rb"otp-(md4|md5|sha1) ([0-9]{1,6}) ([A-Za-z0-9]{1,16}) ", challenge + b" ")
    if found is None:
        raise AuthluaError(f"the server's challenge is not OTP's: {challenge!a}")
    algorithm = found[1].decode()
    value = otp_fold(algorithm, found[3].lower() + who.password)
    for _ in range(int(found[2])):
        value = otp_fold(algorithm, value)
    yield b"hex:" + value.hex().encode()


def xoauth2(who: Identity) -> Client:
    """The password is the token."""
    yield b"user=%b\1auth=Bearer %b\1\1" % (who.user, who.password)
    yield b""


CLIENTS: Mapping[str, Callable[[Identity], Client]] = {
    "PLAIN": plain,
    "LOGIN": login,
    "CRAM-MD5": cram_md5,
    "DIGEST-MD5": digest_md5,
    "SCRAM-SHA-1": _scram("sha1"),
    "SCRAM-SHA-256": _scram("sha256"),
    "EXTERNAL": external,
    "ANONYMOUS": anonymous,
    "OAUTHBEARER": oauthbearer,
    "XOAUTH2": xoauth2,
    "OTP": otp,
}
"""What each mech's client does, by name."""

WITH_TARGET = ("PLAIN", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "EXTERNAL")
"""Those that can name another user to become."""
