"""What HTTP clients are told, and what they answer: the words that the files of the client share.

What keeps a request from being answered is an answer too, with one of Dovecot's status codes from 9000 on.
"""

import base64
from collections.abc import Sequence
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from time import time
from typing import Any, NamedTuple

from authlua.services.http_codec import Header, ResponseReader
from authlua.services.http_tls import TlsOptions
from authlua.urls import Url

ABORTED = 9000
NO_HOST = 9002
NO_CONNECTION = 9003
BAD_REDIRECT = 9004
LOST = 9005
BAD_RESPONSE = 9007
TIMED_OUT = 9008

BAD_STATUS = "Invalid HTTP status code in response"

REPEATABLE = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")
"""Methods that do the same when they are done twice (RFC 9110 section 9.2.2)."""

IDLE_TIME = 60.0
"""Seconds that a connection is kept when ``max_idle_time`` is 0: to Dovecot that means for ever, but its worker has
one, and here there are as many as there ever were requests at once."""


class Options(NamedTuple):
    """What a client was told; the names are those of 2.4, all times are seconds and 0 means none."""

    user_agent: str = ""
    rawlog_dir: str = ""
    """Where all that is sent and received is written down; see `rawlog`."""
    max_idle_time: float = 0
    """How long a connection is kept for the next request; 0: `IDLE_TIME`."""
    auto_redirect: bool = True
    auto_retry: bool = True
    request_max_redirects: int = 0
    request_max_attempts: int = 1
    read_request_max_attempts: int = 0
    write_request_max_attempts: int = 0
    delete_request_max_attempts: int = 0
    max_connect_attempts: int = 0
    max_parallel_connections: int = 0
    """To one place at a time; 0: as many as there are requests."""
    connect_backoff_time: float = 0.1
    connect_backoff_max_time: float = 60
    request_absolute_timeout: float = 0
    request_timeout: float = 60
    read_request_timeout: float = 0
    write_request_timeout: float = 0
    delete_request_timeout: float = 0
    connect_timeout: float = 0
    soft_connect_timeout: float = 0
    """After this long the host's next address is tried; 0: after the whole connect timeout."""
    max_auto_retry_delay: float = 0
    dns_client_socket_path: str = ""
    """Where Dovecot's ``dns-client`` service looks names up; empty: the system's resolver does."""
    dns_client_timeout: float = 0
    """0: the connect timeout, or the request's."""
    dns_ttl: float = 0
    """How long an address is remembered."""
    socket_send_buffer_size: int = 0
    socket_recv_buffer_size: int = 0
    """Bytes; 0: what the system thinks fit."""
    response_hdr_max_size: int = 0
    response_hdr_max_field_size: int = 0
    response_hdr_max_fields: int = 0
    proxy_url: str = ""
    proxy_socket_path: str = ""
    proxy_username: str = ""
    proxy_password: str = ""
    proxy_ssl_tunnel: bool = True
    tls: TlsOptions = TlsOptions()

    def __repr__(self) -> str:
        return "<http client options>"  # passwords are among them


class Note(NamedTuple):
    """An event of a request, to be logged."""

    level: str
    text: str
    name: str = ""
    fields: tuple[str | int, ...] = ()
    """Keys and values by turns."""


class Answer(NamedTuple):
    """What came of a request."""

    status: int
    reason: bytes
    headers: bytes
    """Name, line feed, value, line feed, and so on; names in lower case."""
    payload: bytes
    problem: str
    """Why *payload* is not all of it; empty when it is."""
    notes: tuple[tuple[Any, ...], ...] = ()
    """What happened on the way, if anybody wants to know; each has what a `Note` has."""


class Request(NamedTuple):
    """What a script wants sent."""

    method: str
    url: Url
    payload: bytes | None
    expect: bool
    """Ask with ``Expect: 100-continue`` before sending the payload."""
    headers: Sequence[Header]
    """What the script added; these replace ours."""
    number: int = 0
    """What it is called in the notes; 0: nobody wants to hear of more than problems."""


class GivenUp(Exception):
    """A request that has no answer from a server."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason


class Lost(Exception):
    """The connection ended before the answer began."""


def given_up(status: int, reason: str) -> Answer:
    """The answer to a request that has none from a server."""
    return Answer(status, reason.encode("utf-8", "replace"), b"", b"", "")


def answered(response: ResponseReader, problem: str) -> Answer:
    """What *response* has come to; *problem* is why it is not all."""
    words = response.headers
    headers = b"%s\n" % b"\n".join(words) if words else b""
    return Answer(response.status, response.reason, headers, response.body, problem)


def cut_off(url: Url, response: ResponseReader, why: str) -> str:
    """What is wrong with a payload that ended too early."""
    return f"Disconnected from {url.place} while reading the payload at offset {response.size}: {why}"


def too_slow(patience: float, response: ResponseReader) -> str:
    """What is wrong with a payload of which nothing came any more."""
    return f"Read timeout in {patience:.3f} s after {response.size} bytes"


@lru_cache(2)
def http_date(now: int) -> str:
    """The seconds since 1970 *now* as the ``Date`` field has them."""
    return formatdate(now, usegmt=True)


def field(answer: Answer, name: str) -> str:
    """The first value of the header *name*, which is in lower case; empty without one."""
    words = answer.headers.decode("latin-1").split("\n")
    return next((value for key, value in zip(words[::2], words[1::2], strict=False) if key == name), "")


def retry_after(answer: Answer) -> float:
    """Seconds, 0 when the server did not say (RFC 9110 section 10.2.3)."""
    said = field(answer, "retry-after")
    if said.isdecimal():
        return float(said)
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time())
    except ValueError:
        return 0


def basic(login: str) -> str:
    """``user:password`` as an ``Authorization`` field has it (RFC 7617)."""
    return "Basic " + base64.b64encode(login.encode()).decode()
