"""What becomes of each result of a script's function: the reply, whoever asked, and the lines in the log.

The results are those of tests/lua/scripts/shapes.lua: every code beside every second result, and errors of all kinds.
"""

import re
from collections.abc import Sequence

import pytest

from tests.differential.servers import DOVECOTS, AuthClient, Authlua, MasterClient, Server, plain
from tests.differential.test_log import of_authlua, of_dovecot
from tests.lua.conftest import SCRIPTS
from tests.lua.test_against_dovecot import USERDB_USERS, USERS
from tests.reference.dovecot import why_not

SCRIPT = (SCRIPTS / "shapes.lua").read_text()
FUNCTIONS = {
    "auth_passdb_lookup": "",
    "auth_password_verify": """
local stored = { right = "{PLAIN}pass", wrong = "other", unknown = "{NOSUCH}x", broken = "{SHA256}zz" }
function auth_password_verify(req, password)
  local which = req.user:match("^verify%.(.*)$")
  if which then return req:password_verify(stored[which], password) end
  return VERIFY(req)
end
""",
}
VERIFIED = [f"verify.{which}" for which in ("right", "wrong", "unknown", "broken")]
"""For whom a script returns what ``req:password_verify`` does."""
LAST = "attempt to call a nil value"
"""What only the last line has, as there is no such error."""


def transcript(server: Server, userdb_users: Sequence[str]) -> dict[str, str]:
    """Each user's logins, and what a master is told of each."""
    users = USERS if userdb_users else USERS + VERIFIED
    with AuthClient(server) as client:
        replies = client.login_all([(user, "pass", "") for user in users])
        said = {f"AUTH {user}": plain(reply) for user, reply in zip(users, replies, strict=True)}
        replies = client.challenge_all(USERS, "pass")
        said |= {f"CRAM-MD5 {user}": plain(reply) for user, reply in zip(USERS, replies, strict=True)}
    with MasterClient(server) as master:
        said |= {f"PASS {user}": plain(master.ask("PASS", user)) for user in USERS}
        said |= {f"USER {user}": plain(master.ask("USER", user)) for user in userdb_users}
        said["LIST"] = " ".join(sorted(master.list_users()))
        said["PASS error.none"] = plain(master.ask("PASS", "error.none"))
    return said


@pytest.mark.parametrize(
    "series",
    [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)],
)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_result_is_answered_and_logged_alike(series: str, function: str) -> None:
    """To a login with a password or a challenge, to a master, and to the admin."""
    if reason := why_not(series):
        pytest.skip(reason)
    script = SCRIPT + FUNCTIONS[function]
    userdb_users = USERDB_USERS if function == "auth_passdb_lookup" else []
    settings: dict[str, str | int] = {
        "auth_failure_delay": 0,
        "auth_debug": "no",
        "auth_verbose": "yes",
        "auth_mechanisms": "plain cram-md5",
        **({} if series == "2.3" else {"auth_internal_failure_delay": 0}),
    }
    with DOVECOTS[series](script, **settings) as dovecot:
        expected = transcript(dovecot, userdb_users)
        expected_log = of_dovecot(series, dovecot.wait_for_log(LAST))
    config = "[auth]\nmechanisms = ['plain', 'cram-md5']\nfailure_delay = 0\ninternal_failure_delay = 0\n"
    config += "penalty = false\nverbose = true\n"
    entry = f"script = 'auth.lua'\ndialect = '{series}'\nuse_worker = false\n"
    config += f"[[passdb]]\n{entry}[[userdb]]\n{entry}"
    with Authlua(config, dialect=series, files={"auth.lua": script}) as authlua:
        got = transcript(authlua, userdb_users)
        log = of_authlua(series, authlua.wait_for_log(LAST))
    if series == "2.3":
        # before 2.3.21 a field whose value is of no use came without it
        for asked in filter(re.compile(r".* \w+\.bad$").match, expected):
            expected[asked] = expected[asked].replace("fn io ", "").replace("tbl th ", "").replace(" tbl th", "")
    assert {asked: (reply, expected[asked]) for asked, reply in got.items() if reply != expected[asked]} == {}
    assert sorted(line for line in log if ": stack traceback:" not in line) == sorted(expected_log)
