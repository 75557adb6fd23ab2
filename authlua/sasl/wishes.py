"""What a mech may yield, and how it may end.

A mech is a generator: it yields what it wants done, is sent the outcome, and returns the verdict.
It reaches no socket, no database and no log.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

from authlua.results import PassdbResult
from authlua.secret import Secret


class Challenge(NamedTuple):
    """Send *data* to the client; the outcome is what it answers, a `Secret` (`None`: an out-of-band answer)."""

    data: bytes


class SetUser(NamedTuple):
    """The client named itself; the outcome is whether the names are acceptable.

    *login_user* is who it wants to become, if that is somebody else.
    """

    user: str
    login_user: str = ""


class VerifyPlain(NamedTuple):
    """Ask the passdbs about this password; the outcome is a `PassdbResult`."""

    password: Secret


class CheckToken(NamedTuple):
    """Is *token* the one of this session? The outcome is a `PassdbResult`."""

    service: str
    pid: str
    session: str
    token: Secret


class Malformed(NamedTuple):
    """A mech's verdict on data that it cannot read: a failure, with a reason for the log."""

    reason: str


MechWish = Challenge | SetUser | VerifyPlain | CheckToken
Verdict = PassdbResult | Malformed
Mech = Generator[MechWish, Any, Verdict]


class MechInfo(NamedTuple):
    """A registered mech."""

    name: str
    start: Callable[[Secret | None], Mech]
    """Called with the initial response, if there is one."""
    flags: Sequence[str] = ()
    """As on its MECH line, in Dovecot's order."""
    allow_nul: bool = False
    """Client data may hold NUL; for other mechs that is a failure before they see it."""


def text(data: bytes) -> str:
    """Client data as text; bytes that are no UTF-8 survive as surrogates."""
    return data.decode("utf-8", "surrogateescape")
