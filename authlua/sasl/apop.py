"""APOP, RFC 1939 section 7: not of SASL, but a POP3 login process brings it here as if it were."""

import re
from hashlib import md5
from hmac import compare_digest

from authlua.results import PassdbResult
from authlua.sasl.wishes import Connection, LookupCredentials, Mech, MechInfo, Refused, SetUser, Terms, text
from authlua.secret import Secret

_ORIGIN = re.compile(rb"<([0-9a-fA-F]{1,16})\.([0-9a-fA-F]{1,16})\.([0-9a-fA-F]{1,16})\.")


def apop(initial: Secret | None, terms: Terms) -> Mech:
    """``challenge NUL user NUL digest`` in the initial response, and nothing else.

    The login process made the challenge of what our handshake told it, ``<SPID.CUID.TIME.`` in hex; one that is not
    of this very connection, or older than the server, is somebody else's (``core:2.3.21.1:src/auth/mech-apop.c``).
    """
    message = b"" if initial is None else initial.reveal()
    if not message:
        return Refused("no initial response")
    challenge, first, rest = message.partition(b"\0")
    user, second, digest = rest.partition(b"\0")
    if not first or not second or len(digest) != 16:
        return Refused("malformed data")
    origin = _ORIGIN.match(challenge)
    if origin is None:
        return Refused("invalid challenge")
    pid, connection, made = (int(part, 16) for part in origin.groups())
    if pid != terms.pid or connection != (yield Connection()) or made < int(terms.started):
        return Refused("invalid challenge")
    if not (yield SetUser(text(user))):
        return PassdbResult.USER_UNKNOWN
    stored = yield LookupCredentials("PLAIN")
    if isinstance(stored, PassdbResult):
        return stored
    if not compare_digest(md5(challenge + stored.reveal(), usedforsecurity=False).digest(), digest):
        return Refused("Password mismatch")
    return PassdbResult.OK


APOP = MechInfo("APOP", apop, ("private", "dictionary", "active"), allow_nul=True, looks_up=True)
