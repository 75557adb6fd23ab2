"""What is easily done otherwise than Dovecot does it, trap by trap, asked of a real one and of authlua.

The numbers are those of section 17 of the notes that authlua was written from.
"""

import base64
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import pytest

from authlua.cli.peer import authenticate
from authlua.cli.sasl import CLIENTS, Identity
from authlua.conformance.raw import RawConnection
from tests.differential.servers import DOVECOTS, AuthClient, Authlua, Server, answered_alike
from tests.reference.dovecot import why_not

BOTH = [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)]


SLICE = {("2.3", "6"), ("2.3", "8"), ("2.4", "1"), ("2.4", "9")}
"""What every run of the tests tries."""


@pytest.fixture(params=BOTH)
def series(request: pytest.FixtureRequest) -> str:
    """Each Dovecot there is."""
    wanted: str = request.param
    if reason := why_not(wanted):
        pytest.skip(reason)
    trap = request.node.name.split("_")[1]
    if (wanted, trap) not in SLICE and "AUTHLUA_DIFFERENTIAL" not in os.environ:
        pytest.skip("`make differential` tries all traps; each takes seconds")
    return wanted


def script(users: Mapping[str, str], more: str = "") -> str:
    """A passdb that answers each of *users*, by a result and fields in Lua, and knows no others."""
    answers = "".join(
        f'  if request.user == "{user}" then return auth.PASSDB_RESULT_{answer} end\n' for user, answer in users.items()
    )
    return (
        f"local auth = dovecot.auth\n{more}"
        f'function auth_passdb_lookup(request)\n{answers}  return auth.PASSDB_RESULT_USER_UNKNOWN, ""\nend\n'
    )


def passdb(series: str, name: str, **settings: str) -> str:
    """The passdb with the script ``NAME.lua``."""
    lines = "".join(f"  {key} = {value}\n" for key, value in settings.items())
    if series == "2.3":
        return f"passdb {{\n  driver = lua\n  args = file={{directory}}/{name}.lua blocking=no\n{lines}}}\n"
    return f"passdb {name} {{\n  driver = lua\n  lua_file = {{directory}}/{name}.lua\n  use_worker = no\n{lines}}}\n"


def conf(*blocks: str, delay: str = "0", mechanisms: str = "plain login cram-md5 digest-md5", more: str = "") -> str:
    """What all have in common, and *blocks*."""
    return f"auth_failure_delay = {delay}\nauth_mechanisms = {mechanisms}\n{more}" + "".join(blocks)


def plain(
    *attempts: tuple[str, str, str], params: tuple[str, ...] = ("rip=192.0.2.1",)
) -> Callable[[Server], list[str]]:
    """Asks for logins with PLAIN: user, password, and whom to become."""

    def ask(server: Server) -> list[str]:
        with AuthClient(server) as client:
            return [
                "\t".join(filter(None, client.login(user, password, *params, authzid=authzid).split("\t")))
                for user, password, authzid in attempts
            ]

    return ask


def mechs(*attempts: tuple[str, str, str]) -> Callable[[Server], list[str]]:
    """Asks for logins: mech, user, password."""

    def ask(server: Server) -> list[str]:
        replies = []
        for mech, user, password in attempts:
            client = CLIENTS[mech](Identity(user.encode(), password.encode()))
            reply = authenticate(str(server.sockets["client"]), mech, [("service", "imap")], client)
            replies.append(" ".join([reply.word, *(f"{name}={value}" for name, value in reply.fields)]))
        return replies

    return ask


def test_1_fields_go_with_the_passdb_that_failed(series: str) -> None:
    """Even those meant for the failure; what the client has forwarded stays."""
    files = {
        "one.lua": script({"t": 'OK, { password = "{PLAIN}x", lost = "y" }'}),
        "two.lua": script({"t": 'OK, { password = "{PLAIN}pass", kept = "y" }'}),
    }
    forwarded = "forward_fields=" + "a=1\x01tb=2"
    ask = plain(("t", "pass", ""), ("t", "no", ""), params=(forwarded,))
    assert answered_alike(series, conf(passdb(series, "one"), passdb(series, "two")), files, ask) == [
        "OK\tuser=t\tforward_a=1\tforward_b=2\tkept=y",
        "FAIL\tuser=t\tforward_a=1\tforward_b=2",
    ]


def test_2_continue_ok_makes_any_password_right_for_the_others(series: str) -> None:
    """Although the passdb with that rule has failed."""
    files = {
        "one.lua": script({"t": 'OK, { password = "{PLAIN}x" }'}),
        "two.lua": script({"t": 'OK, { password = "{PLAIN}y", two = "y" }'}),
    }
    text = conf(passdb(series, "one", result_failure="continue-ok"), passdb(series, "two"))
    assert answered_alike(series, text, files, plain(("t", "neither", ""), ("u", "x", ""))) == [
        "OK\tuser=t\ttwo=y",
        "OK\tuser=u",
    ]


def test_3_nopassword_is_for_one_passdb_and_for_plain(series: str) -> None:
    """The next one asks for a password again, and a challenge cannot be answered without one."""
    files = {
        "one.lua": script({"t": 'NEXT, { nopassword = "y" }', "u": 'OK, { nopassword = "y" }'}),
        "two.lua": script({"t": 'OK, { password = "{PLAIN}pass" }'}),
    }
    text = conf(passdb(series, "one"), passdb(series, "two"))
    ask = mechs(("PLAIN", "t", "no"), ("PLAIN", "t", "pass"), ("PLAIN", "u", "any"), ("CRAM-MD5", "u", "any"))
    words = [reply.split(" ")[0] for reply in answered_alike(series, text, files, ask)]
    assert words == ["FAIL", "OK", "OK", "FAIL"]


def test_4_who_comes_from_elsewhere_is_unknown_here(series: str) -> None:
    """Not disabled: the next passdb may let the user in."""
    files = {
        "one.lua": script({"t": 'OK, { password = "{PLAIN}pass", allow_nets = "10.0.0.0/8" }'}),
        "two.lua": script({"t": 'OK, { password = "{PLAIN}other", two = "y" }'}),
    }
    text = conf(passdb(series, "one"), passdb(series, "two"))
    assert answered_alike(series, text, files, plain(("t", "pass", ""), ("t", "other", ""))) == [
        "FAIL\tuser=t",
        "OK\tuser=t\ttwo=y",
    ]


def test_5_digest_md5_hashes_the_name_that_was_sent(series: str) -> None:
    """CRAM-MD5 does not care."""
    lower = "%Ln" if series == "2.3" else "%{user | username | lower}"
    weak = "" if series == "2.3" else "auth_allow_weak_schemes = yes\n"
    files = {"one.lua": script({"tim": 'OK, { password = "{PLAIN}pass" }'})}
    text = conf(passdb(series, "one"), more=f"auth_username_format = {lower}\n{weak}")
    attempts = [
        (mech, user, "pass")
        for mech in ("PLAIN", "CRAM-MD5", "DIGEST-MD5")
        for user in ("tim", "TIM", "Tim@Example.com")
    ]
    replies = answered_alike(series, text, files, mechs(*attempts))
    assert [reply.split(" ")[0] for reply in replies] == ["OK"] * len(attempts)


def test_6_a_name_from_a_passdb_is_taken_as_it_is(series: str) -> None:
    """Neither lowered nor checked; what is cached is found under the name before."""
    key = 'function auth_passdb_get_cache_key() return "%{user}" end\n' if series == "2.4" else ""
    count = "local count = 0\n"
    files = {
        "one.lua": count
        + script({}, key).replace(
            "  return auth.PASSDB_RESULT_USER_UNKNOWN",
            '  count = count + 1\n  if request.user == "t" then\n'
            '    return auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass", user = "ANOTHER ONE " .. count }\n  end\n'
            "  return auth.PASSDB_RESULT_USER_UNKNOWN",
        )
    }
    text = conf(passdb(series, "one"), more="auth_cache_size = 1M\n")
    assert answered_alike(
        series, text, files, plain(("t", "pass", ""), ("T", "pass", ""), ("another one 1", "pass", ""))
    ) == [
        "OK\tuser=ANOTHER ONE 1\toriginal_user=t",
        "OK\tuser=ANOTHER ONE 1\toriginal_user=T",
        "FAIL\tuser=another one 1\toriginal_user=another one 1",
    ]


def test_7_an_empty_password_is_a_password(series: str) -> None:
    """The passdbs are asked about it as about any other."""
    files = {"one.lua": script({"t": 'OK, { password = "{PLAIN}pass" }', "u": 'OK, { nopassword = "y" }'})}
    assert answered_alike(series, conf(passdb(series, "one")), files, plain(("t", "", ""), ("u", "", ""))) == [
        "FAIL\tuser=t",
        "OK\tuser=u",
    ]


def test_8_replies_come_in_another_order(series: str) -> None:
    """A success overtakes a failure, and failures are mixed on purpose."""
    files = {"one.lua": script({"t": 'OK, { password = "{PLAIN}pass" }'})}

    def ask(server: Server) -> tuple[str, bool, list[int]]:
        with RawConnection.connect(server.sockets["client"]) as connection:
            connection.handshake(pid=77)
            good, bad = (base64.b64encode(f"\0t\0{password}".encode()).decode() for password in ("pass", "no"))
            lines = [f"AUTH\t{id}\tPLAIN\tservice=imap\tresp={bad if id < 40 else good}\n" for id in range(1, 41)]
            connection.send("".join(lines).encode())
            replies = [(connection.receive() or b"").decode() for _ in lines]
        ids = [int(reply.split("\t")[1]) for reply in replies[1:]]
        return replies[0], ids == sorted(ids), sorted(ids)

    assert answered_alike(series, conf(passdb(series, "one"), delay="1s"), files, ask) == (
        "OK\t40\tuser=t",
        False,
        list(range(1, 40)),
    )


def test_9_a_disabled_user_of_a_master_is_one_he_may_not_be(series: str) -> None:
    """The code depends on the master before it depends on the passdb's result."""
    files = {
        "one.lua": script({"admin": 'OK, { password = "{PLAIN}root" }'}),
        "two.lua": script({"off": 'USER_DISABLED, ""', "late": 'PASS_EXPIRED, ""', "down": 'INTERNAL_FAILURE, ""'}),
    }
    more = "" if series == "2.3" else "auth_internal_failure_delay = 0\n"
    text = conf(passdb(series, "one", master="yes", result_success="continue"), passdb(series, "two"), more=more)
    users = ("off", "late", "down", "nosuch")
    ask = plain(*(("admin", "root", user) for user in users), *((user, "x", "") for user in users))
    assert [reply.split("\t")[2:3] for reply in answered_alike(series, text, files, ask)] == [
        ["code=authz_fail"],
        ["code=authz_fail"],
        ["code=temp_fail"],
        ["code=authz_fail"],
        ["code=user_disabled"],
        ["code=pass_expired"],
        ["code=temp_fail"],
        [],
    ]


def test_10_who_goes_on_too_late_hears_so(series: str) -> None:
    """As does who goes on with what never was."""
    files = {"one.lua": script({})}

    def ask(server: Server) -> list[bytes]:
        with RawConnection.connect(server.sockets["client"]) as connection:
            connection.handshake(pid=77)
            return connection.ask("CONT\t7\tdA==")

    assert answered_alike(series, conf(passdb(series, "one")), files, ask) == [
        b"FAIL\t7\treason=Authentication request timed out"
    ]


@pytest.mark.dovecot
@pytest.mark.dovecot24
def test_10_a_request_lives_for_150_seconds() -> None:
    """Then it is forgotten, and nobody is told before going on. All servers at a time, as it takes so long."""
    if "AUTHLUA_DIFFERENTIAL" not in os.environ:
        pytest.skip("`make differential` has the time")
    with ExitStack() as stack:
        connections = []
        for number in ("2.3", "2.4"):
            if reason := why_not(number):
                pytest.skip(reason)
            text = conf(passdb(number, "one"))
            dovecot = DOVECOTS[number]("", databases=text, auth_debug="no")
            dovecot.files = {"one.lua": script({})}
            toml = '[[passdb]]\nscript = "one.lua"\n[[userdb]]\ndriver = "passwd"\n'
            authlua = Authlua(toml, dialect=number, files={"one.lua": script({})})
            for server in (stack.enter_context(dovecot), stack.enter_context(authlua)):
                connection = stack.enter_context(RawConnection.connect(server.sockets["client"]))
                connection.handshake(pid=77)
                connection.ask("AUTH\t1\tLOGIN\tservice=imap", "AUTH\t2\tLOGIN\tservice=imap")
                connections.append(connection)
        time.sleep(140)
        assert [connection.ask("CONT\t1\tdA==") for connection in connections] == [[b"CONT\t1\tUGFzc3dvcmQ6"]] * 4
        time.sleep(15)
        late = [connection.ask("CONT\t2\tdA==") for connection in connections]
        assert late == [[b"FAIL\t2\treason=Authentication request timed out"]] * 4
        again = [connection.ask("CONT\t1\tcGFzcw==") for connection in connections]
        assert [reply[0].split(b"\t")[:2] for reply in again] == [[b"FAIL", b"1"]] * 4
        assert [b"reason=" in reply[0] for reply in again] == [False] * 4
