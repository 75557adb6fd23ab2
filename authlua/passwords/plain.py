"""PLAIN and PLAIN-TRUNC: the password itself."""

from hmac import compare_digest

from authlua.passwords.scheme import Limits, MalformedHash, Scheme


def plain(password: bytes, user: str, rounds: int) -> bytes:
    return password


def make_truncated(password: bytes, user: str, rounds: int) -> bytes:
    """One more than its length in front says that nothing was cut off, so exactly this password will do.

    ``doveadm pw`` leaves the length out and so writes what nobody can log in with.
    """
    return b"%d-%b" % (len(password) + 1, password)


def check_truncated(password: bytes, raw: bytes, user: str, limits: Limits) -> bool:
    """A password as long as the column that holds it may have been cut there: then its beginning is enough.

    Source: ``core:2.3.21.1:src/auth/password-scheme.c:plain_trunc_verify``. A stored ``0-`` lets everybody in.
    """
    digits, dash, stored = raw.partition(b"-")
    if not dash or digits.strip(b"0123456789"):
        raise MalformedHash("PLAIN-TRUNC missing length: prefix")
    length = 0
    for digit in digits:
        length = (length * 10 + digit - 48) % (1 << 64)  # a size_t, as there
    if len(stored) == length:
        password = password[: len(stored)]
    return compare_digest(password, stored)


SCHEMES = (
    Scheme("PLAIN", plain),
    Scheme("CLEAR", plain, alias_of="PLAIN"),
    Scheme("CLEARTEXT", plain, alias_of="PLAIN"),
    Scheme("PLAIN-TRUNC", make_truncated, check_truncated, alias_of="PLAIN"),
)
