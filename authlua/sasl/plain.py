"""PLAIN, RFC 4616."""

from authlua.results import PassdbResult
from authlua.sasl.wishes import Challenge, Mech, MechInfo, Refused, SetUser, Terms, VerifyPlain, text
from authlua.secret import Secret


def plain(initial: Secret | None, terms: Terms) -> Mech:
    """``authzid NUL authcid NUL password``, with exactly two NULs; as Dovecot does, one that is first in the password
    ends it instead of making it invalid.

    An authzid equal to the authcid means nothing; another one asks to become that user
    (``core:2.3.21.1:src/auth/mech-plain.c:mech_plain_auth_continue``).
    """
    message = (yield Challenge(b"")) if initial is None else initial
    parts = b"" if message is None else message.reveal()
    try:
        authzid, authcid, password = parts.split(b"\0", 2)
    except ValueError:
        return Refused("invalid input")
    if password.find(b"\0", 1) >= 0:
        return Refused("invalid input")
    if not (yield SetUser(text(authcid), None if not authzid or authzid == authcid else text(authzid))):
        return PassdbResult.USER_UNKNOWN
    verdict: PassdbResult = yield VerifyPlain(Secret(password.partition(b"\0")[0]), final=True)
    return verdict


PLAIN = MechInfo("PLAIN", plain, ("plaintext",), allow_nul=True)
