"""Fields of a passdb, one by one: what setting them does beside what tests/differential/test_fields.py sees of it."""

import time
from typing import Any

import pytest

from authlua.auth import new_request
from authlua.auth.fields import MAX_DELAY, delay_until
from authlua.dialect import Dialect
from authlua.protocol import Fail, Ok
from authlua.secret import Secret
from authlua.variables import compile_template
from authlua.wishes import Sleep
from tests.auth.fakes import House, run
from tests.auth.test_logins import BOTH, PASS, login, login_as, pairs


def templates(**fields: str) -> list[tuple[str, Any]]:
    return [(name, compile_template(value, Dialect.V2_3)) for name, value in fields.items()]


def test_a_field_that_is_set_again_keeps_its_place() -> None:
    """Only its value is another."""
    house = House({"t": {**PASS, "a": "new", "c": "3"}}, placed=[{"default_fields": templates(a="old", b="2")}])
    assert login(house, "t") == Ok(1, "t", [("a", "new"), ("b", "2"), ("c", "3")])


@pytest.mark.parametrize("value", ["y", "no", "0", ""])
@BOTH
def test_a_switch_is_on_whatever_its_value(dialect: Dialect, value: str) -> None:
    """Being there is what counts."""
    site = House({"t": {**PASS, "nologin": value}, "u": {**PASS, "fail": value}}, dialect=dialect)
    reply = login(site, "t", master=True)
    assert isinstance(reply, Ok)
    assert not reply.keep
    assert isinstance(login(site, "u"), Fail)
    proxied = pairs(
        login(House({"t": {**PASS, "proxy": value, "host": "192.0.2.1"}}, dialect=dialect), "t", master=True)
    )
    assert proxied["pass"] == "pass"
    hurried = login(House({"t": {**PASS, "nodelay": value}}, dialect=Dialect.V2_4), "t", "wrong")
    assert isinstance(hurried, Fail)
    assert not hurried.delay
    anybody = House({"t": {"nopassword": value}, "u": {"noauthenticate": value}}, {"u": PASS}, dialect=dialect)
    assert isinstance(login(anybody, "t", "whatever"), Ok)
    assert isinstance(login(anybody, "u"), Ok)
    assert isinstance(login(anybody, "u", "wrong"), Fail)


class TestPasswords:
    @pytest.mark.parametrize(
        ("stored", "scheme", "password"),
        [
            ("{PLAIN}pass", "SHA256", "pass"),
            ("pass", "PLAIN", "pass"),
            ("d74ff0ee8da3b9806b18c877dbf29bbde50b5bd8e4dad7a3a725000feb82e8f1", "SHA256", "pass"),
            ("{pass", "PLAIN", "{pass"),
            ("p{PLAIN}ass", "PLAIN", "p{PLAIN}ass"),
        ],
    )
    def test_a_scheme_stands_in_front_or_is_the_default(self, stored: str, scheme: str, password: str) -> None:
        """In braces, both of them."""
        house = House({"t": {"password": stored}}, placed=[{"default_scheme": scheme}])
        assert isinstance(login(house, "t", password), Ok)
        assert isinstance(login(house, "t", "wrong"), Fail)

    def test_the_other_password_field_never_names_a_scheme(self) -> None:
        """``password_noscheme``."""
        house = House({"t": {"password_noscheme": "{PLAIN}pass"}}, placed=[{"driver": "static"}])
        assert isinstance(login(house, "t"), Fail)
        assert isinstance(login(house, "t", "{PLAIN}pass"), Ok)

    @pytest.mark.parametrize("driver", ["lua", "static"])
    def test_none_is_as_good_as_wrong_unless_it_was_right_before(self, driver: str) -> None:
        """A passdb that only adds fields may stand behind one that verifies."""
        house = House({"t": {"a": "b"}}, placed=[{"driver": driver}], verbose=True)
        assert isinstance(login(house, "t"), Fail)
        assert house.log == [("info", "No password returned (and no nopassword)")]
        house = House({"t": PASS}, {"t": {"a": "b"}}, placed=[{"result_success": "continue"}, {"driver": driver}])
        assert login(house, "t") == Ok(1, "t", [("a", "b")])

    def test_a_script_says_a_password_or_that_any_will_do(self) -> None:
        """Both together are neither."""
        house = House({"t": {**PASS, "nopassword": None}}, verbose=True)
        assert isinstance(login(house, "t"), Fail)
        assert house.log == [("info", "nopassword given and password is not empty")]

    @pytest.mark.parametrize(
        ("dialect", "others", "log"),
        [(Dialect.V2_3, Fail, [("error", "nopassword set but password is non-empty")]), (Dialect.V2_4, Ok, [])],
    )
    def test_of_other_passdbs_2_3_believes_the_password_and_2_4_that_any_will_do(
        self, dialect: Dialect, others: type, log: list[tuple[str, str]]
    ) -> None:
        """Unless it leaves the user to the next passdb anyway."""
        both = {**PASS, "nopassword": None}
        placed = [{"driver": "passwd-file"}]
        house = House({"t": both}, placed=placed, dialect=dialect)
        assert isinstance(login(house, "t", "wrong"), others)
        assert isinstance(login(house, "t"), Ok)
        assert house.log == log * 2
        house = House({"t": {**both, "noauthenticate": None}}, {"t": PASS}, placed=placed, dialect=dialect)
        assert isinstance(login(house, "t"), Ok)
        assert house.log == []

    def test_nopassword_is_for_one_passdb(self) -> None:
        """The next one has to say it anew."""
        house = House({"t": {"nopassword": None}}, {"t": PASS}, placed=[{"result_success": "continue-fail"}])
        assert login(house, "t") == Ok(1, "t", [])
        assert isinstance(login(house, "t", "wrong"), Fail)


class TestNames:
    def test_nobody_loses_their_name(self) -> None:
        """An empty one spoils the lookup, and is an error for the log."""
        house = House({"t": {**PASS, "user": ""}})
        assert login(house, "t") == Fail(1, [("user", "t")], delay=True)
        assert house.log == [("error", "username attempted to be changed to empty")]

    def test_a_master_passdb_may_choose_whom_to_become(self) -> None:
        """By a name that is taken as it is."""
        house = House({"admin": {**PASS, "login_user": "Some One"}}, {}, placed=[{"master": True}, {}])
        assert login(house, "admin", authzid="t") == Ok(
            1, "Some One", [("original_user", "admin"), ("auth_user", "admin")]
        )


class TestNetworks:
    @pytest.mark.parametrize("name", ["allow_nets", "allow_real_nets"])
    def test_the_log_says_why(self, name: str) -> None:
        """What matched, what did not, and what is no network."""
        house = House({"t": {**PASS, name: "nonsense, 192.0.2.0/24 10.0.0.0/8"}}, debug=True)
        lines = []
        for rip in ("10.1.2.3", "172.16.0.1", None):
            house.log.clear()
            login(house, "t", params=() if rip is None else (("rip", rip),))
            lines.append([line for line in house.log if line[1].startswith("allow")])
        invalid = ("info", f"{name}: Invalid network 'nonsense'")
        assert lines == [
            [invalid, ("debug", f"{name}: Matching for network 10.0.0.0/8")],
            [invalid, ("info", f"{name} check failed: IP 172.16.0.1 not in allowed networks")],
            [("info", f"{name} check failed: Remote IP not known and 'local' missing")],
        ]

    def test_who_is_not_allowed_here_may_be_elsewhere(self) -> None:
        """The next passdb is asked as if this one knew nobody."""
        house = House({"t": {**PASS, "allow_nets": "10.0.0.0/8"}}, {"t": {**PASS, "a": "b"}})
        assert login(house, "t", params=(("rip", "192.0.2.1"),)) == Ok(1, "t", [("a", "b")])


class TestDelay:
    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is always the same time, and chance is always as late as can be."""
        monkeypatch.setattr(time, "time", lambda: 1000.5)
        monkeypatch.setattr("authlua.auth.fields.randrange", lambda bound: bound - 1)

    @pytest.mark.parametrize(
        ("value", "until"),
        [
            ("0", 0),
            ("1010", 1010),
            ("1300", 1300),
            ("1301", None),
            ("1000+50", 1049),
            ("1290+50", 1300),
            ("1000+0", 1000),
            ("soon", None),
            ("1000+soon", None),
            ("1000+", None),
            ("-1", None),
            ("", None),
        ],
    )
    def test_a_time_is_at_most_300_seconds_ahead(self, value: str, until: float | None) -> None:
        """Chance included; all else is none."""
        assert MAX_DELAY == 300
        assert delay_until(value) == until

    @BOTH
    def test_a_success_is_held_back(self, dialect: Dialect) -> None:
        """But no failure."""
        house = House({"t": {**PASS, "delay_until": "1010"}}, dialect=dialect)
        request = new_request([("service", "imap")], id=1, mech="PLAIN")
        core = house.auth.authenticate(request, Secret(b"\0t\0pass"), login=False)
        wish = core.send(None)
        assert isinstance(wish, Sleep)
        assert wish.seconds == 9.5
        assert run(core) == Ok(1, "t", [])
        assert isinstance(login(house, "t", "wrong"), Fail)

    def test_no_time_spoils_the_lookup(self) -> None:
        """As if there were no such user."""
        house = House({"t": {**PASS, "delay_until": "2000"}})
        assert login(house, "t") == Fail(1, [("user", "t")], delay=True)
        assert house.log == [("error", "delay_until is not a time at most 300 s ahead: 2000")]


def test_a_prefetched_field_without_a_name_is_none() -> None:
    """It would end Dovecot."""
    request, reply = login_as(House({"t": {**PASS, "userdb_": "x", "userdb_a": "b"}}), "t")
    assert isinstance(reply, Ok)
    assert list(request.userdb_fields or ()) == [("a", "b")]


@BOTH
def test_fields_carry_any_bytes(dialect: Dialect) -> None:
    """Tabs, line ends, NULs, and what is no UTF-8."""
    value = "\t\n\r\x01\0\udcff\u20ac"
    house = House({"t": {**PASS, "a": value, "userdb_a": value}}, dialect=dialect)
    params = (("forward_fields", "b=" + "\x01t\x01n\x01r\x011\x010\udcff\u20ac"),)
    request, reply = login_as(house, "t", params=params, master=True)
    assert reply == Ok(1, "t", [("forward_b", value), ("a", value)], keep=True)
    assert run(house.auth.fetch_login(request, 2, wants_token=False)).fields[0] == ("a", value)
