"""ANONYMOUS, RFC 4505."""

from authlua.results import PassdbResult
from authlua.sasl.wishes import Challenge, Mech, MechInfo, SetAnonymous, Terms, octets, text
from authlua.secret import Secret


def anonymous(initial: Secret | None, terms: Terms) -> Mech:
    """Whatever trace the client leaves, it is the one anonymous user, and no passdb is asked
    (``core:2.3.21.1:src/auth/mech-anonymous.c``).
    """
    trace = octets((yield Challenge(b"")) if initial is None else initial)
    yield SetAnonymous(text(trace))
    return PassdbResult.OK


ANONYMOUS = MechInfo("ANONYMOUS", anonymous, ("anonymous",), allow_nul=True)
