"""What Dovecot's push-notification driver ``ox`` sends: one HTTP request with a JSON object for each mail that came.

As much of HTTP/1.1 as that driver speaks (RFC 9112): a method, ``Content-Length``, one request after the other.
Rules: ``core:2.3.21.1:src/plugins/push-notification/push-notification-driver-ox.c``.
"""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from authlua.protocol.errors import RemoteProtocolError

HEAD_LIMIT = 16384
BODY_LIMIT = 1 << 20

_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*(\d{1,7})[ \t]*\r?$")


class Push(NamedTuple):
    """A mail has come."""

    user: str
    event: str
    """``messageNew`` or ``messageAppend``."""
    folder: str
    """The mailbox's visible name."""
    uidvalidity: int
    uid: int
    sender: str
    """The From field as it stands in the mail; empty without one."""
    subject: str | None
    """The Subject field as it stands in the mail."""
    snippet: str


class PushReader:
    """Cuts what a connection sends into notifications."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive(self, data: bytes) -> Iterator[Push]:
        """All notifications that *data* completes.

        Raises:
            RemoteProtocolError: it is no HTTP, or no notification; nothing more can be read.
        """
        self._buffer += data
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > HEAD_LIMIT:
                    raise RemoteProtocolError("push: expected an HTTP request")
                return
            head = bytes(self._buffer[:end])
            if not re.match(rb"(PUT|POST) \S+ HTTP/1\.[01]\r?\n", head + b"\n"):
                raise RemoteProtocolError("push: expected PUT or POST")
            length = _LENGTH.search(head)
            if length is None or int(length[1]) > BODY_LIMIT:
                raise RemoteProtocolError(f"push: expected a Content-Length of at most {BODY_LIMIT}")
            size = end + 4 + int(length[1])
            if len(self._buffer) < size:
                return
            body = bytes(self._buffer[end + 4 : size])
            del self._buffer[:size]
            yield _parse(body)


def _parse(body: bytes) -> Push:
    try:
        found = json.loads(body)
        push = Push(
            user=found["user"],
            event=found["event"],
            folder=found["folder"],
            uidvalidity=found["imap-uidvalidity"],
            uid=found["imap-uid"],
            sender=found.get("from") or "",
            subject=found.get("subject"),
            snippet=found.get("snippet") or "",
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RemoteProtocolError(f"push: expected a notification in JSON, got something else ({error!r})") from error
    texts = (push.user, push.event, push.folder, push.sender, push.snippet, push.subject or "")
    if (
        not all(isinstance(text, str) for text in texts)
        or type(push.uidvalidity) is not int
        or type(push.uid) is not int
    ):
        raise RemoteProtocolError("push: expected texts and numbers")
    if push.event not in ("messageNew", "messageAppend"):
        raise RemoteProtocolError(f"push: expected messageNew or messageAppend, got {push.event[:40]!r}")
    return push


def encode_answer(status: int) -> bytes:
    """The answer to one request: 200, 400, or 503 when there is no time for it."""
    words = {200: "OK", 400: "Bad Request", 503: "Service Unavailable"}
    close = "" if status == 200 else "Connection: close\r\n"
    return f"HTTP/1.1 {status} {words[status]}\r\nContent-Length: 0\r\n{close}\r\n".encode()
