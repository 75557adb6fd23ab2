"""SCRAM-SHA-1 and SCRAM-SHA-256 (RFC 5802, RFC 7677): ``iterations,salt,StoredKey,ServerKey``."""

import hmac
from binascii import b2a_base64
from hashlib import new, pbkdf2_hmac
from os import urandom
from typing import NamedTuple

from authlua.passwords.encodings import base64_beginning, from_base64, number
from authlua.passwords.scheme import Check, Limits, Make, MalformedHash, Scheme, check_cost

_LEAST, _MOST = 4096, 0x7FFFFFFF


def _keys(name: str, password: bytes, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    """StoredKey and ServerKey (RFC 5802 section 3)."""
    salted = pbkdf2_hmac(name, password, salt, iterations)
    stored = new(name, hmac.digest(salted, b"Client Key", name)).digest()
    return stored, hmac.digest(salted, b"Server Key", name)


def _make(name: str) -> Make:
    def make(password: bytes, user: str, rounds: int) -> bytes:
        salt, iterations = urandom(16), max(rounds, _LEAST)
        parts = (salt, *_keys(name, password, salt, iterations))
        return b",".join([b"%d" % iterations, *(b2a_base64(part, newline=False) for part in parts)])

    return make


class ScramKeys(NamedTuple):
    """What a server keeps of a password (RFC 5802 section 3)."""

    iterations: int
    salt: bytes
    """In base64, as stored."""
    stored: bytes
    server: bytes

    def __repr__(self) -> str:
        return f"ScramKeys(iterations={self.iterations}, <hidden>)"


def scram_keys(scheme: str, raw: bytes) -> ScramKeys:
    """The keys behind credentials of *scheme*; raises `MalformedHash`.

    Source: ``core:2.3.21.1:src/auth/password-scheme-scram.c:scram_scheme_parse``.
    """
    fields = raw.split(b",")
    if len(fields) != 4:
        raise MalformedHash(f"Invalid {scheme} passdb entry format")
    iterations = number(fields[0])
    if iterations is None or not _LEAST <= iterations <= _MOST:
        raise MalformedHash(f"Invalid {scheme} iteration count in passdb")
    size = new(_ALGORITHMS[scheme]).digest_size
    stored, server = from_base64(fields[2]), from_base64(fields[3])
    if stored is None or len(stored) != size:
        raise MalformedHash(f"Invalid {scheme} StoredKey in passdb")
    if server is None or len(server) != size:
        raise MalformedHash(f"Invalid {scheme} ServerKey in passdb")
    return ScramKeys(iterations, fields[1], stored, server)


def _check(scheme: str) -> Check:
    def check(password: bytes, raw: bytes, user: str, limits: Limits) -> bool:
        keys = scram_keys(scheme, raw)
        check_cost(f"a {scheme} iteration count", keys.iterations, limits.scram_iterations, "scram_iterations")
        salt = base64_beginning(keys.salt)
        return hmac.compare_digest(_keys(_ALGORITHMS[scheme], password, salt, keys.iterations)[0], keys.stored)

    return check


_ALGORITHMS = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}

SCHEMES = tuple(Scheme(scheme, _make(name), _check(scheme), slow=True) for scheme, name in _ALGORITHMS.items())
