"""The server's end of a master, login-master or userdb socket, without the socket."""

import string
from collections.abc import Iterator
from enum import Enum, auto

from authlua.dialect import Dialect
from authlua.protocol.dialect import WIRE
from authlua.protocol.errors import LocalProtocolError, RemoteProtocolError
from authlua.protocol.escaping import escape, unescape_string
from authlua.protocol.lines import Lines, parse_number, parse_version, split_param
from authlua.protocol.messages import (
    CacheFlush,
    Failed,
    Flushed,
    List,
    ListDone,
    Listed,
    NotFound,
    Params,
    Pass,
    PassFound,
    Request,
    User,
    UserFound,
    encode_fields,
)
from authlua.secret import Secret

MAX_LINE = 1024
"""Bytes in a master's line, LF included (``core:2.3.21.1:src/auth/auth-master-connection.c``)."""

COOKIE_DIGITS = 32

_HEX = frozenset(string.hexdigits)

MasterMessage = Request | User | Pass | List | CacheFlush
MasterReply = UserFound | PassFound | NotFound | Failed | Listed | ListDone | Flushed


class MasterKind(Enum):
    """What a master socket is for."""

    MASTER = auto()
    """Everything."""
    LOGIN_MASTER = auto()
    """REQUEST alone."""
    USERDB = auto()
    """USER, PASS and LIST."""


_ALLOWED = {
    MasterKind.MASTER: frozenset({"REQUEST", "USER", "PASS", "LIST", "CACHE-FLUSH"}),
    MasterKind.LOGIN_MASTER: frozenset({"REQUEST"}),
    MasterKind.USERDB: frozenset({"USER", "PASS", "LIST"}),
}


class MasterConnection:
    """One master's conversation: bytes in, messages out; replies in, bytes out."""

    def __init__(self, dialect: Dialect, kind: MasterKind, *, spid: int) -> None:
        self._wire = WIRE[dialect]
        self.kind = kind
        self._spid = spid
        self._lines = Lines(MAX_LINE)
        self._greeted = False
        self.listing: int | None = None
        """The id of the LIST that runs. Read no more from the peer until it is done."""
        self._out: list[str] = []

    def greet(self) -> None:
        """Say what the server says when a master connects."""
        self._out.append(f"VERSION\t1\t{self._wire.master_minor}\nSPID\t{self._spid}\n")

    def data_to_send(self) -> bytes:
        """The bytes to write now; each is given once."""
        data = "".join(self._out).encode("utf-8", "surrogateescape")
        self._out.clear()
        return data

    def send(self, reply: MasterReply) -> None:
        """Queue *reply*.

        Raises:
            LocalProtocolError: a list entry or end without a LIST that runs.
        """
        match reply:
            case UserFound(id, user, fields):
                tab = "\t" if self._wire.empty_user_tab and not fields else ""
                line = f"USER\t{id}\t{escape(user)}{encode_fields(fields)}{tab}"
            case PassFound(id, user, fields):
                line = f"PASS\t{id}\tuser={escape(user)}{encode_fields(fields)}"
            case NotFound(id):
                line = f"NOTFOUND\t{id}"
            case Failed(id, reason):
                line = f"FAIL\t{id}" if reason is None else f"FAIL\t{id}\treason={escape(reason)}"
            case Listed(id, user):
                if id != self.listing:
                    raise LocalProtocolError(f"LIST entry for {id}, which is not listing")
                line = f"LIST\t{id}\t{escape(user)}"
            case ListDone(id, ok):
                if id != self.listing:
                    raise LocalProtocolError(f"DONE for {id}, which is not listing")
                self.listing = None
                line = f"DONE\t{id}\t{'' if ok else 'fail'}"
            case Flushed(name, count):
                line = f"OK\t{escape(name)}\t{count}"
        self._out.append(line + "\n")

    def receive(self, data: bytes) -> Iterator[MasterMessage]:
        """The messages that *data* completes.

        A second LIST while one runs is answered here (``DONE fail``), as Dovecot does.

        Raises:
            RemoteProtocolError: the connection must be closed, without an answer.
        """
        for line in self._lines.feed(data):
            if not self._greeted:
                parse_version(line, exact=self._wire.strict_master_version)
                self._greeted = True
                continue
            word, *args = line.split("\t")
            if word not in _ALLOWED[self.kind]:
                raise RemoteProtocolError(f"{word[:32]!a} is not served on this socket" if line else "empty line")
            if not args or (args == [""] and self._wire.empty_is_none):
                raise RemoteProtocolError(f"{word} without an id")
            args = [unescape_string(arg) for arg in args]
            if word == "CACHE-FLUSH":
                yield CacheFlush(args[0], args[1:])
                continue
            id = parse_number(args[0])
            if id is None:
                raise RemoteProtocolError(f"{word} without a numeric id")
            match word:
                case "REQUEST":
                    message = self._request(id, args)
                    if message is not None:
                        yield message
                case "USER":
                    yield User(id, *_lookup(word, args))
                case "PASS":
                    yield Pass(id, *_lookup(word, args))
                case _:
                    if self.listing is not None:
                        self._out.append(f"DONE\t{id}\tfail\n")
                        continue
                    self.listing = id
                    params = [split_param(arg) for arg in args[1:]]
                    yield List(id, dict(params).get("user"), [p for p in params if p[0] != "user"])

    def _request(self, id: int, args: list[str]) -> Request | None:
        if len(args) < 4:
            raise RemoteProtocolError("REQUEST needs an id, a client pid, a client id and a cookie")
        client_pid, client_id = parse_number(args[1]), parse_number(args[2])
        if client_pid is None or client_id is None:
            raise RemoteProtocolError("REQUEST with a client pid or client id that is no number")
        cookie = args[3]
        if not _HEX.issuperset(cookie) or len(cookie) % 2:
            raise RemoteProtocolError("REQUEST with a cookie that is not hexadecimal")
        if len(cookie) != COOKIE_DIGITS:
            if len(cookie) < COOKIE_DIGITS and self._wire.short_cookie_fails:
                self.send(Failed(id))
                return None
            raise RemoteProtocolError(f"REQUEST with a cookie of {len(cookie)} digits instead of {COOKIE_DIGITS}")
        options = dict(split_param(arg) for arg in args[4:])
        return Request(
            id,
            client_pid,
            client_id,
            Secret(bytes.fromhex(cookie)),
            parse_number(options.get("session_pid") or ""),
            "request_auth_token" in options,
        )


def _lookup(word: str, args: list[str]) -> tuple[str, Params]:
    if len(args) < 2:
        raise RemoteProtocolError(f"{word} without a user name")
    params = [split_param(arg) for arg in args[2:]]
    if not any(name in ("service", "protocol") for name, _ in params):
        raise RemoteProtocolError(f"{word} without service= or protocol=")
    return args[1], params
