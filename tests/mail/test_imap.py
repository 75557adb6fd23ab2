"""The wire of IMAP: responses come out whole wherever the stream is cut, and commands go out as RFC 3501 wants them."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authlua.mail import ImapReader, StorageError, encode_imap

STREAM = (
    b"* OK [CAPABILITY IMAP4rev1 ESEARCH] ready\r\n"
    b'* LIST (\\HasNoChildren) "/" "a \\"b\\" c"\r\n'
    b"* 23 EXISTS\r\n"
    b"* 2 FETCH (UID 7 FLAGS (\\Seen $Label1) BODY[HEADER] {12}\r\nSubject: x\r\n RFC822.SIZE NIL)\r\n"
    b"+ go on\r\n"
    b"a1 NO [NONEXISTENT] Mailbox doesn't exist: x (0.001 + 0.000 secs).\r\n"
)


def test_responses_are_taken_apart() -> None:
    """Numbers, names, codes, texts, lists, quoted strings and literals."""
    greeting, listed, exists, fetched, more, refused = ImapReader().receive(STREAM)
    assert (greeting.name, greeting.code, greeting.text) == ("OK", ["CAPABILITY", "IMAP4rev1", "ESEARCH"], "ready")
    assert listed.values == [[b"\\HasNoChildren"], b"/", b'a "b" c']
    assert (exists.name, exists.number) == ("EXISTS", 23)
    assert (fetched.number, fetched.values) == (
        2,
        [[b"UID", b"7", b"FLAGS", [b"\\Seen", b"$Label1"], b"BODY[HEADER]", b"Subject: x\r\n", b"RFC822.SIZE", None]],
    )
    assert more.tag == "+"
    assert (refused.tag, refused.code, refused.text) == ("a1", ["NONEXISTENT"], "Mailbox doesn't exist: x")


@given(st.lists(st.integers(0, len(STREAM))))
def test_any_cut_of_the_stream_gives_the_same_responses(cuts: list[int]) -> None:
    """Where the kernel cuts our reads never matters."""
    edges = [0, *sorted(cuts), len(STREAM)]
    reader = ImapReader()
    got = [response for a, b in itertools.pairwise(edges) for response in reader.receive(STREAM[a:b])]
    assert got == list(ImapReader().receive(STREAM))


PARTS = [
    b"* ",
    b"a1 ",
    b"2 ",
    b"OK ",
    b"FETCH ",
    b"(",
    b")",
    b'"',
    b"\\",
    b"[",
    b"]",
    b"{3}\r\n",
    b"NIL",
    b"{",
    b"9" * 5000,
]


@given(st.lists(st.sampled_from(PARTS)).map(b"".join) | st.binary())
def test_any_bytes_give_responses_or_a_storage_error(data: bytes) -> None:
    """Nothing a server sends raises anything else."""
    with contextlib.suppress(StorageError):
        list(ImapReader().receive(data + b"\r\n"))


@pytest.mark.parametrize(
    ("words", "pieces"),
    [
        (("EXAMINE", b"a b"), [b'a1 EXAMINE "a b"\r\n']),
        (("SELECT", b'a"b'), [b"a1 SELECT {3}\r\n", b'a"b\r\n']),
        (("X", [b"k", "NIL"]), [b'a1 X ("k" NIL)\r\n']),
        (("X", [b"k", b"a\nb"]), [b'a1 X ("k" {3}\r\n', b"a\nb)\r\n"]),
    ],
)
def test_commands_hold_any_text(words: tuple[str | bytes, ...], pieces: list[bytes]) -> None:
    """What cannot stand in quotes is a literal, and the server asks for it."""
    assert encode_imap("a1", *words) == pieces
