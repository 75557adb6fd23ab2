"""The names of a request: how each comes about, and in which order (sections 2 and 5 of the reference)."""

from typing import Any

import pytest

from authlua.auth import new_request
from authlua.dialect import Dialect
from authlua.protocol import Fail, Ok
from authlua.request import AuthRequest
from authlua.secret import Secret
from tests.auth.fakes import House, run

ANYBODY: dict[str, str | None] = {"nopassword": None}


class Everybody(dict[str, Any]):
    """A passdb that knows them all."""

    def get(self, key: str, default: Any = None) -> Any:
        return ANYBODY


def login(house: House, user: str, *, authzid: str = "", **params: str) -> tuple[AuthRequest, Ok | Fail]:
    request = new_request([("service", "imap"), *params.items()], id=1, mech="PLAIN")
    message = f"{authzid}\0{user}\0pass".encode("utf-8", "surrogateescape")
    return request, run(house.auth.authenticate(request, Secret(message), login=False))


def names(request: AuthRequest) -> tuple[str | None, str | None, str | None]:
    return request.user, request.original_user, request.translated_user


def test_the_steps_come_in_dovecots_order() -> None:
    """Realm, translation, the characters that are allowed, the format."""
    house = House(
        Everybody(),
        default_realm="EXAMPLE%ORG",
        username_translation="%.",
        username_chars="ABCDEFGHIJKLMNOPQRSTUVWXYZ.@",
        username_format="<%Lu>",
    )
    request, _ = login(house, "T%T")
    # what the format makes of it is checked no more
    assert names(request) == ("<t.t@example.org>", "T%T", "<t.t@example.org>")
    _, reply = login(house, "t")
    assert reply == Fail(1, [("user", "t"), ("original_user", "t")], delay=True)


@pytest.mark.parametrize(
    ("name", "becomes"), [("t", "t@here"), ("t@there", "t@there"), ("@", "@"), ("t@", "t@"), ("a@b@c", "a@b@c")]
)
def test_a_name_without_a_domain_gets_the_default_realm(name: str, becomes: str) -> None:
    """An @ is enough of a domain."""
    request, _ = login(House(Everybody(), default_realm="here"), name)
    assert names(request) == (becomes, name, becomes)


def test_the_byte_that_is_not_allowed_is_told() -> None:
    """As a number, with the name in 128 bytes that can be read."""
    house = House(Everybody(), username_chars="t", verbose=True)
    request, reply = login(house, "t" * 200 + "\x07")
    (line,) = [text for _, text in house.log]
    assert line.startswith("Username character disallowed by auth_username_chars: 0x07 (username: ttt")
    assert len(line) < 200
    assert line.isprintable()
    assert request.user is None
    assert isinstance(reply, Fail)


@pytest.mark.parametrize("byte", ["é", "\udcff", "\x80"])
def test_bytes_above_ascii_are_allowed_by_name_or_by_an_empty_setting(byte: str) -> None:
    """Each byte counts by itself."""
    assert isinstance(login(House(Everybody(), username_chars="t"), byte)[1], Fail)
    assert isinstance(login(House(Everybody(), username_chars=byte), byte)[1], Ok)
    assert isinstance(login(House(Everybody(), username_chars=""), byte)[1], Ok)


def test_an_expansion_that_leaves_nothing_is_an_empty_name() -> None:
    """Whatever the client said."""
    house = House(Everybody(), username_format="%d", verbose=True)
    _, reply = login(house, "t")
    assert isinstance(reply, Fail)
    assert ("info", "Empty username") in house.log


def test_a_certificates_name_comes_after_the_original() -> None:
    """``original_user`` still says what the client said; realm and format apply."""
    house = House(Everybody(), ssl_username_from_cert=True, default_realm="here", username_format="%Lu")
    request, reply = login(house, "bob", cert_username="Alice")
    assert names(request) == ("alice@here", "bob", "alice@here")
    assert reply == Ok(1, "alice@here", [("original_user", "bob")])


class TestMasters:
    def house(self, **options: Any) -> House:
        users: dict[str, Any] = {"admin": {"password": "{PLAIN}pass"}, "t": {"password": "{PLAIN}other"}}
        placed = [{"master": True, **options.pop("placed", {})}, {}]
        return House(users, users, placed=placed, master_user_separator="*%", verbose=True, **options)

    def test_the_first_separator_counts_and_only_its_first_character(self) -> None:
        """The user stands before it, the master behind."""
        request, reply = login(self.house(), "t*admin")
        assert isinstance(reply, Ok)
        assert (request.user, request.master_user, request.original_user) == ("t", "admin", "admin")
        assert isinstance(login(self.house(), "t%admin")[1], Fail)
        request, _ = login(self.house(username_chars=""), "t*x*admin")
        assert request.original_user == "x*admin"

    def test_an_empty_target_is_no_target(self) -> None:
        """The failure is told under the master's name."""
        house = self.house()
        _, reply = login(house, "*admin")
        assert dict(reply.fields)["user"] == "admin"
        assert ("info", "Master user login attempted to use empty login username") in house.log

    def test_who_wants_to_become_themselves_is_no_master(self) -> None:
        """The name is compared as the client said it, with the user's as it is."""
        request, reply = login(self.house(), "admin*admin")
        assert isinstance(reply, Ok)
        assert request.master_user is None
        house = self.house(username_format="%Lu")
        request, _ = login(house, "admin", authzid="ADMIN")
        assert request.master_user == "admin"

    def test_without_masters_that_is_refused(self) -> None:
        """And the log says why."""
        house = House({"t": ANYBODY}, verbose=True)
        _, reply = login(house, "t", authzid="u")
        assert isinstance(reply, Fail)
        assert ("info", "Master user login attempted without master passdbs") in house.log

    def test_a_target_is_a_name_like_any_other(self) -> None:
        """Translated, checked and formatted."""
        request, _ = login(self.house(username_format="%Lu", default_realm="here"), "admin@here*t")
        assert request.requested_login_user == "admin@here"
        house = self.house(username_chars="admintADMIN")
        _, reply = login(house, "admin", authzid="t!")
        assert isinstance(reply, Fail)

    def test_a_master_passdb_may_choose_another_target(self) -> None:
        """``login_user``, as it is."""
        users: dict[str, Any] = {"admin": {"password": "{PLAIN}pass", "login_user": "Other"}}
        house = House(users, {}, placed=[{"master": True}, {}], master_user_separator="*", username_format="%Lu")
        request, reply = login(house, "t*admin")
        assert request.user == "Other"
        assert reply == Ok(1, "Other", [("original_user", "admin"), ("auth_user", "admin")])

    def test_the_cache_knows_the_target_by_its_own_name(self) -> None:
        """What the key is made of follows the user."""
        request, _ = login(self.house(), "t*admin")
        assert request.translated_user == "t"

    def test_a_disabled_target_is_an_authorization_failure(self) -> None:
        """Because there is a master, whatever the target's passdb says."""
        from authlua.results import PassdbResult

        users: dict[str, Any] = {"admin": {"password": "{PLAIN}pass"}}
        placed = [{"master": True, "result_success": "continue"}, {}]
        house = House(users, {"t": PassdbResult.USER_DISABLED}, placed=placed, master_user_separator="*")
        assert dict(login(house, "t*admin")[1].fields)["code"] == "authz_fail"


@pytest.mark.parametrize(("dialect", "succeeds"), [(Dialect.V2_3, False), (Dialect.V2_4, True)])
def test_a_mech_that_knows_the_user_needs_no_passdb_in_2_4(dialect: Dialect, succeeds: bool) -> None:
    """GSSAPI asks only for fields; where every passdb is passed over there are none."""
    from authlua.auth.passdbs import Wanted
    from authlua.results import PassdbResult

    house = House({"t": ANYBODY}, placed=[{"mechanisms": ["PLAIN"]}], dialect=dialect)
    request = new_request([("service", "imap")], id=1, mech="GSSAPI")
    request.user = "t"
    result = run(house.auth._passdbs.lookup(request, Wanted("")))
    assert (result is PassdbResult.OK) == succeeds
    assert run(house.auth._passdbs.lookup(request, Wanted("PLAIN"))) is PassdbResult.INTERNAL_FAILURE
    assert ("error", "All password databases were skipped") in house.log


def test_an_empty_password_is_one_like_any_other() -> None:
    """The passdbs judge it."""
    house = House({"t": {"password": "{PLAIN}"}, "u": {"password": "{PLAIN}pass"}})
    request = new_request([("service", "imap")], id=1, mech="PLAIN")
    assert isinstance(run(house.auth.authenticate(request, Secret(b"\0u\0"), login=False)), Fail)
    assert house.passdbs[0].asked == ["u"]
