"""What a script sees of the chain it stands in: verified or not, what came before, and the fields so far."""

import itertools
import os
import re

import pytest

from authlua.conformance.raw import RawConnection
from tests.differential.servers import DOVECOTS, AuthClient, Authlua, MasterClient, Server, answered_alike, plain
from tests.lua.conftest import SCRIPTS
from tests.lua.test_against_dovecot import LOGINS, MASTERS
from tests.lua.test_against_dovecot import plain as response
from tests.reference.dovecot import why_not

RESULTS = {
    "ok": 'auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass", first = "1", userdb_quota = "7" }',
    "wrong": 'auth.PASSDB_RESULT_OK, { password = "{PLAIN}other", first = "1", userdb_quota = "7" }',
    "any": 'auth.PASSDB_RESULT_OK, { nopassword = "y", first = "1" }',
    "none": 'auth.PASSDB_RESULT_OK, { noauthenticate = "y", first = "1", userdb_quota = "7" }',
    "renamed": 'auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass", user = "other", first = "1" }',
    "failing": 'auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass", fail = "y" }',
    "unknown": 'auth.PASSDB_RESULT_USER_UNKNOWN, ""',
    "mismatch": 'auth.PASSDB_RESULT_PASSWORD_MISMATCH, ""',
    "down": 'auth.PASSDB_RESULT_INTERNAL_FAILURE, ""',
    "next": 'auth.PASSDB_RESULT_NEXT, ""',
    "named": 'auth.PASSDB_RESULT_NEXT, "first=1"',
    "scheme": 'auth.PASSDB_RESULT_OK, { password = "{NOSUCH}x" }',
}

RULES = ("continue", "continue-ok", "continue-fail")

SLICE = {("2.3", "continue"), ("2.4", "continue-ok")}
"""What every run of the tests tries."""


def script(series: str) -> str:
    """The first passdb answers by the user's name, the second tells what it sees."""
    number = {"2.3": "%!", "2.4": "%{id}"}[series]
    template = "%{passdb:first}|%{userdb:quota}|" + ("%{passdb:nothing:none}" if series == "2.3" else "")
    choices = "".join(f'  if kind == "{name}" then return {result} end\n' for name, result in RESULTS.items())
    return f"""
local auth = dovecot.auth
local function shown(value) return "<" .. tostring(value) .. ">" end
local function view(request)
  return table.concat({{
    request.user, request.original_user, request.auth_user or "", shown(request.skip_password_check),
    shown(request.passdbs_seen_user_unknown), shown(request.passdbs_seen_internal_failure),
    shown(request.userdbs_seen_internal_failure),
    shown(request.passdb.given), shown(request.userdb.given),
    shown(request.passdb.first), shown(request.passdb.forward_x), shown(request.passdb.password),
    shown(request.passdb.nopassword), shown(request.passdb.nothing),
    shown(request.userdb.quota), shown(request.userdb.nothing),
    request:var_expand("{template}"),
  }}, " ")
end
function auth_passdb_lookup(request)
  if request:var_expand("{number}") == "1" then
    local kind = request.user:match("^%w+")
{choices}    return auth.PASSDB_RESULT_USER_UNKNOWN, ""
  end
  if request.user:match("_unknown$") then return auth.PASSDB_RESULT_USER_UNKNOWN, "" end
  return auth.PASSDB_RESULT_OK, {{ password = "{{PLAIN}}pass", seen = view(request) }}
end
function auth_userdb_lookup(request)
  if request:var_expand("{number}") == "1" then
    if request.user:match("^down") then return auth.USERDB_RESULT_INTERNAL_FAILURE, "" end
    return auth.USERDB_RESULT_USER_UNKNOWN, ""
  end
  return auth.USERDB_RESULT_OK, {{ seen = view(request) }}
end
"""


def databases(series: str, rule: str, worker: str) -> str:
    rules = "".join(f"  result_{kind} = {rule}\n" for kind in ("success", "failure", "internalfail"))
    given = "default_fields = given=y" if series == "2.3" else "fields {\n    given = y\n  }"
    if series == "2.3":
        args = f"args = file={{directory}}/auth.lua blocking={worker} cache_key=%u"
        return (
            f"passdb {{\n  driver = lua\n  {args}1\n{rules}}}\npassdb {{\n  driver = lua\n  {args}2\n  {given}\n}}\n"
            f"userdb {{\n  driver = lua\n  {args}3\n}}\nuserdb {{\n  driver = lua\n  {args}4\n  {given}\n}}\n"
        )
    lua = f"driver = lua\n  lua_file = {{directory}}/auth.lua\n  use_worker = {worker}\n"
    return (
        f"passdb one {{\n  {lua}{rules}}}\npassdb two {{\n  {lua}  {given}\n}}\n"
        f"userdb three {{\n  {lua}}}\nuserdb four {{\n  {lua}  {given}\n}}\n"
    )


def transcript(server: Server) -> dict[str, str]:
    users = ["_".join(pair).rstrip("_") for pair in itertools.product(RESULTS, ("", "unknown"))]
    with AuthClient(server) as client:
        replies = client.login_all([(user, "pass", "") for user in users], "forward_fields=x=y")
    with MasterClient(server) as master:
        lookups = {f"{command} {user}": master.ask(command, user) for command in ("PASS", "USER") for user in users}
    return {f"AUTH {user}": plain(reply) for user, reply in zip(users, replies, strict=True)} | {
        asked: plain(reply) for asked, reply in lookups.items()
    }


def both(series: str, rule: str, worker: str) -> tuple[dict[str, str], dict[str, str]]:
    """The transcripts of Dovecot and of authlua, whose databases have a *worker*, ``yes`` or ``no``."""
    settings: dict[str, str | int] = {
        "auth_failure_delay": 0,
        "auth_username_chars": "",
        "auth_debug": "no",
        **({} if series == "2.3" else {"auth_internal_failure_delay": 0}),
    }
    with DOVECOTS[series](script(series), databases=databases(series, rule, worker), **settings) as dovecot:
        expected = transcript(dovecot)
    entry = f'script = "auth.lua"\ndialect = "{series}"\nuse_worker = {"true" if worker == "yes" else "false"}\n'
    rules = "".join(f'result_{kind} = "{rule}"\n' for kind in ("success", "failure", "internalfail"))
    config = "[auth]\nfailure_delay = 0\ninternal_failure_delay = 0\npenalty = false\nusername_chars = ''\n"
    given = 'default_fields = { given = "y" }\n'
    config += f"[[passdb]]\n{entry}{rules}[[passdb]]\n{entry}{given}[[userdb]]\n{entry}[[userdb]]\n{entry}{given}"
    with Authlua(config, dialect=series, files={"auth.lua": script(series)}) as authlua:
        got = transcript(authlua)
    assert sum("seen=" in reply for reply in expected.values()) > 20
    return expected, got


BOTH = pytest.mark.parametrize(
    "series",
    [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)],
)


@BOTH
@pytest.mark.parametrize("rule", RULES)
def test_a_script_sees_the_same_of_its_chain(series: str, rule: str) -> None:
    """Whatever the passdb before it has said, under each rule that goes on."""
    if reason := why_not(series):
        pytest.skip(reason)
    if (series, rule) not in SLICE and "AUTHLUA_DIFFERENTIAL" not in os.environ:
        pytest.skip("`make differential` tries all rules; each takes seconds")
    expected, got = both(series, rule, "no")
    assert {asked: (reply, expected[asked]) for asked, reply in got.items() if reply != expected[asked]} == {}


@BOTH
def test_a_script_in_a_worker_sees_more_of_its_chain(series: str) -> None:
    """Dovecot tells no worker that a database before it did not know the user, or failed; else all is the same."""
    if reason := why_not(series):
        pytest.skip(reason)
    if series == "2.3" and "AUTHLUA_DIFFERENTIAL" not in os.environ:
        pytest.skip("`make differential` tries both; each takes seconds")
    expected, got = both(series, "continue", "yes")
    befell = re.compile(r"(seen=\S+ \S+ \S+ <\w+>) (<\w+> <\w+> <\w+>)")
    assert {found[2] for reply in expected.values() if (found := befell.search(reply))} == {"<false> <false> <false>"}
    for asked, flags in {
        "AUTH ok": "<false> <false> <false>",
        "AUTH unknown": "<true> <false> <false>",
        "PASS failing": "<true> <false> <false>",
        "AUTH down": "<false> <true> <false>",
        "USER down": "<false> <false> <true>",
    }.items():
        found = befell.search(got[asked])
        assert found is not None, asked
        assert (asked, flags) == (asked, found[2])
    if series == "2.3":  # whose workers do not know the default_fields of a passdb
        assert " given=y " in got["AUTH unknown"]
        for asked in expected:
            if not asked.startswith("USER"):
                assert "given=y" not in expected[asked]
                got[asked] = re.sub(
                    r"(seen=\S+ \S+ \S+( <\w+>){4}) <y>", r"\1 <nil>", got[asked].replace(" given=y", "")
                )
    got, expected = ({asked: befell.sub(r"\1", reply) for asked, reply in said.items()} for said in (got, expected))
    assert {asked: (reply, expected[asked]) for asked, reply in got.items() if reply != expected[asked]} == {}


@BOTH
def test_a_worker_sees_every_member_of_a_request(series: str) -> None:
    """The same as in Dovecot's workers, which know no pids."""
    if reason := why_not(series):
        pytest.skip(reason)
    if series == "2.4" and "AUTHLUA_DIFFERENTIAL" not in os.environ:
        pytest.skip("`make differential` tries both; each takes seconds")
    members = (SCRIPTS / "fields.lua").read_text()

    def probes(server: Server) -> list[str]:
        with RawConnection.connect(server.sockets["login"]) as client:
            client.handshake(pid=4242)
            for number, (params, user) in enumerate(LOGINS.values(), 1):
                client.ask(f"AUTH\t{number}\tPLAIN\t{params}\tresp={response(user)}")
        with MasterClient(server) as master:
            master.ask("PASS", "carol@example.com")
            master.ask("USER", "carol@example.com")
        log = server.wait_for_log("PROBE userdb passdb.allow_nets")
        return [re.sub(r" (?:service|protocol)=\w+$", "", line) for line in re.findall(r"PROBE .*", log)]

    passdb = MASTERS[series].replace("blocking=no", "blocking=yes").replace("use_worker = no", "use_worker = yes")
    blocks = passdb % "" if series == "2.3" else passdb % ("one", "")
    with DOVECOTS[series](members, databases=blocks + blocks.replace("passdb", "userdb"), auth_debug="no") as dovecot:
        expected = probes(dovecot)
    config = "".join(f"[[{kind}]]\nscript = 'auth.lua'\ndialect = '{series}'\n" for kind in ("passdb", "userdb"))
    with Authlua(config, dialect=series, files={"auth.lua": members}) as authlua:
        assert probes(authlua) == expected
    assert f"PROBE passdb {'pid' if series == '2.3' else 'client_pid'} = string 0" in expected


GIVEN = """
local auth = dovecot.auth
local function view(fields) return tostring(fields.given) .. " " .. tostring(fields.over) end
function auth_passdb_lookup(request)
  return auth.PASSDB_RESULT_OK,
    { password = "{PLAIN}pass", over = "script", seen = view(request.passdb), quota = request.userdb.quota }
end
function auth_userdb_lookup(request)
  return auth.USERDB_RESULT_OK, { over = "script", seen = view(request.userdb) }
end
"""
CONFIGURED = {
    "2.3": "passdb {\n  driver = lua\n  args = file={directory}/auth.lua blocking=no\n"
    "  default_fields = given=by-%u over=configured userdb_quota=7\n}\n"
    "userdb {\n  driver = lua\n  args = file={directory}/auth.lua blocking=no\n"
    "  default_fields = given=for-%u over=configured\n}\n",
    "2.4": "passdb lua {\n  lua_file = {directory}/auth.lua\n  use_worker = no\n"
    "  fields {\n    given = by-%{user}\n    over = configured\n    userdb_quota = 7\n  }\n}\n"
    "userdb lua {\n  lua_file = {directory}/auth.lua\n  use_worker = no\n"
    "  fields {\n    given = for-%{user}\n    over = configured\n  }\n}\n",
}


@pytest.mark.parametrize(
    "series",
    [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)],
)
def test_a_script_sees_the_fields_of_its_configuration(series: str) -> None:
    """They are set before it is asked, so what it says counts."""
    if reason := why_not(series):
        pytest.skip(reason)

    def ask(server: Server) -> list[str]:
        with AuthClient(server) as client, MasterClient(server) as master:
            return [plain(reply) for reply in (client.login("t", "pass"), master.ask("USER", "t"))]

    conf = "auth_mechanisms = plain\nauth_failure_delay = 0\n" + CONFIGURED[series]
    assert answered_alike(series, conf, {"auth.lua": GIVEN}, ask) == [
        "OK given=by-t over=script quota=7 seen=by-t configured user=t",
        "USER given=for-t over=script seen=for-t configured t",
    ]
