"""Plain and salted digests of the password, and those CRAM-MD5 and DIGEST-MD5 live on."""

from collections.abc import Callable
from functools import partial
from hashlib import md5 as _md5
from hashlib import sha1 as _sha1
from hashlib import sha256, sha512
from hmac import compare_digest
from os import urandom
from struct import pack

from authlua.passwords.encodings import octets
from authlua.passwords.md import md4, md5_block
from authlua.passwords.scheme import Check, Limits, Make, MalformedHash, Scheme

md5 = partial(_md5, usedforsecurity=False)  # the admin has chosen already; say so to a FIPS build
sha1 = partial(_sha1, usedforsecurity=False)


def _unsalted(digest: Callable[[bytes], bytes]) -> Make:
    return lambda password, user, rounds: digest(password)


def _salted(digest: Callable[[bytes], bytes]) -> Make:
    def make(password: bytes, user: str, rounds: int) -> bytes:
        salt = urandom(4)
        return digest(password + salt) + salt

    return make


def _check_salted(name: str, digest: Callable[[bytes], bytes], size: int) -> Check:
    """The digest stands first, all behind it is the salt (``core:2.3.21.1:src/auth/password-scheme.c:ssha_verify``)."""

    def check(password: bytes, raw: bytes, user: str, limits: Limits) -> bool:
        if len(raw) <= size:
            raise MalformedHash(f"{name} password is too short")
        return compare_digest(digest(password + raw[size:]), raw[:size])

    return check


def cram_md5(password: bytes, user: str, rounds: int) -> bytes:
    """The 32 bytes from which HMAC-MD5 under the key *password* can be finished: outer state, inner state."""
    key = md5(password).digest() if len(password) > 64 else password
    outer, inner = (bytes(byte ^ pad for byte in key.ljust(64, b"\0")) for pad in (0x5C, 0x36))
    return pack("<8I", *md5_block(outer), *md5_block(inner))


def digest_md5(password: bytes, user: str, rounds: int) -> bytes:
    """MD5 of ``user:realm:password``, the realm being what follows the last ``@`` (RFC 2831 section 2.1.2.1)."""
    name, at, realm = user.rpartition("@")
    who = f"{name}:{realm}:" if at else f"{user}::"
    return md5(octets(who) + password).digest()


_md4_make = _unsalted(md4)
_md5_make = _unsalted(lambda data: md5(data).digest())
_sha1_make = _unsalted(lambda data: sha1(data).digest())
_sha256_make = _unsalted(lambda data: sha256(data).digest())
_sha512_make = _unsalted(lambda data: sha512(data).digest())


def _salted_scheme(name: str, digest: Callable[[bytes], bytes], size: int, weak: bool = False) -> Scheme:
    return Scheme(name, _salted(digest), _check_salted(name, digest, size), "B64", weak=weak)


SCHEMES = (
    Scheme("SHA1", _sha1_make, None, "B64", 20),
    Scheme("SHA", _sha1_make, None, "B64", 20, alias_of="SHA1"),
    Scheme("SHA256", _sha256_make, None, "B64", 32),
    Scheme("SHA512", _sha512_make, None, "B64", 64),
    _salted_scheme("SSHA", lambda data: sha1(data).digest(), 20),
    _salted_scheme("SSHA256", lambda data: sha256(data).digest(), 32),
    _salted_scheme("SSHA512", lambda data: sha512(data).digest(), 64),
    _salted_scheme("SMD5", lambda data: md5(data).digest(), 16, weak=True),
    Scheme("PLAIN-MD4", _md4_make, None, "HEX", 16, weak=True),
    Scheme("PLAIN-MD5", _md5_make, None, "HEX", 16, weak=True),
    Scheme("LDAP-MD5", _md5_make, None, "B64", 16, weak=True, alias_of="PLAIN-MD5"),
    Scheme("CRAM-MD5", cram_md5, None, "HEX", 32),
    Scheme("HMAC-MD5", cram_md5, None, "HEX", 32, weak=True, alias_of="CRAM-MD5"),
    Scheme("DIGEST-MD5", digest_md5, None, "HEX", 16),
)
