"""Logins through the whole core: names, chains, fields, replies."""

import hashlib
from typing import Any

import pytest

from authlua.auth import CacheKey, new_request
from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.protocol import Fail, Ok
from authlua.request import AuthRequest
from authlua.results import PassdbResult
from authlua.secret import Secret
from authlua.variables import compile_template
from authlua.wishes import Ask, Compute, Sleep
from tests.auth.fakes import House, run

PASS = {"password": "{PLAIN}pass"}
BOTH = pytest.mark.parametrize("dialect", [Dialect.V2_3, Dialect.V2_4])


def login(
    house: House,
    user: str,
    password: str = "pass",
    *,
    authzid: str = "",
    master: bool = False,
    params: tuple[tuple[str, str | None], ...] = (),
) -> Ok | Fail:
    return login_as(house, user, password, authzid=authzid, master=master, params=params)[1]


def login_as(
    house: House,
    user: str,
    password: str = "pass",
    *,
    authzid: str = "",
    master: bool = False,
    params: tuple[tuple[str, str | None], ...] = (),
) -> tuple[AuthRequest, Ok | Fail]:
    request = new_request([("service", "imap"), *params], id=1, mech="PLAIN")
    initial = Secret(f"{authzid}\0{user}\0{password}".encode())
    reply: Ok | Fail = run(house.auth.authenticate(request, initial, login=master))
    return request, reply


def pairs(reply: Ok | Fail) -> dict[str, str | None]:
    return dict(reply.fields)


class TestVerdicts:
    def test_the_right_password_is_let_in(self) -> None:
        """With the fields of the passdb, the password aside."""
        assert login(House({"t": {**PASS, "a": "b"}}), "t") == Ok(1, "t", [("a", "b")])

    def test_a_wrong_password_is_not(self) -> None:
        """And its fields are taken back."""
        assert login(House({"t": {**PASS, "a": "b"}}), "t", "x") == Fail(1, [("user", "t")], delay=True)

    def test_an_unknown_user_is_not(self) -> None:
        """The answer does not tell the two apart."""
        assert login(House({}), "t") == Fail(1, [("user", "t")], delay=True)

    @pytest.mark.parametrize(
        ("result", "code", "reason"),
        [
            (PassdbResult.USER_DISABLED, "user_disabled", None),
            (PassdbResult.PASS_EXPIRED, "pass_expired", "Password expired"),
            (PassdbResult.INTERNAL_FAILURE, "temp_fail", None),
            (PassdbResult.NEXT, "temp_fail", None),
            (PassdbResult.SCHEME_NOT_AVAILABLE, None, None),
            (PassdbResult.PASSWORD_MISMATCH, None, None),
        ],
    )
    @BOTH
    def test_each_result_has_its_code(
        self, dialect: Dialect, result: PassdbResult, code: str | None, reason: str | None
    ) -> None:
        """As the table of section 7 says."""
        reply = login(House({"t": result}, dialect=dialect), "t")
        assert (pairs(reply).get("code"), pairs(reply).get("reason")) == (code, reason)

    @BOTH
    def test_what_a_deny_passdb_wanted_judged_elsewhere_is_not_told(self, dialect: Dialect) -> None:
        """``noauthenticate`` is acted on and never sent, here too, where the chain ends before it is taken away."""
        house = House({"t": {"noauthenticate": "y"}}, {}, placed=[{"deny": True}], dialect=dialect)
        assert "noauthenticate" not in pairs(login(house, "t"))

    def test_a_script_that_raises_is_a_temporary_failure(self) -> None:
        """Never an unknown user; its author finds the text in the log."""
        house = House({"t": ScriptError("auth.lua:7: boom")})
        assert pairs(login(house, "t"))["code"] == "temp_fail"
        assert ("error", "auth.lua:7: boom") in house.log

    @pytest.mark.parametrize(
        ("stored", "code"),
        [("{SHA256}zz", "temp_fail"), ("{SSHA256}AAAA", "temp_fail"), ("{NOSUCH}x", None)],
    )
    def test_a_stored_password_that_cannot_be_read_is_an_error(self, stored: str, code: str | None) -> None:
        """The log names the scheme, and not the data."""
        house = House({"t": {"password": stored}})
        assert pairs(login(house, "t")).get("code") == code
        (error,) = [text for level, text in house.log if level == "error"]
        assert "NOSUCH" in error or "SHA256" in error
        assert stored not in error

    def test_a_slow_hash_is_computed_elsewhere(self) -> None:
        """The core wishes for it instead of computing it."""
        house = House({"t": {"password": "{SHA512-CRYPT}$6$a$x"}})
        request = new_request([("service", "imap")], id=1, mech="PLAIN")
        wish = house.auth.authenticate(request, Secret(b"\0t\0pass"), login=False).send(None)
        assert isinstance(wish, Compute)
        assert "pass" not in repr(wish.args)

    @pytest.mark.parametrize("bad", ["\x01", "\t", "\r", "\n"])
    def test_a_password_that_breaks_lines_is_not_asked_about(self, bad: str) -> None:
        """Section 4.1."""
        house = House({"t": {"nopassword": None}})
        assert isinstance(login(house, "t", f"a{bad}b"), Fail)
        assert house.passdbs[0].asked == []

    def test_the_client_is_asked_when_it_says_nothing(self) -> None:
        """PLAIN without an initial response."""
        house = House({"t": PASS})
        core = house.auth.authenticate(new_request([("service", "x")], id=1, mech="PLAIN"), None, login=False)
        wish = core.send(None)
        assert isinstance(wish, Ask)
        assert wish.challenge == b""
        with pytest.raises(StopIteration) as done:
            core.send(Secret(b"\0t\0pass"))
        assert done.value.value == Ok(1, "t", [])

    def test_login_asks_for_name_and_password(self) -> None:
        """In this spelling; a name that cannot be is refused before its password is asked for."""
        house = House({"t": PASS}, username_chars="t")

        def start() -> Any:
            core = house.auth.authenticate(new_request([("service", "x")], id=1, mech="LOGIN"), None, login=False)
            assert core.send(None).challenge == b"Username:"
            return core

        core = start()
        assert core.send(Secret(b"t")).challenge == b"Password:"
        with pytest.raises(StopIteration) as done:
            core.send(Secret(b"pass"))
        assert done.value.value == Ok(1, "t", [])
        with pytest.raises(StopIteration) as done:
            start().send(Secret(b"bad name"))
        assert done.value.value == Fail(1, [("user", "bad name"), ("original_user", "bad name")], delay=True)

    def test_garbage_fails_without_a_name(self) -> None:
        """Row 50."""
        house = House({"t": PASS})
        request = new_request([("service", "x")], id=1, mech="PLAIN")
        for data in (b"", b"garbage", b"\0t", b"\0t\0pass\0"):
            assert run(house.auth.authenticate(request, Secret(data), login=False)) == Fail(1, [], delay=True)


class TestNames:
    def test_a_name_is_translated_checked_and_formatted(self) -> None:
        """In this order; the original is reported."""
        house = House(
            {"a.b@example.com": PASS},
            username_chars="abcdefghijklmnopqrstuvwxyz@.AB",
            username_translation="%.",
            username_format="%Lu",
            default_realm="example.com",
        )
        assert login(house, "A%B") == Ok(1, "a.b@example.com", [("original_user", "A%B")])

    def test_a_byte_that_is_not_allowed_refuses_the_name(self) -> None:
        """Row 51: the reply shows the name as given."""
        house = House({}, username_chars="ok@x", verbose=True)
        bad = "ok@x!bad"
        assert login(house, bad) == Fail(1, [("user", bad), ("original_user", bad)], delay=True)
        text = "Username character disallowed by auth_username_chars: 0x21 (username: ok@x!bad)"
        assert ("info", text) in house.log

    def test_the_empty_name_is_refused(self) -> None:
        """Section 2.1, 7."""
        assert login(House({}), "") == Fail(1, [("user", ""), ("original_user", "")], delay=True)

    def test_bytes_beyond_ascii_need_an_empty_setting(self) -> None:
        """And then arrive as they are."""
        house = House({"j\xfcrgen": PASS})
        assert login(house, "j\xfcrgen") == Ok(1, "j\xfcrgen", [])
        assert isinstance(login(House({"j\xfcrgen": PASS}, username_chars="jrgen"), "j\xfcrgen"), Fail)


class TestMasters:
    MASTERS = ({"admin": PASS}, {"t": {"password": "{PLAIN}other"}})
    PLACED = ({"master": True}, {})

    def test_a_master_becomes_a_user_through_the_separator(self) -> None:
        """With the master's own password."""
        house = House(*self.MASTERS, placed=self.PLACED, master_user_separator="*")
        assert login(house, "t*admin") == Ok(1, "t", [("original_user", "admin"), ("auth_user", "admin")])

    def test_a_master_becomes_a_user_through_the_authzid(self) -> None:
        """As well."""
        house = House(*self.MASTERS, placed=self.PLACED)
        assert login(house, "admin", authzid="t") == Ok(1, "t", [("original_user", "admin"), ("auth_user", "admin")])

    def test_with_return_ok_nobody_looks_whether_the_user_exists(self) -> None:
        """As Dovecot's documents warn."""
        house = House(*self.MASTERS, placed=self.PLACED, master_user_separator="*")
        assert isinstance(login(house, "nobody*admin"), Ok)

    def test_with_continue_an_unknown_user_is_an_authorization_failure(self) -> None:
        """``authz_fail``, section 5."""
        house = House(
            *self.MASTERS, placed=({"master": True, "result_success": "continue"}, {}), master_user_separator="*"
        )
        assert isinstance(login(house, "t*admin"), Ok)
        reply = login(house, "nobody*admin")
        assert pairs(reply) == {
            "user": "nobody",
            "code": "authz_fail",
            "original_user": "admin",
            "auth_user": "admin",
        }

    def test_a_wrong_password_of_the_master_is_a_plain_failure(self) -> None:
        """And the user's passdb is not asked."""
        house = House(*self.MASTERS, placed=self.PLACED, master_user_separator="*")
        assert login(house, "t*admin", "other") == Fail(1, [("user", "admin")], delay=True)
        assert house.passdbs[1].asked == []

    def test_without_masters_nobody_becomes_another(self) -> None:
        """The failure shows the name that was authenticating."""
        assert login(House({"t": PASS, "u": PASS}), "t", authzid="u") == Fail(1, [("user", "t")], delay=True)

    def test_an_authzid_like_the_authcid_means_nothing(self) -> None:
        """Row: doveadm auth test sends both."""
        assert login(House({"t": PASS}), "t", authzid="t") == Ok(1, "t", [])


class TestChain:
    def test_a_user_unknown_here_is_asked_for_there(self) -> None:
        """The default rules."""
        assert login(House({}, {"t": {**PASS, "a": "b"}}), "t") == Ok(1, "t", [("a", "b")])

    def test_a_wrong_password_is_tried_on_the_next_passdb(self) -> None:
        """And what the first set is gone."""
        house = House({"t": {"password": "{PLAIN}x", "gone": "y", "a": "1"}}, {"t": {**PASS, "a": "2"}})
        assert login(house, "t") == Ok(1, "t", [("a", "2")])

    def test_a_failure_before_a_success_is_forgotten_and_before_a_denial_is_not(self) -> None:
        """Down is not unknown."""
        down = {"t": PassdbResult.INTERNAL_FAILURE}
        assert isinstance(login(House(down, {"t": PASS}), "t"), Ok)
        assert pairs(login(House(down, {}), "t"))["code"] == "temp_fail"

    @pytest.mark.parametrize(
        ("rule", "first", "second", "ok"),
        [
            ("return-ok", PASS, {}, True),
            ("return", PASS, {"t": PASS}, False),
            ("return-fail", PASS, {"t": PASS}, False),
            ("continue", PASS, {"t": {"password": "{PLAIN}x"}}, True),
            ("continue", PASS, {}, False),
            ("continue-ok", PASS, {}, True),
            ("continue-fail", PASS, {}, False),
        ],
    )
    def test_result_success(self, rule: str, first: Any, second: Any, ok: bool) -> None:
        """Section 3.3's table."""
        house = House({"t": first}, second, placed=[{"result_success": rule}])
        assert isinstance(login(house, "t"), Ok) is ok

    @pytest.mark.parametrize(
        ("rule", "second", "ok"),
        [
            ("continue", {"t": PASS}, True),
            ("return-fail", {"t": PASS}, False),
            ("return", {"t": PASS}, False),
            ("return-ok", {}, True),
            ("continue-ok", {"t": {"password": "{PLAIN}x"}}, True),
            ("continue-ok", {}, True),
        ],
    )
    def test_result_failure(self, rule: str, second: Any, ok: bool) -> None:
        """``continue-ok`` verifies the password even though this passdb did not."""
        house = House({}, second, placed=[{"result_failure": rule}])
        assert isinstance(login(house, "t"), Ok) is ok

    def test_a_deny_passdb_turns_away_whom_it_knows(self) -> None:
        """Whatever their password."""
        house = House({"t": {"nopassword": None}}, {"t": PASS, "u": PASS}, placed=[{"deny": True}])
        assert pairs(login(house, "t"))["code"] == "user_disabled"
        assert isinstance(login(house, "u"), Ok)

    def test_next_keeps_its_fields(self) -> None:
        """``noauthenticate`` and PASSDB_RESULT_NEXT go on."""
        house = House({"t": {"noauthenticate": None, "kept": "k"}}, {"t": PASS})
        assert login(house, "t") == Ok(1, "t", [("kept", "k")])

    def test_passdbs_are_skipped_by_what_is_verified(self) -> None:
        """``skip=authenticated``."""
        house = House(
            {"t": PASS},
            {"t": {"nopassword": None, "a": "b"}},
            placed=[{"result_success": "continue-ok"}, {"skip": "authenticated"}],
        )
        assert login(house, "t") == Ok(1, "t", [])
        house = House({}, {"t": PASS}, placed=[{}, {"skip": "unauthenticated"}])
        assert isinstance(login(house, "t"), Fail)

    def test_passdbs_are_filtered_by_mech_and_name(self) -> None:
        """When none is left the failure is internal."""
        house = House({"t": PASS}, placed=[{"mechanisms": ("LOGIN",)}])
        assert pairs(login(house, "t"))["code"] == "temp_fail"
        house = House({"t": PASS, "u": PASS}, placed=[{"username_filter": ("*", "!u")}])
        assert isinstance(login(house, "t"), Ok)
        assert isinstance(login(house, "u"), Fail)

    @pytest.mark.parametrize("result", [PassdbResult.USER_DISABLED, PassdbResult.PASS_EXPIRED])
    @pytest.mark.parametrize("rule", ["continue", "continue-ok", "return-ok"])
    def test_disabled_and_expired_are_final(self, result: PassdbResult, rule: str) -> None:
        """No rule is about them."""
        placed = [dict.fromkeys(("result_success", "result_failure", "result_internalfail"), rule)]
        house = House({"t": result}, {"t": PASS}, placed=placed)
        assert isinstance(login(house, "t"), Fail)
        assert house.passdbs[1].asked == []

    @pytest.mark.parametrize(
        ("rule", "second", "ok", "code"),
        [
            ("continue", {"t": PASS}, True, None),
            ("continue", {}, False, "temp_fail"),
            ("continue-ok", {}, True, None),
            ("continue-ok", {"t": {"password": "{PLAIN}x"}}, True, None),
            ("continue-fail", {"t": {"password": "{PLAIN}x"}}, False, "temp_fail"),
            ("return-ok", {}, True, None),
            ("return", {"t": PASS}, False, "temp_fail"),
            ("return-fail", {"t": PASS}, False, "temp_fail"),
        ],
    )
    def test_result_internalfail(self, rule: str, second: Any, ok: bool, code: str | None) -> None:
        """The same rules; an outage that no passdb makes up for is told as one."""
        down: Any = {"t": ScriptError("down")}
        reply = login(House(down, second, placed=[{"result_internalfail": rule}]), "t")
        assert (isinstance(reply, Ok), pairs(reply).get("code")) == (ok, code)

    @pytest.mark.parametrize("result", [{"noauthenticate": None}, PassdbResult.NEXT])
    @pytest.mark.parametrize("rule", ["return-ok", "return-fail", "continue-ok"])
    def test_next_goes_on_by_no_rule_but_its_own(self, result: Any, rule: str) -> None:
        """It neither ends the chain nor decides it, and no password is verified by it."""
        placed = [dict.fromkeys(("result_success", "result_failure", "result_internalfail"), rule)]
        house = House({"t": result, "u": result}, {"t": PASS}, placed=placed, debug=True)
        assert login(house, "t") == Ok(1, "t", [])
        assert ("debug", "Not performing authentication (noauthenticate set)") in house.log
        assert isinstance(login(house, "t", "x"), Fail)
        assert isinstance(login(house, "u"), Fail)

    @BOTH
    def test_a_success_before_a_last_next_counts_in_2_4(self, dialect: Dialect) -> None:
        """2.3 looks at the last result first; both call it our failure when there is no success."""
        house = House(
            {"t": PASS}, {"t": PassdbResult.NEXT}, placed=[{"result_success": "continue-ok"}], dialect=dialect
        )
        reply = login(house, "t")
        assert isinstance(reply, Ok) == (dialect is Dialect.V2_4)
        text = "Last passdb had noauthenticate field, cannot authenticate user"
        assert (("error", text) in house.log) == (dialect is Dialect.V2_3)
        house = House({"t": PassdbResult.NEXT}, dialect=dialect)
        assert pairs(login(house, "t"))["code"] == "temp_fail"
        assert ("error", text) in house.log

    @pytest.mark.parametrize("second", [{"t": {"password": "{PLAIN}x"}}, {}, {"t": PassdbResult.NEXT}])
    @BOTH
    def test_an_outage_is_told_rather_than_what_a_later_passdb_said(self, dialect: Dialect, second: Any) -> None:
        """The one that is down might have known better."""
        house = House({"t": PassdbResult.INTERNAL_FAILURE}, second, dialect=dialect)
        assert pairs(login(house, "t"))["code"] == "temp_fail"

    def test_a_deny_passdb_that_is_down_denies_for_now(self) -> None:
        """Whatever the rule; whom it does not know is left to the others, and whom it knows is out, which is told."""
        placed: Any = [{"deny": True, "result_internalfail": "continue-ok"}]
        house = House({"t": ScriptError("down"), "u": {"password": "{PLAIN}x"}}, {"t": PASS, "u": PASS}, placed=placed)
        assert pairs(login(house, "t"))["code"] == "temp_fail"
        house.log.clear()
        house = House(*(passdb.users for passdb in house.passdbs), placed=placed, verbose=True)
        assert pairs(login(house, "u", "x"))["code"] == "user_disabled"
        assert house.log == [("info", "User found from deny passdb")]
        assert house.passdbs[1].asked == []

    def test_whom_a_deny_passdb_does_not_know_goes_on_by_the_rule(self) -> None:
        """Which is to go on, by default."""
        for rule, ok in (("continue", True), ("return-fail", False)):
            house = House({}, {"t": PASS}, placed=[{"deny": True, "result_failure": rule}])
            assert isinstance(login(house, "t"), Ok) is ok

    def test_who_is_kept_out_by_a_field_may_be_let_in_by_the_next(self) -> None:
        """There it is as if nothing had been said."""
        first = {"t": {**PASS, "allow_nets": "192.0.2.0/24", "a": "1"}}
        reply = login(House(first, {"t": {**PASS, "b": "2"}}), "t", params=(("rip", "198.51.100.1"),))
        assert reply == Ok(1, "t", [("b", "2")])
        assert isinstance(login(House(first, {}), "t", params=(("rip", "198.51.100.1"),)), Fail)

    def test_a_failure_gives_back_what_it_has_overwritten(self) -> None:
        """Of the passdb's fields and of those for the userdb; what succeeded before it keeps what it set."""
        first = {"t": {**PASS, "a": "1", "userdb_uid": "1"}}
        second = {"t": {"fail": "y", "a": "2", "b": "2", "nodelay": "y", "reason": "no", "userdb_uid": "2", **PASS}}
        placed: Any = [{"result_success": "continue"}]
        request, reply = login_as(House(first, second, {"t": {**PASS, "c": "3"}}, placed=placed), "t")
        assert reply == Ok(1, "t", [("a", "1"), ("c", "3")])
        assert request.userdb_fields is not None
        assert list(request.userdb_fields) == [("uid", "1")]
        reply = login(House(first, second, placed=placed), "t")
        assert reply == Fail(1, [("user", "t"), ("a", "1")], delay=True)

    def test_nopassword_is_for_the_passdb_that_says_it(self) -> None:
        """The next one looks at the password again, unless a success has verified it."""
        house = House({"t": {"noauthenticate": None, "nopassword": None}}, {"t": PASS})
        assert isinstance(login(house, "t", "x"), Fail)
        house = House({"t": {"nopassword": None}}, {"t": PASS}, placed=[{"result_success": "continue"}])
        assert login(house, "t", "x") == Ok(1, "t", [])
        house = House({"t": {"nopassword": None}}, {}, {"t": PASS}, placed=[{"result_success": "continue-fail"}])
        assert isinstance(login(house, "t", "x"), Fail)

    @pytest.mark.parametrize(
        ("first", "rule", "verified"),
        [
            (PASS, "continue", True),
            (PASS, "continue-ok", True),
            (PASS, "continue-fail", False),
            ({"password": "{PLAIN}x"}, "continue", False),
            ({"password": "{PLAIN}x"}, "continue-ok", True),
            ({"password": "{PLAIN}x"}, "continue-fail", False),
        ],
    )
    def test_when_the_others_take_the_password_for_verified(self, first: Any, rule: str, verified: bool) -> None:
        """Which is also when ``skip`` calls the user authenticated."""
        placed: Any = [
            {"result_success": rule, "result_failure": rule},
            {"skip": "authenticated", "result_success": "return-fail", "result_failure": "return-fail"},
            {"skip": "unauthenticated"},
        ]
        house = House({"t": first}, {"t": PASS}, {"t": PASS}, placed=placed)
        login(house, "t")
        assert [bool(passdb.asked) for passdb in house.passdbs] == [True, not verified, verified]

    @pytest.mark.parametrize(
        ("first", "seen"),
        [
            ({}, (True, False)),
            ({"t": PassdbResult.INTERNAL_FAILURE}, (False, True)),
            ({"t": PassdbResult.PASSWORD_MISMATCH}, (False, False)),
            ({"t": PassdbResult.NEXT}, (False, False)),
        ],
    )
    def test_a_passdb_can_see_how_the_others_failed(self, first: Any, seen: tuple[bool, bool]) -> None:
        """``passdbs_seen_user_unknown`` and ``passdbs_seen_internal_failure``."""
        request, _ = login_as(House(first, {"t": PASS}), "t")
        assert (request.passdbs_seen_user_unknown, request.passdbs_seen_internal_failure) == seen

    def test_a_first_passdb_that_is_for_the_authenticated_is_passed_over(self) -> None:
        """Nobody is yet."""
        house = House({"t": PASS}, {"t": {**PASS, "b": "2"}}, placed=[{"skip": "unauthenticated"}])
        assert login(house, "t") == Ok(1, "t", [("b", "2")])
        assert house.passdbs[0].asked == []

    @BOTH
    def test_where_all_passdbs_are_passed_over_it_is_our_failure(self, dialect: Dialect) -> None:
        """Of plain logins in both releases."""
        house = House({"t": PASS}, placed=[{"skip": "unauthenticated"}], dialect=dialect)
        assert pairs(login(house, "t"))["code"] == "temp_fail"
        assert house.log == [("error", "All password databases were skipped")]

    def test_filters_come_before_skip_and_are_told(self) -> None:
        """In this order; only debugging shows it."""
        placed: Any = [
            {"mechanisms": ("LOGIN",), "username_filter": ("x",)},
            {"username_filter": ("x",), "skip": "unauthenticated"},
            {},
        ]
        house = House({}, {}, {"t": PASS}, placed=placed, debug=True)
        assert isinstance(login(house, "t"), Ok)
        assert house.log == [
            ("debug", "skipping passdb: mechanism filtered"),
            ("debug", "skipping passdb: username filtered"),
        ]
        house = House({}, {}, {"t": PASS}, placed=placed)
        login(house, "t")
        assert house.log == []

    @pytest.mark.parametrize(
        ("filter", "names"),
        [
            (("*@x",), ["a@x", "b@x"]),
            (("?@x", "!b@*"), ["a@x"]),
            (("!*@x",), ["c@y"]),
            (("!b@x", "b@x", "c@y"), ["c@y"]),
            ((), ["a@x", "b@x", "c@y"]),
        ],
    )
    def test_a_filter_of_names(self, filter: tuple[str, ...], names: list[str]) -> None:
        """An exclusion always wins; where something is included, something must fit."""
        users = {name: PASS for name in ("a@x", "b@x", "c@y")}
        house = House(users, {}, placed=[{"username_filter": filter}])
        assert [name for name in users if isinstance(login(house, name), Ok)] == names

    @pytest.mark.parametrize(
        ("mechanisms", "asked"),
        [((), 2), (("PLAIN",), 1), (("LOOKUP",), 1), (("PLAIN", "LOOKUP"), 2), (("NONE",), 0), (("LOGIN",), 0)],
    )
    def test_a_filter_of_mechanisms(self, mechanisms: tuple[str, ...], asked: int) -> None:
        """A lookup without a login has a word of its own."""
        house = House({"t": PASS}, {}, placed=[{"mechanisms": mechanisms}])
        login(house, "t")
        run(house.auth.lookup_passdb(new_request([], id=1), "t"))
        assert len(house.passdbs[0].asked) == asked

    @pytest.mark.parametrize(("verbose", "one", "lines"), [(False, True, 1), (True, False, 0), (True, None, 1)])
    def test_a_passdb_may_be_verbose_by_itself(self, verbose: bool, one: bool | None, lines: int) -> None:
        """Or quiet."""
        house = House({"t": PASS}, placed=[{"verbose": one}], verbose=verbose)
        login(house, "t", "x")
        assert house.log == [("info", "Password mismatch")] * lines

    def test_fields_before_and_after_a_passdbs_own(self) -> None:
        """Their templates know the request; those after count also when the passdb fails."""

        def fields(**templates: str) -> list[tuple[str, Any]]:
            return [(name, compile_template(text, Dialect.V2_3)) for name, text in templates.items()]

        placed: Any = [{"default_fields": fields(a="%u", b="%u"), "override_fields": fields(b="over %u", nodelay="y")}]
        house = House({"t": {**PASS, "a": "own"}, "down": PassdbResult.NEXT}, placed=placed)
        assert login(house, "t") == Ok(1, "t", [("a", "own"), ("b", "over t"), ("nodelay", "y")])
        assert pairs(login(house, "down")) == {
            **{"user": "down", "nodelay": "y", "code": "temp_fail"},
            **{"a": "down", "b": "over down"},
        }
        placed = [{"default_fields": fields(allow_nets="192.0.2.0/24")}]
        house = House({"t": PASS, "u": {**PASS, "allow_nets": "local"}}, placed=placed)
        assert isinstance(login(house, "t"), Fail)

    @pytest.mark.parametrize("key", ["default_fields", "override_fields"])
    def test_a_field_that_cannot_be_made_is_our_failure(self, key: str) -> None:
        """Nobody is let in without what was to be set."""
        house = House({"t": PASS}, placed=[{key: [("a", compile_template("%{nosuch}", Dialect.V2_3))]}])
        assert pairs(login(house, "t"))["code"] == "temp_fail"
        assert [level for level, _ in house.log] == ["error"]

    @pytest.mark.parametrize(("scheme", "ok"), [("PLAIN", False), ("SHA1.HEX", True)])
    def test_a_password_without_a_scheme_has_that_of_its_passdb(self, scheme: str, ok: bool) -> None:
        """Each its own."""
        stored = hashlib.sha1(b"pass").hexdigest()
        house = House({"t": {"password": stored}}, {}, placed=[{"default_scheme": scheme}])
        assert isinstance(login(house, "t"), Ok) == ok

    @pytest.mark.parametrize(
        ("dialect", "delay", "seconds"), [(Dialect.V2_3, 2, []), (Dialect.V2_4, 2, [2.0, 3.0]), (Dialect.V2_4, 0, [])]
    )
    @pytest.mark.parametrize("placed", [{}, {"deny": True}])
    def test_2_4_lets_an_internal_failure_wait(
        self, dialect: Dialect, delay: float, seconds: list[float], placed: Any
    ) -> None:
        """A while, and up to half of it more; then it is told at once."""
        house = House(
            {"t": PassdbResult.INTERNAL_FAILURE},
            dialect=dialect,
            internal_failure_delay=delay,
            placed=[placed],
            failure_delay=0,
        )
        request = new_request([("service", "imap")], id=1, mech="PLAIN")
        core = house.auth.authenticate(request, Secret(b"\0t\0pass"), login=False)
        waits = [core.send(None).seconds for _ in seconds[:1]]
        assert pairs(run(core))["code"] == "temp_fail"
        assert all(seconds[0] <= wait <= seconds[1] for wait in waits)


class TestPlain:
    """Where the comparison stops, in its order."""

    @pytest.mark.parametrize(
        ("second", "placed", "ok"),
        [
            ({"password": "{SHA256}zz"}, {}, True),
            ({"password": "{NOSUCH}x"}, {}, True),
            ({"password": "{SHA256}zz"}, {"deny": True}, False),
            ({"nopassword": None}, {"deny": True}, False),
        ],
    )
    def test_what_is_verified_is_not_looked_at_again(self, second: Any, placed: Any, ok: bool) -> None:
        """Not even where it could not be read; a deny passdb denies all the same."""
        house = House({"t": PASS}, {"t": second}, placed=[{"result_success": "continue"}, placed])
        assert isinstance(login(house, "t"), Ok) is ok
        assert [text for level, text in house.log if level == "error"] == []

    @pytest.mark.parametrize("stored", ["{SHA256}zz", "{NOSUCH}x", "{SHA512-CRYPT}$6$a$x", "{PLAIN}pass"])
    def test_a_deny_passdb_looks_at_no_password(self, stored: str) -> None:
        """Neither right nor wrong, unreadable nor slow ones."""
        house = House({"t": {"password": stored}}, {"t": PASS}, placed=[{"deny": True}])
        assert pairs(login(house, "t"))["code"] == "user_disabled"
        assert house.log == []

    def test_nopassword_lets_any_password_in(self) -> None:
        """Which debugging tells."""
        house = House({"t": {"nopassword": None}}, debug=True)
        for password in ("", "x", "\x7f"):
            assert login(house, "t", password) == Ok(1, "t", [])
        assert house.log == [("debug", "Allowing any password")] * 3

    def test_nopassword_and_a_password_contradict_each_other(self) -> None:
        """So nobody is let in, by neither."""
        house = House({"t": {**PASS, "nopassword": None}}, verbose=True)
        assert isinstance(login(house, "t"), Fail)
        assert house.log == [("info", "nopassword given and password is not empty")]

    @pytest.mark.parametrize(
        ("stored", "line"),
        [
            ("{NOSUCH}x", "Unknown scheme NOSUCH"),
            ("{SHA256}zz", "Password data is not valid for scheme SHA256: Input isn't valid base64 encoded data"),
            ("{SSHA256}AAAA", "Invalid password in passdb: "),
        ],
    )
    def test_each_error_has_its_line(self, stored: str, line: str) -> None:
        """An unknown scheme, data that cannot be decoded, data that its scheme cannot make sense of."""
        house = House({"t": {"password": stored}})
        login(house, "t")
        ((level, text),) = house.log
        assert (level, text.startswith(line)) == ("error", True)

    @pytest.mark.parametrize("bad", ["\x01", "\t", "\r", "\n"])
    def test_a_password_that_breaks_lines_is_told_without_it(self, bad: str) -> None:
        """For masters, too; whatever the rules, as no passdb is asked."""
        placed: Any = [{"master": True}, {"result_failure": "continue-ok"}]
        house = House({"admin": PASS}, {"t": PASS}, placed=placed, master_user_separator="*", verbose=True)
        for user in ("t", "t*admin"):
            assert isinstance(login(house, user, f"pass{bad}"), Fail)
        assert house.log == [("info", "Attempted login with password having illegal chars")] * 2
        assert [passdb.asked for passdb in house.passdbs] == [[], []]

    def test_nobody_becomes_another_where_there_are_no_masters(self) -> None:
        """However the request came to want it."""
        house = House({"t": PASS}, {"u": PASS})
        request = new_request([("service", "imap")], id=1, mech="PLAIN")
        request.user, request.requested_login_user = "t", "u"
        assert run(house.auth._passdbs.verify_plain(request, Secret(b"pass"))) is PassdbResult.USER_UNKNOWN
        assert house.passdbs[0].asked == []

    def test_the_given_password_stays_with_its_request(self) -> None:
        """For templates, the policy server, and where the client is sent on to."""
        house = House({"t": PASS}, {})
        request, _ = login_as(house, "t", "wrong")
        assert request.password == Secret(b"wrong")


class TestFields:
    @pytest.mark.parametrize(
        ("fields", "ip", "ok"),
        [
            ({"allow_nets": "10.0.0.0/8"}, "10.1.2.3", True),
            ({"allow_nets": "10.0.0.0/8,192.0.2.1"}, "192.0.2.1", True),
            ({"allow_nets": "10.0.0.0/8"}, "192.0.2.1", False),
            ({"allow_nets": "2001:db8::/32"}, "2001:db8::1", True),
            ({"allow_nets": "10.0.0.0/8"}, None, False),
            ({"allow_nets": "local"}, None, True),
            ({"allow_nets": "local"}, "10.1.2.3", False),
            ({"fail": "y"}, None, False),
            ({"user": ""}, None, False),
            ({"nopassword": None}, None, False),
            ({"delay_until": "99999999999"}, None, False),
            ({"delay_until": "1"}, None, True),
        ],
    )
    def test_some_fields_decide(self, fields: dict[str, str | None], ip: str | None, ok: bool) -> None:
        """A request they spoil is as good as unknown."""
        house = House({"t": {**PASS, **fields}})
        params = (("rip", ip),) if ip else ()
        request = new_request([("service", "x"), *params], id=1, mech="PLAIN")
        core = house.auth.authenticate(request, Secret(b"\0t\0pass"), login=False)
        assert isinstance(run(core, Sleep), Ok) is ok

    def test_hidden_fields_are_not_sent(self) -> None:
        """Prefetched userdb fields and those that are acted on."""
        hidden = {"allow_nets": "local", "userdb_uid": "5", "delay_until": "1"}
        house = House({"t": {**PASS, "userdb_uid": "5", "allow_nets": "local", "a": "b"}})
        request, reply = login_as(house, "t")
        assert reply == Ok(1, "t", [("a", "b")])
        assert not set(hidden) & set(pairs(reply))
        assert request.userdb_fields is not None
        assert request.userdb_fields.get("uid") == "5"

    @pytest.mark.parametrize(
        ("fields", "user"),
        [
            ({"user": "u@y"}, "u@y"),
            ({"username": "u"}, "u@x"),
            ({"username": "u@z"}, "u@z"),
            ({"domain": "z"}, "t@z"),
            ({"userdb_user": "v"}, "v"),
        ],
    )
    def test_a_passdb_may_rename_its_user(self, fields: dict[str, str], user: str) -> None:
        """The original is reported."""
        assert login(House({"t@x": {**PASS, **fields}}), "t@x") == Ok(1, user, [("original_user", "t@x")])

    def test_a_field_may_be_set_only_if_absent_or_be_removed(self) -> None:
        """``:protected`` in 2.3, ``:default`` in 2.4, ``:remove`` in both."""
        fields = {**PASS, "a": "1", "a:protected": "2", "b:protected": "3", "c": "4", "c:remove": None}
        assert login(House({"t": fields}), "t") == Ok(1, "t", [("a", "1"), ("b", "3")])
        fields = {**PASS, "a": "1", "a:default": "2"}
        assert login(House({"t": fields}, dialect=Dialect.V2_4), "t") == Ok(1, "t", [("a", "1")])

    def test_2_3_prints_some_fields_bare_and_2_4_with_a_value(self) -> None:
        """Row 44; and a value-less field."""
        fields = {**PASS, "nologin": "y", "flag": None}
        assert login(House({"t": fields}), "t") == Ok(1, "t", [("nologin", None), ("flag", None)])
        house = House({"t": fields}, dialect=Dialect.V2_4)
        assert login(house, "t") == Ok(1, "t", [("nologin", "y"), ("flag", "yes")])

    def test_forwarded_fields_survive_a_failure(self) -> None:
        """Row 49."""
        house = House({"t": PASS})
        params = (("forward_fields", "a=b\tc=d"),)
        forwarded = [("forward_a", "b"), ("forward_c", "d")]
        assert login(house, "t", params=params) == Ok(1, "t", forwarded)
        assert login(house, "t", "x", params=params) == Fail(1, [("user", "t"), *forwarded], delay=True)

    def test_a_proxied_login_tells_the_password_on_login_sockets_alone(self) -> None:
        """Row 45."""
        house = House({"t": {**PASS, "proxy": "y", "host": "192.0.2.7"}})
        reply = login(house, "t", master=True)
        assert reply == Ok(1, "t", [("proxy", None), ("host", "192.0.2.7"), ("pass", "pass")])
        assert "pass" not in pairs(login(house, "t"))

    @pytest.mark.parametrize(("lip", "proxied"), [("192.0.2.7", False), ("192.0.2.8", True)])
    def test_a_proxy_that_may_be_us_is_looked_at(self, lip: str, proxied: bool) -> None:
        """``proxy_maybe``."""
        house = House({"t": {**PASS, "proxy_maybe": "y", "host": "192.0.2.7"}})
        fields = pairs(login(house, "t", master=True, params=(("lip", lip),)))
        assert ("proxy" in fields, "host" in fields) == (proxied, proxied)
        assert "proxy_maybe" not in fields

    def test_nodelay_of_a_failing_passdb_is_lost(self) -> None:
        """2.3, row 43; set by one that succeeded before, it counts."""
        assert login(House({"t": {**PASS, "nodelay": "y"}}), "t", "x").delay  # type: ignore[union-attr]
        house = House({"t": {**PASS, "nodelay": "y"}}, {}, placed=[{"result_success": "continue"}])
        reply = login(house, "t")
        assert isinstance(reply, Fail)
        assert not reply.delay

    def test_nodelay_counts_in_2_4(self) -> None:
        """Row 43."""
        reply = login(House({"t": {**PASS, "nodelay": "y"}}, dialect=Dialect.V2_4), "t", "x")
        assert isinstance(reply, Fail)
        assert not reply.delay

    def test_internal_failures_wait_in_the_queue_in_2_3_alone(self) -> None:
        """2.4 has waited before."""
        down = {"t": PassdbResult.INTERNAL_FAILURE}
        assert login(House(down), "t").delay  # type: ignore[union-attr]
        assert not login(House(down, dialect=Dialect.V2_4), "t").delay  # type: ignore[union-attr]


class TestCertificates:
    def test_a_certificate_may_be_asked_for(self) -> None:
        """At once, and with a reason."""
        house = House({"t": PASS}, ssl_require_client_cert=True)
        assert login(house, "t") == Fail(1, [("reason", "Client didn't present valid SSL certificate")])
        assert isinstance(login(house, "t", params=(("valid-client-cert", None),)), Ok)

    def test_a_certificates_name_overrides_only_where_it_may(self) -> None:
        """Section 2.3."""
        params = (("cert_username", "alice"),)
        assert login(House({"t": PASS}), "t", params=params) == Ok(1, "t", [])
        house = House({"alice": PASS}, ssl_username_from_cert=True)
        assert login(house, "t", params=params) == Ok(1, "alice", [("original_user", "t")])


class TestLog:
    def test_refusals_are_told_only_when_wanted(self) -> None:
        """``verbose``."""
        house = House({"t": PASS})
        login(house, "t", "x")
        assert house.log == []
        house = House({"t": PASS}, verbose=True)
        login(house, "t", "x")
        assert house.log == [("info", "Password mismatch")]

    @pytest.mark.parametrize(
        ("setting", "text"),
        [
            ("plain", "Password mismatch (given password: wrong)"),
            ("plain:2", "Password mismatch (given password: wr)"),
            ("sha1:6", "Password mismatch (SHA1 of given password: a4b48a)"),
            ("sha1", f"Password mismatch (SHA1 of given password: {hashlib.sha1(b'wrong').hexdigest()})"),
        ],
    )
    def test_passwords_are_told_only_by_the_one_setting(self, setting: str, text: str) -> None:
        """And then also when nothing else is."""
        house = House({"t": PASS}, verbose_passwords=setting)
        login(house, "t", "wrong")
        assert house.log == [("info", text)]

    def test_a_refusal_says_whether_another_passdb_is_tried(self) -> None:
        """Also when the answer came from the cache."""
        key = CacheKey.of_template("P", 1, compile_template("%u", Dialect.V2_3), Dialect.V2_3)
        house = House({"t": PASS}, {}, placed=[{"cache_key": key}], verbose_passwords="plain", cache_size=1 << 20)
        for _ in range(3):
            login(house, "t", "wrong")
        first = ("info", "Password mismatch (given password: wrong) - trying the next passdb")
        assert house.log == [first, ("info", "unknown user (given password: wrong)")] * 3

    def test_a_user_the_userdbs_do_not_know_is_told_of_in_the_same_manner(self) -> None:
        """The password was right, but that is what the setting says."""
        house = House({"t": PASS}, userdbs=[{}, {}], verbose_passwords="plain:1")
        request = new_request([("service", "imap")], id=1, mech="PLAIN")
        run(house.auth.authenticate(request, Secret(b"\0t\0pass"), login=True))
        run(house.auth.fetch_login(request, 2, wants_token=False))
        assert house.log == [
            ("info", "unknown user (given password: p) - trying the next userdb"),
            ("info", "unknown user (given password: p)"),
            ("error", "user not found from any userdbs"),
        ]
