"""HTTP URLs, read and refused as Dovecot does it (RFC 3986; texts as seen on 2.3.19.1 and 2.4.1)."""

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote


class Url(NamedTuple):
    """Where a request goes."""

    secure: bool
    host: str
    port: int
    target: str
    """Path and query, as they are sent."""
    userinfo: str | None
    """``user:password`` in clear; `None` when the URL has none."""

    @property
    def authority(self) -> str:
        """What the ``Host`` header says."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == (443 if self.secure else 80) else f"{name}:{self.port}"

    @property
    def place(self) -> str:
        """Host and port, for messages."""
        return f"{self.host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme and authority."""
        return f"{'https' if self.secure else 'http'}://{self.authority}"

    @property
    def shown_target(self) -> str:
        """The target as a log may have it: a query may hold a password."""
        path, mark, _ = self.target.partition("?")
        return f"{path}?<hidden>" if mark else path

    @property
    def shown(self) -> str:
        """All of it as a log may have it."""
        return self.origin + self.shown_target

    def __repr__(self) -> str:
        return f"<Url {self.shown}>"


_PCHAR = r"A-Za-z0-9._~!$&'()*+,;=:@/\-"
_PATH = re.compile(f"[{_PCHAR}]*")
_QUERY = re.compile(f"[{_PCHAR}?]*")
_USERINFO = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:-]*")
_USUAL = re.compile(rf"(https?://[^/?#]*)(/[{_PCHAR}]*)?(\?[{_PCHAR}?]*)?")
"""A URL in which nothing is escaped, and nothing would have to be."""


@lru_cache(256)
def parse_url(text: str) -> Url:
    """An absolute ``http`` or ``https`` URL without fragment.

    Raises `ValueError` with what is wrong with it.
    """
    # most requests of a script go to one place
    match = _USUAL.fullmatch(text)
    if match is not None:
        where, path, query = match.groups()
        secure, host, port, _, userinfo = _place(where)
        return Url(secure, host, port, (path or "/") + (query or ""), userinfo)
    scheme, colon, rest = text.partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise ValueError("Relative HTTP URL not allowed")
    scheme = scheme.lower()
    if scheme not in ("http", "https"):
        raise ValueError("Not an HTTP URL")
    if not rest.startswith("//"):
        raise ValueError(f"Absolute HTTP URL requires `//' after `{scheme}:'")
    end = re.search(r"[/?#]", rest[2:])
    authority, rest = (rest[2 : 2 + end.start()], rest[2 + end.start() :]) if end else (rest[2:], "")
    place = _place(f"{scheme}://{authority}")
    rest, hash, _ = rest.partition("#")
    path, mark, query = rest.partition("?")
    _check(path, _PATH, "Path")
    _check(query, _QUERY, "Query")
    if hash:
        raise ValueError("URL fragment not allowed for HTTP URL in this context")
    return place._replace(target=(path or "/") + mark + query)


@lru_cache(256)
def _place(origin: str) -> Url:
    """*origin*, a scheme and an authority, with the target still to come."""
    scheme, _, authority = origin.partition("://")
    userinfo, at, authority = authority.rpartition("@")
    _check_escapes(userinfo)
    if not _USERINFO.fullmatch(userinfo.replace("%", "")):
        raise ValueError("Invalid host identifier")
    host, port = _host_and_port(authority, 443 if scheme == "https" else 80)
    return Url(scheme == "https", host, port, "", unquote(userinfo) if at else None)


def _host_and_port(authority: str, port: int) -> tuple[str, int]:
    if authority.startswith("["):
        host, bracket, after = authority[1:].partition("]")
        if not bracket:
            raise ValueError("Expecting ']' at end of IP-literal")
        if not re.fullmatch(r"[0-9A-Fa-f:.]+", host):
            raise ValueError("Invalid IPv6 address in IP-literal")
        colon, digits = after[:1], after[1:]
        if colon not in ("", ":"):
            raise ValueError("Invalid host identifier")
    else:
        host, colon, digits = authority.partition(":")
        _check_escapes(host)
        if not host:
            raise ValueError("HTTP URL does not allow empty host identifier")
        if not re.fullmatch(r"[A-Za-z0-9.-]+", host):
            raise ValueError("Invalid host identifier")
    if not colon:
        return host, port
    if not re.fullmatch(r"[0-9]+", digits):
        raise ValueError("Invalid host port")
    if int(digits) > 65535:
        raise ValueError("Invalid port number")
    return host, int(digits)


def _check(text: str, allowed: re.Pattern[str], name: str) -> None:
    _check_escapes(text)
    if not allowed.fullmatch(text.replace("%", "")):
        odd = allowed.sub("", text.replace("%", ""))[0]
        byte = odd.encode("utf-8", "surrogateescape")[0]
        shown = f"'{odd}'" if 32 <= byte < 127 else f"<0x{byte:02x}>"
        raise ValueError(f"{name} component contains invalid character {shown}")


def _check_escapes(text: str) -> None:
    for found in re.finditer(r"%(.?)(.?)", text, re.DOTALL):
        if len(found[0]) < 3:
            raise ValueError("Unexpected URI boundary after '%'")
        for digit in found.groups():
            if not re.fullmatch(r"[0-9A-Fa-f]", digit):
                raise ValueError(f"Expecting hex digit after '%', but found '{digit}'")


class RedisUrl(NamedTuple):
    """Where a Redis server is and how it is entered; its repr hides the password."""

    secure: bool
    host: str
    """Empty for a unix socket."""
    port: int
    path: str
    """Of the unix socket; empty for a host."""
    user: str
    password: str
    db: int

    def __repr__(self) -> str:
        return f"<RedisUrl {self.place}>"

    @property
    def place(self) -> str:
        """What an admin calls it: the socket's path, or host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.path or f"{host}:{self.port}"


@lru_cache(64)
def parse_redis_url(text: str) -> RedisUrl:
    """``redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]``, ``rediss://`` for TLS, ``unix:///PATH[?db=DB]``.

    The first two are registered with IANA, the third is what Redis clients agree on.
    Raises `ValueError` with what is wrong with it, without repeating any of it.
    """
    scheme, colon, rest = text.partition("://")
    if not colon or scheme not in ("redis", "rediss", "unix"):
        raise ValueError("expected redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH?db=DB")
    place, _, query = rest.partition("?")
    userinfo, at, place = place.rpartition("@")
    user, separator, password = userinfo.partition(":")
    if at and not separator:
        raise ValueError("expected a password, with a colon in front, before the @")
    if scheme == "unix":
        if not place.startswith("/"):
            raise ValueError("expected the absolute path of a socket after unix://")
        host, port, path, db = "", 0, unquote(place), query.removeprefix("db=") if query else ""
    else:
        authority, _, db = place.partition("/")
        host, port = _host_and_port(authority, 6379)
        path = ""
    if db and not re.fullmatch(r"[0-9]{1,4}", db):
        raise ValueError("expected the number of a database")
    return RedisUrl(scheme == "rediss", host, port, path, unquote(user), unquote(password), int(db or 0))
