"""PBKDF2, in the format only Dovecot has: ``$1$salt$rounds$40 hex digits``."""

from hashlib import pbkdf2_hmac
from hmac import compare_digest

from authlua.passwords.encodings import from_hex, number
from authlua.passwords.scheme import Limits, MalformedHash, Scheme, check_cost, salt


def make(password: bytes, user: str, rounds: int) -> bytes:
    text, rounds = salt(16), rounds or 5000
    return b"$1$%b$%d$%b" % (text, rounds, pbkdf2_hmac("sha1", password, text, rounds).hex().encode())


def check(password: bytes, raw: bytes, user: str, limits: Limits) -> bool:
    """Source: ``core:2.3.21.1:src/auth/password-scheme-pbkdf2.c:pbkdf2_verify``.

    No rounds at all match nothing; Dovecot lets everybody in whose hash is then stored as zeros.
    """
    if not raw.startswith(b"$1$"):
        raise MalformedHash("Invalid PBKDF2 passdb entry prefix")
    fields = raw[3:].split(b"$")
    rounds = number(fields[1]) if len(fields) == 3 else None
    if rounds is None or rounds >= 1 << 32:
        raise MalformedHash("Invalid PBKDF2 passdb entry format")
    stored = from_hex(fields[2])
    if stored is None or len(stored) != 20:
        raise MalformedHash("PBKDF2 hash not 160bit hex-encoded")
    check_cost("a PBKDF2 round count", rounds, limits.pbkdf2_rounds, "pbkdf2_rounds")
    return rounds > 0 and compare_digest(pbkdf2_hmac("sha1", password, fields[0], rounds), stored)


SCHEMES = (Scheme("PBKDF2", make, check, slow=True),)
