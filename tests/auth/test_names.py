"""The names of a request: how each comes about, and in which order (sections 2 and 5 of the reference)."""

from binascii import a2b_base64
from typing import Any

import pytest

from authlua import passwords
from authlua.auth import new_request
from authlua.auth.passdbs import Wanted
from authlua.cli.sasl import CLIENTS, WITH_TARGET, Identity
from authlua.dialect import Dialect
from authlua.protocol import Fail, NotFound, Ok, PassFound, UserFound
from authlua.request import VARIABLES_2_3, AuthRequest
from authlua.results import PassdbReply, PassdbResult
from authlua.secret import Secret
from authlua.wishes import Ask, Compute
from tests.auth.fakes import DictPassdb, House, run

ANYBODY: dict[str, str | None] = {"nopassword": None}


class Everybody(dict[str, Any]):
    """A passdb that knows them all."""

    def get(self, key: str, default: Any = None) -> Any:
        return ANYBODY


def login(house: House, user: str, *, authzid: str = "", **params: str) -> tuple[AuthRequest, Ok | Fail]:
    request = new_request([("service", "imap"), *params.items()], id=1, mech="PLAIN")
    message = f"{authzid}\0{user}\0pass".encode("utf-8", "surrogateescape")
    return request, run(house.auth.authenticate(request, Secret(message), login=False))


def converse(house: House, mech: str, who: Identity) -> tuple[AuthRequest, Ok | Fail]:
    """A login with any mech, by the command line's client, which checks what the server proves."""
    client = CLIENTS[mech](who)
    initial = next(client)
    params = (
        [("service", "imap"), ("cert_username", who.user.decode())] if mech == "EXTERNAL" else [("service", "imap")]
    )
    request = new_request(params, id=1, mech=mech)
    core = house.auth.authenticate(request, None if initial is None else Secret(initial), login=False)
    answer: Any = None
    while True:
        try:
            wish = core.send(answer)
        except StopIteration as done:
            reply: Ok | Fail = done.value
            if proof := dict(reply.fields).get("resp"):
                client.send(a2b_base64(proof))
            return request, reply
        if isinstance(wish, Ask):
            answer = Secret(client.send(wish.challenge) or b"")
        else:
            assert isinstance(wish, Compute)
            answer = wish.function(*wish.args)


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


@pytest.mark.parametrize(
    ("name", "byte", "shown"),
    [
        ("t\x07\udcffx", "0x07", "t??x"),
        ("t" * 127 + "!", "0x21", "t" * 127 + "!"),
        ("t" * 128 + "!", "0x21", "t" * 125 + "..."),
        ("ttü", "0xc3", "ttü"),
    ],
)
def test_the_byte_that_is_not_allowed_is_told(name: str, byte: str, shown: str) -> None:
    """As a number, with the name in 128 bytes that can be read, as Dovecot writes it."""
    house = House(Everybody(), username_chars="t", verbose=True)
    request, reply = login(house, name)
    line = f"Username character disallowed by auth_username_chars: {byte} (username: {shown})"
    assert house.log == [("info", line)]
    assert request.user is None
    assert reply == Fail(1, [("user", name), ("original_user", name)], delay=True)


def test_each_byte_is_translated_by_itself() -> None:
    """The first of a pair becomes the second, be they letters or not; only what comes of it is checked."""
    house = House(Everybody(), username_translation="%@Aaü", username_chars="at@\udcbc")
    assert login(house, "A%t")[0].user == "a@t"
    assert login(house, "ü")[0].user == "\udcbc\udcbc"


@pytest.mark.parametrize(
    ("dialect", "format", "user"),
    [
        (Dialect.V2_3, "%u%{nosuch}", "tUNSUPPORTED_VARIABLE_nosuch"),
        (Dialect.V2_4, "%{user}%{nosuch}", None),
    ],
)
def test_a_format_with_an_unknown_variable(dialect: Dialect, format: str, user: str | None) -> None:
    """2.3 goes on with what it has made of it, 2.4 refuses the name."""
    house = House(Everybody(), username_format=format, dialect=dialect, verbose=True)
    request, reply = login(house, "t")
    assert request.user == user
    assert isinstance(reply, Ok) == (user is not None)
    told = f"Failed to expand username_format={format}: Unknown variable 'nosuch'"
    assert (("info", told) in house.log) == (user is None)


def test_without_a_format_the_name_stays() -> None:
    """Capitals and all."""
    assert names(login(House(Everybody()), "Tim@Here")[0]) == ("Tim@Here",) * 3


def test_a_name_that_is_said_twice_keeps_its_first_form() -> None:
    """Some mechs learn the user's name in two steps; what was sent, and what the cache goes by, is the first."""
    house = House(Everybody(), username_format="%Lu")
    request = new_request([("service", "imap")], id=1, mech="GSSAPI")
    for name in ("Tim", "TOM"):
        house.auth._names.set_user(request, name)
    assert names(request) == ("tom", "Tim", "tim")


def test_realms_restrict_nobody() -> None:
    """They are what DIGEST-MD5 offers to choose from."""
    house = House({"t@elsewhere": {"password": "{PLAIN}pass"}}, realms=("here", "there"))
    assert isinstance(login(house, "t@elsewhere")[1], Ok)
    request, reply = converse(house, "DIGEST-MD5", Identity(b"t@elsewhere", b"pass"))
    assert reply == Ok(1, "t@elsewhere", [])
    assert request.realm == "elsewhere"
    assert login(house, "t@elsewhere")[0].realm is None


@pytest.mark.parametrize("mech", ["PLAIN", "DIGEST-MD5"])
def test_a_digest_is_of_the_name_that_was_sent(mech: str) -> None:
    """Not of what became of it: neither one that is stored nor one that is made for the mech."""
    password = "{PLAIN}pass" if mech == "DIGEST-MD5" else passwords.encode(b"pass", "DIGEST-MD5", user="Tim@Here")
    house = House({"tim": {"password": password}}, username_format="%Ln")
    assert isinstance(converse(house, mech, Identity(b"Tim@Here", b"pass"))[1], Ok)
    assert isinstance(converse(house, mech, Identity(b"Tim@Here", b"other"))[1], Fail)


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
        users: dict[str, Any] = {"admin": {"password": "{PLAIN}pass"}}
        placed = [{"master": True, "result_success": "continue"}, {}]
        house = House(users, {"t": PassdbResult.USER_DISABLED}, placed=placed, master_user_separator="*")
        assert dict(login(house, "t*admin")[1].fields)["code"] == "authz_fail"

    @pytest.mark.parametrize("mech", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1"])
    def test_the_separator_serves_every_mech_with_a_name(self, mech: str) -> None:
        """Whether or not it could name the target by itself."""
        request, reply = converse(self.house(), mech, Identity(b"t*admin", b"pass"))
        assert reply == Ok(1, "t", [("original_user", "admin"), ("auth_user", "admin")])
        assert (request.user, request.master_user) == ("t", "admin")

    @pytest.mark.parametrize("mech", WITH_TARGET)
    def test_some_mechs_name_the_target_themselves(self, mech: str) -> None:
        """Their authzid."""
        house = self.house(ssl_username_from_cert=True)
        if mech == "EXTERNAL":  # the certificate is proof enough
            house = House(
                {"admin": {"nopassword": None}}, {}, placed=[{"master": True}, {}], ssl_username_from_cert=True
            )
        _, reply = converse(house, mech, Identity(b"admin", b"pass", b"t"))
        names = [("original_user", "admin")] if mech != "EXTERNAL" else [("original_user", "")]
        assert reply == Ok(1, "t", [*names, ("auth_user", "admin")])

    @pytest.mark.parametrize("mech", ["SCRAM-SHA-1", "DIGEST-MD5"])
    @pytest.mark.parametrize(("rule", "succeeds"), [("return-ok", True), ("continue", False)])
    def test_a_chain_that_goes_on_checks_a_proof_against_the_targets_password(
        self, mech: str, rule: str, succeeds: bool
    ) -> None:
        """Which is not the master's: what the last passdb supplies counts. As Dovecot does."""
        _, reply = converse(self.house(placed={"result_success": rule}), mech, Identity(b"admin", b"pass", b"t"))
        names = [("original_user", "admin"), ("auth_user", "admin")]
        assert reply == (
            Ok(1, "t", names) if succeeds else Fail(1, [("user", "t"), ("code", "authz_fail"), *names], delay=True)
        )

    def test_an_authzid_of_the_very_same_bytes_is_none(self) -> None:
        """Even where the name becomes another one; PLAIN clients repeat it without a thought."""
        request, reply = login(self.house(username_format="%Lu"), "ADMIN", authzid="ADMIN")
        assert reply == Ok(1, "admin", [("original_user", "ADMIN")])
        assert request.master_user is None

    def test_the_separator_counts_in_lookups_too(self) -> None:
        """Seen of 2.3.19 and 2.4.1: the part of the master is looked up by the userdbs, the target by the passdbs."""
        house = House(
            {"admin": {"password": "{PLAIN}pass"}},
            {"t": ANYBODY},
            placed=[{"master": True, "result_success": "continue"}, {}],
            userdbs=[{"admin": {"uid": "1"}, "t": {"uid": "2"}}],
            master_user_separator="*",
        )
        assert run(house.auth.lookup_user(new_request([], id=1), "t*admin")) == UserFound(1, "admin", [("uid", "1")])
        assert run(house.auth.lookup_user(new_request([], id=2), "*admin")) == NotFound(2)
        found = run(house.auth.lookup_passdb(new_request([], id=3), "t*admin"))[1]
        assert isinstance(found, PassFound)
        assert found.user == "t"

    def test_who_is_who_while_a_master_becomes_a_user(self) -> None:
        """A master's passdb sees the target as login_user, a user's sees the master and a verified password."""
        seen: list[tuple[Any, ...]] = []

        class Witness(DictPassdb):
            async def lookup(self, request: AuthRequest) -> PassdbReply:
                wanted = ("user", "login_user", "master_user", "original_user", "auth_user")
                variables = [VARIABLES_2_3[name](request) for name in wanted]
                seen.append((*variables, request.translated_user, request.skip_password_check))
                return await super().lookup(request)

        password: dict[str, Any] = {"password": "{PLAIN}pass"}
        house = House(
            Witness({"admin": password}),
            Witness({}),
            Witness({"t": {"password": "{PLAIN}other"}}),
            placed=[{"master": True, "result_success": "continue"}, {}, {}],
            master_user_separator="*",
            username_format="%Lu",
            debug=True,
        )
        _, reply = login(house, "T*Admin")
        assert reply == Ok(1, "t", [("original_user", "Admin"), ("auth_user", "admin")])
        assert seen == [
            ("admin", "t", None, "Admin", "Admin", "admin", False),
            ("t", None, "admin", "Admin", "admin", "t", True),
            ("t", None, "admin", "Admin", "admin", "t", True),
        ]
        assert ("debug", "Master user lookup for login: t") in house.log
        assert ("info", "Master user logging in as t") in house.log

    def test_what_spoils_the_masters_lookup_keeps_the_master_out(self) -> None:
        """A field such as allow_nets acts before anybody becomes anybody."""
        users: dict[str, Any] = {"admin": {"password": "{PLAIN}pass", "allow_nets": "192.0.2.0/24"}}
        house = House(users, {"t": ANYBODY}, placed=[{"master": True}, {}], master_user_separator="*")
        request, reply = login(house, "t*admin", rip="198.51.100.1")
        assert reply == Fail(1, [("user", "admin")], delay=True)
        assert (request.user, request.master_user, house.passdbs[1].asked) == ("admin", None, [])
        assert isinstance(login(house, "t*admin", rip="192.0.2.1")[1], Ok)

    def test_a_userdbs_reply_names_the_master(self) -> None:
        """Twice, unless a field has said it."""
        house = House(
            {"admin": {"password": "{PLAIN}pass"}},
            {},
            placed=[{"master": True}, {}],
            userdbs=[{"t": {"uid": "5"}, "u": {"uid": "5", "master_user": "m"}}],
            master_user_separator="*",
        )
        for user, fields in (
            ("t", [("uid", "5"), ("master_user", "admin"), ("auth_mech", "PLAIN"), ("auth_user", "admin")]),
            ("u", [("uid", "5"), ("master_user", "m"), ("auth_mech", "PLAIN"), ("auth_user", "admin")]),
        ):
            request, _ = login(house, f"{user}*admin")
            assert run(house.auth.fetch_login(request, 9, wants_token=False)) == UserFound(9, user, fields)


@pytest.mark.parametrize(("dialect", "succeeds"), [(Dialect.V2_3, False), (Dialect.V2_4, True)])
def test_a_mech_that_knows_the_user_needs_no_passdb_in_2_4(dialect: Dialect, succeeds: bool) -> None:
    """GSSAPI asks only for fields; where every passdb is passed over there are none."""
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
