"""HTTP/1.1 as a client speaks it: requests become bytes, bytes become an answer (RFC 9112). No socket, no clock.

Reading is llhttp's business, through httptools: a kept-up binding of the parser that Node.js uses. Writing a request is
joining its lines, once what came from a script was looked at.
"""

import re
from collections.abc import Sequence

import httptools

Header = tuple[str, str]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[^\0\r\n]*")
_TARGET = re.compile(r"[\x21-\x7e\x80-\xff]+")


LARGEST_HEAD = 1 << 20
"""Bytes that the head of a response may have when nobody said how many; all of it is kept until it is complete."""

LARGEST_BODY = 64 << 20
"""Bytes that a payload may have: no Lua state has room for more by default, and the server is everybody's."""


class BadRequest(Exception):
    """What was to be sent is no HTTP; its text says what of it."""


class BadResponse(Exception):
    """What came is no HTTP, or too much of it; its text says why."""


def encode_request(method: str, target: str, headers: Sequence[Header]) -> bytes:
    """The head of a request. Raises `BadRequest`."""
    return encode_line(method, target) + encode_headers(headers)


def encode_line(method: str, target: str) -> bytes:
    """The first line of a request. Raises `BadRequest`."""
    if not _NAME.fullmatch(method) or not _TARGET.fullmatch(target):
        raise BadRequest("illegal request line")
    return f"{method} {target} HTTP/1.1\r\n".encode("latin-1", "replace")


def encode_headers(headers: Sequence[Header]) -> bytes:
    """The rest of a request's head, with the empty line. Raises `BadRequest`."""
    for name, value in headers:
        if not _NAME.fullmatch(name):
            raise BadRequest(f"illegal header name {name!r}")
        if not _VALUE.fullmatch(value):
            raise BadRequest(f"illegal value of header {name}")
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    return f"{''.join(lines)}\r\n".encode("latin-1", "replace")


class Limits:
    """How much of a response's head is read; 0: as much as comes, up to `LARGEST_HEAD`."""

    __slots__ = ("field_size", "fields", "size")

    def __init__(self, size: int = 0, field_size: int = 0, fields: int = 0) -> None:
        self.size = size
        """Bytes of all fields."""
        self.field_size = field_size
        """Bytes of one."""
        self.fields = fields


class _Message:
    """What the parser calls; one after the other, as a final response may have others (``100 Continue``) in front."""

    __slots__ = (
        "body",
        "bodyless",
        "complete",
        "continued",
        "fields",
        "final",
        "framed",
        "keep_alive",
        "parser",
        "reason",
        "size",
        "status",
        "too_much",
    )

    def __init__(self, bodyless: bool) -> None:
        self.bodyless = bodyless
        self.parser: httptools.HttpResponseParser | None = None
        self.too_much = False
        """Something came behind the final response."""
        self.final = self.complete = self.continued = self.keep_alive = False
        self.status = self.size = 0
        self.body: list[bytes] = []
        self._clear()

    def _clear(self) -> None:
        self.reason = b""
        self.fields: list[bytes] = []
        self.framed = False

    def on_message_begin(self) -> None:
        if self.final:
            self.too_much = True
        else:
            self._clear()

    def on_status(self, reason: bytes) -> None:
        if not self.final:
            self.reason += reason

    def on_header(self, name: bytes, value: bytes | None) -> None:
        if self.final:  # a trailer
            return
        name = name.lower()
        self.fields += (name, value or b"")
        if name in (b"content-length", b"transfer-encoding"):
            self.framed = True

    def on_headers_complete(self) -> None:
        if self.final:
            return
        parser = self.parser
        assert parser is not None, "it is there until the answer is complete"
        status = parser.get_status_code()
        if status >= 200:
            self.final = True
            self.status = status
            self.complete = self.bodyless
            self.keep_alive = parser.should_keep_alive()
        else:
            self.continued = True

    def on_body(self, body: bytes) -> None:
        if self.bodyless:
            self.too_much = True
        elif not self.too_much:
            self.body.append(body)
            self.size += len(body)

    def on_message_complete(self) -> None:
        if self.final:
            self.complete = True


class ResponseReader:
    """The answer to one request, as it comes in.

    Args:
        bodyless: the request was one whose answer has a head only (``HEAD``, ``CONNECT``).
    """

    __slots__ = ("_head_seen", "_limits", "_message", "_parser", "_read")

    def __init__(self, limits: Limits, *, bodyless: bool = False) -> None:
        self._limits = limits
        self._head_seen = False
        self._read = 0
        self._message = _Message(bodyless)
        self._parser = self._message.parser = httptools.HttpResponseParser(self._message)

    def feed(self, data: bytes) -> None:
        """Take in *data*, which the server sent. Raises `BadResponse`."""
        message = self._message
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if not message.final:
                raise BadResponse("Invalid HTTP response: it changes to another protocol") from None
        except httptools.HttpParserError as error:
            if not message.complete:
                raise BadResponse(f"Invalid HTTP response: {error}") from error
            message.too_much = True
        if not self._head_seen:
            self._read += len(data)
            if self._read > max(LARGEST_HEAD, self._limits.size) and not message.final:
                raise BadResponse("Failed to parse header: Excessive header size")
            self._check(message.fields)
            self._head_seen = message.final
        if message.size > LARGEST_BODY:
            raise BadResponse(f"Payload of more than {LARGEST_BODY} bytes")
        if message.complete:
            message.parser = None  # the two know each other

    def end(self) -> bool:
        """The server has closed the connection; whether that was how the answer ends."""
        return self._message.final and not self._message.framed

    @property
    def complete(self) -> bool:
        """Whether all of it is there."""
        return self._message.complete

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request, once the answer is complete."""
        return self._message.keep_alive and not self._message.too_much

    @property
    def status(self) -> int:
        """0 until the final head is there."""
        return self._message.status if self._head_seen else 0

    @property
    def continued(self) -> bool:
        """The server has said something in advance, such as ``100 Continue``."""
        return self._message.continued

    @property
    def reason(self) -> bytes:
        """The reason phrase."""
        return self._message.reason

    @property
    def headers(self) -> list[bytes]:
        """Names, in lower case, and values by turns."""
        return self._message.fields

    @property
    def body(self) -> bytes:
        """What there is of it."""
        body = self._message.body
        return body[0] if len(body) == 1 else b"".join(body)

    @property
    def size(self) -> int:
        """Bytes of body so far."""
        return self._message.size

    def _check(self, fields: list[bytes]) -> None:
        limits = self._limits
        if limits.fields and len(fields) > 2 * limits.fields:
            raise BadResponse("Failed to parse header: Excessive number of header fields")
        if limits.size and sum(map(len, fields)) > limits.size:
            raise BadResponse("Failed to parse header: Excessive header size")
        if limits.field_size and fields and max(map(len, fields)) > limits.field_size:
            raise BadResponse("Failed to parse header: Excessive header field size")
