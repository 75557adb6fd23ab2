"""OTP (RFC 2289, RFC 2444): ``algorithm sequence seed hash``, the state of a chain of one-time passwords."""

import re
from hmac import compare_digest
from os import urandom
from struct import pack, unpack
from typing import NamedTuple

from authlua.passwords.digests import md5, sha1
from authlua.passwords.md import md4
from authlua.passwords.scheme import Limits, MalformedHash, Scheme, check_cost

_ENTRY = (
    rb"(md4|md5|sha1)[ \t]"  # what follows the sixteenth digit is read past, and then fails to compare
    rb"(-?[0-9]+)[ \t]"
    rb"([A-Za-z0-9]{0,16}) "
    rb"((?:[ \t]*[0-9A-Fa-f]){16})"
)


def fold(algorithm: str, data: bytes) -> bytes:
    """The 64 bits an OTP digest of *data* is folded to (RFC 2289 appendix A)."""
    if algorithm == "sha1":
        a, b, c, d, e = unpack(">5I", sha1(data).digest())
        return pack("<2I", a ^ c ^ e, b ^ d)
    first, second = unpack("<2Q", md4(data) if algorithm == "md4" else md5(data).digest())
    return pack("<Q", first ^ second)


def entry(algorithm: str, sequence: int, seed: bytes, password: bytes) -> bytes:
    """The stored form after *sequence* steps down the chain (RFC 2289 section 6)."""
    seed = seed.lower()
    value = fold(algorithm, seed + password)
    for _ in range(sequence):
        value = fold(algorithm, value)
    return b"%b %d %b %b" % (algorithm.encode(), sequence, seed, value.hex().encode())


class OtpState(NamedTuple):
    """Where a chain stands: *value* is the hash after *sequence* steps."""

    algorithm: str
    sequence: int
    seed: str
    value: bytes

    def entry(self) -> bytes:
        """The stored form."""
        return f"{self.algorithm} {self.sequence} {self.seed} {self.value.hex()}".encode()

    def __repr__(self) -> str:
        return f"OtpState({self.algorithm} {self.sequence} {self.seed}, <hidden>)"


def otp_state(raw: bytes) -> OtpState:
    """The state behind the stored form *raw*; raises `MalformedHash`."""
    found = re.match(_ENTRY, raw)
    sequence = int(found[2][:12]) if found else 0
    if found is None or not -(1 << 31) <= sequence < 1 << 31:
        raise MalformedHash("Invalid OTP data in passdb")
    value = bytes.fromhex(found[4].translate(None, b" \t").decode())
    return OtpState(found[1].decode(), sequence, found[3].decode().lower(), value)


def make(password: bytes, user: str, rounds: int) -> bytes:
    return entry("sha1", 1024, urandom(8).hex().encode(), password)


def check(password: bytes, raw: bytes, user: str, limits: Limits) -> bool:
    """Whether *password* is the secret behind the chain (``core:2.3.21.1:src/auth/password-scheme-otp.c:otp_verify``).

    Made again and compared as text, so a number with leading zeros or a trailing blank is a mismatch.
    """
    state = otp_state(raw)
    check_cost("an OTP sequence number", state.sequence, limits.otp_sequence, "otp_sequence")
    made = entry(state.algorithm, state.sequence, state.seed.encode(), password)
    return state.sequence >= 0 and compare_digest(made, raw.lower())


SCHEMES = (Scheme("OTP", make, check, slow=True),)
