"""NTLM, and GSS-SPNEGO where it is not Kerberos: Samba's helper ``ntlm_auth`` judges.

As in ``core:2.4.1:src/auth/mech-winbind.c``, but for one thing.
Dovecot keeps one helper of each kind and lets all clients share it; here each exchange has one of its own, so that
two clients never get into each other's way.
"""

from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from authlua.results import PassdbResult
from authlua.sasl.wishes import (
    Challenge,
    Mech,
    MechInfo,
    Offload,
    Refused,
    SetUser,
    Succeeded,
    Terms,
    octets,
    text,
)
from authlua.secret import Secret

if TYPE_CHECKING:
    import subprocess


class _Answer(NamedTuple):
    """A line of the helper: its code, a token for the client, and what else it says."""

    code: str
    token: bytes = b""
    rest: str = ""


def _mech(protocol: str) -> Callable[[Secret | None, Terms], Mech]:
    negotiates = protocol == "gss-spnego"

    def winbind(initial: Secret | None, terms: Terms) -> Mech:
        """The client's tokens go to the helper and the helper's to the client, until it names the user."""
        helper: subprocess.Popen[bytes] | None = yield Offload(_start, (terms.winbind_helper, protocol))
        if helper is None:
            return Refused(
                f"{terms.winbind_helper} does not start", result=PassdbResult.INTERNAL_FAILURE, level="error"
            )
        try:
            token = octets((yield Challenge(b"")) if initial is None else initial)
            code = "YR"
            while True:
                answer: _Answer = yield Offload(_ask, (helper, code, token, negotiates))
                if answer.code != "TT":
                    break
                token = octets((yield Challenge(answer.token)))
                code = "KK"
            return (yield from _verdict(answer))
        finally:
            _end(helper)

    return winbind


def _verdict(answer: _Answer) -> Mech:
    match answer.code:
        case "AF":
            domain, backslash, name = answer.rest.partition("\\")
            if not (yield SetUser(f"{name}@{domain}" if backslash else domain)):
                return PassdbResult.USER_UNKNOWN
            return Succeeded(answer.token) if answer.token else PassdbResult.OK
        case "NA":
            return Refused(f"user not authenticated: {answer.rest}")
        case _:
            reason = f"the helper fails: {answer.code} {answer.rest}"
            return Refused(reason, result=PassdbResult.INTERNAL_FAILURE, level="error")


def _start(path: str, protocol: str) -> "subprocess.Popen[bytes] | None":
    import subprocess

    try:
        return subprocess.Popen([path, f"--helper-protocol={protocol}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except OSError:
        return None


def _ask(helper: "subprocess.Popen[bytes]", code: str, token: bytes, negotiates: bool) -> _Answer:
    """One line to the helper, and its answer."""
    if helper.stdin is None or helper.stdout is None:
        raise AssertionError("the helper was started with pipes")
    try:
        helper.stdin.write(code.encode() + b" " + b2a_base64(token))
        helper.stdin.flush()
        line = helper.stdout.readline()
    except (OSError, ValueError) as error:
        return _Answer("BH", rest=str(error))
    if not line.endswith(b"\n"):
        return _Answer("BH", rest="the helper ended")
    said, _, rest = text(line).strip().partition(" ")
    blob = ""
    if said == "TT" or negotiates:
        blob, _, rest = rest.partition(" ")
    try:
        return _Answer(said, b"" if blob in ("", "*") else a2b_base64(blob, strict_mode=True), rest)
    except Error:
        return _Answer("BH", rest="the helper's token is not base64")


def _end(helper: "subprocess.Popen[bytes]") -> None:
    helper.kill()
    for pipe in (helper.stdin, helper.stdout):
        if pipe is not None:
            pipe.close()
    helper.wait()


spnego = _mech("gss-spnego")

NTLM = MechInfo("NTLM", _mech("squid-2.5-ntlmssp"), ("dictionary", "active"), allow_nul=True)
