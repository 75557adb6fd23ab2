"""Chains of passdbs and userdbs, and what a real Dovecot makes of each result under each rule.

A user's name says what the databases answer: ``ok_unknown`` is known to the first and unknown to the second. Each
site serves the same script as all of its databases; all names are tried on both servers, and the replies compared.
"""

import itertools
import os
import re
from dataclasses import dataclass, field
from random import Random

import pytest

from tests.differential.servers import DOVECOTS, AuthClient, Authlua, MasterClient, Server
from tests.reference.dovecot import why_not

# one visible field each: the order of several would be that of Lua's hash table
RESULTS = {
    "ok": 'auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass", [field] = id }',
    "wrong": 'auth.PASSDB_RESULT_OK, { password = "{PLAIN}other", [field] = id }',
    "scheme": 'auth.PASSDB_RESULT_OK, { password = "{NOSUCH}x", [field] = id }',
    "any": 'auth.PASSDB_RESULT_OK, { nopassword = "y" }',
    "none": 'auth.PASSDB_RESULT_OK, { noauthenticate = "y" }',
    "net": 'auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass", allow_nets = "192.0.2.0/24" }',
    "quick": 'auth.PASSDB_RESULT_OK, { password = "{PLAIN}other", nodelay = "y" }',
    "failed": 'auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass", fail = "y" }',
    "late": 'auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass", delay_until = "some day" }',
    "renamed": 'auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass", user = "ok_unknown" }',
    "unknown": 'auth.PASSDB_RESULT_USER_UNKNOWN, ""',
    "mismatch": 'auth.PASSDB_RESULT_PASSWORD_MISMATCH, ""',
    "disabled": 'auth.PASSDB_RESULT_USER_DISABLED, ""',
    "expired": 'auth.PASSDB_RESULT_PASS_EXPIRED, ""',
    "down": 'auth.PASSDB_RESULT_INTERNAL_FAILURE, ""',
    "next": 'auth.PASSDB_RESULT_NEXT, ""',
}
USERDB_RESULTS = {
    "ok": "auth.USERDB_RESULT_OK, { [field] = id }",
    "unknown": 'auth.USERDB_RESULT_USER_UNKNOWN, ""',
    "down": 'auth.USERDB_RESULT_INTERNAL_FAILURE, ""',
    "temp": 'auth.USERDB_RESULT_OK, { tempfail = "y" }',
}
RULES = ("return", "return-ok", "return-fail", "continue", "continue-ok", "continue-fail")


def script(series: str) -> str:
    """The script of all databases: which of them it is, it learns from its number."""
    number = {"2.3": "%!", "2.4": "%{id}"}[series]

    def choices(kinds: dict[str, str]) -> str:
        return "".join(f'  if answer == "{name}" then return {result} end\n' for name, result in kinds.items())

    return (
        "local auth = dovecot.auth\n"
        "local function part(request)\n"
        f'  local id = request:var_expand("{number}")\n'
        "  local words = {}\n"
        '  for word in request.user:gmatch("[^_]+") do words[#words + 1] = word end\n'
        '  return id, "from" .. id, words[math.min(tonumber(id), #words)]\n'
        "end\n"
        f"function auth_passdb_lookup(request)\n  local id, field, answer = part(request)\n{choices(RESULTS)}"
        '  return auth.PASSDB_RESULT_USER_UNKNOWN, ""\nend\n'
        f"function auth_userdb_lookup(request)\n  local id, field, answer = part(request)\n{choices(USERDB_RESULTS)}"
        '  return auth.USERDB_RESULT_USER_UNKNOWN, ""\nend\n'
    )


@dataclass(frozen=True)
class Site:
    """Two passdbs and two userdbs, with the settings of each, and who asks them."""

    name: str
    passdbs: tuple[dict[str, str], ...] = ({}, {})
    userdbs: tuple[dict[str, str], ...] = ({}, {})
    users: tuple[str, ...] = tuple(map("_".join, itertools.product(RESULTS, RESULTS)))
    looked_up: tuple[str, ...] = tuple(map("_".join, itertools.product(USERDB_RESULTS, USERDB_RESULTS)))
    masters: tuple[str, ...] = ("",)
    settings: dict[str, str] = field(default_factory=dict)
    challenged: bool = False
    """All log in with CRAM-MD5 too, for which the chain looks credentials up."""

    def for_dovecot(self, series: str) -> str:
        """The same databases as Dovecot's configuration spells them."""
        return "".join(
            _dovecot_block(series, kind, number, settings)
            for kind, databases in (("passdb", self.passdbs), ("userdb", self.userdbs))
            for number, settings in enumerate(databases, 1)
        )

    def for_authlua(self) -> str:
        """And as authlua's does."""
        text = "[auth]\nmechanisms = ['plain', 'login', 'cram-md5']\nfailure_delay = 0\n"
        text += "internal_failure_delay = 0\npenalty = false\nusername_chars = ''\n"
        text += "".join(f'{name.removeprefix("auth_")} = "{value}"\n' for name, value in self.settings.items())
        for kind, databases in (("passdb", self.passdbs), ("userdb", self.userdbs)):
            for settings in databases:
                text += f'[[{kind}]]\nscript = "auth.lua"\nuse_worker = false\n'
                for name, value in settings.items():
                    if name.endswith("_fields"):
                        pairs = (item.partition("=") for item in value.split(" "))
                        text += f"{name} = {{ {', '.join(f'{k!r} = {v!r}' for k, _, v in pairs)} }}\n"
                    elif name in ("mechanisms", "username_filter"):
                        text += f"{name} = {value.split()}\n"
                    else:
                        text += f"{name} = {value}\n" if value in ("true", "false") else f'{name} = "{value}"\n'
        return text


def _dovecot_block(series: str, kind: str, number: int, settings: dict[str, str]) -> str:
    settings = {name: {"true": "yes"}.get(value, value) for name, value in settings.items()}
    if series == "2.3":
        # databases with equal arguments would be one
        args = f"file={{directory}}/auth.lua blocking=no cache_key=%u{number}"
        return (
            f"{kind} {{\n  driver = lua\n  args = {args}\n"
            + "".join(f"  {name} = {value}\n" for name, value in settings.items())
            + "}\n"
        )
    text = f"{kind} db{number} {{\n  driver = lua\n  lua_file = {{directory}}/auth.lua\n  use_worker = no\n"
    for name, value in settings.items():
        if name == "default_fields":
            text += "  fields {\n" + "".join(f"    {one.replace('=', ' = ')}\n" for one in value.split(" ")) + "  }\n"
        else:
            text += f"  {'mechanisms_filter' if name == 'mechanisms' else name} = {value}\n"
    return text + "}\n"


def transcript(server: Server, site: Site) -> dict[str, str]:
    """Who asked what, and the reply."""
    said: dict[str, str] = {}
    with AuthClient(server) as client:
        pairs = list(itertools.product(site.masters, site.users))
        attempts = [(master or user, "pass", user if master else "") for master, user in pairs]
        replies = client.login_all(attempts, "rip=198.51.100.1")
        for (master, user), reply in zip(pairs, replies, strict=True):
            said[f"AUTH {master} {user}"] = _plain(reply)
        if site.challenged:
            # where Dovecot forgets to take nopassword back, the next passdb refuses any password
            users = [user for user in site.users if "_any_" not in user]
            replies = client.challenge_all(users, "pass")
            said |= {f"CRAM-MD5 {user}": _plain(reply) for user, reply in zip(users, replies, strict=True)}
    with MasterClient(server) as master_client:
        for user in site.users:
            said[f"PASS {user}"] = _plain(master_client.ask("PASS", user))
        for user in site.looked_up:
            said[f"USER {user}"] = _plain(master_client.ask("USER", user))
    return said


def _plain(reply: str) -> str:
    """Without the empty fields that 2.3 adds to a reply whose fields are all hidden, and what a failure leaves behind.

    ``docs/differences.md`` tells of both.
    """
    if reply.startswith("FAIL"):
        reply = reply.replace("\tnopassword=y", "")
    return re.sub(r"\t+", "\t", reply).rstrip("\t")


def any_site(seed: int) -> Site:
    """Two or three passdbs and userdbs under any rules, the same for each *seed*."""
    random = Random(seed)

    def rules(*skips: str) -> dict[str, str]:
        settings = {f"result_{kind}": random.choice(RULES) for kind in ("success", "failure", "internalfail")}
        return {**settings, "skip": random.choice(["never", "never", *skips])}

    passdbs = [rules("authenticated", "unauthenticated") for _ in range(random.choice([2, 3]))]
    if random.random() < 0.3:
        passdbs[random.randrange(len(passdbs))]["deny"] = "true"
    if passdbs[-1]["result_success"] == "continue":
        passdbs[-1]["result_success"] = "return-ok"
    passdbs[0]["skip"] = "never"  # Dovecot refuses to start with some that would leave nothing
    userdbs = [rules("found", "notfound") for _ in range(random.choice([2, 3]))]
    users = [random.choices(list(RESULTS), k=len(passdbs)) for _ in range(120)]
    looked_up = itertools.product(USERDB_RESULTS, repeat=len(userdbs))
    return Site(
        f"any-{seed}",
        passdbs=tuple(passdbs),
        userdbs=tuple(userdbs),
        users=tuple(dict.fromkeys(map("_".join, users))),
        looked_up=tuple(map("_".join, looked_up)),
        challenged=True,
    )


SITES = [
    *(
        Site(
            rule,
            passdbs=({"result_success": rule, "result_failure": rule, "result_internalfail": rule}, {}),
            userdbs=({"result_success": rule, "result_failure": rule, "result_internalfail": rule}, {}),
            challenged=True,
        )
        for rule in RULES
    ),
    *(
        Site(
            f"last-{rule}",
            passdbs=(
                {"result_success": "continue", "result_failure": "continue-fail"},
                {
                    "result_success": "return-ok" if rule == "continue" else rule,
                    "result_failure": rule,
                    "result_internalfail": rule,
                },
            ),
            userdbs=(
                {"result_success": "continue", "result_internalfail": "continue-fail"},
                {"result_success": rule, "result_failure": rule, "result_internalfail": rule},
            ),
            challenged=True,
        )
        for rule in RULES
    ),
    *map(any_site, range(1, 13)),
    Site("deny", passdbs=({"deny": "true"}, {})),
    Site("skip-authenticated", passdbs=({"result_success": "continue"}, {"skip": "authenticated"}, {})),
    Site("skip-unauthenticated", passdbs=({"result_success": "continue-ok"}, {"skip": "unauthenticated"})),
    Site("skip-found", userdbs=({"result_success": "continue-ok"}, {"skip": "found"}), users=("ok",)),
    Site("skip-notfound", userdbs=({"result_failure": "continue"}, {"skip": "notfound"}), users=("ok",)),
    Site("username-filter", passdbs=({"username_filter": "ok_* !ok_down w?ong_*"}, {})),
    Site("mechanisms", passdbs=({"mechanisms": "login"}, {})),
    Site("override-fields-that-fail", passdbs=({"override_fields": "over=%{nosuch}"}, {}), looked_up=()),
    Site("default-fields-that-fail", passdbs=({"default_fields": "def=%{nosuch}"}, {}), looked_up=()),
    Site(
        "override-fields",
        passdbs=({"override_fields": "over=%u from2=x nodelay=y"}, {"override_fields": "again=2"}),
        userdbs=({"override_fields": "over=1"}, {}),
    ),
    Site(
        "default-fields",
        passdbs=({"default_fields": "def=%u from1=x nodelay=y"}, {"default_fields": "def=2"}),
        userdbs=({"default_fields": "def=1"}, {"default_fields": "def=2"}),
    ),
    # Dovecot numbers masters after the others
    Site(
        "masters",
        passdbs=({}, {}, {"master": "true"}),
        masters=tuple(f"x_x_{result}" for result in RESULTS),
        users=tuple(map("_".join, itertools.product(("ok", "unknown", "down", "disabled", "wrong"), repeat=2))),
        settings={"auth_master_user_separator": "*"},
    ),
    Site(
        "masters-go-on",
        passdbs=({}, {}, {"master": "true", "result_success": "continue"}),
        masters=tuple(f"x_x_{result}" for result in RESULTS),
        users=tuple(map("_".join, itertools.product(("ok", "unknown", "down", "disabled", "wrong"), repeat=2))),
        settings={"auth_master_user_separator": "*"},
    ),
]


SLICE = {
    ("2.3", "continue"),
    ("2.3", "continue-ok"),
    ("2.3", "masters-go-on"),
    ("2.4", "return-ok"),
    ("2.4", "deny"),
    ("2.4", "any-2"),
}
"""What every run of the tests tries."""


@pytest.mark.parametrize(
    "series",
    [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)],
)
@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_the_replies_are_the_same(series: str, site: Site) -> None:
    """Every name, every command."""
    if reason := why_not(series):
        pytest.skip(reason)
    if (series, site.name) not in SLICE and "AUTHLUA_DIFFERENTIAL" not in os.environ:
        pytest.skip("`make differential` tries all sites; each takes seconds")
    if series == "2.4":
        if site.name.startswith("override-fields"):
            pytest.skip("2.4 has no fields that are set after a script")
        site = _in_2_4(site)
    settings: dict[str, str | int] = {
        "auth_failure_delay": 0,
        "auth_username_chars": "",
        "auth_debug": "no",
        "auth_mechanisms": "plain login cram-md5",
        **site.settings,
        **({} if series == "2.3" else {"auth_internal_failure_delay": 0}),
    }
    with DOVECOTS[series](script(series), databases=site.for_dovecot(series), **settings) as dovecot:
        expected = transcript(dovecot, site)
    with Authlua(site.for_authlua(), dialect=series, files={"auth.lua": script(series)}) as authlua:
        got = transcript(authlua, site)
    assert {asked: reply for asked, reply in expected.items() if got[asked] != reply} == {
        asked: reply for asked, reply in got.items() if expected[asked] != reply
    }


def _in_2_4(site: Site) -> Site:
    """The same templates in the other language."""

    def translated(databases: tuple[dict[str, str], ...]) -> tuple[dict[str, str], ...]:
        return tuple({name: value.replace("%u", "%{user}") for name, value in one.items()} for one in databases)

    return Site(**{**vars(site), "passdbs": translated(site.passdbs), "userdbs": translated(site.userdbs)})
