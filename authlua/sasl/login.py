"""LOGIN: a name, then a password; older than SASL's documents, and still what some mail clients speak."""

from authlua.results import PassdbResult
from authlua.sasl.wishes import Challenge, Mech, MechInfo, SetUser, Terms, VerifyPlain, text
from authlua.secret import Secret


def login(initial: Secret | None, terms: Terms) -> Mech:
    """``Username:`` and ``Password:`` are asked for in turn; an initial response is the name.

    A name that is not acceptable fails before the password is asked for, an unknown one only after
    (``core:2.3.21.1:src/auth/mech-login.c``).
    """
    name: Secret | None = initial
    if initial is None or not initial.reveal():
        name = yield Challenge(b"Username:")
    if not (yield SetUser(text(name.reveal() if name else b""))):
        return PassdbResult.USER_UNKNOWN
    password: Secret | None = yield Challenge(b"Password:")
    verdict: PassdbResult = yield VerifyPlain(password or Secret(b""), final=True)
    return verdict


LOGIN = MechInfo("LOGIN", login, ("plaintext",))
