"""Lookups without authentication, and masters fetching a login."""

from typing import Any

import pytest

from authlua.auth import new_request
from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.protocol import Failed, NotFound, PassFound, UserFound
from authlua.results import PassdbResult, UserdbResult
from authlua.secret import Secret
from tests.auth.fakes import House, run


def user(house: House, name: str) -> Any:
    return run(house.auth.lookup_user(new_request([("service", "lmtp")], id=7), name))


def passdb(house: House, name: str) -> Any:
    return run(house.auth.lookup_passdb(new_request([("service", "lmtp")], id=7), name))


class TestUser:
    def test_a_known_user_is_found_with_fields(self) -> None:
        """Under the name it has now."""
        house = House(userdbs=[{"t": {"uid": "5", "home": "/h"}}], username_format="%Lu")
        assert user(house, "T") == UserFound(7, "t", [("uid", "5"), ("home", "/h")])

    def test_an_unknown_user_is_not_found(self) -> None:
        """A bounce."""
        assert user(House(userdbs=[{}]), "t") == NotFound(7)

    @pytest.mark.parametrize("name", ["", "not ok"])
    def test_an_impossible_name_is_not_found(self, name: str) -> None:
        """Row 58."""
        assert user(House(userdbs=[{"": {}, "not ok": {}}], username_chars="t"), name) == NotFound(7)

    @pytest.mark.parametrize("failure", [UserdbResult.INTERNAL_FAILURE, ScriptError("auth.lua:1: boom")])
    def test_a_failure_is_a_failure(self, failure: Any) -> None:
        """Never a bounce; row 59."""
        house = House(userdbs=[{"t": failure}])
        assert user(house, "t") == Failed(7)
        assert house.log[0][0] == "error"

    def test_tempfail_says_why(self) -> None:
        """Row 55."""
        assert user(House(userdbs=[{"t": {"tempfail": "y", "reason": "later"}}]), "t") == Failed(7, "later")

    def test_names_of_accounts_become_numbers(self) -> None:
        """Asked away from the event loop; an unknown one is a temporary failure."""
        house = House(userdbs=[{"t": {"uid": "root"}, "u": {"uid": "no-such-account"}}])
        core = house.auth.lookup_user(new_request([("service", "x")], id=7), "t")
        wish = core.send(None)
        with pytest.raises(StopIteration) as done:
            core.send(wish.function(*wish.args))
        assert done.value.value == UserFound(7, "t", [("uid", "0")])
        core = house.auth.lookup_user(new_request([("service", "x")], id=7), "u")
        core.send(None)
        with pytest.raises(StopIteration) as done:
            core.throw(KeyError("no-such-account"))
        assert done.value.value == Failed(7)
        assert ("error", "Invalid UID value 'no-such-account'") in house.log

    def test_without_a_userdb_everybody_is_found(self) -> None:
        """Dovecot's implicit static userdb."""
        assert user(House(), "t") == UserFound(7, "t", [])

    def test_the_next_userdb_is_asked_and_a_failure_remembered(self) -> None:
        """Unknown here, known there; down here, unknown there is down."""
        down: Any = {"t": UserdbResult.INTERNAL_FAILURE}
        assert user(House(userdbs=[{}, {"t": {"a": "b"}}]), "t") == UserFound(7, "t", [("a", "b")])
        assert user(House(userdbs=[down, {}]), "t") == Failed(7)
        assert user(House(userdbs=[down, {"t": {"a": "b"}}]), "t") == UserFound(7, "t", [("a", "b")])

    def test_a_userdb_may_rename_its_user(self) -> None:
        """The new name is what the reply is about."""
        assert user(House(userdbs=[{"t": {"user": "o", "uid": "5"}}]), "t") == UserFound(7, "o", [("uid", "5")])


class TestPass:
    def test_fields_are_told_and_the_password_is_not(self) -> None:
        """Row 60."""
        house = House({"t": {"password": "{PLAIN}pass", "a": "b"}})
        assert passdb(house, "t") == (PassdbResult.OK, PassFound(7, "t", [("a", "b")]))

    @pytest.mark.parametrize(
        ("result", "reply"),
        [
            (PassdbResult.USER_UNKNOWN, NotFound(7)),
            (PassdbResult.USER_DISABLED, NotFound(7)),
            (PassdbResult.PASS_EXPIRED, NotFound(7)),
            (PassdbResult.PASSWORD_MISMATCH, Failed(7)),
            (PassdbResult.INTERNAL_FAILURE, Failed(7)),
            (PassdbResult.NEXT, Failed(7)),
            (PassdbResult.SCHEME_NOT_AVAILABLE, Failed(7, "Configured passdbs don't support credentials lookups")),
        ],
    )
    def test_each_result_has_its_reply(self, result: PassdbResult, reply: Any) -> None:
        """Section 3.4 of the protocol."""
        assert passdb(House({"t": result}), "t")[1] == reply


class TestRequest:
    @pytest.mark.parametrize("dialect", [Dialect.V2_3, Dialect.V2_4])
    def test_a_login_is_fetched_with_its_mech_and_names(self, dialect: Dialect) -> None:
        """Row 65."""
        house = House(
            {"t": {"password": "{PLAIN}pass", "userdb_quota": "1"}},
            userdbs=[{"t": {"uid": "5"}}],
            dialect=dialect,
            username_format="%Lu" if dialect is Dialect.V2_3 else "%{user | lower}",
        )
        request = new_request([("service", "imap"), ("local_name", "mx")], id=1, mech="PLAIN")
        run(house.auth.authenticate(request, Secret(b"\0T\0pass"), login=True))
        reply = run(house.auth.fetch_login(request, 9, wants_token=False))
        fields = [("quota", "1"), ("uid", "5"), ("auth_mech", "PLAIN"), ("auth_user", "T")]
        assert reply == UserFound(9, "t", fields + ([("local_name", "mx")] if dialect is Dialect.V2_4 else []))

    @pytest.mark.parametrize(("pid", "token"), [(None, False), (20452, True)])
    def test_a_token_is_given_to_a_known_session(self, pid: int | None, token: bool) -> None:
        """Row 69; made of user, pid, session, service and the server's secret."""
        house = House({"t": {"password": "{PLAIN}pass"}}, userdbs=[{"t": {}}])
        request = new_request([("service", "imap"), ("session", "S")], id=1, mech="PLAIN")
        run(house.auth.authenticate(request, Secret(b"\0t\0pass"), login=True))
        request.session_pid = pid
        fields = dict(run(house.auth.fetch_login(request, 9, wants_token=True)).fields)
        assert ("auth_token" in fields) is token
        if token:
            import hashlib
            import hmac

            expected = hmac.new(b"t", b"20452Simap" + b"s" * 32, hashlib.sha1).hexdigest()
            assert fields["auth_token"] == expected
            response = b"imap\x0020452\0t\0S\0" + expected.encode()
            second = new_request([("service", "imap-urlauth")], id=2, mech="DOVECOT-TOKEN")
            assert run(house.auth.authenticate(second, Secret(response), login=True)).user == "t"
            assert second.userdb_fields is not None
            assert second.userdb_fields.get("client_service") == "imap"
            third = new_request([("service", "imap-urlauth")], id=3, mech="DOVECOT-TOKEN")
            forged = response[:-1] + bytes([response[-1] ^ 1])
            assert dict(run(house.auth.authenticate(third, Secret(forged), login=True)).fields)["user"] == "t"


class TestList:
    def test_all_userdbs_name_their_users(self) -> None:
        """One after the other."""
        listing = House(userdbs=[{}, {"a": {}}, {}, {"b": {}, "c": {}}]).auth.list_users()
        assert [list(run(listing.piece())) for _ in range(4)] == [["a"], ["b", "c"], [], []]

    def test_a_long_list_comes_in_pieces(self) -> None:
        """And who has heard enough closes it."""
        listing = House(userdbs=[{f"u{number}": {} for number in range(2500)}]).auth.list_users()
        assert [len(run(listing.piece())) for _ in range(2)] == [1000, 1000]
        listing.close()
        assert list(run(listing.piece())) == []

    def test_one_that_fails_keeps_nobody_elses_users_back(self) -> None:
        """The list is all there is, and then a failure."""
        house = House(userdbs=[{"a": {}}, {"broken": {}}, {"b": {}}])

        class Broken:
            async def piece(self) -> list[str]:
                raise ScriptError("down")

            def close(self) -> None:
                """Nothing is open."""

        house.auth._userdbs._entries[1].userdb.iterate = Broken  # type: ignore[method-assign]
        listing = house.auth.list_users()
        assert [list(run(listing.piece())) for _ in range(2)] == [["a"], ["b"]]
        with pytest.raises(ScriptError, match="down"):
            run(listing.piece())
