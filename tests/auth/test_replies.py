"""How replies are put together: in this order, and with these words for what went wrong."""

import hashlib
import hmac
from typing import Any

import pytest

from authlua.auth import new_request
from authlua.dialect import Dialect
from authlua.protocol import Fail, Failed, NotFound, Ok, UserFound
from authlua.results import PassdbResult, UserdbResult
from authlua.server.core import _about_2_3, _about_2_4
from tests.auth.fakes import House, run
from tests.auth.test_logins import BOTH, PASS, login, login_as

MASTER: dict[str, Any] = {"placed": [{"master": True}, {}], "anonymous_username": "t"}


class TestSuccess:
    @BOTH
    def test_the_passdbs_fields_come_first_then_names_then_the_proxys(self, dialect: Dialect) -> None:
        """A master who becomes the anonymous user, elsewhere: everything there is."""
        house = House(
            {"admin": {**PASS, "z": "1", "proxy": "y", "a": "2", "host": "192.0.2.9"}}, dialect=dialect, **MASTER
        )
        assert login(house, "admin", authzid="t", master=True) == Ok(
            1,
            "t",
            [
                ("z", "1"),
                ("proxy", None if dialect is Dialect.V2_3 else "y"),
                ("a", "2"),
                ("host", "192.0.2.9"),
                ("original_user", "admin"),
                ("auth_user", "admin"),
                ("anonymous", None),
                ("pass", "pass"),
                ("master", "admin"),
            ],
        )

    @BOTH
    def test_what_a_passdb_says_itself_is_not_said_again(self, dialect: Dialect) -> None:
        """Nor corrected."""
        said = {
            "original_user": "o",
            "auth_user": "u",
            "anonymous": "n",
            "proxy": "y",
            "host": "192.0.2.9",
            "pass": "p",
            "master": "m",
        }
        house = House({"admin": {**PASS, **said}}, dialect=dialect, **MASTER)
        fields = login(house, "admin", authzid="t", master=True).fields
        assert dict(fields) == {**said, "proxy": None if dialect is Dialect.V2_3 else "y"}
        assert len(fields) == len(said)

    def test_a_name_that_did_not_change_is_not_told_twice(self) -> None:
        """Nor that somebody is no master, and not anonymous."""
        assert login(House({"t": PASS}), "t", master=True) == Ok(1, "t", [], keep=True)

    @pytest.mark.parametrize("field", ["nologin", "proxy"])
    def test_nobody_may_fetch_who_is_not_to_log_in_here(self, field: str) -> None:
        """Others may be fetched, from sockets that have a master side."""
        house = House({"t": {**PASS, field: "y", "host": "192.0.2.9"}, "u": PASS})
        assert [
            getattr(login(house, user, master=master), "keep", None) for user in "tu" for master in (True, False)
        ] == [
            False,
            False,
            True,
            False,
        ]


class TestFailure:
    @BOTH
    def test_what_is_for_a_success_is_taken_out(self, dialect: Dialect) -> None:
        """Where a passdb let the user in, and the next one did not."""
        fields = {
            "nologin": "y",
            "proxy": "y",
            "proxy_maybe": "y",
            "proxy_always": "y",
            "host": "192.0.2.9",
            "port": "143",
            "destuser": "d",
            "a": "b",
            "reason": "because",
        }
        house = House({"t": {**PASS, **fields}}, {}, placed=[{"result_success": "continue"}], dialect=dialect)
        assert login(house, "t", master=True).fields == [("user", "t"), ("a", "b"), ("reason", "because")]

    @BOTH
    def test_the_name_comes_first_then_nodelay_then_the_code_then_the_fields(self, dialect: Dialect) -> None:
        """2.3 shows the bare nodelay, before what the passdb said."""
        house = House(
            {"T": {**PASS, "user": "t", "a": "b", "nodelay": "y"}},
            {"t": PassdbResult.USER_DISABLED},
            placed=[{"result_success": "continue"}],
            dialect=dialect,
        )
        reply = login(house, "T")
        fields: list[tuple[str, str | None]] = [("user", "t"), ("nodelay", None), ("code", "user_disabled")]
        if dialect is not Dialect.V2_3:
            fields.remove(("nodelay", None))
        assert reply == Fail(1, [*fields, ("a", "b"), ("nodelay", "y"), ("original_user", "T")], delay=False)

    @BOTH
    def test_an_internal_failure_says_so_whatever_else_there_is(self, dialect: Dialect) -> None:
        """Even of a user whom a master wanted to become."""
        house = House(
            {"admin": PASS},
            {"t": PassdbResult.INTERNAL_FAILURE, "u": PassdbResult.USER_DISABLED},
            placed=[{"master": True, "result_success": "continue"}, {}],
            dialect=dialect,
        )
        assert dict(login(house, "admin", authzid="t").fields)["code"] == "temp_fail"
        assert dict(login(house, "admin", authzid="u").fields)["code"] == "authz_fail"


def fetched(house: House, user: str = "t", *params: tuple[str, str | None], **options: Any) -> Any:
    """What a master hears of a login."""
    request, reply = login_as(house, user, master=True, params=params)
    assert isinstance(reply, Ok)
    request.session_pid = options.pop("session_pid", None)
    return run(house.auth.fetch_login(request, 9, wants_token=options.pop("wants_token", False)))


class TestMasters:
    @BOTH
    def test_the_userdbs_fields_come_first_then_the_session(self, dialect: Dialect) -> None:
        """In this order: who became whom, the mech, anonymous, the token, who authenticated, the name of the server."""
        house = House(
            {"admin": {**PASS, "userdb_quota": "1"}}, userdbs=[{"t": {"uid": "5"}}], dialect=dialect, **MASTER
        )
        request, _ = login_as(house, "admin", authzid="t", master=True, params=(("local_name", "mx"), ("session", "S")))
        request.session_pid = 77
        reply = run(house.auth.fetch_login(request, 9, wants_token=True))
        token = hmac.new(b"t", b"77Simap" + b"s" * 32, hashlib.sha1).hexdigest()
        expected = [
            ("quota", "1"),
            ("uid", "5"),
            ("master_user", "admin"),
            ("auth_mech", "PLAIN"),
            ("anonymous", None),
            ("auth_token", token),
            ("auth_user", "admin"),
            ("local_name", "mx"),
        ]
        assert reply == UserFound(9, "t", expected[: 7 if dialect is Dialect.V2_3 else 8])

    def test_a_userdb_may_name_another_master(self) -> None:
        """Then ours is not told."""
        house = House({"admin": PASS}, userdbs=[{"t": {"master_user": "other"}}], **MASTER)
        request, _ = login_as(house, "admin", authzid="t", master=True)
        fields = run(house.auth.fetch_login(request, 9, wants_token=False)).fields
        assert [value for name, value in fields if name == "master_user"] == ["other"]

    @pytest.mark.parametrize(("wanted", "pid"), [(False, 77), (True, None)])
    def test_a_token_must_be_wanted_by_a_known_session(self, wanted: bool, pid: int | None) -> None:
        """Else there is none."""
        house = House({"t": PASS}, userdbs=[{"t": {}}])
        fields = dict(fetched(house, session_pid=pid, wants_token=wanted).fields)
        assert "auth_token" not in fields

    def test_a_session_without_a_name_has_a_token_too(self) -> None:
        """Its name is left out of what is signed."""
        house = House({"t": PASS}, userdbs=[{"t": {}}])
        token = dict(fetched(house, session_pid=77, wants_token=True).fields)["auth_token"]
        assert token == hmac.new(b"t", b"77imap" + b"s" * 32, hashlib.sha1).hexdigest()

    @pytest.mark.parametrize(
        ("known", "reply"),
        [
            ({}, NotFound(9)),
            ({"t": UserdbResult.INTERNAL_FAILURE}, Failed(9)),
            ({"t": {"tempfail": "y"}}, Failed(9)),
            ({"t": {"tempfail": "y", "reason": "later"}}, Failed(9, "later")),
        ],
    )
    def test_who_is_not_there_is_told_apart_from_what_failed(self, known: Any, reply: Any) -> None:
        """A reason is the userdb's own."""
        house = House({"t": PASS}, userdbs=[known])
        assert fetched(house) == reply
        missing = ("error", "user not found from userdb")
        assert (missing in house.log) == (reply == NotFound(9))

    @pytest.mark.parametrize(
        ("dialect", "count", "line"),
        [
            (Dialect.V2_3, 1, "lua(t): user not found from userdb"),
            (Dialect.V2_3, 2, "plain(t): user not found from any userdbs"),
            (Dialect.V2_4, 1, "auth(t,sasl:plain): user not found from any userdbs"),
            (Dialect.V2_4, 2, "auth(t,sasl:plain): user not found from any userdbs"),
        ],
    )
    def test_the_log_names_the_userdb_where_dovecot_does(self, dialect: Dialect, count: int, line: str) -> None:
        """2.3 does when there is one only."""
        house = House({"t": PASS}, userdbs=[{}] * count, dialect=dialect)
        about = _about_2_3 if dialect is Dialect.V2_3 else _about_2_4
        lines: list[str] = []
        house.auth._userdbs._log = lambda level, text, request, fields: lines.append(
            f"{'' if request is None else about(request)}{text}"
        )
        fetched(house)
        assert lines == [line]

    def test_only_after_a_login_is_a_missing_user_an_error(self) -> None:
        """Mail for nobody is nothing special."""
        house = House(userdbs=[{}])
        assert run(house.auth.lookup_user(new_request([("service", "lmtp")], id=7), "t")) == NotFound(7)
        assert house.log == []


def test_a_password_is_told_to_nobody_but_a_login_process() -> None:
    """And to it only when it proxies."""
    house = House({"t": {**PASS, "proxy": "y", "host": "192.0.2.9"}, "u": PASS})
    assert "pass" not in dict(login(house, "u", master=True).fields)
    assert "pass" not in dict(login(house, "t").fields)
    assert dict(login(house, "t", master=True).fields)["pass"] == "pass"


@BOTH
def test_without_a_delay_failures_are_told_at_once(dialect: Dialect) -> None:
    """``failure_delay = 0``."""
    assert login(House({"t": PASS}, dialect=dialect, failure_delay=0), "t", "wrong") == Fail(1, [("user", "t")])
    assert login(House({"t": PASS}, dialect=dialect), "t", "wrong") == Fail(1, [("user", "t")], delay=True)
