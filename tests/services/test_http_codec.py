"""The bytes of HTTP: requests as they are sent, answers however they are cut."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authlua.services import http_codec
from authlua.services.http_codec import LARGEST_HEAD, BadRequest, BadResponse, Limits, ResponseReader, encode_request

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

ANSWERS: dict[str, tuple[bytes, tuple[int, bytes, list[bytes], bytes], bool, bool]] = {
    # what comes → status, reason, header, body; complete without an end; whether the connection may go on
    "a length": (HELLO, (200, b"OK", [b"content-length", b"5"], b"hello"), True, True),
    "no reason": (b"HTTP/1.1 204\r\n\r\n", (204, b"", [], b""), True, True),
    "no body": (
        b"HTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n",
        (304, b"N", [b"content-length", b"5"], b""),
        True,
        True,
    ),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n1\r\no\r\n0\r\nX-Trailer: x\r\n\r\n",
        (200, b"OK", [b"transfer-encoding", b"chunked"], b"hello"),
        True,
        True,
    ),
    "until the end": (b"HTTP/1.1 200 OK\r\n\r\nhello", (200, b"OK", [], b"hello"), False, False),
    "close": (
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        (200, b"OK", [b"connection", b"close", b"content-length", b"5"], b"hello"),
        True,
        False,
    ),
    "1.0": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        (200, b"OK", [b"content-length", b"5"], b"hello"),
        True,
        False,
    ),
    "twice and empty": (
        b"HTTP/1.1 404 Not Here\r\nX: 1\r\nx: 2\r\nY:\r\nContent-Length: 0\r\n\r\n",
        (404, b"Not Here", [b"x", b"1", b"x", b"2", b"y", b"", b"content-length", b"0"], b""),
        True,
        True,
    ),
    "in advance": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + HELLO,
        (200, b"OK", [b"content-length", b"5"], b"hello"),
        True,
        True,
    ),
}


def read(*pieces: bytes, limits: Limits | None = None, **options: Any) -> ResponseReader:
    """What became of *pieces*."""
    reader = ResponseReader(limits or Limits(), **options)
    for piece in pieces:
        reader.feed(piece)
    return reader


def seen(reader: ResponseReader) -> tuple[int, bytes, list[bytes], bytes]:
    """All that a script may ask for."""
    return reader.status, reader.reason, reader.headers, reader.body


@pytest.mark.parametrize("name", ANSWERS)
@given(cuts=st.lists(st.integers(0, 150), max_size=6))
def test_answers_are_the_same_however_they_are_cut(name: str, cuts: list[int]) -> None:
    """And it is known when they are complete, and whether the connection may go on."""
    data, expected, complete, reusable = ANSWERS[name]
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    reader = read(*(data[a:b] for a, b in itertools.pairwise(edges) if a < b))
    assert seen(reader) == expected
    assert (reader.complete, reader.reusable) == (complete, reusable)
    assert complete or reader.end()


@given(st.binary(max_size=200))
def test_whatever_comes_is_an_answer_or_refused(data: bytes) -> None:
    """No other exception, and no answer without a status."""
    for start in (b"", b"HTTP/1.1 200 OK\r\n"):
        try:
            reader = read(start + data)
        except BadResponse:
            continue
        assert reader.status or not reader.complete


def test_an_answer_cut_short_is_not_whole() -> None:
    """Unless the end is how it says where it ends."""
    assert not read(HELLO[:-1]).end()
    assert not read(b"HTTP/1.1 200 OK\r\n").end()
    assert read(HELLO[:-1]).body == b"hell"


@pytest.mark.parametrize("more", [HELLO, b"x", b"\0"])
def test_what_comes_behind_an_answer_ends_the_connection(more: bytes) -> None:
    """The next request would get it for its own."""
    reader = read(HELLO + more)
    assert seen(reader) == ANSWERS["a length"][1]
    assert not reader.reusable


def test_the_answer_to_head_has_no_body() -> None:
    """Whatever length it names; a server that sends one all the same is not asked again on that connection."""
    reader = read(HELLO[:-5], bodyless=True)
    assert (reader.complete, reader.reusable, reader.body) == (True, True, b"")
    reader = read(HELLO, bodyless=True)
    assert (reader.complete, reader.reusable, reader.body) == (True, False, b"")


@pytest.mark.parametrize(
    "data",
    [
        b"what?\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    """Two lengths, say, of which one could be a lie."""
    with pytest.raises(BadResponse, match=r"\w"):
        read(data)


@pytest.mark.parametrize("limits", [Limits(fields=1), Limits(size=30), Limits(field_size=10)])
def test_a_head_without_end_is_refused(limits: Limits) -> None:
    """Too many fields, too long ones, too much of them in all; bodies may be long."""
    assert read(HELLO + b"", limits=Limits(size=30, field_size=20, fields=1)).body == b"hello"
    with pytest.raises(BadResponse, match="Excessive"):
        read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Y: long enough to be too long\r\n\r\n", limits=limits)


@pytest.mark.parametrize("more", [b"y\r\nX: ", b"x", b"\r\n\r\nHTTP/1.1 100 Go\r\nX: "])
def test_a_head_without_limits_has_some(more: bytes) -> None:
    """All of it is kept, be it in fields, in one that never ends, or in responses in front."""
    reader = ResponseReader(Limits())
    reader.feed(b"HTTP/1.1 100 Continue\r\nX: ")
    times = LARGEST_HEAD // len(more)
    reader.feed(more * (times - 100))
    with pytest.raises(BadResponse, match="Excessive header size"):
        reader.feed(more * 101)


def test_a_payload_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is of it so far is an answer all the same."""
    monkeypatch.setattr(http_codec, "LARGEST_BODY", 1000)
    reader = read(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000)
    with pytest.raises(BadResponse, match="Payload of more than 1000 bytes"):
        reader.feed(b"x")
    assert (reader.status, reader.size) == (200, 1001)


def test_a_request_is_its_lines() -> None:
    """In the order they were given."""
    headers = [("Host", "h"), ("X-\N{LATIN SMALL LETTER O}", "\xe4")]
    assert encode_request("GET", "/a?b", headers) == b"GET /a?b HTTP/1.1\r\nHost: h\r\nX-o: \xe4\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "target", "name", "value"),
    [
        ("G T", "/", "X", ""),
        ("GET", "/ x", "X", ""),
        ("GET", "/\r\n", "X", ""),
        ("GET", "/", "X Y", ""),
        ("GET", "/", "", ""),
        ("GET", "/", "X:", ""),
        ("GET", "/", "X", "a\r\nb"),
        ("GET", "/", "X", "a\0"),
    ],
)
def test_no_script_smuggles_a_line_in(method: str, target: str, name: str, value: str) -> None:
    """Whatever it uses for a name or a value."""
    with pytest.raises(BadRequest, match="illegal"):
        encode_request(method, target, [(name, value)])
