"""The lines that an admin reads: the same words as a real Dovecot's, in the same order, about the same logins."""

import os
import re

import pytest

from tests.differential.servers import DOVECOTS, AuthClient, Authlua, MasterClient, Server
from tests.reference.dovecot import why_not

SCRIPT = """
local auth = dovecot.auth
local passdb = {
  right = { password = "{PLAIN}pass" },
  wrong = { password = "{PLAIN}other" },
  hashed = { password = "{SHA256}10/w7o2juYBrGMh32/KbveULW9jk2tejpyUAD+uC6PE=" },
  any = { nopassword = "y" },
  both = { nopassword = "y", password = "{PLAIN}other" },
  none = {},
  elsewhere = { password = "{PLAIN}pass", allow_nets = "nonsense,192.0.2.0/24,fe80::/10" },
  renamed = { password = "{PLAIN}pass", user = "right" },
  failing = { password = "{PLAIN}pass", fail = "y" },
  strange = { password = "{NOSUCH}pass" },
  homeless = { password = "{PLAIN}pass" },
  late = { password = "{PLAIN}pass", noauthenticate = "y" },
  later = { noauthenticate = "y" },
  broken = { password = "{SHA256}zz" },
  short = { password = "{SSHA256.hex}00" },
  nobodys = { password = "{PLAIN}pass", user = "" },
  master = { password = "{PLAIN}pass", login_user = "right" },
}
function auth_passdb_lookup(request)
  if request.user == "raises" then error("a bug") end
  if request.user == "down" then return auth.PASSDB_RESULT_INTERNAL_FAILURE, "the database is down" end
  if request.user == "disabled" then return auth.PASSDB_RESULT_USER_DISABLED, "disabled" end
  if request.user == "expired" then return auth.PASSDB_RESULT_PASS_EXPIRED, "expired" end
  if request.user == "mismatch" then return auth.PASSDB_RESULT_PASSWORD_MISMATCH, "no" end
  if #request.user > 64 or request.user == "talks" then
    request:log_info("i")
    request:log_warning("w")
    request:log_error("e")
    request:event():log_info("by event")
    request:event():append_log_prefix("p: "):log_info("with prefix")
  end
  local fields = passdb[request.user]
  if fields then return auth.PASSDB_RESULT_OK, fields end
  return auth.PASSDB_RESULT_USER_UNKNOWN, "no such user"
end
function auth_userdb_lookup(request)
  if request.user == "raises" then error("a bug") end
  if request.user == "last" then request:log_warning("the last line") end
  if request.user == "down" then return auth.USERDB_RESULT_INTERNAL_FAILURE, "the database is down" end
  if passdb[request.user] == nil or request.user == "homeless" then
    return auth.USERDB_RESULT_USER_UNKNOWN, "no such user"
  end
  return auth.USERDB_RESULT_OK, { home = "/h" }
end
"""

USERS = [*re.findall(r"^  (\w+) = ", SCRIPT, re.MULTILINE), *re.findall('"(\\w+)" then', SCRIPT),
         "nobody", "ali,ce", 70 * "x"]  # fmt: skip

VERBOSE = [("yes", "no"), ("no", "no"), ("no", "plain"), ("yes", "plain:2"), ("yes", "sha1"), ("no", "sha1:6")]
"""``auth_verbose`` and ``auth_verbose_passwords``."""

SLICE = {("2.3", "no", "sha1:6"), ("2.4", "yes", "plain:2")}
"""What every run of the tests tries."""


DATABASES = [("passdb", "one"), ("passdb", "two"), ("passdb", "masters"), ("userdb", "one"), ("userdb", "two")]


def authlua(verbose: str, passwords: str) -> str:
    text = "[auth]\nfailure_delay = 0\ninternal_failure_delay = 0\npenalty = false\n"
    text += f'verbose = {"true" if verbose == "yes" else "false"}\nverbose_passwords = "{passwords}"\n'
    text += 'master_user_separator = "*"\nallow_weak_schemes = true\n'
    for kind, name in DATABASES:
        master = "master = true\n" if name == "masters" else ""
        text += f'[[{kind}]]\nscript = "auth.lua"\nuse_worker = false\nname = "{name}"\n{master}'
    return text


def dovecot(series: str) -> str:
    text = ""
    for number, (kind, name) in enumerate(DATABASES):
        more = "  master = yes\n" if name == "masters" else ""
        if series == "2.3":
            args = f"file={{directory}}/auth.lua blocking=no cache_key=%u{number}"
            text += f"{kind} {{\n  driver = lua\n  name = {name}\n  args = {args}\n{more}}}\n"
        else:
            more += "  lua_file = {directory}/auth.lua\n  use_worker = no\n"
            text += f"{kind} {name} {{\n  driver = lua\n{more}}}\n"
    return text


LAST = "db-lua: the last line"


def log_in(server: Server) -> None:
    """Nothing waits here, so the log is in this order."""
    with AuthClient(server) as client:
        client.login_all([(user, "pass", "") for user in USERS], "rip=198.51.100.1", "session=s3ss10n")
        client.login_all([("right", "a\tb", ""), ("right", "", ""), ("right", "pass", "nobody")], "rip=::1")
        client.login_all([(f"nobody*{user}", "pass", "") for user in ("right", "wrong", "nobody")], "session=x")
    with MasterClient(server) as master:
        for user in ("right", "nobody", "raises", "down"):
            master.ask("USER", user)
            master.ask("PASS", user)
        master.ask("USER", "last")  # unknown to both, so it is said twice


def of_dovecot(series: str, log: str) -> list[str]:
    """Without what is about Dovecot itself."""
    if series == "2.3":
        lines = [" ".join(found) for found in re.findall(r"auth: (Info|Warning|Error): (.*)", log)]
        # lines without any prefix, of which one cannot tell whom they are about
        lines = [re.sub(r"^Info (?=Master user logging|Attempted login)", "Info auth: ", line) for line in lines]
    else:
        found = re.findall(r" (auth(?:\([^ ]*\))?(?:<[^>]*>)?): (Info|Warning|Error): (.*)", log)
        lines = [f"{level} {about}: {text}" for about, level, text in found]
    return [
        _plain(line) for line in lines if not re.search(r": \t|: stack traceback|Error \t|Error stack|Weak pass", line)
    ]


def of_authlua(series: str, log: str) -> list[str]:
    """Without our own lines: those of start and end, the one about each login, and that a script knows no user."""
    lines = []
    for level, text in re.findall(
        r"^[-0-9]+ [:.0-9]+ (info|warning|error) +(.*?)(?: service=\w+)?$", log, re.MULTILINE
    ):
        line = _plain(f"{level.capitalize()} {text}")
        if re.match(r"\w+ [\w-]+\(", line) and ": unknown user" not in line:
            if series == "2.3":
                line = re.sub(r"^Info auth\(.*?\): ", "Info auth: ", line)
            lines.append(line)
    return lines


def _plain(line: str) -> str:
    """Without Lua's stack and the names of directories."""
    return re.sub(r"/tmp/[^/]*/", "", re.sub(r"\\nstack traceback:.*", "", line))


@pytest.mark.parametrize(
    "series",
    [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)],
)
@pytest.mark.parametrize(("verbose", "passwords"), VERBOSE)
def test_the_log_has_the_same_lines(series: str, verbose: str, passwords: str) -> None:
    """Above debug, with every wish for passwords in it."""
    if reason := why_not(series):
        pytest.skip(reason)
    if (series, verbose, passwords) not in SLICE and "AUTHLUA_DIFFERENTIAL" not in os.environ:
        pytest.skip("`make differential` tries all settings; each takes seconds")
    settings: dict[str, str | int] = {
        "auth_failure_delay": 0,
        "auth_debug": "no",
        "auth_verbose": verbose,
        "auth_verbose_passwords": passwords,
        "auth_master_user_separator": "*",
        **({} if series == "2.3" else {"auth_internal_failure_delay": 0, "auth_allow_weak_schemes": "yes"}),
    }
    with DOVECOTS[series](SCRIPT, databases=dovecot(series), **settings) as real:
        log_in(real)
        expected = of_dovecot(series, real.wait_for_log(LAST))
    with Authlua(authlua(verbose, passwords), dialect=series, files={"auth.lua": SCRIPT}) as server:
        log_in(server)
        got = of_authlua(series, server.wait_for_log(LAST))
    assert got == expected
