"""Hashes and binary-to-text codes as ``var_expand`` knows them, bytes to bytes."""

import binascii
import hashlib
import re
import struct
from collections.abc import Callable

from authlua.variables.template import ExpansionError

LONGEST = 1 << 20
"""Bytes a value may be padded to; Dovecot knows no limit but its memory."""


def _hashlib(name: str) -> Callable[[bytes], bytes]:
    return lambda data: hashlib.new(name, data, usedforsecurity=False).digest()


def md4(data: bytes) -> bytes:
    """RFC 1320, here because OpenSSL 3 keeps it locked away."""
    length = struct.pack("<Q", 8 * len(data) & 0xFFFFFFFFFFFFFFFF)
    data = data + b"\x80" + bytes(-(len(data) + 9) % 64) + length
    state = [0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476]
    for start in range(0, len(data), 64):
        words = struct.unpack_from("<16I", data, start)
        a, b, c, d = state
        for step in range(48):
            turn, place = divmod(step, 16)
            if turn == 0:
                mixed, word, shift = b & c | ~b & d, place, (3, 7, 11, 19)[place % 4]
            elif turn == 1:
                mixed, word, shift = b & c | b & d | c & d, place % 4 * 4 + place // 4, (3, 5, 9, 13)[place % 4]
            else:
                mixed, word, shift = b ^ c ^ d, int(f"{place:04b}"[::-1], 2), (3, 9, 11, 15)[place % 4]
            sum_ = (a + mixed + words[word] + (0, 0x5A827999, 0x6ED9EBA1)[turn]) & 0xFFFFFFFF
            a, b, c, d = d, (sum_ << shift | sum_ >> (32 - shift)) & 0xFFFFFFFF, b, c
        state = [(old + new) & 0xFFFFFFFF for old, new in zip(state, (a, b, c, d), strict=True)]
    return struct.pack("<4I", *state)


ALGORITHMS: dict[bytes, Callable[[bytes], bytes]] = {
    b"md4": md4,
    b"md5": _hashlib("md5"),
    b"sha1": _hashlib("sha1"),
    b"sha256": _hashlib("sha256"),
    b"sha384": _hashlib("sha384"),
    b"sha512": _hashlib("sha512"),
    b"sha3-256": _hashlib("sha3_256"),
    b"sha3-512": _hashlib("sha3_512"),
    b"size": lambda data: len(data).to_bytes(8, "big"),
}
"""By Dovecot's names (``core:2.3.21.1:src/lib/hash-method.c``)."""


def repeat(digest: Callable[[bytes], bytes], value: bytes, salt: bytes, rounds: int) -> bytes:
    """Hash *rounds* times, the salt in front each time."""
    for _ in range(rounds):
        value = digest(salt + value)
    return value


def str_hash(value: bytes) -> int:
    """The 32-bit hash behind modifier ``H``: PJW's, 28 bits kept clear (``core:2.3.21.1:src/lib/hash.c``)."""
    result = 0
    for byte in value:
        result = (result << 4) + byte & 0xFFFFFFFF
        high = result & 0xF0000000
        result ^= high >> 24 ^ high
    return result


def first_bits(value: bytes, bits: int) -> bytes:
    """The first *bits* bits as a number in as few bytes as hold them; all of a shorter value."""
    if bits > 8 * len(value):
        return value
    size = (bits + 7) // 8
    return (int.from_bytes(value[:size], "big") >> (8 * size - bits)).to_bytes(size, "big")


def pad(value: bytes, width: int, filler: bytes, *, left: bool) -> bytes:
    """Put *filler* before or behind, whole and repeatedly, until there are *width* bytes or more."""
    missing = width - len(value)
    if missing <= 0:
        return value
    if width > LONGEST:
        raise ExpansionError("Excessive padding")
    if not filler:
        raise ExpansionError("Empty filler")
    filling = filler * -(-missing // len(filler))
    return filling + value if left else value + filling


def from_hex(text: bytes) -> tuple[bytes, bool]:
    """Decode as many pairs of hex digits as there are; and whether that was all of *text*."""
    digits = re.match(rb"(?:[0-9A-Fa-f]{2})*", text)
    assert digits is not None  # it matches the empty string too
    return binascii.unhexlify(digits[0]), digits.end() == len(text)


def to_base64(data: bytes, *, padded: bool = True, url: bool = False) -> bytes:
    """RFC 4648 base64, on one line."""
    text = binascii.b2a_base64(data, newline=False)
    if url:
        text = text.translate(bytes.maketrans(b"+/", b"-_"))
    return text if padded else text.rstrip(b"=")


def from_base64(text: bytes, *, url: bool = False) -> bytes:
    """Decode up to the first thing that is not base64; blanks and missing padding do not matter."""
    if url:
        text = text.translate(bytes.maketrans(b"-_+/", b"+/\xff\xff"))
    digits = re.match(rb"[A-Za-z0-9+/]*", re.sub(rb"[ \t\r\n]", b"", text))
    assert digits is not None
    whole = digits[0][: -1 if digits.end() % 4 == 1 else None]
    return binascii.a2b_base64(whole + b"=" * (-len(whole) % 4))
