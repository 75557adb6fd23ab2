"""The client codec: what lines mean, and that nothing else can come of bytes."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authlua.dialect import Dialect
from authlua.protocol import (
    Advertised,
    Auth,
    Cancel,
    Challenge,
    ClientConnection,
    ClientKind,
    Cont,
    Fail,
    Hello,
    LocalProtocolError,
    Ok,
    RemoteProtocolError,
)
from authlua.secret import Secret

HELLO = b"VERSION\t1\t2\nCPID\t42\n"
MECHS = [
    Advertised("PLAIN", ["plaintext"]),
    Advertised("SCRAM-SHA-1-PLUS", ["mutual-auth", "channel-binding"]),
    Advertised("LOGIN", ["plaintext"]),
]


def new_connection(
    dialect: Dialect = Dialect.V2_3, kind: ClientKind = ClientKind.LOGIN, *, late: bool = False, hello: bytes = b""
) -> ClientConnection:
    mechs = [Advertised("DOVECOT-TOKEN", ["private"])] if kind is ClientKind.TOKEN_LOGIN else MECHS
    conn = ClientConnection(dialect, kind, mechs, spid=7, cuid=3, cookie=Secret(bytes(range(16))), late=late)
    conn.greet()
    if hello:
        list(conn.receive(hello))
        conn.data_to_send()
    return conn


def opened(dialect: Dialect = Dialect.V2_3, kind: ClientKind = ClientKind.LOGIN, minor: int = 2) -> ClientConnection:
    return new_connection(dialect, kind, hello=b"VERSION\t1\t%d\nCPID\t42\n" % minor)


def say(conn: ClientConnection, line: bytes) -> list[object]:
    return list(conn.receive(line + b"\n"))


def feed(conn: ClientConnection, chunks: list[bytes]) -> list[object]:
    return [message for chunk in chunks for message in conn.receive(chunk)]


def asked(dialect: Dialect, minor: int = 2) -> ClientConnection:
    """A connection whose request 1 waits for the client."""
    conn = opened(dialect, minor=minor)
    say(conn, b"AUTH\t1\tPLAIN\tservice=imap")
    conn.send(Challenge(1, b""))
    conn.data_to_send()
    return conn


class TestHandshake:
    def test_an_early_server_says_everything_at_once(self) -> None:
        """Exim waits for DONE before it says a word; channel binding is not offered this way."""
        assert new_connection().data_to_send() == (
            b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nSPID\t7\nCUID\t3\n"
            b"COOKIE\t000102030405060708090a0b0c0d0e0f\nDONE\n"
        )

    @pytest.mark.parametrize(("minor", "bound"), [(2, False), (3, True)])
    def test_a_late_server_offers_channel_binding_to_those_who_know_it(self, minor: int, bound: bool) -> None:
        """Minor 3 is where it came."""
        conn = new_connection(Dialect.V2_4, late=True)
        assert conn.data_to_send() == b"VERSION\t1\t3\n"
        list(conn.receive(b"VERSION\t1\t%d\n" % minor))
        lines = conn.data_to_send().decode().splitlines()
        assert lines[:2] == ["MECH\tPLAIN\tplaintext", "MECH\tLOGIN\tplaintext"]
        assert ("MECH\tSCRAM-SHA-1-PLUS\tmutual-auth\tchannel-binding" in lines) is bound
        assert lines[-1] == "DONE"

    @pytest.mark.parametrize(
        ("dialect", "line"),
        [(Dialect.V2_3, b"MECH\tDOVECOT-TOKEN\n"), (Dialect.V2_4, b"MECH\tDOVECOT-TOKEN\tprivate\n")],
    )
    def test_a_token_socket_offers_tokens_alone(self, dialect: Dialect, line: bytes) -> None:
        """And nothing from the configuration."""
        greeting = new_connection(dialect, ClientKind.TOKEN_LOGIN).data_to_send()
        assert line in greeting
        assert greeting.count(b"MECH") == 1

    def test_the_client_is_known_by_pid_and_version(self) -> None:
        """The server needs both."""
        assert list(new_connection().receive(HELLO)) == [Hello(42, 2)]

    @pytest.mark.parametrize(
        "line",
        [b"", b"CPID\t5", b"VERSION\t2\t0", b"VERSION\t1", b"VERSION\t1\tx", b"VERSION\t1\t0\tfoo", b"VERSION\tx\t1"],
    )
    def test_a_strange_first_line_ends_the_conversation(self, line: bytes) -> None:
        """Rows 4 and 5 of the checklist."""
        with pytest.raises(RemoteProtocolError):
            say(new_connection(), line)

    @pytest.mark.parametrize("line", [b"", b"CPID", b"CPID\t0", b"CPID\tabc", b"AUTH\t1\tPLAIN\tservice=x"])
    def test_a_strange_second_line_ends_the_conversation(self, line: bytes) -> None:
        """Rows 6 and 7."""
        with pytest.raises(RemoteProtocolError):
            say(new_connection(hello=b"VERSION\t1\t2\n"), line)


class TestAuth:
    def test_an_auth_line_becomes_a_message(self) -> None:
        """Parameters keep their order and lose their escapes."""
        (auth,) = say(opened(), b"AUTH\t1\tplain\tservice=imap\tsecured\tclient_id=a\x01tb=c\tresp=AHQAcw==")
        assert isinstance(auth, Auth)
        assert (auth.id, auth.mech) == (1, "PLAIN")
        assert auth.params == [("service", "imap"), ("secured", None), ("client_id", "a\tb=c")]
        assert auth.named == dict(auth.params)
        assert auth.initial is not None
        assert auth.initial.reveal() == b"\0t\0s"

    def test_the_initial_response_is_not_printed(self) -> None:
        """It holds the password."""
        (auth,) = say(opened(), b"AUTH\t1\tPLAIN\tservice=imap\tresp=AHQAcw==")
        assert "<hidden>" in repr(auth)

    @pytest.mark.parametrize(
        ("minor", "response", "expected"),
        [
            (2, b"", None),
            (2, b"\tresp=", b""),
            (2, b"\tresp", b""),
            (1, b"\tresp=", None),
            (1, b"\tresp", None),
            (0, b"\tresp==", b""),
            (2, b"\tresp==", b""),
        ],
    )
    def test_an_absent_response_is_not_an_empty_one(self, minor: int, response: bytes, expected: bytes | None) -> None:
        """And before minor 2 an empty one means absent."""
        (auth,) = say(opened(minor=minor), b"AUTH\t1\tPLAIN\tservice=smtp" + response)
        assert isinstance(auth, Auth)
        assert (auth.initial and auth.initial.reveal()) == expected or (auth.initial == Secret(expected or b"x"))

    @pytest.mark.parametrize("response", [b"!!!", b"AHQAcw", b"AHQAcw==x", b"A"])
    def test_bad_base64_is_refused_and_the_id_stays_free(self, response: bytes) -> None:
        """At once, and the conversation goes on."""
        conn = opened()
        assert say(conn, b"AUTH\t1\tPLAIN\tservice=imap\tresp=" + response) == []
        expected = b"FAIL\t1\tcode=invalid_base64\treason=Invalid base64 data in initial response\n"
        assert conn.data_to_send() == expected
        assert len(say(conn, b"AUTH\t1\tPLAIN\tservice=imap")) == 1

    def test_white_space_in_base64_is_no_matter(self) -> None:
        """As Dovecot decodes it."""
        (auth,) = say(opened(), b"AUTH\t1\tPLAIN\tservice=imap\tresp= AHQA cw==")
        assert isinstance(auth, Auth)
        assert auth.initial == Secret(b"\0t\0s")

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"FOO\t1",
            b"VERSION\t1\t2",
            b"CPID\t42",
            b"AUTH",
            b"AUTH\t0\tPLAIN\tservice=x",
            b"AUTH\t-1\tPLAIN\tservice=x",
            b"AUTH\tabc\tPLAIN\tservice=x",
            b"AUTH\t4294967296\tPLAIN\tservice=x",
            b"AUTH\t\xd9\xa1\tPLAIN\tservice=x",  # an arabic digit is none here
            b"AUTH\t1",
            b"AUTH\t1\tFOO\tservice=x",
            b"AUTH\t1\tPLAIN",
            b"AUTH\t1\tPLAIN\tservice=x\tresp=AHQAcw==\tfoo=bar",
            b"AUTH\t1\tPLAIN\tservice=x\tresp=AHQAcw==\t",
            b"CANCEL",
            b"CANCEL\tabc",
            b"CONT\tabc\tAAAA",
        ],
    )
    def test_a_malformed_line_ends_the_conversation(self, line: bytes) -> None:
        """Rows 12, 13, 15, 17, 21 and 35."""
        conn = opened()
        with pytest.raises(RemoteProtocolError):
            say(conn, line)
        assert conn.data_to_send() == b""

    def test_a_taken_id_ends_the_conversation(self) -> None:
        """Row 20."""
        conn = opened()
        say(conn, b"AUTH\t1\tPLAIN\tservice=x")
        with pytest.raises(RemoteProtocolError):
            say(conn, b"AUTH\t1\tPLAIN\tservice=x")

    def test_a_token_socket_spells_its_mech_exactly(self) -> None:
        """Case counts there, and nothing else is served."""
        with pytest.raises(RemoteProtocolError):
            say(opened(kind=ClientKind.TOKEN_LOGIN), b"AUTH\t1\tdovecot-token\tservice=x")
        assert say(opened(kind=ClientKind.TOKEN_LOGIN), b"AUTH\t1\tDOVECOT-TOKEN\tservice=x")


class TestCont:
    @pytest.mark.parametrize("dialect", Dialect)
    def test_an_answer_continues_its_request(self, dialect: Dialect) -> None:
        """Once."""
        conn = asked(dialect)
        assert say(conn, b"CONT\t1\tAHQAcw==") == [Cont(1, Secret(b"\0t\0s"))]
        assert say(conn, b"CONT\t1\tAHQAcw==") == [Cancel(1)]
        assert conn.data_to_send() == b"FAIL\t1\treason=Unexpected continuation\n"

    def test_an_unknown_id_has_timed_out(self) -> None:
        """Row 29."""
        conn = opened()
        assert say(conn, b"CONT\t9\tAAAA") == []
        assert conn.data_to_send() == b"FAIL\t9\treason=Authentication request timed out\n"

    def test_without_data_2_3_ends_the_conversation(self) -> None:
        """Whatever the id; row 28."""
        with pytest.raises(RemoteProtocolError):
            say(opened(), b"CONT\t9")

    def test_without_data_2_4_looks_at_the_id_first(self) -> None:
        """Row 28, and row 27 for a request that waits."""
        conn = opened(Dialect.V2_4)
        say(conn, b"CONT\t9")
        assert conn.data_to_send() == b"FAIL\t9\treason=Authentication request timed out\n"
        with pytest.raises(RemoteProtocolError):
            say(asked(Dialect.V2_4), b"CONT\t1")

    def test_bad_base64_ends_the_request_alone(self) -> None:
        """Row 26."""
        conn = asked(Dialect.V2_4)
        assert say(conn, b"CONT\t1\t!!") == [Cancel(1)]
        expected = b"FAIL\t1\tcode=invalid_base64\treason=Invalid base64 data in continued response\n"
        assert conn.data_to_send() == expected
        assert len(say(conn, b"AUTH\t1\tPLAIN\tservice=imap")) == 1

    @pytest.mark.parametrize(("dialect", "minor"), [(Dialect.V2_3, 3), (Dialect.V2_4, 2)])
    def test_an_extra_field_is_bad_base64_to_those_who_know_none(self, dialect: Dialect, minor: int) -> None:
        """Row 32."""
        assert say(asked(dialect, minor), b"CONT\t1\tAHQAcw==\tfoo=bar") == [Cancel(1)]

    def test_an_extra_field_is_ignored_by_those_who_may_get_some(self) -> None:
        """Row 32, 2.4; channel binding data is the one that is known."""
        assert say(asked(Dialect.V2_4, 3), b"CONT\t1\tAHQAcw==\tfoo=bar") == [Cont(1, Secret(b"\0t\0s"))]
        assert say(asked(Dialect.V2_4, 3), b"CONT\t1\t\tchannel_binding=YQ==") == [Cont(1, Secret(b""), b"a")]

    def test_an_out_of_band_answer_is_no_data(self) -> None:
        """2.4 alone; to 2.3 it is bad base64."""
        assert say(asked(Dialect.V2_4), b"CONT\t1\t#") == [Cont(1, None)]
        assert say(asked(Dialect.V2_3), b"CONT\t1\t#") == [Cancel(1)]


class TestReplies:
    def test_fields_are_escaped_in_order(self) -> None:
        """A bare name where there is no value."""
        conn = opened()
        say(conn, b"AUTH\t1\tPLAIN\tservice=x")
        conn.send(Ok(1, "t\tu", [("nologin", None), ("a", "b\n"), ("empty", "")], keep=True))
        assert conn.data_to_send() == b"OK\t1\tuser=t\x01tu\tnologin\ta=b\x01n\tempty=\n"

    def test_a_kept_success_keeps_its_id(self) -> None:
        """Until a master fetches it."""
        conn = opened()
        say(conn, b"AUTH\t1\tPLAIN\tservice=x")
        conn.send(Ok(1, "t", keep=True))
        with pytest.raises(RemoteProtocolError):
            say(conn, b"AUTH\t1\tPLAIN\tservice=x")
        conn = opened()
        say(conn, b"AUTH\t1\tPLAIN\tservice=x")
        conn.send(Ok(1, "t", keep=True))
        conn.forget(1)
        assert len(say(conn, b"AUTH\t1\tPLAIN\tservice=x")) == 1

    def test_a_released_id_may_be_used_again_before_its_fail_is_told(self) -> None:
        """Row 37: both answers arrive."""
        conn = opened()
        say(conn, b"AUTH\t1\tPLAIN\tservice=x")
        conn.release(1)
        say(conn, b"AUTH\t1\tPLAIN\tservice=x")
        conn.send(Ok(1, "t"))
        conn.send(Fail(1, [("user", "t")], delay=True))
        assert conn.data_to_send() == b"OK\t1\tuser=t\nFAIL\t1\tuser=t\n"

    @pytest.mark.parametrize("reply", [Ok(1, "t"), Fail(1), Challenge(1, b"")])
    def test_nobody_is_told_twice(self, reply: Ok | Fail | Challenge) -> None:
        """A reply that is not owed is our bug, and is not sent."""
        conn = opened()
        with pytest.raises(LocalProtocolError):
            conn.send(reply)
        say(conn, b"AUTH\t1\tPLAIN\tservice=x")
        conn.send(Fail(1))
        conn.data_to_send()
        with pytest.raises(LocalProtocolError):
            conn.send(reply)
        assert conn.data_to_send() == b""

    def test_a_cancelled_request_gets_no_answer(self) -> None:
        """Row 34; an unknown id is nothing to talk about."""
        conn = asked(Dialect.V2_3)
        assert say(conn, b"CANCEL\t1") == [Cancel(1)]
        assert say(conn, b"CANCEL\t99") == []
        assert conn.data_to_send() == b""
        with pytest.raises(LocalProtocolError):
            conn.send(Fail(1))


class TestStream:
    STREAM = (
        HELLO
        + b"AUTH\t1\tPLAIN\tservice=imap\tresp=AHQAcw==\r\nCANCEL\t5\n"
        + b"AUTH\t4294967295\tLOGIN\tservice=\tx=\xff\xc3\xbc\n"
        + b"CANCEL\t1\nAUTH\t1\tPLAIN\tprotocol=pop3\n"
    )

    @given(st.lists(st.integers(0, len(STREAM))))
    def test_any_split_of_the_stream_gives_the_same_messages(self, cuts: list[int]) -> None:
        """Where the kernel cuts our reads never matters."""
        edges = [0, *sorted(cuts), len(self.STREAM)]
        conn = new_connection()
        got = [m for a, b in itertools.pairwise(edges) for m in conn.receive(self.STREAM[a:b])]
        assert got == list(new_connection().receive(self.STREAM))
        assert len(got) == 5

    @given(st.binary(), st.booleans(), st.sampled_from(Dialect))
    def test_any_bytes_give_messages_or_a_remote_error(self, data: bytes, greeted: bool, dialect: Dialect) -> None:
        """And nothing else, ever."""
        conn = new_connection(dialect, hello=HELLO if greeted else b"")
        with contextlib.suppress(RemoteProtocolError):
            list(conn.receive(data))

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([b"AUTH", b"CONT", b"CANCEL"]),
                st.sampled_from([b"1", b"2", b"x", b"0"]),
                st.sampled_from([b"PLAIN\tservice=x", b"login\tservice", b"", b"AAAA", b"#", b"!", b"\x01\tresp="]),
            )
        ),
        st.sampled_from(Dialect),
    )
    def test_any_lines_give_messages_or_a_remote_error(self, lines: list[tuple[bytes, ...]], dialect: Dialect) -> None:
        """Also when each request is answered in turn."""
        conn = opened(dialect)
        try:
            for line in lines:
                for message in conn.receive(b"\t".join(line) + b"\n"):
                    if isinstance(message, Auth):
                        conn.send(Challenge(message.id, b"?"))
                    elif isinstance(message, Cont):
                        conn.send(Fail(message.id))
        except RemoteProtocolError:
            pass

    @pytest.mark.parametrize(("length", "served"), [(16384, True), (16385, False)])
    @pytest.mark.parametrize("pieces", [1, 7])
    def test_a_line_may_have_16384_bytes(self, length: int, served: bool, pieces: int) -> None:
        """Row 52; the limit counts the LF."""
        start = b"AUTH\t1\tPLAIN\tservice=x\tx="
        line = start + b"y" * (length - len(start) - 1) + b"\n"
        conn = opened()
        step = len(line) // pieces + 1
        if served:
            assert len(feed(conn, [line[i : i + step] for i in range(0, len(line), step)])) == 1
        else:
            with pytest.raises(RemoteProtocolError):
                feed(conn, [line[i : i + step] for i in range(0, len(line), step)])

    def test_lines_before_one_that_is_too_long_are_served(self) -> None:
        """In the same read, too."""
        messages = opened().receive(b"AUTH\t1\tPLAIN\tservice=x\n" + b"y" * 20000)
        assert isinstance(next(messages), Auth)
        with pytest.raises(RemoteProtocolError):
            next(messages)

    def test_an_unfinished_line_does_not_grow_without_end(self) -> None:
        """Nobody fills our memory with one line."""
        conn = opened()
        with pytest.raises(RemoteProtocolError):
            feed(conn, [b"x" * 1024] * 17)

    def test_a_nul_hides_the_rest_of_its_line(self) -> None:
        """As it does in a C string."""
        (auth,) = say(opened(), b"AUTH\t1\tPLAIN\tservice=x\0\tresp=!!\tfoo")
        assert isinstance(auth, Auth)
        assert auth.params == [("service", "x")]
