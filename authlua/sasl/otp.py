"""OTP, RFC 2444: one-time passwords of RFC 2289. Each login uses up one and stores the next."""

import re
from collections.abc import Callable
from hmac import compare_digest

from authlua.passwords import MalformedHash, OtpState, otp_fold, otp_state
from authlua.results import PassdbResult
from authlua.sasl.wishes import (
    Challenge,
    LookupCredentials,
    Mech,
    MechInfo,
    Refused,
    SetCredentials,
    SetUser,
    Terms,
    Verdict,
    octets,
    text,
)
from authlua.secret import Secret

_HEX = re.compile(r"(?:[ \t]*[0-9A-Fa-f]){16}")
_WORDS = re.compile(r"[ \t]*[A-Za-z]{1,4}(?:[ \t]+[A-Za-z]{1,4}){5}")
_NEW = re.compile(r"[ \t]*:(md4|md5|sha1)[ \t]([0-9]{1,10})[ \t]([A-Za-z0-9]{0,16})[ \t]*:")

_busy: set[str] = set()
"""Users in the middle of an OTP login: a second one would be asked for the same password."""


def otp(initial: Secret | None, terms: Terms) -> Mech:
    """``authzid NUL authcid``, of which only the latter counts; then a challenge and the password
    (``core:2.4.3:src/lib-sasl/sasl-server-mech-otp.c``; earlier releases may read on behind the name).
    """
    names = octets((yield Challenge(b"")) if initial is None else initial).split(b"\0")
    if len(names) != 2:
        return Refused("invalid input", level="error")
    user: str = yield SetUser(text(names[1]))
    if not user:
        return PassdbResult.USER_UNKNOWN
    stored = yield LookupCredentials("OTP")
    if isinstance(stored, PassdbResult):
        return stored
    try:
        state = otp_state(stored.reveal())
    except MalformedHash:
        return Refused("invalid OTP data in passdb", level="error")
    if state.sequence < 2:
        return Refused("sequence number < 1", level="error")
    if user in _busy:
        return Refused("user is locked, race attack?", level="error")
    _busy.add(user)
    try:
        challenge = f"otp-{state.algorithm} {state.sequence - 1} {state.seed} ext"
        following = _judge(state, text(octets((yield Challenge(challenge.encode())))))
        if not isinstance(following, OtpState):
            return following
        if not (yield SetCredentials("OTP", Secret(following.entry()))):
            return PassdbResult.INTERNAL_FAILURE
        return PassdbResult.OK
    finally:
        _busy.discard(user)


def _judge(state: OtpState, response: str) -> OtpState | Verdict:
    """The state to store after *response*, if the next step from what it holds is where the chain stands."""
    kind, _, data = response.partition(":")
    read = {"hex": _read_hex, "word": _read_words, "init-hex": _read_hex, "init-word": _read_words}.get(kind)
    if read is None:
        return Refused("unsupported response type", level="error")
    password, rest = read(data)
    if password is None:
        return Refused("invalid response", level="error")
    following = state._replace(sequence=state.sequence - 1, value=password)
    if kind.startswith("init-"):
        renewed = _new_chain(rest, read)
        if renewed is None:
            return Refused("invalid init response", level="error")
        following = renewed
    if not compare_digest(otp_fold(state.algorithm, password), state.value):
        return PassdbResult.PASSWORD_MISMATCH
    return following


_Read = Callable[[str], tuple[bytes | None, str]]


def _new_chain(data: str, read: _Read) -> OtpState | None:
    """``:algorithm sequence seed:value``, the end of an ``init-`` response (RFC 2243 section 4)."""
    parameters = _NEW.match(data)
    if parameters is None:
        return None
    value, rest = read(data[parameters.end() :])
    sequence = int(parameters[2])
    if value is None or rest.strip() or sequence >= 1 << 31:
        return None
    return OtpState(parameters[1], sequence, parameters[3].lower(), value)


def _read_hex(data: str) -> tuple[bytes | None, str]:
    """The 64 bits that 16 hex digits spell, blanks among them aside, and what follows."""
    found = _HEX.match(data)
    return (None, data) if found is None else (bytes.fromhex("".join(found[0].split())), data[found.end() :])


def _read_words(data: str) -> tuple[bytes | None, str]:
    """The 64 bits that six words spell (RFC 2289 appendix D), and what follows; the last word has two bits to spare."""
    from authlua.sasl.otp_words import WORDS

    found = _WORDS.match(data)
    if found is None:
        return None, data
    number = 0
    for word in found[0].upper().split():
        place = WORDS.get(word)
        if place is None:
            return None, data
        number = number << 11 | place
    return (number >> 2).to_bytes(8, "big"), data[found.end() :]


OTP = MechInfo("OTP", otp, ("dictionary", "active"), allow_nul=True, looks_up=True)
