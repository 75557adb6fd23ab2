"""The messages, one value each, named as on the wire.

Field lists are ``(name, value)`` in wire order; a value of `None` prints the bare name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from authlua.protocol.escaping import escape
from authlua.secret import Secret

Params = Sequence[tuple[str, str | None]]


# --- what auth clients say -------------------------------------------------------------------------------------------


class Hello(NamedTuple):
    """The client completed its handshake (``VERSION`` and ``CPID``)."""

    pid: int
    minor: int


@dataclass(init=False, slots=True)
class Auth:
    """``AUTH``: a SASL exchange starts. The id is open until it is answered or cancelled."""

    id: int
    mech: str
    params: Params
    initial: Secret | None
    """The initial response; `None` (there is none) is not the same as an empty one."""
    named: Mapping[str, str | None]
    """The parameters by name; of what was said twice, the last."""

    # written out, as below: what dataclass makes of a frozen one takes as long as parsing the line
    def __init__(
        self, id: int, mech: str, params: Params, initial: Secret | None, named: Mapping[str, str | None]
    ) -> None:
        self.id = id
        self.mech = mech
        self.params = params
        self.initial = initial
        self.named = named


class Cont(NamedTuple):
    """``CONT``: the client answers our challenge."""

    id: int
    data: Secret | None
    """`None` for an out-of-band answer (``#``, 2.4)."""
    channel_binding: bytes | None = None


class Cancel(NamedTuple):
    """The exchange is over: the client said ``CANCEL``, or its ``CONT`` was wrong and is already answered."""

    id: int


# --- what we say to auth clients -------------------------------------------------------------------------------------


class Challenge(NamedTuple):
    """``CONT`` from the server."""

    id: int
    data: bytes
    channel_binding: str = ""
    """The kind of channel binding data wanted back; 2.4, client minor 3 and later."""


@dataclass(init=False, slots=True)
class Ok:
    """``OK``: the user is who they say."""

    id: int
    user: str
    fields: Params = ()
    keep: bool = False
    """The success waits for a master's ``REQUEST``; its id stays taken."""

    def __init__(self, id: int, user: str, fields: Params = (), keep: bool = False) -> None:
        self.id = id
        self.user = user
        self.fields = fields
        self.keep = keep


class Fail(NamedTuple):
    """``FAIL``: no."""

    id: int
    fields: Params = ()
    delay: bool = False
    """Hold the answer back for ``auth_failure_delay``."""


# --- what masters say ------------------------------------------------------------------------------------------------


class Request(NamedTuple):
    """``REQUEST``: a mail process fetches the userdb fields of a login that just succeeded."""

    id: int
    client_pid: int
    client_id: int
    cookie: Secret
    session_pid: int | None = None
    wants_token: bool = False


class User(NamedTuple):
    """``USER``: a userdb lookup without authentication."""

    id: int
    user: str
    params: Params


class Pass(NamedTuple):
    """``PASS``: a passdb lookup without authentication."""

    id: int
    user: str
    params: Params


class List(NamedTuple):
    """``LIST``: name the users."""

    id: int
    mask: str | None
    params: Params


class CacheFlush(NamedTuple):
    """``CACHE-FLUSH``; the id is echoed as it came."""

    id: str
    users: Sequence[str]


# --- what we say to masters ------------------------------------------------------------------------------------------


class UserFound(NamedTuple):
    """``USER`` in reply."""

    id: int
    user: str
    fields: Params


class PassFound(NamedTuple):
    """``PASS`` in reply."""

    id: int
    user: str
    fields: Params


class NotFound(NamedTuple):
    """``NOTFOUND``: no such user. A delivery that hears this bounces the mail."""

    id: int


class Failed(NamedTuple):
    """``FAIL`` to a master: try again later."""

    id: int
    reason: str | None = None


class Listed(NamedTuple):
    """``LIST`` in reply: one user."""

    id: int
    user: str


class ListDone(NamedTuple):
    """``DONE`` ends a list."""

    id: int
    ok: bool = True


class Flushed(NamedTuple):
    """``OK`` to ``CACHE-FLUSH``."""

    id: str
    users: int
    """How many cache entries were dropped."""


def encode_fields(fields: Params) -> str:
    """*fields* as they follow on a line, each with its TAB before it."""
    return "".join(["\t" + escape(name if value is None else f"{name}={value}") for name, value in fields])
