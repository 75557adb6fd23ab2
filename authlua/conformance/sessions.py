"""Sessions: what clients say to a server, as values. The answers are not part of them."""

from dataclasses import dataclass

CLIENTS = frozenset({"login", "client"})
"""Sockets that speak the auth-client protocol; the others, ``master`` and ``userdb``, speak the master protocol."""


@dataclass(frozen=True)
class Open:
    """Connect, and say the first bytes."""

    name: str
    """What the other steps and placeholders call this connection."""
    kind: str
    """``login``, ``client``, ``master`` or ``userdb``."""
    hello: bytes


@dataclass(frozen=True)
class Say:
    """Bytes for one connection, in one or more writes."""

    name: str
    data: bytes
    """``{NAME.pid}`` and ``{NAME.cookie}`` stand for those of a connection, ``{peer}`` for our process id."""
    cuts: tuple[int, ...] = ()
    """Where one write ends and the next begins."""
    settle: bool = False
    """Go on only when everything has been answered, that which takes its time too."""


@dataclass(frozen=True)
class HangUp:
    """Close a connection."""

    name: str


Step = Open | Say | HangUp


@dataclass(frozen=True)
class Session:
    """One session: its steps, one after the other; the next one starts when the server has read the last one."""

    profile: str
    """With which settings it is played."""
    steps: tuple[Step, ...]

    def __repr__(self) -> str:
        return f"Session for {self.profile}:\n" + "\n".join(map(shown, self.steps))


def shown(step: Step) -> str:
    """*step* as a person reads it."""
    match step:
        case Open(name, kind, hello):
            return f"open {kind} as {name}: {hello!r}"
        case Say(name, data, cuts, settle):
            how = f" cut at {', '.join(map(str, cuts))}" * bool(cuts) + " and wait" * settle
            return f"{name}: {data!r}{how}"
        case HangUp(name):
            return f"close {name}"
