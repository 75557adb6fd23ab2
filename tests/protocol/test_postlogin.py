"""The post-login question and its answer: any fields make the round trip, and nothing else is taken for one."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authlua.protocol import RemoteProtocolError, encode_postlogin, escape, parse_postlogin

HELLO = b"VERSION\tscript-login\t1\t0\n"
TEXT = st.text(st.characters(codec="utf-8"), min_size=1)
FIELDS = st.dictionaries(TEXT.filter(lambda name: "=" not in name), st.none() | TEXT, max_size=5)


def question(*words: str) -> bytes:
    return HELLO + "\t".join(map(escape, words)).encode() + b"\n"


def test_a_question_is_read() -> None:
    """Addresses, user and fields, those without a value too."""
    asked = parse_postlogin(question("127.0.0.1", "192.0.2.7", "alice", "uid=5000", "home=/a\tb", "anonymous"))
    assert asked == ("127.0.0.1", "192.0.2.7", "alice", {"uid": "5000", "home": "/a\tb", "anonymous": None})


def test_a_question_shows_no_field_when_it_is_printed() -> None:
    """Among the fields is a token."""
    assert "s3cret" not in repr(parse_postlogin(question("", "", "alice", "auth_token=s3cret")))


@given(TEXT, FIELDS)
def test_an_answer_can_be_read_as_a_question_is(user: str, fields: dict[str, str | None]) -> None:
    """Escaping loses nothing."""
    asked = parse_postlogin(HELLO + b"\t\t" + encode_postlogin(user, fields))
    assert asked is not None
    assert (asked.user, asked.fields) == (user, fields)


@given(st.integers(0, 60))
def test_half_a_question_is_none_yet(size: int) -> None:
    """Where the kernel cuts our reads never matters."""
    whole = question("127.0.0.1", "192.0.2.7", "alice", "uid=5000")
    assert parse_postlogin(whole[: min(size, len(whole) - 1)]) is None


@pytest.mark.parametrize(
    "data",
    [b"AUTH\t1\n", b"VERSION\tscript-login\t2\t0\nx\n", question("127.0.0.1", "x"), question("", "", "")],
)
def test_anything_else_is_refused(data: bytes) -> None:
    """Whoever speaks another protocol is told so in the log."""
    with pytest.raises(RemoteProtocolError, match="post-login"):
        parse_postlogin(data)


@given(st.binary())
def test_any_bytes_give_a_question_or_an_error(data: bytes) -> None:
    """Nothing a peer sends raises anything else."""
    with contextlib.suppress(RemoteProtocolError):
        parse_postlogin(HELLO + data)
