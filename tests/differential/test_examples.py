"""The scripts that show what the Lua API can do: authlua gives each the replies and log lines that Dovecot gives it.

Their headers tell what these are; here Dovecot is asked again.
"""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import pytest

from tests.differential.servers import DOVECOTS, AuthClient, Authlua, MasterClient, Server, plain
from tests.lua.conftest import SCRIPTS
from tests.lua.test_http import Judge
from tests.reference.dovecot import why_not

SHAPES = (SCRIPTS / "03-return-shapes.lua").read_text()


def users_of(table: str) -> list[str]:
    """Who is in a table of script 03, ``P`` or ``U``."""
    return re.findall(rf'(?m)^{table}\["(.*?)"\]', SHAPES)


EXAMPLES: dict[str, list[str]] = {
    "01-passwd-file": [
        "AUTH alice/pass alice/wrong carol@example.com/pass nobody/pass",
        "AUTH bob/pass rip=10.1.2.3",
        "AUTH bob/pass rip=192.0.2.1",
        "PASS alice",
        "USER alice nobody",
        "LIST",
    ],
    "02-verify-http": [
        "AUTH alice/pass alice/wrong ghost/pass slow/pass",
        "PASS alice",
        "USER alice",
        "LIST",
        "GONE",
        "AUTH alice/pass",
    ],
    "03-return-shapes": [
        " ".join(["AUTH", *(f"{user}/pass" for user in users_of("P"))]),
        " ".join(["USER", *users_of("U")]),
        "LIST",
    ],
    "04-request-object": ["AUTH someone@example.com/pass rip=192.0.2.7 session=S1"],
    "05-events": ["AUTH x/pass"],
    "06-life-cycle": ["AUTH x/pass"],
}
"""What each is asked, one thing after the other; from ``GONE`` on the service that it needs is not there any more."""

BETTER = {
    ("2.3", "AUTH carol@example.com/pass"): "FAIL code=temp_fail user=carol@example.com",
    ("2.3", "AUTH ok-badvalue/pass"): "OK user=ok-badvalue",
}
"""What authlua answers as 2.3.21 does, and no longer as 2.3.19."""

SLICE = {("2.3", "01"), ("2.3", "03"), ("2.4", "02"), ("2.4", "03"), ("2.4", "04"), ("2.4", "05"), ("2.4", "06")}
"""What every run of the tests tries."""

DOVECOT = {
    "2.3": "  driver = lua\n  args = file={directory}/auth.lua blocking=no\n",
    "2.4": "  lua_file = {directory}/auth.lua\n  lua_settings {\n    suffix = from-config\n  }\n  use_worker = no\n",
}
AUTHLUA = "script = 'auth.lua'\nuse_worker = false\nsettings = { suffix = 'from-config' }\n"


def transcript(server: Server, questions: Sequence[str], services: ExitStack) -> Mapping[str, str]:
    """Each question to *server*, and its reply."""
    said = {}
    with AuthClient(server) as client, MasterClient(server) as master:
        for question in questions:
            command, *words = question.split(" ")
            if command == "AUTH":
                params = [word for word in words if "=" in word]
                logins = [word for word in words if "=" not in word]
                pairs = [login.partition("/") for login in logins]
                replies = client.login_all([(user, password, "") for user, _, password in pairs], *params)
                for login, reply in zip(logins, replies, strict=True):
                    said[" ".join(["AUTH", login, *params])] = plain(reply)
            elif command == "LIST":
                said["LIST"] = " ".join(sorted(master.list_users()))
            elif command == "GONE":
                services.close()
                said = {f"before: {asked}": reply for asked, reply in said.items()}
            else:
                said |= {f"{command} {user}": plain(master.ask(command, user)) for user in words}
    return said


def of_dovecot(log: str) -> list[str]:
    """What a script, or Dovecot about it, has to say; without Lua's stack."""
    lines = []
    for about, level, text in re.findall(r"(?m)^\w+ \d+ \S+ (.*?): (Info|Warning|Error): (.*)$", log):
        if about != "master" and not re.match(r"(?:lua: )?(?:\t|stack traceback:)", text):
            lines.append(_plain(f"{level} {text}" if about == "auth" else f"{level} {about}: {text}"))
    return sorted(lines)


OWN = re.compile(r"auth_request_finished |listening |ready |stopp|userdb iteration failed|\S+ (?:lua: )?unknown user")
"""Lines that Dovecot does not have."""


def of_authlua(log: str) -> list[str]:
    """The same of authlua's log."""
    lines = []
    for level, text in re.findall(r"(?m)^\S+ \S+ (info|warning|error) +(.*)$", log):
        if not OWN.match(text):
            if prefix := re.search(r' log_prefix="(.*?)"', text):
                text = prefix[1] + re.sub(r"^\w+\(.*?\): (?:lua: )?", "", text)
            text = re.sub(r"(?: (?:service|who|k)=|\\nstack traceback:).*", "", text)
            lines.append(_plain(f"{level.capitalize()} {text}"))
    return sorted(lines)


def _plain(line: str) -> str:
    """Without what is another in each run."""
    return re.sub(r"127\.0\.0\.1:\d+", "PLACE", re.sub(r"timed out \(.*\)|/tmp/[^/]*/", "", line))


@pytest.mark.parametrize(
    "series",
    [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)],
)
@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_does_what_it_does_in_dovecot(series: str, example: str) -> None:
    """From its start to its end."""
    if reason := why_not(series):
        pytest.skip(reason)
    if (series, example[:2]) not in SLICE and "AUTHLUA_DIFFERENTIAL" not in os.environ:
        pytest.skip("`make differential` tries all examples in both; each takes seconds")
    files = {"users.passwd": (SCRIPTS / "users.passwd").read_text()}
    text = (SCRIPTS / f"{example}.lua").read_text()
    settings: dict[str, str | int] = {
        "auth_failure_delay": 0,
        "auth_debug": "no",
        "auth_verbose": "yes",
        **({} if series == "2.3" else {"auth_internal_failure_delay": 0}),
    }
    name = "" if series == "2.3" else " lua"
    blocks = "".join(f"{kind}{name} {{\n{DOVECOT[series]}}}\n" for kind in ("passdb", "userdb"))
    with ExitStack() as services:
        script = text.replace("18765", str(services.enter_context(Judge()).port))
        dovecot = DOVECOTS[series](script, databases=blocks, **settings)
        dovecot.files = files
        with dovecot:
            expected = transcript(dovecot, EXAMPLES[example], services)
            expected_log = of_dovecot(dovecot.stop())
    config = "[auth]\nfailure_delay = 0\ninternal_failure_delay = 0\npenalty = false\nverbose = true\n"
    config += "".join(f"[[{kind}]]\ndialect = '{series}'\n{AUTHLUA}" for kind in ("passdb", "userdb"))
    with ExitStack() as services:
        script = text.replace("18765", str(services.enter_context(Judge()).port))
        with Authlua(config, dialect=series, files={"auth.lua": script, **files}) as authlua:
            got = transcript(authlua, EXAMPLES[example], services)
            log = of_authlua(authlua.stop())
    wanted = {asked: BETTER.get((series, asked), reply) for asked, reply in expected.items()}
    assert {asked: (reply, wanted[asked]) for asked, reply in got.items() if reply != wanted[asked]} == {}
    assert log == expected_log
