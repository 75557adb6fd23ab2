"""Files of users and chains of userdbs: what a real Dovecot makes of them, replies and lines of the log."""

import re

import pytest

from tests.differential.servers import AuthClient, MasterClient, Server, answered_alike, plain, session
from tests.reference.dovecot import why_not

PASSWORDS = """\
both:{PLAIN}pass::::::nopassword=y
any:::::::nopassword=y
bare:::::::nopassword
later:{PLAIN}pass::::::noauthenticate=y a=b
two:{PLAIN}pass::::::password=other
raw:{PLAIN}pass::::::password_noscheme=other
brace:{pass
imported:{PLAIN}pass::::::passdb_import=a=b\tc=d e=f
kept:{PLAIN}pass::::::a=1 a:protected=2 a:default=3 b:protected=4 c:default=5
fetched:{PLAIN}pass::::::userdb_home=/p userdb_k=p userdb_kept=p
noted:{PLAIN}pass::::::userdb_seen
doubtful:{PLAIN}pass::::::userdb_tempfail=yes userdb_reason=perhaps
first:{PLAIN}pass
second:{PLAIN}pass
third:{PLAIN}pass
fails:{PLAIN}pass
nowhere:{PLAIN}pass
"""

MASTERS = "away:{PLAIN}root::::::b=1 proxy=1 a=2 host=192.0.2.9\nhere:{PLAIN}root::::::b=1 a=2 userdb_k=m\n"

FIRST = """\
first:x:1:1::/one
fetched:x:6:6::/f
second:x:2:2::/one::userdb_k=one userdb_system_user=root
"""
SECOND = """\
second:x:3:3::/two::userdb_w=1
third:x:4:4::/two
fails:x:4:4::/f::userdb_tempfail=yes userdb_reason=later
"""

SETTINGS = "auth_failure_delay = 0\nauth_anonymous_username = first\nauth_master_user_separator = *\n"
CONF = {
    "2.3": SETTINGS
    + """
passdb {
  driver = passwd-file
  args = {directory}/masters
  master = yes
}
passdb {
  driver = passwd-file
  args = scheme=PLAIN {directory}/passwords
}
userdb {
  driver = passwd-file
  args = {directory}/first
  result_success = continue-ok
  default_fields = d1=1 k=d kept:protected=d
  override_fields = o1=1
}
userdb {
  driver = passwd-file
  args = {directory}/second
  default_fields = d2=2 k:protected=e
  override_fields = o2=2
}
""",
    "2.4": SETTINGS
    + """
auth_internal_failure_delay = 0
passdb masters {
  driver = passwd-file
  passwd_file_path = {directory}/masters
  master = yes
}
passdb passwd-file {
  passwd_file_path = {directory}/passwords
  default_password_scheme = PLAIN
}
userdb one {
  driver = passwd-file
  passwd_file_path = {directory}/first
  result_success = continue-ok
  fields {
    o1 = 1
  }
}
userdb two {
  driver = passwd-file
  passwd_file_path = {directory}/second
  fields {
    o2 = 2
  }
}
""",
}

BOTH = [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)]


def complaints(server: Server) -> list[str]:
    """The errors and warnings in the log, without what 2.4 says of the request in front of them."""
    log = server.wait_for_log("(nowhere,192.0.2.7")  # the last of them
    lines = re.findall(r"(?:[Ee]rror|[Ww]arning):? +(.*?)(?: service=\w+)?$", log, re.MULTILINE)
    return [re.sub(r"^auth\(\S+\): ", "", line) for line in lines if "pending requests: EOF" not in line]


def transcript(server: Server) -> list[str]:
    """Everybody logs in, with the right password and a wrong one, and is looked up by a session and by others."""
    users = [line.partition(":")[0] for line in PASSWORDS.splitlines()]
    with AuthClient(server, "login") as login:
        # in the order in which they are told
        composed = [login.login(admin, "root", "local_name=mx", authzid="first") for admin in ("away", "here")]
        composed += [login.login("first", "pass"), login.login("away", "wrong", authzid="first")]
    with AuthClient(server) as client, MasterClient(server) as master:
        said = client.login_all([(user, password, "") for user in users for password in ("pass", "wrong", "{pass")])
        said += [master.ask(command, user) for command in ("PASS", "USER") for user in users]
    said += [session(server, "first*here", "root")]
    said += [session(server, user, "pass") for user in users]
    return composed + [plain(line) for line in said] + complaints(server)


@pytest.mark.parametrize("series", BOTH)
def test_files_of_users_and_chains_of_userdbs_answer_alike(series: str) -> None:
    """Passwords that contradict other fields; and what is left of each userdb's fields at the end of the chain."""
    if reason := why_not(series):
        pytest.skip(reason)
    files = {"masters": MASTERS, "passwords": PASSWORDS, "first": FIRST, "second": SECOND}
    said = answered_alike(series, CONF[series], files, transcript)
    left = (
        "d1=1 d2=2 gid=1 home=/one k=d kept=d o1=1 o2=2 uid=1"
        if series == "2.3"
        else "anonymous gid=1 home=/one o1=1 uid=1"
    )
    assert plain("\t".join(["USER", "first", *left.split(" ")])) in said
    names = ["original_user=away", "auth_user=away", "anonymous", "pass=root", "master=away"]
    proxy = "proxy" if series == "2.3" else "proxy=1"
    assert said[0] == "\t".join(["OK", "user=first", "b=1", proxy, "a=2", "host=192.0.2.9", *names])
    assert "Replace system_user with system_groups_user" in "\n".join(said)
