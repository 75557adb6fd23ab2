"""What a mail process asks before it serves a user who has logged in: Dovecot's post-login protocol, version 1.

One question, one answer, and the connection ends. With the question comes, as an open file, the client's connection.
Rules: ``core:2.3.21.1:src/lib-master/master-login.c:master_login_postlogin``.
"""

from collections.abc import Mapping
from typing import NamedTuple

from authlua.protocol.errors import RemoteProtocolError
from authlua.protocol.escaping import escape, unescape

LIMIT = 65536
"""Bytes that a question may have; it holds all fields of a userdb reply."""

_HELLO = b"VERSION\tscript-login\t1\t"


class PostLogin(NamedTuple):
    """A user whose session is about to begin."""

    local_ip: str
    remote_ip: str
    user: str
    fields: Mapping[str, str | None]
    """The userdb reply, ``auth_token`` included, which is a secret."""

    def __repr__(self) -> str:
        return f"PostLogin({self.local_ip!r}, {self.remote_ip!r}, {self.user!r}, <{len(self.fields)} fields>)"


def parse_postlogin(data: bytes) -> PostLogin | None:
    """The question in *data*; `None` when there has to come more.

    Raises:
        RemoteProtocolError: it is no such question.
    """
    hello, *rest = data.split(b"\n", 2)
    if not _HELLO.startswith(hello[: len(_HELLO)]):
        raise RemoteProtocolError("post-login: expected VERSION script-login 1, got something else")
    if len(rest) < 2:
        if len(data) > LIMIT:
            raise RemoteProtocolError(f"post-login: expected at most {LIMIT} bytes")
        return None
    words = rest[0].decode("utf-8", "surrogateescape").split("\t")
    if len(words) < 3 or not words[2]:
        raise RemoteProtocolError("post-login: expected local address, remote address and user")
    local_ip, remote_ip, user, *fields = map(unescape, words)
    found: dict[str, str | None] = {}
    for field in fields:
        name, equals, value = field.partition("=")
        if name:
            found[name] = value if equals else None
    return PostLogin(local_ip, remote_ip, user, found)


def encode_postlogin(user: str, fields: Mapping[str, str | None]) -> bytes:
    """The answer that lets the session begin, with all the fields it is to have."""
    words = [user, *(name if value is None else f"{name}={value}" for name, value in fields.items())]
    return ("\t".join(map(escape, words)) + "\n").encode("utf-8", "surrogateescape")
