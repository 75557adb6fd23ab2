"""DOVECOT-TOKEN: a mail process lets a second one in, with the token it got when its user logged in."""

from authlua.results import PassdbResult
from authlua.sasl.wishes import Challenge, CheckToken, Mech, MechInfo, Refused, SetUser, Terms, text
from authlua.secret import Secret


def dovecot_token(initial: Secret | None, terms: Terms) -> Mech:
    """``service NUL pid NUL user NUL session NUL token`` (``core:2.3.21.1:src/auth/mech-dovecot-token.c``)."""
    message = (yield Challenge(b"")) if initial is None else initial
    try:
        service, pid, user, session, token = (b"" if message is None else message.reveal()).split(b"\0", 4)
    except ValueError:
        return Refused("invalid input")
    if not (yield SetUser(text(user))):
        return PassdbResult.USER_UNKNOWN
    verdict: PassdbResult = yield CheckToken(text(service), text(pid), text(session), Secret(token))
    return verdict


DOVECOT_TOKEN = MechInfo("DOVECOT-TOKEN", dovecot_token, ("private",), allow_nul=True)
