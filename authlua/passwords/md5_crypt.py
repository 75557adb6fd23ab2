"""MD5-CRYPT, and MD5, which is either that or PLAIN-MD5.

Not left to crypt(3): Dovecot brings its own, which takes any salt and never fails.
"""

from hmac import compare_digest

from authlua.passwords.digests import md5
from authlua.passwords.encodings import from_base64, from_hex
from authlua.passwords.scheme import ALPHABET, Limits, MalformedHash, Scheme
from authlua.passwords.scheme import salt as new_salt

_ORDER = ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5))


def md5_crypt(password: bytes, salt: bytes) -> bytes:
    """``$1$salt$`` and 22 characters, by the method that Poul-Henning Kamp gave FreeBSD in 1994."""
    first = md5(password + salt + password).digest()
    text = password + b"$1$" + salt + (first * (len(password) // 16 + 1))[: len(password)]
    bits = len(password)
    while bits:
        text += b"\0" if bits & 1 else password[:1]
        bits >>= 1
    digest = md5(text).digest()
    for turn in range(1000):
        odd = turn & 1
        text = password if odd else digest
        if turn % 3:
            text += salt
        if turn % 7:
            text += password
        digest = md5(text + (digest if odd else password)).digest()
    written = b"".join(_digits(digest[a] << 16 | digest[b] << 8 | digest[c], 4) for a, b, c in _ORDER)
    return b"$1$" + salt + b"$" + written + _digits(digest[11], 2)


def _digits(value: int, count: int) -> bytes:
    return bytes(ALPHABET[value >> 6 * place & 63] for place in range(count))


def make(password: bytes, user: str, rounds: int) -> bytes:
    return md5_crypt(password, new_salt(8))


def check_md5_crypt(password: bytes, raw: bytes, user: str, limits: Limits) -> bool:
    if not raw.startswith(b"$1$"):
        return False
    return compare_digest(md5_crypt(password, raw[3:11].partition(b"$")[0]), raw)


def check_md5(password: bytes, raw: bytes, user: str, limits: Limits) -> bool:
    """Either kind of MD5 (``core:2.3.21.1:src/auth/password-scheme.c:md5_verify``)."""
    if raw.startswith(b"$1$"):
        return check_md5_crypt(password, raw, user, limits)
    digest = (from_hex(raw) if len(raw) == 32 else None) or from_base64(raw)
    if digest is None or len(digest) != 16:
        raise MalformedHash("Not a valid MD5-CRYPT or PLAIN-MD5 password")
    return compare_digest(md5(password).digest(), digest)


SCHEMES = (
    Scheme("MD5-CRYPT", make, check_md5_crypt, slow=True, weak=True),
    Scheme("MD5", make, check_md5, slow=True, weak=True, alias_of="MD5-CRYPT"),
)
