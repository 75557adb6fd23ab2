"""BLF-CRYPT: bcrypt, of which Dovecot carries its own copy and so is stricter than crypt(3)."""

from hmac import compare_digest

from authlua.passwords.libcrypt import crypt
from authlua.passwords.scheme import ALPHABET, Limits, MalformedHash, Scheme, check_cost

_LONGEST = 72
"""Bytes of a password that bcrypt looks at; the rest is ignored, as everywhere."""


def make(password: bytes, user: str, rounds: int) -> bytes:
    """Cost 5 unless told otherwise, then 4 to 31; marked ``$2y`` as Dovecot does."""
    import bcrypt

    cost = min(max(rounds, 4), 31) if rounds else 5
    return b"$2y" + bcrypt.hashpw(password[:_LONGEST], bcrypt.gensalt(cost))[3:]


def check(password: bytes, raw: bytes, user: str, limits: Limits) -> bool:
    """Source: ``core:2.3.21.1:src/auth/password-scheme-crypt.c:crypt_verify_blowfish``, ``crypt-blowfish.c``."""
    if not raw:
        return False
    if len(raw) < 30 or not raw.startswith(b"$2") or not b"a" <= raw[2:3] <= b"z" or raw[3:4] != b"$":
        raise MalformedHash("Password is not blowfish password")
    setting, cost = raw[:29], int(raw[4:6]) if raw[4:6].isdigit() else 0
    # a pattern would cost more than all else around the hash itself
    if raw[2] not in b"abxy" or not 4 <= cost <= 31 or raw[6] != ord("$") or setting[7:].strip(ALPHABET):
        raise MalformedHash("crypt_blowfish_rn failed: Invalid argument")
    check_cost("a BLF-CRYPT cost", cost, limits.blf_crypt_cost, "blf_crypt_cost")
    if setting[28] not in b".Oeu":
        return False  # the last digit of a salt has four of its six bits unused; no result sets them
    password, variant = password[:_LONGEST], raw[2:3]
    if variant == b"x" or (variant == b"a" and not password.isascii()):
        # $2x repeats an old bug with bytes above 127, $2a has a guard against it: only Openwall's code knows both
        return compare_digest(crypt(password, setting), raw)
    import bcrypt

    made = bcrypt.hashpw(password, b"$2b" + setting[3:])
    return compare_digest(raw[:4] + made[4:], raw)


SCHEMES = (Scheme("BLF-CRYPT", make, check, slow=True, alias_of="CRYPT"),)
