"""Second factors: the one-time codes that apps and tokens show, and recovery codes for who has lost theirs.

HOTP counts (RFC 4226), TOTP counts time (RFC 6238). Nothing here remembers what was used; that takes a server.
Ten lines of HMAC are not worth a dependency, and those there are say only whether a code is right, not which step it is
of, without which nobody can tell that it comes a second time.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import quote, urlencode

ALGORITHMS = ("SHA1", "SHA256", "SHA512")

LEAST_SECRET = 10
"""Bytes; RFC 4226 asks for 16, and many services hand out 10."""

WIDEST = 100
"""Codes that may be right at once; each more makes guessing that much easier."""


class Codes(NamedTuple):
    """How the codes of a secret are made: as most apps assume, if nothing else is said."""

    secret: bytes
    digits: int = 6
    algorithm: str = "SHA1"

    def __repr__(self) -> str:
        return f"Codes(<hidden>, digits={self.digits}, algorithm={self.algorithm!r})"

    def at(self, count: int) -> str:
        """The code of number *count* (RFC 4226 section 5.3)."""
        digest = hmac.digest(self.secret, count.to_bytes(8, "big"), self.algorithm)
        at = digest[-1] & 15
        number = int.from_bytes(digest[at : at + 4], "big") & 0x7FFFFFFF
        return f"{number % 10**self.digits:0{self.digits}}"

    def find(self, code: str, counts: Iterable[int]) -> int | None:
        """Which of *counts* has the code *code*, the first if there are several; takes the same time for each."""
        given, found = code.encode("utf-8", "surrogateescape"), None
        for count in counts:
            same = hmac.compare_digest(self.at(count).encode(), given)
            found = count if same and found is None else found
        return found


def codes(secret: str, *, digits: int = 6, algorithm: str = "SHA1") -> Codes:
    """How codes of *secret*, a text in base32, are made; raises `ValueError`."""
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm: expected one of {', '.join(ALGORITHMS)}")
    if not 6 <= digits <= 10:
        raise ValueError("digits: expected 6 to 10")
    return Codes(read_secret(secret), digits, algorithm)


def make_secret(size: int = 20) -> str:
    """A fresh secret of so many bytes, in base32 (RFC 4226 section 4: 20 is what to take)."""
    if not 16 <= size <= 64:
        raise ValueError("a secret has 16 to 64 bytes")
    return base64.b32encode(secrets.token_bytes(size)).decode().rstrip("=")


def read_secret(text: str) -> bytes:
    """The bytes of a secret as people write it down: base32 in either case, in groups or not."""
    plain = text.replace(" ", "").replace("-", "").rstrip("=").upper()
    try:
        secret = base64.b32decode(plain + "=" * (-len(plain) % 8))
    except (binascii.Error, ValueError):
        raise ValueError("the secret is no base32") from None
    if len(secret) < LEAST_SECRET:
        raise ValueError(f"the secret has less than {LEAST_SECRET} bytes")
    return secret


def uri(
    secret: str, account: str, issuer: str = "", *, digits: int, algorithm: str, period: int, counter: int | None
) -> str:
    """What a QR code for an app says; with a *counter* HOTP, else TOTP.

    The format is Google Authenticator's key URI; some apps show the issuer of the label, some that of the query.
    """
    label = f"{quote(issuer)}:{quote(account)}" if issuer else quote(account)
    query = {
        "secret": base64.b32encode(read_secret(secret)).decode().rstrip("="),
        **({"issuer": issuer} if issuer else {}),
        "algorithm": algorithm,
        "digits": str(digits),
        **({"period": str(period)} if counter is None else {"counter": str(counter)}),
    }
    return f"otpauth://{'totp' if counter is None else 'hotp'}/{label}?{urlencode(query, quote_via=quote)}"


def split(password: str, *, digits: int = 6, separator: str = "") -> tuple[str, str] | None:
    """Password and code, where the code is typed behind the password with *separator* between; `None` if it is not."""
    head, code = password[:-digits], password[-digits:]
    if len(code) < digits or not (code.isascii() and code.isdecimal()) or not head.endswith(separator):
        return None
    return head[: len(head) - len(separator)], code


# -- recovery codes -----------------------------------------------------------------------------------------------

_GROUPS, _LETTERS = 4, 4
_DIGITS = "abcdefghijkmnpqrstuvwxyz23456789"
"""32 of them, without those that look alike."""


def make_recovery_codes(count: int = 10) -> list[str]:
    """So many fresh codes of 80 bits each, in groups that can be read out."""
    if not 1 <= count <= 100:
        raise ValueError("expected 1 to 100 recovery codes")
    return ["-".join(_letters() for _ in range(_GROUPS)) for _ in range(count)]


def _letters() -> str:
    return "".join(secrets.choice(_DIGITS) for _ in range(_LETTERS))


def hash_recovery_code(code: str) -> str:
    """What to store of *code*. It is long and random, so that a quick hash, and no salt, keeps it."""
    return hashlib.sha256(_plain(code)).hexdigest()


def find_recovery_code(code: str, stored: Sequence[str]) -> int | None:
    """At which place of *stored*, as `hash_recovery_code` made them, *code* is."""
    made, found = hash_recovery_code(code), None
    for place, one in enumerate(stored):
        same = hmac.compare_digest(made.encode(), one.encode("utf-8", "surrogateescape"))
        found = place if same and found is None else found
    return found


def _plain(code: str) -> bytes:
    """However it was typed."""
    kept = (letter for letter in code.lower() if letter not in " -")
    return "".join(kept).encode("utf-8", "surrogateescape")
