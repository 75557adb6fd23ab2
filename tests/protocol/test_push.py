"""Notifications come out whole wherever the stream is cut, and nothing else does."""

import contextlib
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authlua.protocol import Push, PushReader, RemoteProtocolError

BODY = {
    "user": "alice",
    "event": "messageNew",
    "folder": "INBOX",
    "imap-uidvalidity": 7,
    "imap-uid": 9,
    "from": "Jörg <joerg@example.net>",
    "subject": "hello",
    "snippet": "first line",
    "unseen": 1,
}
PUSH = Push("alice", "messageNew", "INBOX", 7, 9, "Jörg <joerg@example.net>", "hello", "first line")


def request(body: object, method: str = "PUT") -> bytes:
    data = json.dumps(body, ensure_ascii=False).encode()
    head = f"{method} /push HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


STREAM = request(BODY) + request(BODY)


@given(st.lists(st.integers(0, len(STREAM))))
def test_any_cut_of_the_stream_gives_the_same_notifications(cuts: list[int]) -> None:
    """Where the kernel cuts our reads never matters."""
    edges = [0, *sorted(cuts), len(STREAM)]
    reader = PushReader()
    assert [push for a, b in itertools.pairwise(edges) for push in reader.receive(STREAM[a:b])] == [PUSH, PUSH]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (request(BODY, "GET"), "PUT or POST"),
        (b"PUT / HTTP/1.1\r\nHost: x\r\n\r\n", "Content-Length"),
        (b"PUT / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", "Content-Length"),
        (b"x" * 20000, "HTTP request"),
        (request([]), "JSON"),
        (request({**BODY, "imap-uid": "9"}), "numbers"),
        (request({**BODY, "folder": 3}), "texts"),
        (request({**BODY, "event": "flagsSet"}), "messageNew"),
        (request({key: value for key, value in BODY.items() if key != "user"}), "user"),
    ],
)
def test_what_is_no_notification_says_what_was_expected(data: bytes, problem: str) -> None:
    """Each mistake has its words."""
    with pytest.raises(RemoteProtocolError, match=problem):
        list(PushReader().receive(data))


@given(st.binary(max_size=200) | st.binary(max_size=50).map(lambda body: request(BODY)[:80] + body))
def test_any_bytes_give_notifications_or_an_error(data: bytes) -> None:
    """Nothing a peer sends raises anything else."""
    with contextlib.suppress(RemoteProtocolError):
        assert all(isinstance(push, Push) for push in PushReader().receive(data))
