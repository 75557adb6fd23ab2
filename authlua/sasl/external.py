"""EXTERNAL, RFC 4422 appendix A: the client is who its TLS certificate says."""

from authlua.results import PassdbResult
from authlua.sasl.wishes import Challenge, Mech, MechInfo, SetCertificateUser, Terms, VerifyPlain, octets, text
from authlua.secret import Secret


def external(initial: Secret | None, terms: Terms) -> Mech:
    """The response is who the client wants to become, or empty; the passdb must accept an empty password
    (``core:2.3.21.1:src/auth/mech-external.c``).
    """
    authzid = octets((yield Challenge(b"")) if initial is None else initial)
    if not (yield SetCertificateUser(text(authzid) or None)):
        return PassdbResult.USER_UNKNOWN
    verdict: PassdbResult = yield VerifyPlain(Secret(b""))
    return verdict


EXTERNAL = MechInfo("EXTERNAL", external)
