"""The master codec."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authlua.dialect import Dialect
from authlua.protocol import (
    CacheFlush,
    Failed,
    Flushed,
    List,
    ListDone,
    Listed,
    LocalProtocolError,
    MasterConnection,
    MasterKind,
    NotFound,
    Pass,
    PassFound,
    RemoteProtocolError,
    Request,
    User,
    UserFound,
)
from authlua.secret import Secret

COOKIE = "75f362a16e67d0216e95a0dc3e29f233"


def opened(dialect: Dialect = Dialect.V2_3, kind: MasterKind = MasterKind.MASTER) -> MasterConnection:
    conn = MasterConnection(dialect, kind, spid=7)
    conn.greet()
    conn.data_to_send()
    list(conn.receive(b"VERSION\t1\t1\n"))
    return conn


def say(conn: MasterConnection, line: str) -> list[object]:
    return list(conn.receive(line.encode() + b"\n"))


@pytest.mark.parametrize(("dialect", "minor"), [(Dialect.V2_3, 1), (Dialect.V2_4, 3)])
def test_the_server_greets_with_version_and_spid(dialect: Dialect, minor: int) -> None:
    """Row 54: and no more."""
    conn = MasterConnection(dialect, MasterKind.MASTER, spid=7)
    conn.greet()
    assert conn.data_to_send() == f"VERSION\t1\t{minor}\nSPID\t7\n".encode()


@pytest.mark.parametrize("line", ["VERSION\t1", "VERSION\t1\tzz\tfoo"])
def test_2_3_looks_at_the_major_version_alone(line: str) -> None:
    """2.4 wants exactly two numbers."""
    say(MasterConnection(Dialect.V2_3, MasterKind.MASTER, spid=7), line)
    with pytest.raises(RemoteProtocolError):
        say(MasterConnection(Dialect.V2_4, MasterKind.MASTER, spid=7), line)


@pytest.mark.parametrize("line", ["", "USER\t1\tx\tservice=y", "VERSION\t2\t0", "CPID\t1"])
def test_a_strange_first_line_ends_the_conversation(line: str) -> None:
    """Nothing is served before VERSION."""
    with pytest.raises(RemoteProtocolError):
        say(MasterConnection(Dialect.V2_3, MasterKind.MASTER, spid=7), line)


def test_lookups_become_messages() -> None:
    """With escapes undone and parameters in order."""
    conn = opened()
    assert say(conn, "USER\t0\tbo\x01tb\tservice=lmtp\tdebug") == [
        User(0, "bo\tb", [("service", "lmtp"), ("debug", None)])
    ]
    assert say(conn, "PASS\t2\tbob\tprotocol=doveadm") == [Pass(2, "bob", [("protocol", "doveadm")])]
    assert say(conn, "CACHE-FLUSH\tabc\tu\tv") == [CacheFlush("abc", ["u", "v"])]
    assert say(conn, "LIST\t5\tuser=*@y\tservice=doveadm") == [List(5, "*@y", [("service", "doveadm")])]


def test_a_request_becomes_a_message() -> None:
    """A session pid that is no number counts as none."""
    conn = opened()
    assert say(conn, f"REQUEST\t3\t42\t1\t{COOKIE}\tsession_pid=9\trequest_auth_token") == [
        Request(3, 42, 1, Secret(bytes.fromhex(COOKIE)), 9, True)
    ]
    assert say(conn, f"REQUEST\t3\t42\t1\t{COOKIE}\tsession_pid=x") == [
        Request(3, 42, 1, Secret(bytes.fromhex(COOKIE)), None, False)
    ]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "FOO\t1",
        "CANCEL\t1",
        "CPID\t5",
        "VERSION\t1\t1",
        "USER",
        "USER\tx\tbob\tservice=y",
        "USER\t1",
        "USER\t1\tbob",
        "PASS\t1\tbob\tfoo=bar",
        "LIST",
        "LIST\tx",
        "REQUEST\t1\t2\t3",
        f"REQUEST\t1\tx\t3\t{COOKIE}",
        "REQUEST\t1\t2\t3\tnothexnothexnothexnothexnothexno",
        f"REQUEST\t1\t2\t3\t{COOKIE}00000000",
    ],
)
def test_a_malformed_line_ends_the_conversation(line: str) -> None:
    """Rows 57 and 68."""
    conn = opened()
    with pytest.raises(RemoteProtocolError):
        say(conn, line)
    assert conn.data_to_send() == b""


def test_a_short_cookie_fails_in_2_3_and_ends_the_conversation_in_2_4() -> None:
    """Row 68."""
    conn = opened()
    assert say(conn, "REQUEST\t1\t2\t3\tab") == []
    assert conn.data_to_send() == b"FAIL\t1\n"
    with pytest.raises(RemoteProtocolError):
        say(opened(Dialect.V2_4), "REQUEST\t1\t2\t3\tab")


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        (MasterKind.USERDB, [f"REQUEST\t1\t2\t3\t{COOKIE}", "CACHE-FLUSH\t1"]),
        (MasterKind.LOGIN_MASTER, ["USER\t1\tx\tservice=y", "PASS\t1\tx\tservice=y", "LIST\t1", "CACHE-FLUSH\t1"]),
    ],
)
def test_each_kind_of_socket_serves_its_own_commands(kind: MasterKind, refused: list[str]) -> None:
    """Rows 64 and 70."""
    for line in refused:
        with pytest.raises(RemoteProtocolError):
            say(opened(kind=kind), line)


def test_a_second_list_is_refused_while_one_runs() -> None:
    """Row 63."""
    conn = opened()
    assert list(conn.receive(b"LIST\t5\nLIST\t6\n")) == [List(5, None, [])]
    assert conn.data_to_send() == b"DONE\t6\tfail\n"
    conn.send(Listed(5, "a\tb"))
    conn.send(ListDone(5))
    assert conn.data_to_send() == b"LIST\t5\ta\x01tb\nDONE\t5\t\n"
    assert conn.listing is None
    with pytest.raises(LocalProtocolError):
        conn.send(ListDone(5))


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (UserFound(1, "u", [("uid", "5"), ("anonymous", None)]), b"USER\t1\tu\tuid=5\tanonymous\n"),
        (UserFound(1, "u", []), b"USER\t1\tu\t\n"),
        (PassFound(1, "u", [("forward_x", "y\t")]), b"PASS\t1\tuser=u\tforward_x=y\x01t\n"),
        (NotFound(1), b"NOTFOUND\t1\n"),
        (Failed(1), b"FAIL\t1\n"),
        (Failed(1, "a\nb"), b"FAIL\t1\treason=a\x01nb\n"),
        (Flushed("abc", 7), b"OK\tabc\t7\n"),
    ],
)
def test_replies_are_lines(reply: UserFound | PassFound | NotFound | Failed | Flushed, line: bytes) -> None:
    """In Dovecot's spelling."""
    conn = opened()
    conn.send(reply)
    assert conn.data_to_send() == line


def test_2_4_ends_an_empty_user_reply_without_a_tab() -> None:
    """Row 56."""
    conn = opened(Dialect.V2_4)
    conn.send(UserFound(1, "u", []))
    assert conn.data_to_send() == b"USER\t1\tu\n"


@pytest.mark.parametrize(("length", "served"), [(1024, True), (1025, False)])
def test_a_line_may_have_1024_bytes(length: int, served: bool) -> None:
    """Row 72."""
    start = b"USER\t1\tx\tservice="
    line = start + b"y" * (length - len(start) - 1) + b"\n"
    if served:
        assert len(list(opened().receive(line))) == 1
    else:
        with pytest.raises(RemoteProtocolError):
            list(opened().receive(line))


@given(st.binary(), st.sampled_from(Dialect), st.sampled_from(MasterKind))
def test_any_bytes_give_messages_or_a_remote_error(data: bytes, dialect: Dialect, kind: MasterKind) -> None:
    """And nothing else, ever."""
    with contextlib.suppress(RemoteProtocolError):
        list(opened(dialect, kind).receive(data))
