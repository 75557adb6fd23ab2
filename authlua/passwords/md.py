"""MD4, and the inside of MD5: the two things hashlib does not give.

OpenSSL 3 keeps MD4 in a module that is rarely loaded, and CRAM-MD5 stores the state of MD5 in mid-computation.
"""

from math import sin
from struct import pack, unpack

_MASK = 0xFFFFFFFF
_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_SINES = tuple(int(abs(sin(step + 1)) * 2**32) for step in range(64))

State = tuple[int, int, int, int]


def _rotate(value: int, bits: int) -> int:
    value &= _MASK
    return (value << bits | value >> (32 - bits)) & _MASK


def _add(state: State, a: int, b: int, c: int, d: int) -> State:
    return (state[0] + a) & _MASK, (state[1] + b) & _MASK, (state[2] + c) & _MASK, (state[3] + d) & _MASK


def md5_block(block: bytes, state: State = _START) -> State:
    """The state of MD5 after one more *block* of 64 bytes (RFC 1321 section 3.4)."""
    words = unpack("<16I", block)
    a, b, c, d = state
    for step in range(64):
        if step < 16:
            mixed, word, shifts = (b & c) | (~b & d), step, (7, 12, 17, 22)
        elif step < 32:
            mixed, word, shifts = (d & b) | (~d & c), 5 * step + 1, (5, 9, 14, 20)
        elif step < 48:
            mixed, word, shifts = b ^ c ^ d, 3 * step + 5, (4, 11, 16, 23)
        else:
            mixed, word, shifts = c ^ (b | (~d & _MASK)), 7 * step, (6, 10, 15, 21)
        total = a + mixed + words[word % 16] + _SINES[step]
        a, d, c, b = d, c, b, (b + _rotate(total, shifts[step % 4])) & _MASK
    return _add(state, a, b, c, d)


def md4(data: bytes) -> bytes:
    """The MD4 digest of *data* (RFC 1320)."""
    padded = data + b"\x80" + bytes(-(len(data) + 9) % 64) + pack("<Q", len(data) * 8)
    state: State = _START
    for start in range(0, len(padded), 64):
        state = _md4_block(padded[start : start + 64], state)
    return pack("<4I", *state)


def _md4_block(block: bytes, state: State) -> State:
    words = unpack("<16I", block)
    a, b, c, d = state
    for step in range(48):
        column, row = divmod(step % 16, 4)
        if step < 16:
            mixed, word, shifts, constant = (b & c) | (~b & d), step, (3, 7, 11, 19), 0
        elif step < 32:
            mixed, word, shifts, constant = (b & c) | (b & d) | (c & d), 4 * row + column, (3, 5, 9, 13), 0x5A827999
        else:
            # columns and rows counted with their two bits swapped: 0 2 1 3
            word = 4 * (0, 2, 1, 3)[row] + (0, 2, 1, 3)[column]
            mixed, shifts, constant = b ^ c ^ d, (3, 9, 11, 15), 0x6ED9EBA1
        a, d, c, b = d, c, b, _rotate(a + mixed + words[word] + constant, shifts[step % 4])
    return _add(state, a, b, c, d)
