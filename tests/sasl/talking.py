"""A mech and its client, face to face, without a server around them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from authlua import passwords
from authlua.cli.sasl import CLIENTS, Identity
from authlua.results import PassdbResult
from authlua.sasl import (
    MECHS,
    Challenge,
    ChannelBinding,
    Connection,
    LookupCredentials,
    MechInfo,
    SetAnonymous,
    SetCertificateUser,
    SetCredentials,
    SetRealm,
    SetUser,
    Succeeded,
    Terms,
    Verdict,
    VerifyPlain,
)
from authlua.secret import Secret

TERMS = Terms(enabled=frozenset(MECHS), pid=1, hostname="mail.example.org")

Answer = Callable[[bytes], bytes | None]


class Talk(NamedTuple):
    """What was said: the mech's challenges, what it wished for beside them, and its verdict.

    The verdict is `None` when nobody answered the last challenge.
    """

    challenges: Sequence[bytes]
    wishes: Sequence[Any]
    verdict: Verdict | None

    @property
    def accepted(self) -> bool:
        """Whether the client is in, given that a password was right when `VerifyPlain` said so."""
        return self.verdict is PassdbResult.OK or isinstance(self.verdict, Succeeded)


class Passdb:
    """One user, whose password is stored as PLAIN; or stored credentials by scheme, or one result for all."""

    def __init__(
        self,
        password: bytes = b"",
        *,
        stored: Mapping[str, bytes] | None = None,
        result: PassdbResult | None = None,
        user: str = "",
    ) -> None:
        self._password = password
        self._stored = stored or {}
        self._result = result
        self._user = user
        self._named = ""

    def grant(self, wish: Any) -> Any:
        """The outcome of *wish*."""
        match wish:
            case SetUser(user, _):
                self._named = user
                return user
            case SetCertificateUser():
                return "certified"
            case SetRealm() | SetAnonymous() | ChannelBinding():
                return None
            case Connection():
                return 1
            case VerifyPlain(password):
                return PassdbResult.OK if password.reveal() == self._password else PassdbResult.PASSWORD_MISMATCH
            case LookupCredentials(scheme, realm):
                if self._result is not None:
                    return self._result
                if scheme in self._stored:
                    return Secret(self._stored[scheme])
                plain = "{PLAIN.HEX}" + self._password.hex()
                return Secret(passwords.credentials(plain, scheme, user=self._user or self._named, realm=realm))
            case SetCredentials():
                return True
        raise AssertionError(f"nobody grants {wish}")


def talk(info: MechInfo, initial: bytes | None, answer: Answer, passdb: Passdb, terms: Terms = TERMS) -> Talk:
    """Let the mech talk with *answer*, which gives `None` when it has heard enough."""
    challenges: list[bytes] = []
    wishes: list[Any] = []
    mech = info.start(None if initial is None else Secret(initial), terms)
    outcome: Any = None
    while True:
        try:
            wish = mech.send(outcome)
        except StopIteration as done:
            return Talk(challenges, wishes, done.value)
        if isinstance(wish, Challenge):
            challenges.append(wish.data)
            said = answer(wish.data)
            if said is None:
                return Talk(challenges, wishes, None)
            outcome = Secret(said)
        else:
            wishes.append(wish)
            outcome = passdb.grant(wish)


def login(mech: str, who: Identity, passdb: Passdb) -> Talk:
    """The command line's client of *mech* logs in; it checks what the server proves."""
    client = CLIENTS[mech](who)
    initial = next(client)
    talked = talk(MECHS[mech], initial, lambda challenge: client.send(challenge), passdb)
    if isinstance(talked.verdict, Succeeded):
        client.send(talked.verdict.data)
    return talked


def saying(*messages: bytes) -> Answer:
    """Answers with *messages*, one after the other."""
    rest = list(messages)
    return lambda challenge: rest.pop(0) if rest else None
