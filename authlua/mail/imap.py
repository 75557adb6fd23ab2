"""The wire of IMAP, as far as a reader of mailboxes needs it: bytes to responses, commands to bytes (RFC 3501).

No sockets here: whoever drives it hands in what was read.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from authlua.mail.storage import StorageError

LINE_LIMIT = 8 << 20
"""Bytes that one response may have, its literals included."""

_LITERAL = re.compile(rb"\{(\d{1,10})\+?\}$")
_TOKEN = re.compile(rb' *(?:(\()|(\))|"((?:[^"\\]|\\.)*)"|([^ ()"\r\n\0]*\[[^\]]*\](?:<\d+>)?|[^ ()"\r\n\0]+)|(\0))')
_TIMING = re.compile(r" \([\d.]+ \+ [\d.]+(?: \+ [\d.]+)? secs\)\.?$")


class Response(NamedTuple):
    """One response of the server."""

    tag: str
    """``*``, ``+``, or the tag of the command that is done."""
    name: str
    """``OK``, ``NO``, ``FETCH``, … in upper case."""
    number: int
    """In front of the name, as in ``* 3 EXISTS``; else 0."""
    values: Sequence[Any]
    """What follows: bytes, `None` for NIL, lists of these; empty for OK, NO, BAD, BYE and PREAUTH."""
    code: Sequence[str] = ()
    """The words in brackets, as in ``OK [UNSEEN 3]``."""
    text: str = ""
    """For people, without the times that Dovecot adds."""


class ImapReader:
    """Cuts what a server sends into responses."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive(self, data: bytes) -> Iterator[Response]:
        """All responses that *data* completes; a `StorageError` when it is no IMAP."""
        self._buffer += data
        while True:
            cut = self._line()
            if cut is None:
                if len(self._buffer) > LINE_LIMIT:
                    raise StorageError("IMAP: a response is too long")
                return
            yield cut

    def _line(self) -> Response | None:
        """The first response that is there as a whole; literals are in *literals*, a NUL stands for each."""
        start, text, literals = 0, b"", []
        while True:
            end = self._buffer.find(b"\r\n", start)
            if end < 0:
                return None
            line = bytes(self._buffer[start:end])
            match = _LITERAL.search(line)
            if match is None:
                text += line
                break
            size = int(match[1])
            start = end + 2 + size
            if len(self._buffer) < start:
                return None
            literals.append(bytes(self._buffer[end + 2 : start]))
            text += line[: match.start()] + b"\0"
        del self._buffer[: end + 2]
        return _response(text, literals)


def _response(line: bytes, literals: list[bytes]) -> Response:
    tag, _, rest = line.partition(b" ")
    number = 0
    word, _, behind = rest.partition(b" ")
    if tag == b"*" and word.isdigit() and len(word) <= 10:
        number = int(word)
        word, _, behind = behind.partition(b" ")
    name = word.decode("ascii", "replace").upper()
    if tag == b"+":
        return Response("+", "", 0, ())
    if name in ("OK", "NO", "BAD", "BYE", "PREAUTH"):
        code: Sequence[str] = ()
        text = behind.decode("utf-8", "surrogateescape")
        if text.startswith("[") and "]" in text:
            inside, _, text = text[1:].partition("]")
            code = inside.split(" ")
            text = text.removeprefix(" ")
        return Response(tag.decode("ascii", "replace"), name, 0, (), code, _TIMING.sub("", text))
    return Response(tag.decode("ascii", "replace"), name, number, _values(behind, literals))


def _values(data: bytes, literals: list[bytes]) -> list[Any]:
    left = iter(literals)
    stack: list[list[Any]] = [[]]
    position = 0
    while position < len(data):
        match = _TOKEN.match(data, position)
        if match is None:
            if not data[position:].strip():
                break
            raise StorageError(f"IMAP: expected a list of values, got {data[:60]!r}")
        position = match.end()
        opened, closed, quoted, atom, literal = match.groups()
        if opened:
            stack.append([])
        elif closed:
            if len(stack) == 1:
                raise StorageError(f"IMAP: unbalanced brackets in {data[:60]!r}")
            inner = stack.pop()
            stack[-1].append(inner)
        elif literal:
            stack[-1].append(next(left))
        elif quoted is not None:
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", quoted))
        else:
            stack[-1].append(None if atom.upper() == b"NIL" else atom)
    if len(stack) != 1:
        raise StorageError(f"IMAP: unbalanced brackets in {data[:60]!r}")
    return stack[0]


Word = str | bytes | list[str | bytes]
"""Of a command: text goes out as it is, bytes as a string, quoted or as a literal, a list in brackets."""


def encode(tag: str, *words: Word) -> list[bytes]:
    """A command in pieces; between two of them the server has to ask for more."""
    pieces = [bytearray(tag.encode())]
    for word in words:
        pieces[-1] += b" "
        if isinstance(word, list):
            pieces[-1] += b"("
            for index, inner in enumerate(word):
                pieces[-1] += b" " if index else b""
                _put(pieces, inner)
            pieces[-1] += b")"
        else:
            _put(pieces, word)
    pieces[-1] += b"\r\n"
    return [bytes(piece) for piece in pieces]


def _put(pieces: list[bytearray], word: str | bytes) -> None:
    if isinstance(word, str):
        pieces[-1] += word.encode()
    elif re.fullmatch(rb"[ !#-\[\]-~]*", word):
        pieces[-1] += b'"' + word + b'"'
    else:
        pieces[-1] += b"{%d}\r\n" % len(word)
        pieces.append(bytearray(word))
