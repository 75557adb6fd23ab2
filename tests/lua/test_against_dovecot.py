"""What scripts see and what becomes of their results, asked of a running Dovecot and of authlua in one go."""

import base64
import re
from collections.abc import Iterator, MutableMapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import structlog

from authlua.auth import new_request
from authlua.config import load
from authlua.conformance.raw import RawConnection
from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.results import PassdbResult
from authlua.secret import Secret
from authlua.server import open_core
from tests.lua.conftest import SCRIPTS, Bench, Line, computing, login
from tests.reference.dovecot import Dovecot, Dovecot23, Dovecot24, why_not

BOTH = [
    pytest.param((Dovecot23, Dialect.V2_3), marks=pytest.mark.dovecot, id="2.3"),
    pytest.param((Dovecot24, Dialect.V2_4), marks=pytest.mark.dovecot24, id="2.4"),
]
# The package is 2.4.1; authlua's 2.4 offers what came in 2.4.2 as well.
LATER = ("dovecot.base64", "dovecot.var_expand")
ADDED = ("PROBE dovecot.dict = boolean:true | string:nil | string:nil",)
"""What 2.3 says of what only authlua has there."""


def start(kind: type[Dovecot], script: Path, **settings: Any) -> Iterator[Dovecot]:
    if reason := why_not(kind.series):
        pytest.skip(reason)
    with kind(script, auth_failure_delay="0", auth_verbose="yes", auth_debug="no", **settings) as dovecot:
        yield dovecot


def plain(user: str) -> str:
    return base64.b64encode(f"\0{user}\0pass".encode()).decode()


@pytest.fixture(params=BOTH)
def probed(request: pytest.FixtureRequest):
    """The dialect, and the log of a Dovecot that ran probes.lua in a passdb and in a userdb lookup."""
    kind, dialect = request.param
    for dovecot in start(kind, SCRIPTS / "probes.lua"):
        with RawConnection.connect(dovecot.sockets["client"]) as client:
            client.handshake(pid=4242)
            client.ask(
                "AUTH\t1\tPLAIN\tservice=imap\tsession=S1\tlip=192.0.2.1\trip=192.0.2.7\tlport=143\trport=5555\tsecured"
                f"\tresp={plain('some.one@a.example@b.example')}"
            )
            passdb = dovecot.wait_for_log("PROBE end")
        with RawConnection.connect(dovecot.sockets["master"]) as master:
            master.handshake(minor=1)
            master.ask("USER\t1\tsome.one@example.com\tservice=lmtp")
            userdb = dovecot.wait_for_log("PROBE end", since=len(passdb))
        yield dialect, passdb, userdb


def probes(log: str) -> list[str]:
    """The lines of a log that probes.lua made, without what stands before."""
    return [line[line.index("PROBE") :] for line in short(log).splitlines() if "PROBE" in line]


def short(text: str) -> str:
    """*text* with the script's path, which Lua may cut at the front, reduced to its name."""
    return re.sub(r"[^\s\[]*auth\.lua", "auth.lua", text)


def test_every_probe_gives_what_dovecot_gives(probed, bench: Bench, tmp_path: Path):
    """Members, methods, argument errors, events, tools, restricted globals: line by line."""
    dialect, passdb_log, userdb_log = probed
    script = tmp_path / "auth.lua"
    script.write_text((SCRIPTS / "probes.lua").read_text())
    request = login(
        "some.one@a.example@b.example", session="S1", lip="192.0.2.1", rip="192.0.2.7", lport=143, rport=5555,
        real_lip="192.0.2.1", real_rip="192.0.2.7", real_lport=143, real_rport=5555, secured="secured",
        client_pid=4242,
    )  # fmt: skip
    request.password = Secret(b"pass")
    computing(bench.passdb(script, dialect, verbose=True).lookup(request))
    assert_same(probes(passdb_log), probes("\n".join(map(line, bench.lines))))
    bench.lines.clear()

    lookup = login("some.one@example.com", service="lmtp", mech="")
    computing(bench.userdb(script, dialect).lookup(lookup))
    assert_same(probes(userdb_log), probes("\n".join(bench.texts)))


def line(entry: Line) -> str:
    """What our log says, as Dovecot writes it when a script replaced the prefix."""
    prefix = entry.fields.get("log_prefix")
    return entry.text if prefix is None else f"{prefix}{entry.level.capitalize()}: {entry.text}"


def assert_same(theirs: list[str], ours: list[str]) -> None:
    theirs = [line for line in theirs if not line.startswith(tuple(f"PROBE {name} =" for name in LATER))]
    ours = [line for line in ours if not line.startswith(tuple(f"PROBE {name} =" for name in LATER))]
    assert [pair for pair in zip_longest(theirs, ours) if pair[0] != pair[1] and pair[0] not in ADDED] == []


ALL = (
    "service=imap\tsession=S1\tlip=192.0.2.1\trip=192.0.2.7\tlport=143\trport=5555\treal_lip=198.51.100.1"
    "\treal_rip=198.51.100.7\treal_lport=10143\treal_rport=15555\tlocal_name=mail.example\tclient_id=(x y)\tsecured"
    "\tvalid-client-cert"
)
LOGINS = {
    "all that a client can say": (ALL, "some.one@a.example@b.example"),
    "nothing but the service": ("service=pop3", "alice"),
    "IPv6": ("service=smtp\tlip=2001:db8::1\trip=2001:db8::7\tsecured", "bob@example.com"),
    "TLS": ("service=imap\tsecured=tls\tvalid-client-cert\tcert_username=dave", "carol"),
    "a master user": ("service=imap\trip=192.0.2.7", "alice@a.example*admin@b.example"),
}
MASTERS = {
    "2.3": "passdb {\n  driver = lua\n  args = file={directory}/auth.lua blocking=no\n%s}\n",
    "2.4": "passdb %s {\n  driver = lua\n  lua_file = {directory}/auth.lua\n  passdb_use_worker = no\n%s}\n",
}
CHAIN = """
[server]
dialect = "%s"
[auth]
master_user_separator = "*"
failure_delay = "0s"
[[passdb]]
script = "auth.lua"
use_worker = false
master = true
result_success = "continue"
[[passdb]]
script = "auth.lua"
use_worker = false
[[userdb]]
script = "auth.lua"
use_worker = false
"""


@pytest.mark.parametrize("series", BOTH)
def test_every_member_of_every_request_is_dovecots(series, tmp_path: Path):
    """Whatever a login process says, of a login, of one by a master user through two passdbs, and in lookups."""
    kind, dialect = series
    script = SCRIPTS / "fields.lua"
    if kind.series == "2.3":
        master = "  master = yes\n  result_success = continue\n"
        databases = MASTERS["2.3"] % master + MASTERS["2.3"] % "" + (MASTERS["2.3"] % "").replace("passdb", "userdb")
    else:
        master = "  passdb_master = yes\n  passdb_result_success = continue\n"
        databases = MASTERS["2.4"] % ("first", master) + MASTERS["2.4"] % ("second", "")
        databases += (MASTERS["2.4"] % ("third", "")).replace("passdb", "userdb")
    lookups = [f"{verb}\t{number}\tcarol@example.com\tservice=lmtp\trip=192.0.2.9\tsession=S2" for number, verb in
               enumerate(("PASS", "USER"), 1)]  # fmt: skip
    for dovecot in start(kind, script, databases=databases, auth_master_user_separator="*"):
        with RawConnection.connect(dovecot.sockets["login"]) as client:
            client.handshake(pid=4242)
            for number, (params, user) in enumerate(LOGINS.values(), 1):
                client.ask(f"AUTH\t{number}\tPLAIN\t{params}\tresp={plain(user)}")
        with RawConnection.connect(dovecot.sockets["master"]) as connection:
            connection.handshake(minor=1)
            connection.ask(*lookups)
        theirs = probes(dovecot.wait_for_log("userdb passdb.allow_nets"))
    (tmp_path / "auth.lua").write_text(script.read_text())
    (tmp_path / "authlua.toml").write_text(CHAIN % dialect)
    lines: list[str] = []

    def keep(logger: object, method: str, entry: MutableMapping[str, Any]) -> str:
        lines.append(entry["event"])
        raise structlog.DropEvent

    core = open_core(load(tmp_path / "authlua.toml"), structlog.wrap_logger(None, processors=[keep]))
    for params, user in LOGINS.values():
        words = [(name, value if equals else None) for name, equals, value in
                 (word.partition("=") for word in params.split("\t"))]  # fmt: skip
        request = new_request(words, id=1, mech="PLAIN", client_pid=4242, dialect=dialect)
        computing(core.auth.authenticate(request, Secret(f"\0{user}\0pass".encode()), login=False))
    words = [("service", "lmtp"), ("rip", "192.0.2.9"), ("session", "S2")]
    computing(core.auth.lookup_passdb(new_request(words, id=1, dialect=dialect), "carol@example.com"))
    computing(core.auth.lookup_user(new_request(words, id=2, dialect=dialect), "carol@example.com"))
    core.retire()
    assert len(theirs) > 300
    assert_same(theirs, probes("\n".join(lines)))


CODES = [
    "ok",
    "ok_float",
    "ok_text",
    "ok_hex",
    "ok_spaces",
    "constant",
    "mismatch",
    "fraction",
    "fraction_text",
    "nan",
    "huge",
    "internal",
    "scheme",
    "unknown",
    "disabled",
    "expired",
    "next",
    "yes",
    "no",
    "word",
    "empty",
    "table",
    "fn",
]
SECONDS = [
    "text",
    "empty",
    "pairs",
    "two",
    "number",
    "float",
    "yes",
    "no",
    "fn",
    "thread",
    "none",
    "right",
    "wrong",
    "any",
    "refused",
    "values",
    "bad",
    "nothing",
]
FAILURES = [
    "text",
    "bare",
    "number",
    "object",
    "nothing",
    "boolean",
    "deep",
    "library",
    "index",
    "api",
    "yield",
    "last",
]
USERS = [f"{code}.{second}" for code in CODES for second in SECONDS] + ["none.nothing"]
USERS += [f"error.{failure}" for failure in FAILURES]
USERDB_CODES = ("ok", "ok_float", "ok_text", "internal", "unknown", "yes", "word", "table", "none", "error")
USERDB_USERS = [user for user in USERS if user.split(".")[0] in USERDB_CODES]


class Outcome(NamedTuple):
    """What the client hears, and what the log has as errors and warnings of the Lua database."""

    verdict: str
    fields: frozenset[str]
    complaints: frozenset[str]


@pytest.mark.parametrize("series", BOTH)
@pytest.mark.parametrize("function", ["auth_passdb_lookup", "auth_password_verify", "auth_userdb_lookup"])
def test_every_result_has_the_same_outcome(series, function: str, bench: Bench, tmp_path: Path):
    """Every code beside every second result, and every kind of error: same verdict, fields and complaints."""
    kind, dialect = series
    script = tmp_path / "auth.lua"
    script.write_text((SCRIPTS / "shapes.lua").read_text())
    if function == "auth_password_verify":
        script.write_text(script.read_text() + "auth_password_verify = VERIFY\n")
    users = USERDB_USERS if function == "auth_userdb_lookup" else USERS
    delay = {"auth_internal_failure_delay": "0"} if dialect is Dialect.V2_4 else {}
    for dovecot in start(kind, script, **delay):
        answers = ask_all(dovecot, function, users)
        log = short(dovecot.wait_for_log("the last of all"))
    theirs = {user: outcome(answers[user], log, user) for user in users}
    ours = {user: ours_of(bench, dialect, script, function, user) for user in users}
    if dialect is Dialect.V2_3:
        # Up to 2.3.20 a field with an unusable value is sent without it; authlua leaves it out, as 2.3.21 does.
        theirs = {user: it._replace(fields=it.fields - {"fn", "tbl", "th", "io"}) for user, it in theirs.items()}
    assert {user: (theirs[user], ours[user]) for user in users if theirs[user] != ours[user]} == {}


def ask_all(dovecot: Dovecot, function: str, users: list[str]) -> dict[str, list[str]]:
    """The words of the answer for each user; all are asked at once, as failures are answered in bunches."""
    if function == "auth_userdb_lookup":
        with RawConnection.connect(dovecot.sockets["master"]) as master:
            master.handshake(minor=1)
            lines = master.ask(*(f"USER\t{number}\t{user}\tservice=imap" for number, user in enumerate(users, 1)))
    else:
        with RawConnection.connect(dovecot.sockets["client"]) as client:
            client.handshake(pid=4242)
            lines = client.ask(
                *(f"AUTH\t{number}\tPLAIN\tservice=imap\tresp={plain(user)}" for number, user in enumerate(users, 1))
            )
    answers = [line.decode().split("\t") for line in lines]
    return {users[int(words[1]) - 1]: words for words in answers}


def outcome(answer: list[str], log: str, user: str) -> Outcome:
    """The outcome for *user* from the server's words and its log."""
    verdict, _, *fields = answer
    code = next((field for field in fields if field.startswith("code=")), "")
    # 2.3 writes a field without value as its name, 2.4 with "="; both leave empty words for hidden fields
    shown = frozenset(
        field.removesuffix("=") for field in fields if field and not field.startswith(("user=", "code=", "reason="))
    )
    prefix = rf"(?:Error|Warning): lua\({re.escape(user)}\): |auth\({re.escape(user)}[,)].*?: (?:Error|Warning): lua: "
    complaints = frozenset(re.findall(rf"(?m)(?:{prefix})((?:db|passdb|userdb)-lua: .*)$", log))
    return Outcome(
        f"{verdict} {code}".rstrip(), shown - {user} if verdict in ("OK", "USER") else frozenset(), complaints
    )


CODE = {PassdbResult.USER_DISABLED: " code=user_disabled", PassdbResult.PASS_EXPIRED: " code=pass_expired",
        PassdbResult.INTERNAL_FAILURE: " code=temp_fail", PassdbResult.NEXT: " code=temp_fail"}  # fmt: skip


def ours_of(bench: Bench, dialect: Dialect, script: Path, function: str, user: str) -> Outcome:
    """The outcome of our reply, with what a single database's chain makes of it."""
    bench.lines.clear()
    database = bench.loaded(script, dialect, function)
    try:
        if function == "auth_password_verify":
            reply, _ = computing(database.verify_plain(login(user), Secret(b"pass")))
        else:
            reply, _ = computing(database.lookup(login(user)))
    except ScriptError as error:
        failed = "FAIL" if function == "auth_userdb_lookup" else "FAIL code=temp_fail"
        return Outcome(failed, frozenset(), frozenset([short(str(error)).partition("\n")[0]]))
    complaints = {text for text in bench.texts if "-lua: " in text}
    if reply.result.name == "INTERNAL_FAILURE":
        complaints.add(reply.text)
    fields = dict(reply.fields)
    shown = {name if not value else f"{name}={escaped(value)}" for name, value in fields.items() if name != "password"}
    if function == "auth_userdb_lookup":
        verdict = {"OK": "USER", "USER_UNKNOWN": "NOTFOUND", "INTERNAL_FAILURE": "FAIL"}[reply.result.name]
        shown |= {f"password={fields['password']}"} if "password" in fields else set()
    else:
        verified = function == "auth_password_verify" or "nopassword" in fields
        right = verified or fields.get("password") in ("pass", "{PLAIN}pass")
        verdict = "OK" if reply.result is PassdbResult.OK and right else "FAIL" + CODE.get(reply.result, "")
        shown = {word for word in shown if word.partition("=")[0] != "nopassword"}
    return Outcome(verdict, frozenset(shown) if verdict in ("OK", "USER") else frozenset(), frozenset(complaints))


def escaped(value: str) -> str:
    return value.replace("\t", "\1t")
