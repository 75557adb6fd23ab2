"""What a mech may yield, and how it may end.

A mech is a generator: it yields what it wants done, is sent the outcome, and returns the verdict.
It reaches no socket, no database and no log.
"""

from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass
from os import urandom
from time import time
from typing import Any, NamedTuple

from authlua.dialect import Dialect
from authlua.results import PassdbResult
from authlua.secret import Secret


class Challenge(NamedTuple):
    """Send *data* to the client; the outcome is what it answers, a `Secret` (`None`: an out-of-band answer).

    *binding* asks for the data of that kind of channel binding, which `ChannelBinding` then has.
    """

    data: bytes
    binding: str = ""


class ChannelBinding(NamedTuple):
    """What binds the client's connection to its TLS channel, in bytes; `None` if the client process sent nothing."""


class Connection(NamedTuple):
    """The number (CUID) of the connection this exchange came on."""


class Service(NamedTuple):
    """The service the client logs in to, such as ``imap``."""


class PassdbField(NamedTuple):
    """The value of a field that a passdb has set; `None` without one."""

    name: str


@dataclass(init=False, slots=True)
class SetUser:
    """The client named itself; the outcome is the user's name now, ``""`` when the names are not acceptable.

    *login_user* is who it wants to become, if that is somebody else.
    """

    user: str
    login_user: str | None = None

    def __init__(self, user: str, login_user: str | None = None) -> None:
        self.user = user
        self.login_user = login_user


class SetCertificateUser(NamedTuple):
    """The client is who its certificate says; the outcome is as for `SetUser`, ``""`` also without a certificate."""

    login_user: str | None = None


class SetRealm(NamedTuple):
    """The client named its realm, which the log and events tell."""

    realm: str


class SetAnonymous(NamedTuple):
    """The user is the anonymous one, who left this trace for the log."""

    trace: str


@dataclass(init=False, slots=True)
class VerifyPlain:
    """Ask the passdbs about this password; the outcome is a `PassdbResult`.

    When it is *final*, that will be the mech's verdict, and nobody need come back to hear it.
    """

    password: Secret
    final: bool = False

    def __init__(self, password: Secret, final: bool = False) -> None:
        self.password = password
        self.final = final


class LookupCredentials(NamedTuple):
    """What the passdbs know in *scheme*; the outcome is a `Secret`, or the `PassdbResult` of a failure.

    The empty scheme wants only the user's fields. *realm* belongs to DIGEST-MD5: the realm that the client named when
    that is not the user's domain anyway.
    """

    scheme: str
    realm: str | None = None


class SetCredentials(NamedTuple):
    """Store *value* in place of the credentials that were looked up; the outcome is whether that is done."""

    scheme: str
    value: Secret


class Offload(NamedTuple):
    """Run ``function(*args)`` away from the event loop; the outcome is what it returns."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()


class CheckToken(NamedTuple):
    """Is *token* the one of this session? The outcome is a `PassdbResult`."""

    service: str
    pid: str
    session: str
    token: Secret


class Succeeded(NamedTuple):
    """A verdict: the user is who they say, and the client is to be told *data*."""

    data: bytes


class Refused(NamedTuple):
    """A verdict: no. *reason* is for the log, *data* for the client."""

    reason: str = ""
    data: bytes = b""
    result: PassdbResult = PassdbResult.PASSWORD_MISMATCH
    level: str = "info"


MechWish = (
    Challenge
    | ChannelBinding
    | Connection
    | Service
    | PassdbField
    | SetUser
    | SetCertificateUser
    | SetRealm
    | SetAnonymous
    | VerifyPlain
    | LookupCredentials
    | SetCredentials
    | Offload
    | CheckToken
)
Verdict = PassdbResult | Succeeded | Refused
Mech = Generator[MechWish, Any, Verdict]


class Terms(NamedTuple):
    """What a mech may know of the server it runs in."""

    dialect: Dialect = Dialect.V2_3
    enabled: Collection[str] = ()
    """The names of all mechs the server offers."""
    realms: Sequence[str] = ()
    openid_configuration_url: str = ""
    gssapi_hostname: str = ""
    krb5_keytab: str = ""
    winbind_helper: str = ""
    use_winbind: bool = False
    hostname: str = "localhost"
    pid: int = 0
    started: float = 0.0
    """Seconds since the epoch."""
    clock: Callable[[], float] = time
    random: Callable[[int], bytes] = urandom
    """That many random bytes; the only source of chance that a mech has."""


class MechInfo(NamedTuple):
    """A registered mech."""

    name: str
    start: Callable[[Secret | None, Terms], Mech]
    """Called with the initial response, if there is one."""
    flags: Sequence[str] = ()
    """As on its MECH line, in Dovecot's order."""
    allow_nul: bool = False
    """Client data may hold NUL; for other mechs that is a failure before they see it."""
    looks_up: bool = False
    """It needs a passdb that gives away what it has stored."""


def text(data: bytes) -> str:
    """Client data as text; bytes that are no UTF-8 survive as surrogates."""
    return data.decode("utf-8", "surrogateescape")


def octets(answer: Secret | None) -> bytes:
    """The client's answer; of an out-of-band one, nothing."""
    return b"" if answer is None else answer.reveal()
