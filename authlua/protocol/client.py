"""The server's end of a client, login or token-login socket, without the socket.

Bytes go in through `ClientConnection.receive`, which gives messages; messages go in through
`ClientConnection.send`; what is to be written comes out of `ClientConnection.data_to_send`.

Theory of operation. The connection keeps one table: which ids are taken, and whose turn it is.

========  ==================================================================================
RUNNING   ``AUTH`` or ``CONT`` came in and we owe a reply
ASKED     we sent a challenge; the client's turn
KEPT      ``OK`` was sent on a login socket and waits for a master's ``REQUEST``
========  ==================================================================================

A failed id is free again as soon as the failure is decided, though its ``FAIL`` may be written much later
(`release`, then `send`): Dovecot's clients may reuse it at once, and both answers arrive. So beside the table stands
the number of answers owed to ids already released. Whatever is sent must be owed by one of the two.
"""

import binascii
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from authlua.dialect import Dialect
from authlua.protocol.dialect import WIRE
from authlua.protocol.errors import LocalProtocolError, RemoteProtocolError
from authlua.protocol.escaping import escape, unescape, unescape_string
from authlua.protocol.lines import Lines, parse_number, parse_version, split_param
from authlua.protocol.messages import Auth, Cancel, Challenge, Cont, Fail, Hello, Ok, encode_fields
from authlua.secret import Secret

MAX_LINE = 16384
"""Bytes in a client's line, LF included (``core:2.3.21.1:src/auth/auth-client-connection.h``)."""


class ClientKind(Enum):
    """What a client socket is for."""

    CLIENT = auto()
    """Successes are final at once."""
    LOGIN = auto()
    """Successes wait for a master's REQUEST."""
    TOKEN_LOGIN = auto()
    """As LOGIN, for the mech DOVECOT-TOKEN alone."""


class Advertised(NamedTuple):
    """A mech as the handshake names it."""

    name: str
    flags: Sequence[str] = ()
    allow_nul: bool = False


class _Turn(Enum):
    RUNNING = auto()
    ASKED = auto()
    KEPT = auto()


class _Stage(Enum):
    VERSION = auto()
    CPID = auto()
    OPEN = auto()


_RUNNING: Final = _Turn.RUNNING
_ASKED: Final = _Turn.ASKED
_OPEN: Final = _Stage.OPEN


class ClientConnection:
    """One auth client's conversation.

    Args:
        dialect: whose habits to follow where releases differ.
        kind: what this socket is for.
        mechs: in the order they are announced.
        spid: the server's pid, the same on all its sockets.
        cuid: this connection's number.
        cookie: 16 random bytes, of this connection alone.
        late: announce mechs only after the client's VERSION (2.4's way, needed for channel binding; hangs Exim).
    """

    def __init__(
        self,
        dialect: Dialect,
        kind: ClientKind,
        mechs: Sequence[Advertised],
        *,
        spid: int,
        cuid: int,
        cookie: Secret,
        late: bool = False,
    ) -> None:
        self._wire = WIRE[dialect]
        self.kind = kind
        self._mechs = {mech.name: mech for mech in mechs}
        self._exact = kind is ClientKind.TOKEN_LOGIN
        self._spid = spid
        self.cuid = cuid
        self.cookie = cookie
        self._late = late
        self._lines = Lines(MAX_LINE)
        self._stage = _Stage.VERSION
        self._turns: dict[int, _Turn] = {}
        self._owed: Counter[int] = Counter()
        self._out: list[str] = []
        self.minor = 0

    # --- out -----------------------------------------------------------------

    def greet(self) -> None:
        """Say what the server says when a client connects."""
        self._out.append(f"VERSION\t1\t{self._wire.client_minor}\n")
        if not self._late:
            self._announce(channel_binding=False)

    def _announce(self, *, channel_binding: bool) -> None:
        if self.kind is ClientKind.TOKEN_LOGIN:
            self._out.append(f"MECH\tDOVECOT-TOKEN{self._wire.token_flags}\n")
        else:
            bound = [mech for mech in self._mechs.values() if "channel-binding" in mech.flags]
            plain = [mech for mech in self._mechs.values() if "channel-binding" not in mech.flags]
            for mech in plain + bound if channel_binding else plain:
                self._out.append("\t".join(["MECH", mech.name, *mech.flags]) + "\n")
        cookie = self.cookie.reveal().hex()
        self._out.append(f"SPID\t{self._spid}\nCUID\t{self.cuid}\nCOOKIE\t{cookie}\nDONE\n")

    def data_to_send(self) -> bytes:
        """The bytes to write now; each is given once."""
        out = self._out
        if not out:
            return b""
        data = (out[0] if len(out) == 1 else "".join(out)).encode("utf-8", "surrogateescape")
        out.clear()
        return data

    def send(self, reply: Ok | Fail | Challenge) -> None:
        """Queue *reply*.

        Raises:
            LocalProtocolError: nothing is owed to that id.
        """
        id = reply.id
        turn = self._turns.get(id)
        if isinstance(reply, Ok):
            if turn is not _RUNNING:
                raise LocalProtocolError(f"OK for request {id}, which is not waiting for it")
            if reply.keep:
                self._turns[id] = _Turn.KEPT
            else:
                del self._turns[id]
            self._out.append(f"OK\t{id}\tuser={escape(reply.user)}{encode_fields(reply.fields)}\n")
        elif isinstance(reply, Fail):
            if self._owed and self._owed[id]:
                self._owed[id] -= 1
            elif turn is _RUNNING:
                del self._turns[id]
            else:
                raise LocalProtocolError(f"FAIL for request {id}, which is not waiting for it")
            self._out.append(f"FAIL\t{id}{encode_fields(reply.fields)}\n")
        else:
            if turn is not _RUNNING:
                raise LocalProtocolError(f"CONT for request {id}, which is not waiting for it")
            self._turns[id] = _ASKED
            data = binascii.b2a_base64(reply.data, newline=False).decode("ascii")
            binding = f"\tchannel_binding={reply.channel_binding}" if reply.channel_binding and self.minor >= 3 else ""
            self._out.append(f"CONT\t{id}\t{data}{binding}\n")

    def release(self, id: int) -> None:
        """Free a running *id* whose failure is decided; its FAIL is still owed."""
        if self._turns.pop(id, None) is not _RUNNING:
            raise LocalProtocolError(f"request {id} is not running")
        self._owed[id] += 1

    def forget(self, id: int) -> None:
        """Free *id* without an answer: it timed out, or a master has fetched it."""
        self._turns.pop(id, None)

    # --- in ------------------------------------------------------------------

    def receive(self, data: bytes) -> Iterator[Hello | Auth | Cont | Cancel]:
        """The messages that *data* completes.

        Deal with each before taking the next: what a line means depends on the replies so far.

        Raises:
            RemoteProtocolError: the connection must be closed, without an answer.
        """
        for line in self._lines.feed(data):
            if self._stage is _OPEN:
                word, tab, rest = line.partition("\t")
                if word == "AUTH" and tab:
                    auth = self._auth(rest)
                    if auth is not None:
                        yield auth
                elif word == "CONT" and tab:
                    message = self._cont(rest)
                    if message is not None:
                        yield message
                elif word == "CANCEL" and tab:
                    id = parse_number(self._number(rest))
                    if id is None:
                        raise RemoteProtocolError("CANCEL without a numeric id")
                    if self._turns.pop(id, None) is not None:
                        yield Cancel(id)
                else:
                    raise RemoteProtocolError("expected AUTH, CONT or CANCEL" if line else "empty line")
            elif self._stage is _Stage.VERSION:
                self.minor = parse_version(line, exact=True)
                self._stage = _Stage.CPID
                if self._late:
                    self._announce(channel_binding=self.minor >= 3)
            else:
                word, _, number = line.partition("\t")
                pid = parse_number(self._number(number))
                if word != "CPID" or not pid:
                    raise RemoteProtocolError("expected CPID and a process id after VERSION")
                self._stage = _OPEN
                yield Hello(pid, self.minor)

    @property
    def ready(self) -> bool:
        """The client's part of the handshake is done."""
        return self._stage is _OPEN

    @property
    def idle(self) -> bool:
        """No request is running or owed an answer."""
        return not self._owed.total() and _RUNNING not in self._turns.values()

    def _auth(self, rest: str) -> Auth | None:
        fields = rest.split("\t")
        id = parse_number(fields[0])
        if not id:
            raise RemoteProtocolError("AUTH needs an id from 1 to 4294967295")
        if id in self._turns:
            raise RemoteProtocolError(f"AUTH reuses id {id}, which is still taken")
        if len(fields) < 2:
            raise RemoteProtocolError("AUTH without a mechanism")
        name = fields[1]
        mech = self._mechs.get(name) or (None if self._exact else self._mechs.get(name.upper()))
        if mech is None:
            raise RemoteProtocolError(f"AUTH asks for mechanism {name[:64]!a}, which was not offered")
        if "\x01" in rest:
            fields = [unescape_string(field) for field in fields]
        response: str | None = None
        if fields[-1].startswith("resp=") or fields[-1] == "resp":
            response = fields.pop()[5:]  # a secret, so it is gone before anything is remembered
        params: list[Any] = []
        named: dict[str, str | None] = {}
        for field in fields[2:]:
            param = _params.get(field)
            if param is None:
                param = _take_apart(field)
            params.append(param.pair)
            named[param.name] = param.value
        if "resp" in named:
            raise RemoteProtocolError("AUTH has a parameter after resp=")
        if "service" not in named and "protocol" not in named:
            raise RemoteProtocolError("AUTH without service= or protocol=")
        initial: Secret | None = None
        if response is not None and (response or self.minor >= 2):
            data = b"" if response == "=" else _decode(response)
            if data is None:
                self._refuse(id, "Invalid base64 data in initial response")
                return None
            initial = Secret(data)
        self._turns[id] = _RUNNING
        return Auth(id, mech.name, params, initial, named)

    def _cont(self, rest: str) -> Cont | Cancel | None:
        number, tab, text = rest.partition("\t")
        id = parse_number(number)
        if id is None:
            raise RemoteProtocolError("CONT without a numeric id")
        turn = self._turns.get(id)
        if not tab and not self._wire.out_of_band:
            raise RemoteProtocolError("CONT without data")
        if turn is None:
            self._out.append(f"FAIL\t{id}\treason=Authentication request timed out\n")
            return None
        if turn is not _ASKED:
            del self._turns[id]
            self._out.append(f"FAIL\t{id}\treason=Unexpected continuation\n")
            return Cancel(id)
        if not tab:
            raise RemoteProtocolError("CONT without data")
        binding: bytes | None = None
        if self._wire.out_of_band:
            if self.minor >= 3:
                text, *extra = text.split("\t")
                for name, value in map(split_param, map(unescape, extra)):
                    if name == "channel_binding":
                        binding = _decode(value or "")
            else:
                if "\t" in text:
                    text = "not base64"
                text = unescape(text)
            if text == "#":
                self._turns[id] = _RUNNING
                return Cont(id, None, binding)
        data = _decode(text)
        if data is None:
            del self._turns[id]
            self._refuse(id, "Invalid base64 data in continued response")
            return Cancel(id)
        self._turns[id] = _RUNNING
        return Cont(id, Secret(data), binding)

    def _number(self, rest: str) -> str:
        return rest.partition("\t")[0] if self._wire.extra_words else rest

    def _refuse(self, id: int, reason: str) -> None:
        self._out.append(f"FAIL\t{id}\tcode=invalid_base64\treason={reason}\n")


class _Param:
    """A parameter, taken apart."""

    __slots__ = ("name", "pair", "value")

    def __init__(self, field: str) -> None:
        self.name, self.value = split_param(field)
        self.pair: Any = (self.name, self.value)
        """Both, as one object: compiled code would make a tuple anew wherever it knew what is in it."""


def _take_apart(field: str) -> _Param:
    """A parameter of a client's. Most come again, so short ones are remembered; no secret is among them."""
    param = _Param(field)
    if len(field) <= MAX_LENGTH:
        if len(_params) >= MAX_REMEMBERED:
            _params.clear()
        _params[field] = param
    return param


MAX_REMEMBERED: Final = 4096
"""How many parameters are remembered."""

MAX_LENGTH: Final = 64
"""How long one may be to be remembered."""

_params: Final[dict[str, _Param]] = {}

_WHITESPACE = str.maketrans("", "", " \t\r\n")


def _decode(text: str) -> bytes | None:
    """Strict base64 with padding, white space aside, or `None`."""
    try:
        return binascii.a2b_base64(text, strict_mode=True) if text else b""
    except ValueError:
        dense = text.translate(_WHITESPACE)
        return None if dense == text else _decode(dense)
