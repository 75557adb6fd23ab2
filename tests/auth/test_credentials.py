"""Mechanisms that never see the password: what the chain looks up for them, and how their last words reach the client.

The rules are those of ``core:2.3.21.1:src/auth/passdb.c:passdb_handle_credentials`` and ``auth-request.c``.
"""

import time
from binascii import a2b_base64
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from authlua import passwords
from authlua.auth import CacheKey, new_request
from authlua.auth.passdbs import Wanted
from authlua.cli.sasl import CLIENTS, Identity
from authlua.databases.pam import PamPassdb
from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.protocol import Fail, Ok
from authlua.request import AuthRequest
from authlua.results import PassdbReply, PassdbResult
from authlua.sasl import MECHS
from authlua.secret import Secret
from authlua.variables import compile_template
from authlua.wishes import Ask, Compute, Sleep, Wish
from tests.auth.fakes import DictPassdb, House, run

PLAIN = {"password": "{PLAIN}secret"}
CRAM_MD5 = passwords.encode(b"secret", "CRAM-MD5")
CHALLENGED = ("CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256")


class Login(NamedTuple):
    """A reply, and what the core wished for on its way there."""

    reply: Ok | Fail
    wishes: list[Wish]


def log_in(
    house: House, mech: str, password: str = "secret", *, user: str = "alice", params: Mapping[str, str | None] = {}
) -> Login:
    """The command line's client, which checks what the server proves, logs in."""
    client = CLIENTS[mech](Identity(user.encode(), password.encode()))
    initial = next(client)
    request = new_request([("service", "imap"), *params.items()], id=1, mech=mech)
    core = house.auth.authenticate(request, None if initial is None else Secret(initial), login=False)
    wishes: list[Wish] = []
    answer: Any = None
    while True:
        try:
            wish = core.send(answer)
        except StopIteration as done:
            reply: Ok | Fail = done.value
            proof = dict(reply.fields).get("resp")
            if isinstance(reply, Ok) and proof:
                client.send(a2b_base64(proof))
            return Login(reply, wishes)
        wishes.append(wish)
        if isinstance(wish, Ask):
            answer = Secret(client.send(wish.challenge) or b"")
        else:
            answer = wish.function(*wish.args) if isinstance(wish, Compute) else None


@pytest.mark.parametrize("mech", CHALLENGED)
def test_a_plain_password_serves_every_mech(mech: str) -> None:
    """What the mech wants is made of it."""
    house = House({"alice": PLAIN}, verbose=True)
    assert isinstance(log_in(house, mech).reply, Ok)
    assert log_in(house, mech, "wrong").reply == Fail(1, [("user", "alice")], True)
    assert ("info", "Password mismatch") in house.log


@pytest.mark.parametrize("mech", CHALLENGED)
def test_stored_credentials_serve_their_mech_alone(mech: str) -> None:
    """Of any other scheme nothing can be made, and the log says which there is."""
    house = House({"alice": {"password": passwords.encode(b"secret", mech, user="alice")}}, verbose=True)
    for other in CHALLENGED:
        house.log.clear()
        reply = log_in(house, other).reply
        assert isinstance(reply, Ok) == (other == mech)
        if other != mech:
            assert reply == Fail(1, [("user", "alice")], True)
            assert ("info", f"Requested {other} scheme, but we have only {mech}") in house.log


def test_an_alias_is_the_scheme_itself() -> None:
    """HMAC-MD5 is stored as CRAM-MD5 is."""
    house = House({"alice": {"password": CRAM_MD5.replace("CRAM", "HMAC")}})
    assert isinstance(log_in(house, "CRAM-MD5").reply, Ok)


@pytest.mark.parametrize("scheme", ["PLAIN", "CLEAR", "CLEARTEXT", "PLAIN-TRUNC"])
def test_other_names_of_plain_serve_as_it_does(scheme: str) -> None:
    """PLAIN-TRUNC with its raw text, the length in front included: for a challenge that is the password."""
    stored = {"alice": {"password": f"{{{scheme}}}6-secret"}}
    assert isinstance(log_in(House(stored), "CRAM-MD5", "6-secret").reply, Ok)
    assert isinstance(log_in(House(stored), "CRAM-MD5", "secret").reply, Fail)
    as_plain = log_in(House(stored), "PLAIN", "secret").reply
    assert isinstance(as_plain, Ok) == (scheme == "PLAIN-TRUNC")


def test_only_what_takes_long_leaves_the_event_loop() -> None:
    """Making SCRAM's keys takes thousands of rounds, the digests of the others a few."""
    house = House({"alice": PLAIN, "carol": {"password": passwords.encode(b"secret", "SCRAM-SHA-256")}})
    computed = {
        (mech, user): any(isinstance(wish, Compute) for wish in log_in(house, mech, user=user).wishes)
        for mech, user in [("CRAM-MD5", "alice"), ("SCRAM-SHA-256", "alice"), ("SCRAM-SHA-256", "carol")]
    }
    assert list(computed.values()) == [False, True, False]


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"nopassword": None}, ("info", "Requested CRAM-MD5 scheme, but we have a NULL password")),
        ({}, ("info", "No password returned (and no nopassword)")),
        ({"password": "{NOSUCH}x"}, ("error", "Unknown scheme NOSUCH")),
        (
            {"password": "{CRAM-MD5}xyz"},
            (
                "error",
                "Password data is not valid for scheme CRAM-MD5: Input isn't valid base64 encoded data",
            ),
        ),
    ],
)
def test_a_user_without_usable_credentials_is_refused(fields: dict[str, str | None], line: tuple[str, str]) -> None:
    """Above all, nopassword opens nothing here: there would be nothing to check the client's proof against."""
    house = House({"alice": fields}, verbose=True)
    assert log_in(house, "CRAM-MD5").reply == Fail(1, [("user", "alice")], True)
    assert line in house.log


@pytest.mark.parametrize("debug", [False, True])
def test_a_passdb_that_tells_no_passwords_is_passed_over(debug: bool) -> None:
    """Which is no news; another one may serve the mech, or refuse the user."""

    class Judge(DictPassdb):
        async def lookup(self, request: AuthRequest) -> PassdbReply:
            return await PamPassdb("imap", dialect=Dialect.V2_3, id=1).lookup(request)

    line = ("debug", "passdb doesn't support credential lookups")
    house = House(Judge({}), {"alice": PLAIN}, verbose=True, debug=debug)
    assert isinstance(log_in(house, "CRAM-MD5").reply, Ok)
    assert house.log == [line] * debug
    assert log_in(House(Judge({})), "CRAM-MD5").reply == Fail(1, [("user", "alice")], True)


@pytest.mark.parametrize("mech", CHALLENGED)
def test_what_the_passdb_says_is_told_as_to_any_mech(mech: str) -> None:
    """Disabled, expired, down: the codes do not depend on the mech."""
    house = House(
        {
            "alice": PassdbResult.USER_DISABLED,
            "bob": PassdbResult.PASS_EXPIRED,
            "carol": PassdbResult.INTERNAL_FAILURE,
            "dave": ScriptError("a bug"),
        }
    )
    codes = [
        dict(log_in(house, mech, user=user).reply.fields).get("code") for user in ("alice", "bob", "carol", "dave")
    ]
    assert codes == ["user_disabled", "pass_expired", "temp_fail", "temp_fail"]


def test_the_first_credentials_count_if_the_last_passdb_has_none() -> None:
    """A passdb that only adds fields does not take the password away."""
    fields = {"alice": {"nopassword": None, "reason": "hello"}}
    house = House({"alice": {"password": CRAM_MD5}}, fields, placed=[{"result_success": "continue"}])
    assert log_in(house, "CRAM-MD5").reply == Ok(1, "alice", [("reason", "hello")])
    assert isinstance(log_in(house, "CRAM-MD5", "wrong").reply, Fail)


def test_the_last_credentials_count_if_there_are_any() -> None:
    """Even though an earlier passdb had some."""
    house = House({"alice": PLAIN}, {"alice": {"password": "{PLAIN}other"}}, placed=[{"result_success": "continue"}])
    assert isinstance(log_in(house, "CRAM-MD5", "other").reply, Ok)
    assert isinstance(log_in(house, "CRAM-MD5", "secret").reply, Fail)


def test_a_passdb_that_has_the_scheme_knows_the_user_best() -> None:
    """Unknown there and of another scheme elsewhere is unknown."""
    house = House({}, {"alice": {"password": "{SHA1}C+7Hteo/D9vJXQ3UfzxbwnXaijM="}})
    request = AuthRequest("imap", id=1, mech="CRAM-MD5")
    request.user = request.original_user = "alice"
    assert run(house.auth._passdbs.lookup(request, Wanted("CRAM-MD5"))) is PassdbResult.USER_UNKNOWN


# --- the last words ----------------------------------------------------------


def asked(login: Login) -> list[bytes]:
    return [wish.challenge for wish in login.wishes if isinstance(wish, Ask)]


def test_the_servers_proof_goes_with_the_reply_if_the_client_can_take_it() -> None:
    """Clients that say final-resp-ok get it there, others in one more challenge; both checked it above."""
    house = House({"alice": PLAIN})
    short = log_in(house, "SCRAM-SHA-1", params={"final-resp-ok": None})
    assert [name for name, _ in short.reply.fields] == ["resp"]
    long = log_in(house, "SCRAM-SHA-1")
    assert long.reply == Ok(1, "alice", [])
    assert len(asked(long)) == len(asked(short)) + 1
    assert asked(long)[-1].startswith(b"v=")


def test_a_success_that_is_held_back_keeps_the_proof_back_too() -> None:
    """The client hears nothing before its time."""
    until = str(int(time.time()) + 100)
    login = log_in(House({"alice": {**PLAIN, "delay_until": until}}), "DIGEST-MD5")
    assert [type(wish) for wish in login.wishes] == [Ask, Sleep, Ask]


@pytest.mark.parametrize(
    ("dialect", "final", "challenges", "fields"),
    [
        (Dialect.V2_3, False, 1, ["user"]),
        (Dialect.V2_3, True, 1, ["user"]),
        (Dialect.V2_4, False, 1, ["user"]),
        (Dialect.V2_4, True, 0, ["user", "resp"]),
    ],
)
def test_a_refused_token_is_explained(dialect: Dialect, final: bool, challenges: int, fields: list[str]) -> None:
    """2.3 asks for one more answer in any case, 2.4 only where it must."""
    params: dict[str, str | None] = {"final-resp-ok": None} if final else {}
    login = log_in(House({"alice": PLAIN}, dialect=dialect), "XOAUTH2", "wrong", params=params)
    assert isinstance(login.reply, Fail)
    assert len(asked(login)) == challenges
    assert [name for name, _ in login.reply.fields] == fields


@pytest.mark.parametrize("dialect", Dialect)
def test_a_token_that_cannot_be_judged_is_a_temporary_failure(dialect: Dialect) -> None:
    """And no reason for the client to get another one."""
    login = log_in(House({"alice": ScriptError("down")}, dialect=dialect), "OAUTHBEARER")
    assert (asked(login), dict(login.reply.fields).get("code")) == ([], "temp_fail")


@pytest.mark.parametrize(
    ("result", "status"),
    [(PassdbResult.USER_DISABLED, b'"status":"403"'), (PassdbResult.PASSWORD_MISMATCH, b'"status":"401"')],
)
def test_2_4_tells_a_disabled_user_from_a_bad_token(result: PassdbResult, status: bytes) -> None:
    """With 2.3 they hear the same."""
    new, old = (
        asked(log_in(House({"alice": result}, dialect=dialect), "XOAUTH2"))[0]
        for dialect in (Dialect.V2_4, Dialect.V2_3)
    )
    assert status in new
    assert b'"status":"401"' in old


# --- mechs that ask for something else ---------------------------------------


class Keeper(DictPassdb):
    """Also stores passwords."""

    def __init__(self, stored: str, *, failure: ScriptError | None = None) -> None:
        super().__init__({"alice": {"password": stored}})
        self.failure = failure
        self.kept: list[str] = []

    async def set_credentials(self, request: AuthRequest, stored: Secret) -> bool:
        if self.failure is not None:
            raise self.failure
        self.kept.append(stored.reveal().decode())
        return True


OTP = "{OTP}md5 99 ke1234 b254f324b85c640c"


def one_time_password(house: House) -> Ok | Fail:
    request = new_request([("service", "imap")], id=1, mech="OTP")
    core = house.auth.authenticate(request, Secret(b"\0alice"), login=False)
    assert core.send(None).challenge == b"otp-md5 98 ke1234 ext"
    reply: Ok | Fail = run_on(core, Secret(b"hex:9bc29b075f3322d3"))
    return reply


def run_on(core: Any, answer: Any) -> Any:
    with pytest.raises(StopIteration) as done:
        core.send(answer)
    return done.value.value


def test_otp_stores_the_next_password_in_the_passdb_that_answered() -> None:
    """The last one that did, not another that could store, too."""
    first, second = Keeper(OTP), Keeper(OTP)
    house = House(first, second, placed=[{"result_success": "continue"}])
    assert one_time_password(house) == Ok(1, "alice", [])
    first.users = {}
    assert one_time_password(House(first, second)) == Ok(1, "alice", [])
    assert (first.kept, second.kept) == ([], ["{OTP}md5 98 ke1234 9bc29b075f3322d3"] * 2)


def test_otp_stores_the_next_password_in_a_passdb_that_is_cached() -> None:
    """In the passdb itself, whoever told the one before; the cache forgets what is no longer true."""
    keeper = Keeper(OTP)
    template = compile_template("%u", Dialect.V2_3)
    key = CacheKey.of_template("P", 1, template, Dialect.V2_3)
    house = House(keeper, placed=[{"cache_key": key}], cache_size=1 << 20)
    assert one_time_password(house) == Ok(1, "alice", [])
    run(house.auth.lookup_passdb(new_request([("service", "imap")], id=1, mech=""), "alice"), Compute)
    assert one_time_password(house) == Ok(1, "alice", [])
    assert (len(keeper.asked), len(keeper.kept)) == (2, 2)
    assert one_time_password(house) == Ok(1, "alice", [])
    assert (len(keeper.asked), len(keeper.kept)) == (3, 3)


@pytest.mark.parametrize(
    ("passdb", "line"),
    [
        (DictPassdb({"alice": {"password": OTP}}), "the passdb cannot store credentials"),
        (Keeper(OTP, failure=ScriptError("the disk is full")), "the disk is full"),
    ],
)
def test_otp_fails_for_now_if_the_next_password_cannot_be_stored(passdb: DictPassdb, line: str) -> None:
    """Letting the user in would let in whoever overheard the password, as long as it stays the next one."""
    house = House(passdb)
    assert dict(one_time_password(house).fields)["code"] == "temp_fail"
    assert ("error", line) in house.log


def test_anonymous_asks_nobody() -> None:
    """The trace is for the log alone."""
    house = House({}, anonymous_username="guest", verbose=True)
    assert log_in(house, "ANONYMOUS", user="me\n").reply == Ok(1, "guest", [("anonymous", None)])
    assert house.passdbs[0].asked == []
    assert ("info", "anonymous login: me\\n") in house.log


@pytest.mark.parametrize("trusted", [False, True])
def test_external_trusts_certificates_only_if_told_to(trusted: bool) -> None:
    """A name from a certificate counts with ssl_username_from_cert alone."""
    house = House({"carol": {"nopassword": None}}, ssl_username_from_cert=trusted, verbose=True)
    reply = log_in(house, "EXTERNAL", params={"cert_username": "carol"}).reply
    assert isinstance(reply, Ok) == trusted
    assert (("info", "username not known") in house.log) == (not trusted)


def test_a_nul_ends_what_allows_none() -> None:
    """Before the mech sees it, in a first message and in a later one."""
    house = House({"alice": PLAIN}, verbose=True)
    request = new_request([("service", "imap")], id=1, mech="SCRAM-SHA-1")
    assert isinstance(run(house.auth.authenticate(request, Secret(b"n,,n=alice\0,r=x"), login=False)), Fail)
    core = house.auth.authenticate(new_request([], id=1, mech="CRAM-MD5"), None, login=False)
    core.send(None)
    assert isinstance(run_on(core, Secret(b"alice\0 x")), Fail)
    assert house.log == [("info", "NUL in the client's data")] * 2


def test_some_mechs_allow_nuls() -> None:
    """They separate names in their messages, or what they send is no text."""
    allowing = {name for name, mech in MECHS.items() if mech.allow_nul}
    assert allowing == {"PLAIN", "ANONYMOUS", "APOP", "OTP", "GSSAPI", "GSS-SPNEGO", "NTLM"}


def test_who_wants_only_the_fields_is_content_with_any_password() -> None:
    """Or with none."""
    users: dict[str, Any] = {"hash": {"password": CRAM_MD5}, "none": {"nopassword": None}, "odd": {"password": "{X}x"}}
    house = House(users)

    def lookup(user: str) -> tuple[PassdbResult, bytes]:
        request = AuthRequest("imap", id=1, mech="GSSAPI")
        request.user = request.original_user = user
        wanted = Wanted("")
        return run(house.auth._passdbs.lookup(request, wanted)), wanted.credentials.reveal()

    assert lookup("hash") == (PassdbResult.OK, bytes.fromhex(CRAM_MD5.partition("}")[2]))
    assert lookup("none") == (PassdbResult.OK, b"")
    assert lookup("odd") == (PassdbResult.SCHEME_NOT_AVAILABLE, b"")


def test_a_passdb_that_leaves_the_password_to_another_has_none() -> None:
    """``noauthenticate`` goes on, and its other fields are kept."""
    house = House({"alice": {"noauthenticate": None, "a": "1"}}, {"alice": PLAIN})
    assert log_in(house, "CRAM-MD5").reply == Ok(1, "alice", [("a", "1")])
    assert isinstance(log_in(house, "CRAM-MD5", "wrong").reply, Fail)
