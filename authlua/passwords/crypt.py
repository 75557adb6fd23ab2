"""CRYPT, DES-CRYPT, SHA256-CRYPT and SHA512-CRYPT: what the system's crypt(3) knows."""

import re
from collections.abc import Callable
from hmac import compare_digest

from authlua.passwords import blowfish
from authlua.passwords.encodings import number
from authlua.passwords.libcrypt import crypt
from authlua.passwords.scheme import ALPHABET, Limits, Scheme, check_cost, salt


def check(password: bytes, raw: bytes, user: str, limits: Limits) -> bool:
    """The four schemes share it, so each of them takes any method crypt(3) knows.

    Source: ``core:2.3.21.1:src/auth/password-scheme-crypt.c:crypt_verify``.
    """
    if len(raw) > 4 and raw.startswith(b"$2") and raw[3:4] == b"$":
        return blowfish.check(password, raw, user, limits)
    raw = raw.partition(b"\0")[0]
    # libxcrypt says no with a result that begins with *
    if not raw or raw.startswith(b"*") or not _affordable(raw, limits):
        return False
    return compare_digest(crypt(password, raw), raw)


_OF_DEFAULT_ROUNDS = b"$5$", b"$6$"
_ROUNDS = rb"\$(?:[56]\$rounds=|md5,rounds=|sha1\$)([0-9]+)"


def _affordable(setting: bytes, limits: Limits) -> bool:
    """False: crypt(3) would refuse it too. Raises `MalformedHash` where it would not, but we do."""
    if setting[:3] in _OF_DEFAULT_ROUNDS and setting[3:10] != b"rounds=":
        return True  # what most are; quicker said than by a pattern
    if found := re.match(_ROUNDS, setting):
        rounds = number(found[1]) or 0
        if rounds > 999_999_999 and setting[2:3] == b"$":
            return False  # so says SHA-crypt's own specification
        check_cost("a round count for crypt()", rounds, limits.crypt_rounds, "crypt_rounds")
    elif setting.startswith(b"_"):
        # BSDi's DES: four digits, the lowest first
        rounds = sum(max(ALPHABET.find(digit), 0) << 6 * place for place, digit in enumerate(setting[1:5]))
        check_cost("a round count for crypt()", rounds, limits.crypt_rounds, "crypt_rounds")
    elif setting.startswith((b"$7$", b"$y$", b"$gy$")):
        cost = _memory_hard(setting)
        if cost is None:
            return False
        check_cost("a memory in bytes for crypt()", cost[0], limits.crypt_memory, "crypt_memory")
        check_cost("a memory times passes for crypt()", cost[0] * cost[1], limits.crypt_total, "crypt_total")
    return True


_ENDLESS = 1 << 64, 1


def _memory_hard(setting: bytes) -> tuple[int, int] | None:
    """Bytes that scrypt or yescrypt fill, and how often; `None` for a setting that is none.

    scrypt has a digit for log2 N, five for r and five for p. yescrypt has flavour, log2 N and r, a digit each for any
    sane value; then perhaps a digit that says what else follows: p, t, or what nobody uses.
    """
    digits = [ALPHABET.find(digit) for digit in setting.split(b"$", 3)[2][:11]]
    if len(digits) < 3 or min(digits) < 0:
        return None
    if setting[1:2] == b"7":
        blocks, times = (sum(digit << 6 * place for place, digit in enumerate(digits[at : at + 5])) for at in (1, 6))
        return blocks << (digits[0] + 7), max(times, 1)
    if max(digits) >= 48 or (len(digits) > 3 and digits[3] > 2):
        return _ENDLESS
    return (digits[2] + 1) << (digits[1] + 8), 2 + sum(digits[4:])


def weakness(raw: bytes) -> str | None:
    """The weak scheme a value of these four is really in, if any (``core:2.4.4:…/password-scheme-crypt.c``)."""
    if raw.startswith(b"$1"):
        return "MD5-CRYPT"
    return "DES-CRYPT" if len(raw) > 1 and raw[:1] != b"$" else None


def _make_sha2(method: bytes) -> Callable[[bytes, str, int], bytes]:
    def make(password: bytes, user: str, rounds: int) -> bytes:
        rounds = min(max(rounds, 1000), 999_999_999) if rounds else 5000
        cost = b"" if rounds == 5000 else b"rounds=%d$" % rounds
        return _made(password, b"$%b$%b%b" % (method, cost, salt(16)))

    return make


def _make_des(password: bytes, user: str, rounds: int) -> bytes:
    return _made(password, salt(2))


def _made(password: bytes, setting: bytes) -> bytes:
    result = crypt(password, setting)
    if result.startswith(b"*"):
        raise ValueError("crypt() takes no such password; libxcrypt's are no longer than 511 bytes")
    return result


SCHEMES = (
    Scheme("CRYPT", blowfish.make, check, slow=True),
    Scheme("DES-CRYPT", _make_des, check, slow=True, weak=True),
    Scheme("SHA256-CRYPT", _make_sha2(b"5"), check, slow=True),
    Scheme("SHA512-CRYPT", _make_sha2(b"6"), check, slow=True),
)
