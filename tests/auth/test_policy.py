"""The policy server: what it is told, what its answers do, and that its silence denies nobody."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from authlua.auth import Event, PolicyOptions, new_request
from authlua.config import AuthSettings, keys
from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.protocol import Fail, Ok
from authlua.request import AuthRequest
from authlua.results import PassdbResult
from authlua.secret import Secret
from authlua.server.core import _observer
from authlua.server.counting import Counts
from authlua.services.http_messages import Answer
from authlua.variables import compile_template
from authlua.wishes import Service, Sleep
from tests.auth.fakes import House
from tests.server.test_metrics import counted

ALLOWED = {"status": 0, "msg": ""}
BOTH = pytest.mark.parametrize("dialect", [Dialect.V2_3, Dialect.V2_4])


def options(dialect: Dialect = Dialect.V2_3, **more: Any) -> PolicyOptions:
    key = keys(AuthSettings)["policy_request_attributes"]
    attributes = key.default if dialect is Dialect.V2_3 else key.since_2_4
    more.setdefault("request_attributes", [(name, compile_template(text, dialect)) for name, text in attributes])
    return PolicyOptions("http://policy.example/", hash_nonce="nonce", **more)


class Asked(NamedTuple):
    """A request to the policy server."""

    client: bytes
    method: bytes
    url: bytes
    body: bytes
    expect: bool
    headers: bytes


def reply(status: int, body: bytes, problem: str = "") -> Answer:
    """What a service answers."""
    return Answer(status, b"because", b"", body, problem)


class Site:
    """A house, and the policy server that answers it from a list."""

    def __init__(self, dialect: Dialect = Dialect.V2_3, **more: Any) -> None:
        self.events: list[tuple[str, dict[str, str]]] = []
        users: dict[str, Any] = {
            "ok@x": {"password": "{PLAIN}pass"},
            "down": ScriptError("down"),
            "off": PassdbResult.USER_DISABLED,
            "old": PassdbResult.PASS_EXPIRED,
        }
        self.house = House(
            users, users, dialect=dialect, verbose=True, policy=options(dialect, **more), observe=self.observe
        )
        self.asked: list[Asked] = []
        self.slept = 0.0

    def observe(self, event: Event, request: AuthRequest | None, seconds: float) -> None:
        if event.name.startswith("auth_policy"):
            self.events.append((event.name, dict(event.fields)))

    def login(
        self, user: str = "ok@x", password: str = "pass", *answers: Any, params: Sequence[tuple[str, str | None]] = ()
    ) -> Ok | Fail:
        """How it ends; an answer is what the server says, an exception, or a whole reply."""
        self.asked.clear()
        self.slept = 0.0
        given = [("service", "imap"), ("rip", "192.0.2.1"), ("session", 's"1'), *params]
        self.request: AuthRequest = new_request(given, id=1, mech="PLAIN")
        core = self.house.auth.authenticate(self.request, Secret(f"\0{user}\0{password}".encode()), login=False)
        ended: Ok | Fail = self.run(core, list(answers))
        return ended

    def report(self) -> dict[str, Any]:
        """What the server is told of the last login."""
        self.asked.clear()
        policy = self.house.auth.policy
        assert policy is not None
        assert self.request.result is not None
        self.run(policy.report(self.request, self.request.result), [])
        return self.bodies()[0] if self.asked else {}

    def run(self, core: Any, answers: list[Any]) -> Any:
        step = lambda: core.send(None)  # noqa: E731
        while True:
            try:
                wish = step()
            except StopIteration as done:
                return done.value
            if isinstance(wish, Sleep):
                self.slept += wish.seconds
                step = lambda: core.send(None)  # noqa: E731
                continue
            assert isinstance(wish, Service)
            self.asked.append(Asked(*wish.arguments))
            answer = answers.pop(0) if answers else ALLOWED
            if isinstance(answer, dict):
                answer = reply(200, json.dumps(answer).encode())
            step = lambda said=answer: core.send(said)  # type: ignore[misc]  # noqa: E731

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(wish.body) for wish in self.asked]


def test_it_is_asked_before_and_after() -> None:
    """The very bytes and headers that Dovecot 2.3.19.1 was seen to send."""
    site = Site()
    assert site.login() == Ok(1, "ok@x", [])
    assert [wish.body for wish in site.asked] == [
        b'{"device_id":"","login":"ok@x","protocol":"imap","pwhash":"06d5",'
        b'"remote":"192.0.2.1","session_id":"s\\"1","tls":false}'
    ] * 2
    assert [(wish.method, wish.url) for wish in site.asked] == [(b"POST", b"http://policy.example/?command=allow")] * 2
    assert site.asked[0].headers == b"Content-Type\napplication/json"
    site.report()
    assert site.asked[0].url == b"http://policy.example/?command=report"
    assert site.asked[0].body == (
        b'{"device_id":"","login":"ok@x","protocol":"imap","pwhash":"06d5",'
        b'"remote":"192.0.2.1","session_id":"s\\"1","success":true,"policy_reject":false,"tls":false}'
    )


@BOTH
def test_a_refusal_denies_before_any_passdb_is_asked(dialect: Dialect) -> None:
    """Its message is the reason that the client hears."""
    site = Site(dialect)
    refused = {"status": -1, "msg": "go away"}
    assert site.login("ok@x", "pass", refused).fields == [("user", "ok@x"), ("reason", "go away")]
    assert site.house.passdbs[0].asked == []
    report = site.report()
    assert (report["success"], report["policy_reject"]) == (False, True)
    assert report.get("fail_type") == (None if dialect is Dialect.V2_3 else "policy")


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        (
            {"status": -1, "msg": "go away"},
            [
                "Authentication failure due to policy server refusal: go away",
                "Policy check action is drop connection",
            ],
        ),
        (
            {"status": -2},
            ["Authentication failure due to policy server refusal", "Policy check action is drop connection"],
        ),
        ({"status": 7, "msg": "slow"}, ["Policy check action is tarpit 7 second(s)"]),
        (ALLOWED, []),
    ],
)
def test_the_log_says_what_it_wanted(answer: Any, lines: list[str]) -> None:
    """In Dovecot's words, where anything is said of logins."""
    site = Site()
    site.login("ok@x", "pass", answer)
    assert [text for level, text in site.house.log if level == "info"] == lines
    silent = House({"ok@x": {"password": "{PLAIN}pass"}}, policy=options())
    site.house = silent
    site.login("ok@x", "pass", answer)
    assert silent.log == []


def test_a_success_may_still_be_refused() -> None:
    """By the second answer."""
    site = Site()
    reply = site.login("ok@x", "pass", ALLOWED, {"status": -1, "msg": "late"})
    assert reply == Fail(1, [("user", "ok@x"), ("reason", "late")], delay=True)


def test_it_may_let_the_client_wait() -> None:
    """Before the password is looked at; not with no-penalty, and not once it was right."""
    site = Site()
    assert isinstance(site.login("ok@x", "pass", {"status": 3, "msg": ""}), Ok)
    assert site.slept == 3
    assert isinstance(site.login("ok@x", "pass", {"status": 3, "msg": ""}, params=[("no-penalty", None)]), Ok)
    assert site.slept == 0
    assert isinstance(site.login("ok@x", "pass", ALLOWED, {"status": 3, "msg": ""}), Ok)
    assert site.slept == 0


def test_it_is_asked_once_however_many_passdbs_there_are() -> None:
    """A wrong password is tried on both, and is asked about once."""
    site = Site()
    site.login("ok@x", "wrong")
    assert len(site.asked) == 1
    assert site.house.passdbs[1].asked == ["ok@x"]


def test_not_even_log_only_changes_what_is_asked() -> None:
    """But nothing it says is done."""
    site = Site(log_only=True)
    assert isinstance(site.login("ok@x", "pass", {"status": -1, "msg": "x"}, {"status": 5, "msg": ""}), Ok)
    assert (len(site.asked), site.slept) == (2, 0)
    assert ("info", "Policy check action 'refused' ignored") in site.house.log
    assert site.report()["policy_reject"] is False


@pytest.mark.parametrize(
    "answer",
    [
        reply(9008, b"", ""),
        reply(200, b'{"status":-1,"msg":""}', "Disconnected"),
        reply(500, b'{"status":-1,"msg":""}'),
        reply(210, b'{"status":-1,"msg":""}'),
        reply(200, b"garbage"),
        reply(200, b"\xff"),
        reply(200, b'{"status":"-1","msg":""}'),
        reply(200, b'{"status":true,"msg":""}'),
        reply(200, b'{"status":-1,"msg":5}'),
        reply(200, b"[]"),
    ],
)
@pytest.mark.parametrize("reject", [False, True])
def test_a_server_that_is_down_denies_only_when_it_is_told_to(answer: Any, reject: bool) -> None:
    """One warning for each question."""
    site = Site(reject_on_fail=reject)
    assert isinstance(site.login("ok@x", "pass", answer), Fail if reject else Ok)
    assert len([text for level, text in site.house.log if level == "warning"]) == 1


def test_a_report_that_cannot_be_delivered_is_a_warning() -> None:
    """And no more."""
    site = Site()
    site.login()
    policy = site.house.auth.policy
    assert policy is not None
    site.run(policy.report(site.request, PassdbResult.OK), [reply(9003, b"")])
    assert ("warning", "Policy server: report: 9003 because") in site.house.log


@pytest.mark.parametrize(
    ("user", "password", "fail_type"),
    [
        ("ok@x", "pass", ""),
        ("ok@x", "bad", "credentials"),
        ("nosuch", "pass", "account"),
        ("off", "pass", "disabled"),
        ("old", "pass", "expired"),
        ("down", "pass", "internal"),
    ],
)
def test_a_report_says_why(user: str, password: str, fail_type: str) -> None:
    """As Dovecot 2.4.1 was seen to."""
    site = Site(Dialect.V2_4)
    site.login(user, password)
    report = site.report()
    assert (report["fail_type"], report["success"]) == (fail_type, fail_type == "")


@pytest.mark.parametrize(
    ("bits", "mech", "expected"),
    [
        (12, "sha256", lambda whole: "0" + whole[:3]),
        (8, "sha256", lambda whole: whole[:2]),
        (16, "sha512", lambda whole: whole[:4]),
        (4, "sha3-256", lambda whole: "0" + whole[:1]),
        (0, "md5", lambda whole: whole),
        (4096, "sha1", lambda whole: whole),
    ],
)
def test_passwords_are_told_by_a_few_bits_of_a_hash(bits: int, mech: str, expected: Any) -> None:
    """The leading ones, right-aligned; for the first line the bytes seen of Dovecot are in another test."""
    site = Site(hash_truncate=bits, hash_mech=mech)
    site.login()
    whole = hashlib.new(mech.replace("3-", "3_"), b"nonceok@x\0pass").hexdigest()
    assert site.bodies()[0]["pwhash"] == expected(whole)


def test_whoever_a_master_wants_to_become_is_whom_it_is_about() -> None:
    """The name, and the hash of the password."""
    site = Site()
    site.house = House(
        {"admin": {"password": "{PLAIN}pass"}}, {}, placed=[{"master": True}, {}], policy=options(), username_format=""
    )
    request = new_request([("service", "imap")], id=1, mech="PLAIN")
    assert isinstance(site.run(site.house.auth.authenticate(request, Secret(b"t\0admin\0pass"), login=False), []), Ok)
    before = site.bodies()[0]
    assert before["login"] == "t"
    assert before["pwhash"] == "0" + hashlib.sha256(b"noncet\0pass").hexdigest()[:3]


def test_a_mech_that_never_sees_the_password_tells_the_hash_of_none() -> None:
    """Of the nonce and the name."""
    site = Site()
    request = new_request([("service", "imap")], id=1, mech="CRAM-MD5")
    core = site.house.auth.authenticate(request, None, login=False)
    core.send(None)
    step = core.send(Secret(b"ok@x " + b"0" * 32))
    assert isinstance(step, Service)
    body = json.loads(step.arguments[3])
    assert (body["login"], body["pwhash"]) == ("ok@x", "0" + hashlib.sha256(b"nonceok@x\0").hexdigest()[:3])
    core.close()


def test_it_has_two_seconds_and_one_chance() -> None:
    """Which settings may change, the former one."""
    assert keys(AuthSettings)["policy_server_timeout"].default == 2
    site = Site(timeout=0.7)
    site.login()
    client = json.loads(site.asked[0].client)
    assert (client["request_absolute_timeout"], client["auto_retry"]) == (0.7, False)
    assert client["user_agent"] == "dovecot/auth-policy-client"


def test_everything_in_a_body_is_text() -> None:
    """Numbers too; with what JSON wants escaped."""
    attributes = [("n", compile_template("%{session}", Dialect.V2_3)), ("r", compile_template("%a", Dialect.V2_3))]
    site = Site(request_attributes=attributes)
    site.login(params=[("session", '"\\\n\udcff\u20ac')])
    assert site.asked[0].body == b'{"n":"\\"\\\\\\n\xff\xe2\x82\xac","r":"0","tls":false}'


@BOTH
def test_a_status_is_missed_as_much_as_an_answer(dialect: Dialect) -> None:
    """What to do then is a setting."""
    for reject, result in ((False, Ok), (True, Fail)):
        assert isinstance(Site(dialect, reject_on_fail=reject).login("ok@x", "pass", {"msg": "x"}), result)


def test_failures_are_counted() -> None:
    """Each question that is left without an answer."""
    counts = Counts()
    site = Site()
    policy = site.house.auth.policy
    assert policy is not None
    policy._observe = _observer(counts, None)
    site.login("ok@x", "pass", reply(9008, b""), ALLOWED)
    site.report()
    assert counted(counts, "policy_requests") == {
        ("allow", "failed"): 1,
        ("allow", "answered"): 1,
        ("report", "answered"): 1,
    }


def test_names_with_a_slash_become_objects() -> None:
    """``attrs/cos=basic``."""
    attributes = [("attrs/a", compile_template("%u", Dialect.V2_3)), ("attrs/b", compile_template("1", Dialect.V2_3))]
    site = Site(request_attributes=attributes)
    site.login()
    assert site.bodies()[0] == {"attrs": {"a": "ok@x", "b": "1"}, "tls": False}


@pytest.mark.parametrize(
    ("header", "expected"),
    [("X-Key: abc", b"X-Key\nabc"), ("abc", b"X-API-Key\nabc"), ("A: b:c", b"A\nb:c")],
)
def test_the_api_header(header: str, expected: bytes) -> None:
    """A name and a value, or a value."""
    site = Site(api_header=header)
    site.login()
    assert site.asked[0].headers == b"Content-Type\napplication/json\n" + expected


def test_the_command_joins_an_address_with_arguments() -> None:
    """When that ends with &."""
    site = Site()
    policy = site.house.auth.policy
    assert policy is not None
    policy._options = policy._options._replace(server_url="http://policy.example/?a=b&")
    site.login()
    assert site.asked[0].url == b"http://policy.example/?a=b&command=allow"


@pytest.mark.parametrize(
    ("off", "asked", "reported"),
    [
        ({"check_before_auth": False}, 1, True),
        ({"check_after_auth": False}, 1, True),
        ({"check_before_auth": False, "check_after_auth": False, "report_after_auth": False}, 0, False),
    ],
)
def test_each_question_can_be_left_out(off: dict[str, bool], asked: int, reported: bool) -> None:
    """By its setting."""
    site = Site(Dialect.V2_3, **off)
    site.login()
    assert len(site.asked) == asked
    assert bool(site.report()) == reported


def test_a_lookup_without_a_login_asks_nobody() -> None:
    """Mail that comes in is no attempt."""
    site = Site()
    site.run(site.house.auth.lookup_passdb(new_request([("service", "lmtp")], id=1), "ok@x"), [])
    assert site.asked == []


def test_secrets_are_not_printed() -> None:
    """The nonce, the header, and what an address may hold."""
    assert repr(options(api_header="secret")) == "<PolicyOptions>"


def test_a_mech_that_looks_twice_is_one_attempt() -> None:
    """Some look for one kind of credentials and then for another."""
    site = Site()
    site.login()
    policy = site.house.auth.policy
    assert policy is not None
    site.asked.clear()
    assert site.run(policy.allows_attempt(site.request), []) is True
    assert site.asked == []


def test_each_question_is_an_event() -> None:
    """With the number that was answered; a report has none, nor has a question without an answer."""
    site = Site()
    site.login("ok@x", "pass", {"status": 3, "msg": ""}, reply(500, b""))
    site.report()
    name = "auth_policy_request_finished"
    assert site.events == [
        (name, {"mode": "allow", "result": "answered", "policy_response": "3"}),
        (name, {"mode": "allow", "result": "failed"}),
        (name, {"mode": "report", "result": "answered"}),
    ]
