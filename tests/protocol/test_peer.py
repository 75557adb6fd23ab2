"""Both ends, back to back: what one says the other hears."""

from hypothesis import given
from hypothesis import strategies as st

from authlua.dialect import Dialect
from authlua.protocol import (
    Advertised,
    Auth,
    AuthPeer,
    CacheFlush,
    Challenge,
    ClientConnection,
    ClientKind,
    Cont,
    Fail,
    Failed,
    Handshake,
    List,
    ListDone,
    Listed,
    MasterConnection,
    MasterKind,
    MasterPeer,
    Ok,
    Pass,
    Reply,
    Request,
    User,
    UserFound,
)
from authlua.secret import Secret

names = st.text(min_size=1).filter(lambda name: "=" not in name and "\0" not in name)
values = st.binary().map(lambda data: data.decode("utf-8", "surrogateescape"))
fields = st.lists(st.tuples(names, st.none() | values), max_size=5)


class TestAuthPeer:
    def pair(self) -> tuple[AuthPeer, ClientConnection, Handshake]:
        peer = AuthPeer(pid=42)
        conn = ClientConnection(
            Dialect.V2_3,
            ClientKind.CLIENT,
            [Advertised("PLAIN", ["plaintext"])],
            spid=7,
            cuid=3,
            cookie=Secret(bytes(16)),
        )
        conn.greet()
        (handshake,) = peer.receive(conn.data_to_send())
        list(conn.receive(peer.hello()))
        assert isinstance(handshake, Handshake)
        return peer, conn, handshake

    def test_the_handshake_tells_all_about_the_server(self) -> None:
        """Mechs with their flags, pids and the cookie."""
        assert self.pair()[2] == Handshake(2, {"PLAIN": ["plaintext"]}, 7, 3, "00" * 16)

    @given(fields, st.none() | st.binary())
    def test_an_auth_arrives_as_it_was_meant(self, params: list[tuple[str, str | None]], initial: bytes | None) -> None:
        """With any names, any values up to a NUL, which ends a string for Dovecot, any response."""
        params = [("service", "imap"), *(p for p in params if p[0] != "resp")]
        peer, conn, _ = self.pair()
        (auth,) = conn.receive(peer.auth(1, "PLAIN", params, initial))
        assert isinstance(auth, Auth)
        assert auth.params == [(name, value and value.partition("\0")[0]) for name, value in params]
        assert (None if auth.initial is None else auth.initial.reveal()) == initial

    @given(values, fields)
    def test_an_ok_arrives_as_it_was_meant(self, user: str, extra: list[tuple[str, str | None]]) -> None:
        """With any user and any fields."""
        peer, conn, _ = self.pair()
        list(conn.receive(peer.auth(1, "PLAIN", [("service", "x")])))
        conn.send(Ok(1, user, extra))
        assert list(peer.receive(conn.data_to_send())) == [Reply("OK", "1", [("user", user), *extra])]

    @given(st.binary(), st.binary())
    def test_challenge_and_answer_arrive_as_they_were_meant(self, challenge: bytes, answer: bytes) -> None:
        """Any bytes, none included."""
        peer, conn, _ = self.pair()
        list(conn.receive(peer.auth(1, "PLAIN", [("service", "x")])))
        conn.send(Challenge(1, challenge))
        assert list(peer.receive(conn.data_to_send())) == [Reply("CONT", "1", data=challenge)]
        assert list(conn.receive(peer.cont(1, answer))) == [Cont(1, Secret(answer))]
        conn.send(Fail(1, [("code", "temp_fail")]))
        (reply,) = peer.receive(conn.data_to_send())
        assert isinstance(reply, Reply)
        assert reply.field("code") == "temp_fail"
        assert reply.field("reason") is None


class TestMasterPeer:
    def pair(self) -> tuple[MasterPeer, MasterConnection]:
        peer = MasterPeer()
        conn = MasterConnection(Dialect.V2_3, MasterKind.MASTER, spid=7)
        conn.greet()
        assert list(peer.receive(conn.data_to_send())) == []
        assert list(conn.receive(peer.hello())) == []
        return peer, conn

    def test_commands_arrive_as_they_were_meant(self) -> None:
        """Each of them."""
        peer, conn = self.pair()
        params = [("service", "doveadm"), ("debug", None)]
        assert list(conn.receive(peer.user(1, "a\tb", params))) == [User(1, "a\tb", params)]
        assert list(conn.receive(peer.passdb(2, "ü", params))) == [Pass(2, "ü", params)]
        assert list(conn.receive(peer.cache_flush(3, ["a\tb"]))) == [CacheFlush("3", ["a\tb"])]
        assert list(conn.receive(peer.request(4, 42, 1, "00" * 16, [("session_pid", "9")]))) == [
            Request(4, 42, 1, Secret(bytes(16)), 9)
        ]
        assert list(conn.receive(peer.list(5, "*"))) == [List(5, "*", [])]

    @given(values, fields)
    def test_a_user_arrives_as_it_was_meant(self, user: str, extra: list[tuple[str, str | None]]) -> None:
        """With any name and any fields."""
        peer, conn = self.pair()
        conn.send(UserFound(1, user, extra))
        assert list(peer.receive(conn.data_to_send())) == [Reply("USER", "1", extra, user)]

    def test_failures_and_lists_arrive_as_they_were_meant(self) -> None:
        """A list that failed says so."""
        peer, conn = self.pair()
        list(conn.receive(peer.list(5, "*")))
        for reply in (Failed(1, "later"), Listed(5, "a"), ListDone(5, ok=False)):
            conn.send(reply)
        assert list(peer.receive(conn.data_to_send())) == [
            Reply("FAIL", "1", [("reason", "later")]),
            Reply("LIST", "5", [], "a"),
            Reply("DONE", "5", [("fail", None)]),
        ]
