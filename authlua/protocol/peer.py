"""The other end: what a client of this protocol says and hears.

The command line speaks it to a running authlua or Dovecot, the tests to both, back to back with the server's codecs.
"""

import binascii
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from authlua.protocol.errors import RemoteProtocolError
from authlua.protocol.escaping import escape, unescape
from authlua.protocol.lines import Lines, parse_number, split_param
from authlua.protocol.messages import Params, encode_fields

MAX_LINE = 16384


class Handshake(NamedTuple):
    """What the server of a client socket said about itself; its DONE has come."""

    minor: int
    mechs: dict[str, Sequence[str]]
    spid: int
    cuid: int
    cookie: str


class Reply(NamedTuple):
    """A line about one of our requests.

    *word* is as on the wire (``OK FAIL CONT USER PASS NOTFOUND LIST DONE``), *user* the third field of ``USER`` and
    ``LIST``, *data* the challenge of a ``CONT``, *fields* all the rest.
    """

    word: str
    id: str
    fields: Params = ()
    user: str | None = None
    data: bytes | None = None

    def field(self, name: str) -> str | None:
        """The value of field *name*; ``""`` for one without a value, `None` when it is not there."""
        for key, value in self.fields:
            if key == name:
                return value or ""
        return None


def _fields(parts: Sequence[str]) -> Params:
    return [split_param(unescape(part)) for part in parts if part]


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


class AuthPeer:
    """An auth client: logs in as a login process, Postfix or Exim does."""

    def __init__(self, *, pid: int, minor: int = 2) -> None:
        self._pid = pid
        self._minor = minor
        self._lines = Lines(MAX_LINE)
        self._mechs: dict[str, Sequence[str]] = {}
        self._known: dict[str, str] = {}
        self._done = False

    def hello(self) -> bytes:
        """Our part of the handshake; may be sent at once."""
        return f"VERSION\t1\t{self._minor}\nCPID\t{self._pid}\n".encode("ascii")

    def auth(self, id: int, mech: str, params: Params, initial: bytes | None = None) -> bytes:
        """An ``AUTH`` line; *initial* is the initial response, if any."""
        response = "" if initial is None else f"\tresp={_base64(initial) or '='}"
        return f"AUTH\t{id}\t{mech}{encode_fields(params)}{response}\n".encode("utf-8", "surrogateescape")

    def cont(self, id: int, data: bytes) -> bytes:
        """A ``CONT`` line."""
        return f"CONT\t{id}\t{_base64(data)}\n".encode("ascii")

    def cancel(self, id: int) -> bytes:
        """A ``CANCEL`` line."""
        return f"CANCEL\t{id}\n".encode("ascii")

    def receive(self, data: bytes) -> Iterator[Handshake | Reply]:
        """What *data* completes.

        Raises:
            RemoteProtocolError: this is no auth-client socket, or its server makes no sense.
        """
        for line in self._lines.feed(data):
            word, *args = line.split("\t")
            if self._done:
                if word == "CONT" and args:
                    try:
                        challenge = binascii.a2b_base64(args[1], strict_mode=True) if args[1:] and args[1] else b""
                    except ValueError:
                        raise RemoteProtocolError("the server's CONT is not base64") from None
                    yield Reply(word, args[0], data=challenge)
                elif word in ("OK", "FAIL") and args:
                    yield Reply(word, args[0], _fields(args[1:]))
                else:
                    raise RemoteProtocolError(f"expected OK, FAIL or CONT, got {word[:32]!a}")
            elif word == "MECH" and args:
                self._mechs[args[0]] = args[1:]
            elif word == "DONE":
                self._done = True
                if not self._mechs or "COOKIE" not in self._known:
                    raise RemoteProtocolError("the handshake ended without MECH or COOKIE: not an auth-client socket")
                yield Handshake(
                    parse_number(self._known.get("VERSION", "").rpartition("\t")[2]) or 0,
                    self._mechs,
                    parse_number(self._known.get("SPID", "")) or 0,
                    parse_number(self._known.get("CUID", "")) or 0,
                    self._known["COOKIE"],
                )
            else:
                self._known[word] = "\t".join(args)


class MasterPeer:
    """A master client: asks as doveadm, lmtp or a mail process does."""

    def __init__(self, *, minor: int = 1) -> None:
        self._minor = minor
        self._lines = Lines(MAX_LINE)
        self._version_seen = False

    def hello(self) -> bytes:
        """Our part of the handshake; may be sent at once."""
        return f"VERSION\t1\t{self._minor}\n".encode("ascii")

    def user(self, id: int, user: str, params: Params) -> bytes:
        """A ``USER`` line: ask the userdb."""
        return self._line("USER", id, escape(user), params)

    def passdb(self, id: int, user: str, params: Params) -> bytes:
        """A ``PASS`` line: ask the passdb."""
        return self._line("PASS", id, escape(user), params)

    def list(self, id: int, mask: str, params: Params = ()) -> bytes:
        """A ``LIST`` line: name the users."""
        return self._line("LIST", id, None, [("user", mask), *params])

    def request(self, id: int, client_pid: int, client_id: int, cookie: str, params: Params = ()) -> bytes:
        """A ``REQUEST`` line: fetch a login's userdb fields."""
        return self._line("REQUEST", id, f"{client_pid}\t{client_id}\t{cookie}", params)

    def cache_flush(self, id: int, users: Sequence[str] = ()) -> bytes:
        """A ``CACHE-FLUSH`` line."""
        return "\t".join(["CACHE-FLUSH", str(id), *map(escape, users)]).encode("utf-8", "surrogateescape") + b"\n"

    def _line(self, word: str, id: int, middle: str | None, params: Params) -> bytes:
        head = f"{word}\t{id}" if middle is None else f"{word}\t{id}\t{middle}"
        return f"{head}{encode_fields(params)}\n".encode("utf-8", "surrogateescape")

    def receive(self, data: bytes) -> Iterator[Reply]:
        """The replies that *data* completes.

        Raises:
            RemoteProtocolError: this is no master socket.
        """
        for line in self._lines.feed(data):
            word, *args = line.split("\t")
            if not self._version_seen:
                if word != "VERSION" or args[:1] != ["1"]:
                    raise RemoteProtocolError("expected VERSION of major 1: not an auth-master socket")
                self._version_seen = True
            elif word == "CUID":
                raise RemoteProtocolError("this is an auth-client socket, not an auth-master one")
            elif word in ("USER", "LIST") and len(args) >= 2:
                yield Reply(word, args[0], _fields(args[2:]), unescape(args[1]))
            elif word == "DONE" and args:
                yield Reply(word, args[0], [(arg, None) for arg in args[1:] if arg])
            elif word in ("PASS", "FAIL", "NOTFOUND", "OK") and args:
                yield Reply(word, args[0], _fields(args[1:]))
            # other words (SPID, and what later versions add) say nothing about a request
