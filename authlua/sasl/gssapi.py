"""GSSAPI (RFC 4752) and GSS-SPNEGO: Kerberos tickets instead of passwords, through the library python-gssapi.

The library reads files and may ask around, so each of its calls is made away from the event loop. As in Dovecot, the
passdbs are asked for fields and for users that are disabled, not for passwords (``core:2.4.1:src/auth/mech-gssapi.c``).
"""

from typing import Any, NamedTuple

from authlua.results import PassdbResult
from authlua.sasl.wishes import (
    Challenge,
    LookupCredentials,
    Mech,
    MechInfo,
    Offload,
    PassdbField,
    Refused,
    Service,
    SetUser,
    Terms,
    octets,
    text,
)
from authlua.secret import Secret

ALL_KEYS = "$ALL"
"""The host name that stands for every key of the keytab."""

_KERBEROS_5 = "1.2.840.113554.1.2.2"
_NO_LAYER = b"\1\xff\xff\xff"
"""Offered to the client: no protection of what follows, in messages of any size."""

_FATAL = (PassdbResult.INTERNAL_FAILURE, PassdbResult.USER_DISABLED, PassdbResult.PASS_EXPIRED)


class _Problem(NamedTuple):
    """What the library said was wrong."""

    reason: str


class _Step(NamedTuple):
    token: bytes
    initiator: str | None
    """Who the client is, once that is certain."""


def gssapi(initial: Secret | None, terms: Terms) -> Mech:
    """Tokens until both sides are content, then the offer of security layers, then who the client wants to be."""
    service: str = yield Service()
    context = yield Offload(_accept, ("pop" if service == "pop3" else service, terms))
    if isinstance(context, _Problem):
        return Refused(context.reason, result=PassdbResult.INTERNAL_FAILURE, level="error")
    token = octets(initial)
    if not token:
        token = octets((yield Challenge(b"")))
    while True:
        step = yield Offload(_step, (context, token))
        if isinstance(step, _Problem):
            return Refused(step.reason)
        if step.initiator is not None:
            break
        token = octets((yield Challenge(step.token)))
    if not (yield SetUser(step.initiator)):
        return PassdbResult.USER_UNKNOWN
    if step.token:
        yield Challenge(step.token)
    offer = yield Offload(_wrap, (context, _NO_LAYER))
    if isinstance(offer, _Problem):
        return Refused(offer.reason)
    choice = yield Offload(_unwrap, (context, octets((yield Challenge(offer)))))
    if isinstance(choice, _Problem):
        return Refused(choice.reason)
    if len(choice) < 4 or b"\0" in choice[4:].removesuffix(b"\0"):
        return Refused("Invalid response")
    user = text(choice[4:]) or step.initiator
    if not (yield SetUser(user)):
        return PassdbResult.USER_UNKNOWN
    found = yield LookupCredentials("")
    if found in _FATAL:
        return PassdbResult(found)
    principals: str = (yield PassdbField("k5principals")) or ""
    if step.initiator not in principals.split(",") and not (yield Offload(_is_initiator, (context, user))):
        return Refused(f"{step.initiator} is not authorized to log in as {user}")
    return PassdbResult.OK


def _accept(service: str, terms: Terms) -> Any:
    """A context for the tickets of *service* on this host."""
    import gssapi as library
    from gssapi.raw.misc import GSSError

    store: Any = {"keytab": terms.krb5_keytab} if terms.krb5_keytab else None
    host = terms.gssapi_hostname or terms.hostname
    try:
        name = None
        if host != ALL_KEYS:
            name = library.Name(f"{service.lower()}@{host}", library.NameType.hostbased_service)
        credentials = library.Credentials(name=name, usage="accept", store=store)
        return library.SecurityContext(creds=credentials, usage="accept")
    except GSSError as error:
        return _Problem(f"acquiring service credentials: {error}")


def _step(context: Any, token: bytes) -> _Step | _Problem:
    from gssapi.raw.misc import GSSError

    try:
        answer = context.step(token) or b""
        if not context.complete:
            return _Step(answer, None)
        if context.mech.dotted_form != _KERBEROS_5:
            return _Problem("GSSAPI mechanism is not Kerberos 5")
        return _Step(answer, str(context.initiator_name))
    except GSSError as error:
        return _Problem(f"processing incoming data: {error}")


def _wrap(context: Any, data: bytes) -> bytes | _Problem:
    from gssapi.raw.misc import GSSError

    try:
        message: bytes = context.wrap(data, False).message
    except GSSError as error:
        return _Problem(f"sending security layer negotiation: {error}")
    return message


def _unwrap(context: Any, data: bytes) -> bytes | _Problem:
    from gssapi.raw.misc import GSSError

    try:
        message: bytes = context.unwrap(data).message
    except GSSError as error:
        return _Problem(f"final negotiation: {error}")
    return message


def _is_initiator(context: Any, user: str) -> bool:
    """Whether *user* is the client's own name, perhaps without its realm."""
    import gssapi as library
    from gssapi.raw.misc import GSSError

    try:
        return bool(library.Name(user) == context.initiator_name)
    except GSSError:
        return False


GSSAPI = MechInfo("GSSAPI", gssapi, allow_nul=True)
