"""Whole sites, as people write them: what `authlua import-dovecot` makes of each answers as its Dovecot does."""

import os
import subprocess
import sys
import time
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest

from authlua.cli.peer import authenticate
from authlua.cli.sasl import CLIENTS, Identity
from tests.differential.servers import (
    DOVECOTS,
    AuthClient,
    Imported,
    MasterClient,
    Server,
    answered_alike,
    plain,
    session,
)
from tests.reference.dovecot import why_not
from tests.services.imap_server import ImapServer

Login = tuple[str, str, str, str]
"""Mech, user, password, and whom to become or nobody."""


@dataclass(frozen=True)
class Site:
    """A configuration, the files it names, and what is asked."""

    name: str
    series: str
    conf: str
    """What stands in ``dovecot.conf`` beside where its sockets are; ``{directory}`` is where *files* are."""
    files: dict[str, str]
    logins: tuple[Login, ...]
    params: tuple[tuple[str, str | None], ...] = (("service", "imap"), ("rip", "192.0.2.7"))
    sessions: tuple[tuple[str, str], ...] = ()
    """User and password of logins after which the mail process asks."""
    users: tuple[str, ...] = ()
    """Who is looked up, and whether all are listed: by ``*``."""
    pam: str = ""
    """What stands in PAM's file `PAM`."""
    left: tuple[str, ...] = ()
    """What cannot be carried over."""


def transcript(server: Server, site: Site) -> dict[str, str]:
    """What was asked, and the reply."""
    said = {}
    for mech, user, password, target in site.logins:
        client = CLIENTS[mech](Identity(user.encode(), password.encode(), target.encode()))
        reply = authenticate(str(server.sockets["client"]), mech, list(site.params), client)
        fields = [name if value is None else f"{name}={value}" for name, value in reply.fields]
        said[f"{mech} {user} {password} {target}"] = plain("\t".join([reply.word, *fields]))
    for user, password in site.sessions:
        said[f"session {user}"] = session(server, user, password)
    with MasterClient(server) as master:
        for user in site.users:
            if user == "*":
                said["LIST"] = " ".join(sorted(master.list_users()))
            else:
                said |= {f"{command} {user}": plain(master.ask(command, user)) for command in ("USER", "PASS")}
    return said


LUA_2_3 = """
function auth_passdb_lookup(request)
  if request.user == "scheme" then
    return dovecot.auth.PASSDB_RESULT_OK, { password = "5en6G6MezRroT3XKqkdPOmY/BfQ=" }
  end
  if request.user == "down" then return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, "down" end
  if request.user == "text" then return dovecot.auth.PASSDB_RESULT_OK, "password=secret" end
  return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, "no such user"
end
function auth_userdb_lookup(request)
  if request.user == "nobody" then return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, "no such user" end
  return dovecot.auth.USERDB_RESULT_OK, { home = "/srv/" .. request.user }
end
function auth_userdb_iterate()
  return { "scheme", "text" }
end
"""

LUA_2_4 = """
local site
function script_init(args)
  site = args.site
  return 0
end
function auth_passdb_lookup(request)
  if request.user == "plain" then return dovecot.auth.PASSDB_RESULT_OK, { password = "secret" } end
  if request.user == "site" then return dovecot.auth.PASSDB_RESULT_OK, { password = "secret", a = site } end
  if request.user == "down" then return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, {} end
  return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, {}
end
function auth_userdb_lookup(request)
  if request.user == "nobody" then return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, {} end
  return dovecot.auth.USERDB_RESULT_OK, { home = "/srv/" .. site .. "/" .. request.user }
end
"""

FILTERED: dict[str, Any] = {
    "logins": (
        ("PLAIN", "a@first.example", "one", ""),
        ("PLAIN", "a@both.example", "one", ""),
        ("PLAIN", "a@both.example", "two", ""),
        ("PLAIN", "root@both.example", "one", ""),
        ("PLAIN", "a@second.example", "two", ""),
        ("PLAIN", "a@second.example", "static", ""),
        ("LOGIN", "a@second.example", "static", ""),
        ("LOGIN", "a@first.example", "one", ""),
        ("LOGIN", "a@both.example", "two", ""),
        ("LOGIN", "free@x", "any", ""),
        ("PLAIN", "free@x", "any", ""),
        ("PLAIN", "other@x", "any", ""),
    ),
    "sessions": (("a@first.example", "one"), ("a@both.example", "two"), ("a@second.example", "two"), ("free@x", "y")),
    "users": ("a@first.example", "a@both.example", "a@second.example", "free@x"),
}
"""What is asked of the sites with filters."""

PAM = f"authlua-import-{os.getpid()}"

SITES = [
    Site(
        "system-users",
        "2.3",
        f"""
auth_failure_delay = 0
auth_username_format = %Ln
first_valid_uid = 1
last_valid_uid = 60000
passdb {{
  driver = pam
  args = max_requests=12 {PAM.replace("import", "%s")}
}}
userdb {{
  driver = passwd
  args = blocking=yes
  override_fields = home=/srv/mail/%u
}}
""",
        {},
        (
            ("PLAIN", "games", "any", ""),
            ("PLAIN", "GAMES@host", "any", ""),
            ("PLAIN", "daemon", "any", ""),
            ("PLAIN", "nosuchuser", "any", ""),
        ),
        params=(("service", "import"),),
        users=("games", "games@host", "root", "nosuchuser", "*"),
        pam="auth requisite pam_succeed_if.so quiet user = games\nauth required pam_permit.so\n"
        "account required pam_permit.so\n",
    ),
    Site(
        "virtual-users",
        "2.3",
        """
auth_mechanisms = plain login cram-md5 scram-sha-256
auth_default_realm = example.com
auth_failure_delay = 0
mail_location = maildir:~/Maildir
passdb {
  driver = passwd-file
  args = scheme=SHA1 username_format=%n {directory}/%d.passwd
}
userdb {
  driver = static
  args = uid=5000 gid=5000 home=/var/vmail/%d/%n mail=maildir:/var/vmail/%d/%n allow_all_users=yes
}
service auth {
  unix_listener {directory}/postfix {
    mode = 0666
  }
}
""",
        {
            "example.com.passwd": "# users\nalice:{PLAIN}wonder=land::::::\nbob:5en6G6MezRroT3XKqkdPOmY/BfQ=\n"
            "net:{PLAIN}x::::::allow_nets=10.0.0.0/8\nin:{PLAIN}x::::::allow_nets=192.0.2.0/24 nodelay=y\n",
            "other.org.passwd": "carol:{SSHA512}nonsense\ndave:{PLAIN}secret::::::user=alice@example.com a=%d\n",
        },
        (
            ("PLAIN", "alice", "wonder=land", ""),
            ("PLAIN", "ALICE@Example.COM", "wonder=land", ""),
            ("PLAIN", "alice", "wrong", ""),
            ("PLAIN", "bob", "secret", ""),
            ("PLAIN", "net", "x", ""),
            ("PLAIN", "in", "x", ""),
            ("PLAIN", "dave@other.org", "secret", ""),
            ("PLAIN", "nobody@nowhere", "x", ""),
            ("PLAIN", "with space", "x", ""),
            ("LOGIN", "alice", "wonder=land", ""),
            ("CRAM-MD5", "alice", "wonder=land", ""),
            ("CRAM-MD5", "bob", "secret", ""),
            ("SCRAM-SHA-256", "alice", "wonder=land", ""),
        ),
        sessions=(("alice", "wonder=land"), ("alice", "wrong"), ("dave@other.org", "secret")),
        users=("alice", "alice@example.com", "nobody@nowhere"),
    ),
    Site(
        "lua",
        "2.3",
        """
auth_mechanisms = plain login
auth_cache_size = 1M
auth_cache_ttl = 5 mins
auth_failure_delay = 0
auth_username_format = %Ln
auth_username_translation = "/@"
passdb {
  driver = lua
  args = file={directory}/auth.lua blocking=no cache_key=%u%s scheme=SHA1
  auth_verbose = yes
}
userdb {
  driver = lua
  args = file={directory}/auth.lua blocking=no
  override_fields = uid=5000 gid=5000 login=%u
}
service auth-worker {
  process_limit = 3
}
""",
        {"auth.lua": LUA_2_3},
        (
            ("PLAIN", "scheme", "secret", ""),
            ("PLAIN", "scheme", "world!", ""),
            ("PLAIN", "Scheme/x", "hello", ""),
            ("PLAIN", "text", "secret", ""),
            ("PLAIN", "text@x", "secret", ""),
            ("LOGIN", "text", "other", ""),
            ("PLAIN", "down", "secret", ""),
            ("PLAIN", "nobody", "secret", ""),
        ),
        sessions=(("text", "secret"),),
        users=("text", "text@x", "nobody", "down", "*"),
    ),
    Site(
        "masters",
        "2.3",
        """
auth_mechanisms = plain
auth_master_user_separator = *
auth_failure_delay = 0
passdb {
  driver = passwd-file
  args = {directory}/deny
  deny = yes
}
passdb {
  driver = passwd-file
  args = {directory}/masters
  master = yes
  pass = yes
}
passdb {
  driver = passwd-file
  args = scheme=plain username_format=%u {directory}/users
}
userdb {
  driver = passwd-file
  args = username_format=%u {directory}/users
  default_fields = uid=5000 gid=5000 home=/home/%u quota_rule=*:storage=1G
  override_fields = mail=maildir:~/Maildir
}
""",
        {
            "deny": "mallory:\neve:x\n",
            "masters": "admin:{PLAIN}root\nmallory:{PLAIN}root\nlimited:{PLAIN}root::::::allow_nets=10.0.0.1\n",
            "users": "alice:secret:1001:1001::/srv/alice::userdb_quota_rule=*:storage=2G\nmallory:secret\nbob:secret\n",
        },
        (
            ("PLAIN", "alice", "secret", ""),
            ("PLAIN", "mallory", "secret", ""),
            ("PLAIN", "eve", "secret", ""),
            ("PLAIN", "alice*admin", "root", ""),
            ("PLAIN", "admin", "root", "bob"),
            ("PLAIN", "admin", "root", "mallory"),
            ("PLAIN", "admin", "root", "nosuch"),
            ("PLAIN", "admin", "wrong", "bob"),
            ("PLAIN", "alice", "secret", "bob"),
            ("PLAIN", "mallory", "root", "bob"),
            ("PLAIN", "limited", "root", "bob"),
            ("PLAIN", "admin", "root", ""),
        ),
        sessions=(("alice", "secret"), ("bob*admin", "root")),
        users=("alice", "bob", "mallory", "admin", "*"),
    ),
    Site(
        "filters",
        "2.3",
        """
auth_mechanisms = plain login
auth_failure_delay = 0
passdb {
  driver = passwd-file
  args = {directory}/first
  username_filter = *@first.example *@both.example !root@*
  default_fields = from:protected=first
  result_internalfail = return-fail
}
passdb {
  driver = static
  args = password=static userdb_home=/static/%n userdb_uid=1 nodelay=y
  mechanisms = login
  override_fields = userdb_gid=9 over=%d
  result_success = continue-ok
}
passdb {
  driver = passwd-file
  args = {directory}/second
  skip = authenticated
  override_fields = from=second
}
passdb {
  driver = static
  args = nopassword=y userdb_home=/last
  username_filter = free@*
  mechanisms = plain login none
}
userdb {
  driver = prefetch
}
userdb {
  driver = passwd-file
  args = {directory}/second
  result_failure = continue
  default_fields = uid=7 gid=8
}
userdb {
  driver = static
  args = home=/fallback/%u
  skip = found
}
""",
        {
            "first": "a@first.example:{PLAIN}one::::::userdb_home=/one userdb_uid=5\na@both.example:{PLAIN}one\n"
            "root@both.example:{PLAIN}one\na@second.example:{PLAIN}one\n",
            "second": "a@both.example:{PLAIN}two:9:9::/two::userdb_x=z\na@second.example:{PLAIN}two:9:9::/two\n",
        },
        **FILTERED,
    ),
    Site(
        "proxy",
        "2.3",
        """
auth_mechanisms = plain
auth_failure_delay = 0
auth_username_chars =
auth_proxy_self = 192.0.2.99
passdb {
  driver = static
  args = proxy=y host=192.0.2.%{if;%d;eq;here;99;1} nopassword=y proxy_maybe=y port=143 starttls=any-cert destuser=%n
}
userdb {
  driver = passwd
}
""",
        {},
        (
            ("PLAIN", "alice@here", "secret", ""),
            ("PLAIN", "alice@there", "secret", ""),
            ("PLAIN", "al ice", "with=equals", ""),
        ),
        sessions=(("alice@there", "secret"),),
        users=("root", "nosuchuser"),
    ),
    Site(
        "virtual-users-2.4",
        "2.4",
        """
auth_mechanisms = plain login scram-sha-256 cram-md5
auth_default_domain = example.com
auth_failure_delay = 0
auth_allow_weak_schemes = yes
passdb passwd-file {
  passwd_file_path = {directory}/%{user | domain}.passwd
  auth_username_format = %{user | username}
  default_password_scheme = SHA1
  fields {
    userdb_mail_size = 5
    later = %{user | domain | upper}
  }
}
userdb static {
  allow_all_users = yes
  fields {
    uid = 5000
    gid = 5000
    home = /var/vmail/%{user | domain}/%{user | username}
  }
}
service auth {
  unix_listener {directory}/postfix {
    mode = 0666
  }
}
""",
        {
            "example.com.passwd": "alice:{PLAIN}wonder=land\nbob:5en6G6MezRroT3XKqkdPOmY/BfQ=\n"
            "net:{PLAIN}x::::::allow_nets=10.0.0.0/8\nin:{PLAIN}x::::::allow_nets=192.0.2.0/24 later=own\n",
        },
        (
            ("PLAIN", "alice", "wonder=land", ""),
            ("PLAIN", "ALICE@Example.COM", "wonder=land", ""),
            ("PLAIN", "alice", "wrong", ""),
            ("PLAIN", "bob", "secret", ""),
            ("PLAIN", "net", "x", ""),
            ("PLAIN", "in", "x", ""),
            ("PLAIN", "nobody@nowhere", "x", ""),
            ("CRAM-MD5", "alice", "wonder=land", ""),
            ("SCRAM-SHA-256", "alice", "wonder=land", ""),
            ("SCRAM-SHA-256", "bob", "secret", ""),
        ),
        sessions=(("alice", "wonder=land"), ("alice", "wrong")),
        users=("alice", "alice@example.com", "nobody@nowhere"),
    ),
    Site(
        "lua-2.4",
        "2.4",
        """
auth_mechanisms = plain login
auth_failure_delay = 0
auth_internal_failure_delay = 0
auth_username_format = %{user | username | lower}
passdb lua {
  lua_file = {directory}/auth.lua
  lua_settings {
    site = two words
  }
  passdb_use_worker = no
  fields {
    a = before
    userdb_x = prefetched
  }
}
userdb lua {
  lua_file = {directory}/auth.lua
  lua_settings {
    site = south
  }
  userdb_use_worker = no
  fields {
    uid = 5000
  }
}
""",
        {"auth.lua": LUA_2_4},
        (
            ("PLAIN", "plain", "secret", ""),
            ("PLAIN", "Plain@x", "secret", ""),
            ("PLAIN", "site", "secret", ""),
            ("PLAIN", "site", "other", ""),
            ("PLAIN", "down", "secret", ""),
            ("LOGIN", "nobody", "secret", ""),
        ),
        sessions=(("plain", "secret"),),
        users=("plain", "site", "nobody", "down"),
    ),
    Site(
        "masters-2.4",
        "2.4",
        """
auth_mechanisms = plain
auth_master_user_separator = *
auth_failure_delay = 0
passdb deny {
  driver = passwd-file
  deny = yes
  passwd_file_path = {directory}/deny
}
passdb masters {
  driver = passwd-file
  passwd_file_path = {directory}/masters
  master = yes
  result_success = continue
}
passdb passwd-file {
  passwd_file_path = {directory}/users
  default_password_scheme = plain
}
userdb passwd-file {
  passwd_file_path = {directory}/users
  fields {
    gid:default = 5000
    home:default = /home/%{user}
    quota = 1G
  }
}
""",
        {
            "deny": "mallory:\neve:x\n",
            "masters": "admin:{PLAIN}root\nmallory:{PLAIN}root\nlimited:{PLAIN}root::::::allow_nets=10.0.0.1\n",
            "users": "alice:secret:1001:1001::/srv/alice::userdb_quota=2G\nmallory:secret\nbob:secret:1002\n",
        },
        (
            ("PLAIN", "alice", "secret", ""),
            ("PLAIN", "mallory", "secret", ""),
            ("PLAIN", "eve", "secret", ""),
            ("PLAIN", "alice*admin", "root", ""),
            ("PLAIN", "admin", "root", "mallory"),
            ("PLAIN", "admin", "root", "nosuch"),
            ("PLAIN", "admin", "wrong", "bob"),
            ("PLAIN", "alice", "secret", "bob"),
            ("PLAIN", "limited", "root", "bob"),
            ("PLAIN", "admin", "root", ""),
        ),
        sessions=(("alice", "secret"), ("bob*admin", "root")),
        users=("alice", "bob", "mallory", "admin", "*"),
    ),
    Site(
        "filters-2.4",
        "2.4",
        """
auth_mechanisms = plain login
auth_failure_delay = 0
passdb_default_password_scheme = PLAIN
passdb first {
  driver = passwd-file
  passwd_file_path = {directory}/first
  username_filter = *@first.example *@both.example !root@*
  result_internalfail = return-fail
}
passdb static {
  password = static
  mechanisms_filter = login
  result_success = continue-ok
  fields {
    userdb_home = /static/%{user | username}
    over = %{user | domain}
    nodelay = yes
  }
}
passdb second {
  driver = passwd-file
  passwd_file_path = {directory}/second
  skip = authenticated
  fields {
    from = second
  }
}
passdb free {
  driver = static
  username_filter = free@*
  mechanisms_filter = plain login lookup
  fields {
    nopassword = yes
    userdb_home = /last
  }
}
userdb prefetch {
}
userdb second {
  driver = passwd-file
  passwd_file_path = {directory}/second
  result_failure = continue
}
userdb static {
  skip = found
  fields {
    home = /fallback/%{user}
    uid = 7
  }
}
""",
        {
            "first": "a@first.example:one::::::userdb_home=/one userdb_uid=5\na@both.example:one\n"
            "root@both.example:one\na@second.example:one\n",
            "second": "a@both.example:two:9:9::/two::userdb_x=z\na@second.example:two:9:9::/two\n",
        },
        **FILTERED,
    ),
    Site(
        "proxy-2.4",
        "2.4",
        """
auth_mechanisms = plain
auth_failure_delay = 0
passdb static {
  fields {
    nopassword = yes
    proxy = yes
    host = 192.0.2.1
    ssl = any-cert
    destuser = %{user | username}
  }
}
userdb passwd {
  fields {
    mail_path = /var/mail/%{user}
  }
}
protocol lmtp {
  auth_username_format = %{user | username}
}
""",
        {},
        (
            ("PLAIN", "alice@there", "secret", ""),
            ("PLAIN", "al ice", "secret", ""),
        ),
        sessions=(("alice@there", "secret"),),
        users=("root", "nosuchuser"),
        left=("protocol lmtp: auth_username_format",),
    ),
]

SLICE = ("filters", "masters-2.4")
"""What every run of the tests tries."""


@pytest.mark.parametrize(
    "site",
    [
        pytest.param(site, id=site.name, marks=pytest.mark.dovecot if site.series == "2.3" else pytest.mark.dovecot24)
        for site in SITES
    ],
)
def test_the_imported_configuration_answers_like_the_original(
    site: Site, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """All that is left is named; the rest passes `check`, and every login, lookup and list has the same reply."""
    if reason := why_not(site.series):
        pytest.skip(reason)
    if site.name not in SLICE and "AUTHLUA_DIFFERENTIAL" not in os.environ:
        pytest.skip("`make differential` tries all sites; each takes seconds")
    if site.pam:
        if os.geteuid():
            pytest.skip("only root can tell PAM about a service of a test")
        pytest.importorskip("pamela")
        file = Path("/etc/pam.d", PAM)
        file.write_text(site.pam)
        request.addfinalizer(file.unlink)
    original = DOVECOTS[site.series]("", databases=site.conf, auth_debug="no")
    original.files = site.files
    with original as dovecot:
        expected = transcript(dovecot, site)
        printed = dovecot.run("doveconf", "-nP").stdout.replace(str(dovecot.directory), "{directory}")
    (tmp_path / "printed").write_text(printed)
    made = authlua("import-dovecot", str(tmp_path / "printed"))
    assert made.returncode == (1 if site.left else 0), made.stderr
    told = [line.split(": ", 1)[1].split(":", 2)[2] for line in made.stderr.splitlines() if line.startswith("not carr")]
    assert [line.strip().rsplit(": ", 1)[0] for line in told] == list(site.left)
    with Imported(made.stdout, dialect=site.series, files=site.files) as server:
        checked = authlua("check", "-c", str(server.config))
        assert checked.returncode == 0, checked.stdout
        got = transcript(server, site)
    assert {asked: reply for asked, reply in expected.items() if got[asked] != reply} == {
        asked: reply for asked, reply in got.items() if expected[asked] != reply
    }


BOTH = [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)]
SECRET = b"a secret of at least 32 bytes, for tokens"

OAUTH2 = {
    "2.3": (
        "passdb {\n  driver = oauth2\n  args = {directory}/oauth2.conf\n}\nuserdb {\n  driver = static\n}\n",
        "# comments there are, too\nintrospection_mode = local\nusername_format = %Ln\ntimeout_msecs = 2000\n"
        "local_validation_key_dict = fs:posix:prefix={directory}/keys/\nusername_attribute = email\n"
        "issuers = us them\n",
    ),
    "2.4": (
        "oauth2 {\n  introspection_mode = local\n  issuers = us them\n  active_attribute = active\n"
        "  oauth2_local_validation {\n    dict fs {\n      fs posix {\n        prefix = {directory}/keys/\n"
        "      }\n    }\n  }\n}\n"
        "passdb static {\n  fields {\n    nopassword = yes\n    more = %{user | upper}\n  }\n}\nuserdb static {\n}\n",
        "",
    ),
}


def token(**claims: object) -> bytes:
    """A signed one, with other *claims* than most."""
    body = {"sub": "1", "iss": "us", "email": "alice", "active": True, "exp": int(time.time()) + 3600, **claims}
    return jwt.encode(body, SECRET, "HS256").encode()


@pytest.mark.parametrize("series", BOTH)
def test_tokens_are_judged_alike(series: str) -> None:
    """2.3 has a file of its own for the driver oauth2, 2.4 a block that no passdb has to name."""
    if reason := why_not(series):
        pytest.skip(reason)
    if "AUTHLUA_DIFFERENTIAL" not in os.environ:
        pytest.skip("`make differential` tries it; it takes seconds")
    tokens = {
        "good": token(),
        "expired": token(exp=1),
        "foreign": token(iss="foe"),
        "of another": token(email="mallory"),
    }

    def ask(server: Server) -> dict[str, list[str]]:
        said = {}
        for name, one in tokens.items():
            client = CLIENTS["XOAUTH2"](Identity(b"alice", one))
            reply = authenticate(str(server.sockets["client"]), "XOAUTH2", [("service", "imap")], client)
            fields = [f"{key}={value}" for key, value in reply.fields if key not in ("token", "resp", "code")]
            said[name] = [reply.word, *fields]
        return said

    databases, conf = OAUTH2[series]
    files = {"keys/default/HS256/default": b64encode(SECRET).decode(), "oauth2.conf": conf}
    text = f"auth_failure_delay = 0\nauth_mechanisms = plain xoauth2\n{databases}"
    said = answered_alike(series, text, files, ask)
    assert [replies[0] for replies in said.values()] == ["OK", "FAIL", "FAIL", "FAIL"]


@pytest.mark.parametrize("series", BOTH)
def test_another_server_judges_alike(series: str) -> None:
    """By the driver imap."""
    if reason := why_not(series):
        pytest.skip(reason)
    if "AUTHLUA_DIFFERENTIAL" not in os.environ:
        pytest.skip("`make differential` tries it; it takes seconds")
    users = ("ok", "down", "bad")

    def ask(server: Server) -> list[str]:
        with AuthClient(server) as client:
            return client.login_all([(f"{user}@example.com", "x", "") for user in users])

    with ImapServer() as judge:
        passdb = {
            "2.3": f"passdb {{\n  driver = imap\n  args = host=127.0.0.1 port={judge.port} username=%n\n}}\n",
            "2.4": f"passdb imap {{\n  imapc_host = 127.0.0.1\n  imapc_port = {judge.port}\n"
            "  imapc_user = %{user | username}\n}\n",
        }[series]
        more = "" if series == "2.3" else "auth_internal_failure_delay = 0\n"
        said = answered_alike(series, f"auth_failure_delay = 0\n{more}{passdb}", {}, ask)
    assert [reply.split("\t")[0] for reply in said] == ["OK", "FAIL", "FAIL"]


def authlua(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "authlua", *arguments], capture_output=True, text=True, timeout=60)
