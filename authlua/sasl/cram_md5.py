"""CRAM-MD5, RFC 2195."""

from hmac import compare_digest
from struct import pack, unpack

from authlua.passwords import md5_block
from authlua.results import PassdbResult
from authlua.sasl.wishes import Challenge, LookupCredentials, Mech, MechInfo, Refused, SetUser, Terms, octets, text
from authlua.secret import Secret


def cram_md5(initial: Secret | None, terms: Terms) -> Mech:
    """A challenge, then ``user SP digest``; an initial response is passed over.

    As in Dovecot up to 2.4.3, only the first 32 characters of the digest count, and only in lower case
    (``core:2.3.21.1:src/auth/mech-cram-md5.c``).
    """
    digits = "".join(str(byte % 10) for byte in terms.random(16))
    challenge = f"<{digits}.{int(terms.clock())}@{terms.hostname}>".encode()
    user, _, digest = octets((yield Challenge(challenge))).rpartition(b" ")
    if not user:
        return Refused("missing digest")
    if not (yield SetUser(text(user))):
        return PassdbResult.USER_UNKNOWN
    stored = yield LookupCredentials("CRAM-MD5")
    if isinstance(stored, PassdbResult):
        return stored
    if len(stored.reveal()) != 32:
        return Refused("invalid credentials length", level="error")
    if not compare_digest(hmac_md5(stored.reveal(), challenge), digest[:32]):
        return Refused("Password mismatch")
    return PassdbResult.OK


def hmac_md5(stored: bytes, message: bytes) -> bytes:
    """HMAC-MD5 of *message* in hex, begun from its two stored states, outer and inner (RFC 2104 section 4)."""
    words = unpack("<8I", stored)
    inner = _finish((words[4], words[5], words[6], words[7]), message)
    return _finish((words[0], words[1], words[2], words[3]), inner).hex().encode()


def _finish(state: tuple[int, int, int, int], message: bytes) -> bytes:
    """MD5 of one block that led to *state*, and *message* behind it."""
    padded = message + b"\x80" + bytes(-(len(message) + 9) % 64) + pack("<Q", (64 + len(message)) * 8)
    for start in range(0, len(padded), 64):
        state = md5_block(padded[start : start + 64], state)
    return pack("<4I", *state)


CRAM_MD5 = MechInfo("CRAM-MD5", cram_md5, ("dictionary", "active"), looks_up=True)
