"""Puts the kit's questions to any server: the fixed dialogues, then generated sessions for as long as told.

What the generated sessions should be answered is asked of an authlua of our own that runs the same script.
"""

import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from authlua.conformance import dialogue as d
from authlua.conformance.raw import RawConnection
from authlua.errors import Unreachable

PARALLEL = 16


class _Conversation:
    """A `dialogue.Conversation` that blocks."""

    def __init__(self, connection: RawConnection) -> None:
        self._connection = connection
        self.peer_pid = connection.peer_pid
        self.send = connection.send
        self.waiting = connection.waiting
        self.close = connection.close

    async def receive(self) -> bytes | None:
        return self._connection.receive()


class Server:
    """The server under test. A `dialogue.Target`."""

    def __init__(self, sockets: Mapping[str, Path], dialect: str, subject: str) -> None:
        self._sockets = sockets
        self.dialect = dialect
        self.subject = subject

    def open(self, kind: str, *, uid: int | None = None) -> _Conversation:
        try:
            return _Conversation(RawConnection.connect(self._sockets[kind], uid=uid))
        except OSError as error:
            raise AssertionError(f"the server does not let us connect any more: {error.strerror}") from None


@dataclass(frozen=True)
class Failure:
    """A dialogue that the server does not keep to."""

    name: str
    rule: str
    """What the dialogue shows, in words."""
    reason: str
    """The place, what was expected and what came, and all that was said before."""


@dataclass
class Outcome:
    """What came of the fixed dialogues."""

    dialect: str
    played: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    """Dialogues that could not be played, and why."""
    failures: list[Failure] = field(default_factory=list)


def greeting_of(path: Path) -> tuple[str, frozenset[str]]:
    """The dialect that the server at client socket *path* speaks, and its mechanisms.

    Raises:
        Unreachable: nobody answers there as an auth server does.
    """
    try:
        with RawConnection.connect(path) as connection:
            greeting = connection.handshake(pid=1)
    except (OSError, AssertionError, UnicodeDecodeError) as error:
        raise Unreachable(f"{path}: {error}") from None
    minor = greeting.version.rpartition("\t")[2]
    offered = frozenset(mech.partition("\t")[0].upper() for mech in greeting.mechs)
    return ("2.3" if minor in ("0", "1", "2") else "2.4"), offered


def check(sockets: Mapping[str, Path], progress: Callable[[str], None] = lambda name: None) -> Outcome:
    """Play all fixed dialogues that *sockets* allow; ``client`` must be among them.

    A dialogue that holds with the known differences of Dovecot or with those of authlua is kept to.

    Raises:
        Unreachable: nobody answers at the client socket.
    """
    sockets = dict(sockets)
    if "login" in sockets:
        sockets.setdefault("auth-login", sockets["login"])
    dialect, offered = greeting_of(sockets["client"])
    outcome = Outcome(dialect)

    def play(one: d.Dialogue) -> None:
        progress(one.name)
        why = _why_not(one, sockets, dialect, offered)
        if why is not None:
            outcome.skipped[one.name] = why
            return
        failure: BaseException | None = None
        for subject in ("dovecot", "authlua"):
            try:
                d.play_blocking(one, Server(sockets, dialect, subject))
                break
            except d.NotPlayed as reason:
                outcome.skipped[one.name] = str(reason)
                return
            except (AssertionError, UnicodeDecodeError) as error:
                failure = failure or error
        else:
            assert failure is not None
            text = "".join(traceback.format_exception_only(failure)).removeprefix("AssertionError: ")
            outcome.failures.append(Failure(one.name, one.summary, text.rstrip()))
        outcome.played += 1

    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(play, d.fixed()))
    outcome.failures.sort(key=lambda failure: failure.name)
    return outcome


def _why_not(one: d.Dialogue, sockets: Mapping[str, Path], dialect: str, offered: frozenset[str]) -> str | None:
    if one.needs_root:
        return "it needs connections of other users"
    kinds = {step.text.split(" ")[0] for step in one.steps if step.verb == "open"}
    if missing := kinds - sockets.keys():
        return f"no socket was given for: {', '.join(sorted(missing))}"
    try:
        wanted = one.mechanisms(dialect, "dovecot")
    except d.NotPlayed as reason:
        return str(reason)
    used = {
        mech for mech in wanted.upper().split() if any(f"\t{mech}\t" in f"{step.text}\t".upper() for step in one.steps)
    }
    if missing := used - offered:
        return f"the server does not offer {', '.join(sorted(missing))}"
    return None
