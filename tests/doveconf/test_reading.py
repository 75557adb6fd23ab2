"""What `doveconf -n` prints, as an authlua.toml: each setting of auth has its key, or is named."""

import tomllib
from typing import Any

import pytest

from authlua.dialect import Dialect
from authlua.doveconf import describe, read_site, toml_of
from authlua.errors import ConfigError

OLD = "# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf\n"
NEW = "# 2.4.1-4 (7d8c0e5759): /etc/dovecot/dovecot.conf\ndovecot_config_version = 2.4.1\n"


def made(text: str) -> dict[str, Any]:
    """The file that comes of *text*, as TOML reads it."""
    return tomllib.loads(toml_of(read_site(text)))


def left(text: str) -> list[str]:
    """What is not carried over, as it is told."""
    return [describe(one) for one in read_site(text).left]


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("auth_mechanisms = plain login cram-md5", "mechanisms", ["plain", "login", "cram-md5"]),
        ("auth_cache_size = 10 M", "cache_size", "10M"),
        ("auth_cache_ttl = 1 days", "cache_ttl", "1d"),
        ("auth_cache_negative_ttl = 2 weeks", "cache_negative_ttl", "14d"),
        ("auth_failure_delay = 0", "failure_delay", "0s"),
        ("auth_failure_delay = 5 secs", "failure_delay", "5s"),
        ("auth_failure_delay = 3 mins", "failure_delay", "3m"),
        ("auth_policy_server_timeout_msecs = 1500", "policy_server_timeout", "1500ms"),
        ("auth_policy_hash_truncate = 8", "policy_hash_truncate", 8),
        ("auth_policy_reject_on_fail = yes", "policy_reject_on_fail", True),
        ("auth_verbose = yes", "verbose", True),
        ("auth_verbose_passwords = sha1:6", "verbose_passwords", "sha1:6"),
        ("auth_default_realm = example.com", "default_realm", "example.com"),
        ("auth_realms = a b", "realms", ["a", "b"]),
        ('auth_master_user_separator = "#"', "master_user_separator", "#"),
        ('auth_username_translation = "\\"a"', "username_translation", '"a'),
        ("auth_username_chars = ", "username_chars", ""),
        ("auth_username_format = %Ln", "username_format", "%Ln"),
        ("auth_proxy_self = 192.0.2.1 192.0.2.2", "proxy_self", ["192.0.2.1", "192.0.2.2"]),
        ("auth_ssl_username_from_cert = yes", "ssl_username_from_cert", True),
        ("first_valid_uid = 1000", "first_valid_uid", 1000),
        (
            "auth_policy_request_attributes = login=%u net/ip=%{rip}",
            "policy_request_attributes",
            {"login": "%u", "net/ip": "%{rip}"},
        ),
    ],
)
def test_settings_of_auth_have_their_keys(line: str, key: str, value: object) -> None:
    """Without the prefix, in the units of TOML."""
    assert value == made(OLD + line)["auth"][key]


def test_what_is_not_printed_is_dovecots_default() -> None:
    """Which for mechanisms is not ours."""
    assert made(OLD) == {"server": {"dialect": "2.3"}, "auth": {"mechanisms": ["plain"]}}


def test_settings_with_another_place() -> None:
    """Workers are Lua's, and debugging needs a log that shows it."""
    text = OLD + "auth_worker_max_count = 5\nauth_debug = yes\nauth_stats = no\n"
    found = made(text)
    assert (found["lua"], found["log"]) == ({"worker_max": 5}, {"level": "debug"})
    assert left(text) == []


PASSDB = "passdb {\n%s\n}\n"
USERDB = "userdb {\n%s\n}\n"


@pytest.mark.parametrize(
    ("block", "table"),
    [
        ("driver = static\nargs = nopassword=y a=%d b", {"fields": {"nopassword": "y", "a": "%d", "b": ""}}),
        (
            "driver = passwd-file\nargs = username_format=%n scheme=SHA1 /etc/%d/users",
            {"file": "/etc/%d/users", "scheme": "SHA1", "username_format": "%n"},
        ),
        ("driver = passwd-file\nargs = /etc/my users", {"file": "/etc/my users"}),
        ("driver = pam\nargs = cache_key=%u%r setcred=yes max_requests=5 *", {"service": "%Ls", "cache_key": "%u%r"}),
        ("driver = pam\nargs = session=no failure_show_msg=no mail", {"service": "mail"}),
        ("driver = pam", {}),
        ("driver = passwd\nargs = blocking=no", {}),
        (
            "driver = lua\nargs = file=/a.lua blocking=no cache_key=%u%s scheme=CRYPT",
            {"script": "/a.lua", "use_worker": False, "cache_key": "%u%s", "scheme": "CRYPT"},
        ),
        ("driver = static\nargs = a\nname = first\ndeny = yes", {"fields": {"a": ""}, "name": "first", "deny": True}),
        ("driver = static\nargs = a\nname = \npass = no", {"fields": {"a": ""}}),
        (
            "driver = pam\nmaster = yes\npass = yes\nskip = authenticated\nresult_failure = return-fail",
            {"master": True, "result_success": "continue", "skip": "authenticated", "result_failure": "return-fail"},
        ),
        (
            "driver = pam\nmechanisms = plain none\nusername_filter = *@a, !b@a\nauth_verbose = no",
            {"mechanisms": ["plain", "none"], "username_filter": ["*@a", "!b@a"], "auth_verbose": False},
        ),
        (
            "driver = pam\ndefault_fields = a=b  c:protected=%u\noverride_fields = d=e=f",
            {"default_fields": {"a": "b", "c:protected": "%u"}, "override_fields": {"d": "e=f"}},
        ),
    ],
)
def test_a_passdb_of_2_3(block: str, table: dict[str, object]) -> None:
    """Each driver has a grammar of its own for ``args``."""
    text = OLD + PASSDB % block
    (passdb,) = made(text)["passdb"]
    del passdb["driver"]
    assert (table, []) == (passdb, left(text))


@pytest.mark.parametrize(
    ("block", "table"),
    [
        (
            "driver = static\nargs = uid=5 home=/srv/%n allow_all_users=yes",
            {"fields": {"uid": "5", "home": "/srv/%n"}, "allow_all_users": True},
        ),
        (
            "driver = passwd\nargs = blocking=no home=/x\noverride_fields = b=c",
            {"override_fields": {"home": "/x", "b": "c"}},
        ),
        ("driver = prefetch", {}),
        ("driver = passwd-file\nargs = username_format=%n /users", {"file": "/users", "username_format": "%n"}),
        ("driver = lua\nargs = file=/a.lua", {"script": "/a.lua"}),
        (
            "driver = passwd\nskip = found\nresult_internalfail = return",
            {"skip": "found", "result_internalfail": "return"},
        ),
    ],
)
def test_a_userdb_of_2_3(block: str, table: dict[str, object]) -> None:
    """What stands behind passwd is set after the lookup."""
    text = OLD + USERDB % block
    (userdb,) = made(text)["userdb"]
    del userdb["driver"]
    assert (table, []) == (userdb, left(text))


def test_passdbs_with_the_same_arguments_are_one_to_dovecot() -> None:
    """So the filters of the first are those of all."""
    text = OLD + PASSDB % "driver = pam\nmechanisms = plain" + PASSDB % "driver = pam\nmechanisms = login\nmaster = yes"
    assert [passdb["mechanisms"] for passdb in made(text)["passdb"]] == [["plain"], ["plain"]]
    (told,) = left(text)
    assert told.startswith("8: passdb pam: mechanisms: Dovecot ignores it, as an earlier passdb on line 2 has")


@pytest.mark.parametrize(
    ("block", "table"),
    [
        (
            "passwd-file {\n passwd_file_path = /u\n auth_username_format = %{user | upper}\n"
            " passdb_default_password_scheme = sha256\n}",
            {"driver": "passwd-file", "file": "/u", "username_format": "%{user | upper}", "scheme": "sha256"},
        ),
        ("static {\n passdb_static_password = x\n}", {"driver": "static", "fields": {"password": "x"}}),
        (
            'masters {\n driver = static\n fields {\n  "a b" = c\n  user = \n }\n master = yes\n}',
            {"driver": "static", "name": "masters", "fields": {"a b": "c", "user": ""}, "master": True},
        ),
        ("pam {\n service_name = imap\n session = no\n}", {"driver": "pam", "service": "imap"}),
        (
            "lua {\n lua_file = /a\n use_worker = no\n lua_settings {\n  x = y\n }\n passdb_fields {\n  a = b\n }\n}",
            {
                "driver": "lua",
                "script": "/a",
                "use_worker": False,
                "settings": {"x": "y"},
                "default_fields": {"a": "b"},
                "scheme": "PLAIN",
            },
        ),
        (
            "pam {\n mechanisms_filter = plain lookup\n result_success = continue-ok\n fields {\n  a = %{user}\n }\n}",
            {
                "driver": "pam",
                "mechanisms": ["plain", "lookup"],
                "result_success": "continue-ok",
                "override_fields": {"a": "%{user}"},
            },
        ),
    ],
)
def test_a_passdb_of_2_4(block: str, table: dict[str, object]) -> None:
    """Long and short names are the same setting; a script sees the fields, other drivers are overridden by them."""
    text = f"{NEW}passdb {block}\n"
    assert ([table], []) == (made(text)["passdb"], left(text))


def test_what_is_said_for_all_passdbs_of_2_4() -> None:
    """Settings outside of the blocks count where a block says nothing else; those of other drivers do not."""
    text = (
        NEW
        + "passdb_default_password_scheme = SHA1\nauth_username_format = %{user | upper}\npassdb_fields {\n a = b\n}\n"
        "passdb_static {\n password = x\n}\nuserdb_static {\n allow_all_users = yes\n}\n"
        "passdb passwd-file {\n path = /u\n}\npassdb static {\n fields {\n  c = d\n }\n}\nuserdb static {\n}\n"
    )
    found = made(text)
    assert found["passdb"] == [
        {
            "driver": "passwd-file",
            "file": "/u",
            "scheme": "SHA1",
            "username_format": "%{user | upper}",
            "override_fields": {"a": "b"},
        },
        {"driver": "static", "scheme": "SHA1", "fields": {"password": "x", "a": "b", "c": "d"}},
    ]
    assert found["userdb"] == [{"driver": "static", "allow_all_users": True}]
    assert left(text) == []


def test_groups_of_settings_are_settings() -> None:
    """2.4 prints them in blocks."""
    text = (
        NEW
        + "auth_default_domain = x\nauth_policy {\n server_url = http://x/\n hash_nonce = n\n request_attributes {\n"
        "  login = %{user}\n }\n http_client_request_absolute_timeout = 3s\n}\n"
    )
    assert made(text)["auth"] == {
        "mechanisms": ["plain"],
        "default_realm": "x",
        "policy_server_url": "http://x/",
        "policy_hash_nonce": "n",
        "policy_server_timeout": "3s",
        "policy_request_attributes": {"login": "%{user}"},
    }


@pytest.mark.parametrize(
    ("version", "scheme"), [("2.4.0", "PLAIN"), ("2.4.2", "PLAIN"), ("2.4.3", "CRYPT"), ("2.4.10", "CRYPT")]
)
def test_a_password_without_scheme_is_what_the_configuration_was_written_for(version: str, scheme: str) -> None:
    """2.4 keeps old defaults for configurations that name an old version."""
    text = f"# 2.4.4 (x): c\ndovecot_config_version = {version}\npassdb passwd-file {{\n passwd_file_path = /u\n}}\n"
    assert scheme == made(text)["passdb"][0]["scheme"]


OAUTH2 = """# a comment
tokeninfo_url = https://x/?token=  # and another
username_format = %Ln
timeout_msecs = 1500
pass_attrs = pass=%{oauth2:pass} a=b
tls_allow_invalid_cert = yes
openid_configuration_url = https://x/openid
rawlog_dir = /tmp
debug = yes
"""


def test_the_file_of_a_passdb_oauth2() -> None:
    """2.3 has its settings elsewhere; they come from there."""
    text = OLD + PASSDB % "driver = oauth2\nargs = /etc/oauth2.conf"
    site = read_site(text, read_file={"/etc/oauth2.conf": OAUTH2}.__getitem__)
    found = tomllib.loads(toml_of(site))
    assert found["passdb"] == [
        {
            "driver": "oauth2",
            "tokeninfo_url": "https://x/?token=",
            "username_validation_format": "%Ln",
            "timeout": "1500ms",
            "fields": {"pass": "%{oauth2:pass}", "a": "b"},
            "ssl_client_require_valid_cert": False,
        }
    ]
    assert found["auth"]["openid_configuration_url"] == "https://x/openid"
    assert [describe(one) for one in site.left] == [
        "4: passdb oauth2: rawlog_dir in /etc/oauth2.conf: the driver oauth2 of authlua has no such setting"
    ]


def test_a_file_that_cannot_be_read() -> None:
    """The configuration may be of another machine."""
    assert left(OLD + PASSDB % "driver = oauth2\nargs = /nosuch/file") == [
        "4: passdb oauth2: args: /nosuch/file cannot be read (No such file or directory), "
        "so its settings are missing here"
    ]


def test_another_imap_server() -> None:
    """In both grammars; what is said of TLS for all counts for it too."""
    args = "host=h port=144 username=%n ssl=starttls ssl_ca_file=/ca allow_invalid_cert=yes"
    wanted = {
        "driver": "imap",
        "host": "h",
        "port": 144,
        "ssl": "starttls",
        "ssl_client_ca_file": "/ca",
        "ssl_client_require_valid_cert": False,
    }
    text = OLD + PASSDB % f"driver = imap\nargs = {args}"
    assert ([{**wanted, "username": "%n"}], []) == (made(text)["passdb"], left(text))
    text = (
        NEW + "ssl_client {\n ca_file = /ca\n}\nimapc {\n features = x\n}\n"
        "passdb imap {\n imapc {\n  host = h\n  port = 144\n"
        "  ssl = starttls\n  user = %{user}\n }\n ssl_client {\n  require_valid_cert = no\n }\n}\n"
    )
    assert ([{**wanted, "username": "%{user}"}], []) == (made(text)["passdb"], left(text))


TOKENS = (
    NEW + "auth_mechanisms = plain xoauth2\noauth2 {\n introspection_mode = local\n client_id = c\n client_secret = s\n"
    " fields {\n  a = %{oauth2:a}\n }\n"
    " oauth2_local_validation {\n  dict fs {\n   fs posix {\n    prefix = /keys/\n   }\n  }\n"
    " }\n}\n"
)
JUDGE = {
    "driver": "oauth2",
    "introspection_mode": "local",
    "client_id": "c",
    "client_secret": "s",
    "local_validation_key_dict": "fs:posix:prefix=/keys/",
    "fields": {"a": "%{oauth2:a}"},
    "mechanisms": ["xoauth2"],
    "result_failure": "return-fail",
    "result_internalfail": "return-fail",
}


def test_the_judge_of_tokens_comes_first() -> None:
    """In 2.4 it is no passdb; with its verdict the password is verified, and the passdbs have their say on the user."""
    static = "passdb static {\n fields {\n  nopassword = yes\n }\n}\n"
    assert made(TOKENS + static)["passdb"][0] == {**JUDGE, "result_success": "continue"}
    assert made(TOKENS)["passdb"] == [JUDGE]
    assert left(TOKENS + static) == []


def test_without_mechanisms_for_tokens_nobody_judges_any() -> None:
    """The block does nothing then."""
    text = TOKENS.replace("plain xoauth2", "plain") + "passdb pam {\n}\n"
    assert made(text)["passdb"] == [{"driver": "pam"}]


def test_a_grant_is_a_passdb_of_its_own() -> None:
    """It takes from the block what it does not say itself."""
    grant = "passdb oauth2 {\n fields {\n  b = c\n }\n"
    grant += " oauth2 {\n  grant_url = https://x/\n  introspection_mode = post\n }\n}\n"
    last = made(TOKENS + grant)["passdb"][-1]
    assert (last["grant_url"], last["introspection_mode"], last["client_id"]) == ("https://x/", "post", "c")
    assert (last["fields"], last["override_fields"]) == ({"a": "%{oauth2:a}"}, {"b": "c"})


def test_without_a_userdb_there_is_one_all_the_same() -> None:
    """Dovecot has a static one without fields then."""
    assert made(OLD + PASSDB % "driver = pam")["userdb"] == [{"driver": "static"}]


SERVICE = OLD + "service auth {\n%s\n}\n"


@pytest.mark.parametrize(
    ("block", "listener"),
    [
        (
            "unix_listener /spool/private/auth {\n mode = 0666\n user = postfix\n group = $default_internal_group\n}",
            {"kind": "client", "path": "/spool/private/auth", "mode": "0666", "user": "postfix", "group": "dovecot"},
        ),
        ("unix_listener auth-exim {\n}", {"kind": "client", "path": "/run/dovecot/auth-exim", "mode": "0600"}),
        ("unix_listener other-master {\n}", {"kind": "master", "path": "/run/dovecot/other-master", "mode": "0600"}),
        ("unix_listener /x/y {\n type = userdb\n}", {"kind": "userdb", "path": "/x/y", "mode": "0600"}),
        (
            "unix_listener token-login/tokenlogin {\n mode = 0600\n}",
            {"kind": "token-login", "path": "token-login", "mode": "0600"},
        ),
        ("inet_listener {\n port = 12345\n}", {"kind": "client", "address": "[::]:12345"}),
        (
            "inet_listener sasl {\n port = 12345\n address = 127.0.0.1\n}",
            {"kind": "client", "name": "sasl", "address": "127.0.0.1:12345"},
        ),
    ],
)
def test_a_listener_more(block: str, listener: dict[str, object]) -> None:
    """Dovecot's own sockets move to our directory; others stay where their clients look for them."""
    *own, last = made(SERVICE % block)["listener"]
    assert last == listener
    assert [one["path"] for one in own] == [
        "login",
        "auth-client",
        "auth-login",
        "auth-userdb",
        "auth-master",
        "control",
    ]


def test_changes_of_dovecots_own_sockets() -> None:
    """Another mode, another owner; mode 0 is no socket at all."""
    block = "unix_listener auth-userdb {\n mode = 0660\n user = vmail\n}\nunix_listener auth-client {\n mode = 0\n}"
    listeners = {one["path"]: one for one in made(SERVICE % block)["listener"]}
    assert listeners["auth-userdb"] == {"kind": "userdb", "path": "auth-userdb", "mode": "0660", "user": "vmail"}
    assert listeners.keys() == {"login", "auth-login", "auth-userdb", "auth-master", "control"}


def test_what_else_services_say() -> None:
    """Who the process is, how many workers there are, and that there is no penalty."""
    text = SERVICE % "user = vmail" + (
        "service auth-worker {\n process_limit = 4\n}\n"
        "service anvil {\n unix_listener anvil-auth-penalty {\n mode = 00\n }\n}\n"
    )
    found = made(text)
    assert (found["server"]["user"], found["lua"], found["auth"]["penalty"]) == ("vmail", {"worker_max": 4}, False)
    assert "listener" not in found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("auth_nonsense = yes", ["2: auth_nonsense: authlua has no such setting"]),
        ("auth_mechanisms = plain skey", ["2: auth_mechanisms: skey: authlua has no such mechanism"]),
        ("auth_verbose = maybe", ["2: auth_verbose: expected yes or no, got 'maybe'"]),
        ("auth_cache_ttl = soon", ["2: auth_cache_ttl: expected a time such as 2 secs, got 'soon'"]),
        ("auth_worker_max_count = many", ["2: auth_worker_max_count: expected a whole number from 1 on"]),
        (
            "auth_debug_passwords = yes",
            [
                "2: auth_debug_passwords: authlua logs no password that is right, not even for debugging; "
                "debug is on instead"
            ],
        ),
        ("auth_stats = yes", ["2: auth_stats: a [[listener]] of kind metrics has such numbers"]),
        (
            PASSDB % "driver = sql\nargs = /etc/sql.conf\ndeny = yes",
            [
                "2: passdb sql: authlua has no such driver; write passdb-sql.lua: ask the database from the script, "
                "with luasql or DBI"
            ],
        ),
        (PASSDB % "driver = pam\nargs = -session", ["4: passdb pam: args -session: authlua only asks PAM"]),
        (PASSDB % "driver = pam\nargs = session=yes x", ["4: passdb pam: args session: authlua only asks PAM"]),
        (
            PASSDB % "driver = lua\nargs = file=/a color=red",
            ["4: passdb lua: args color=red: Dovecot's driver lua knows"],
        ),
        (
            PASSDB % 'driver = lua\nargs = file="/a b.lua" blocking=maybe',
            [
                "4: passdb lua: args b.lua\": Dovecot's driver lua knows no such argument",
                "4: passdb lua: args blocking: expected yes or no, got 'maybe'",
            ],
        ),
        (
            PASSDB % "driver = pam\nwhat = ever",
            ["4: passdb pam: what: not a setting of Dovecot 2.3 that authlua knows"],
        ),
        (
            "protocol lmtp {\n auth_username_format = %Ln\n mail_plugins = x\n passdb {\n driver = pam\n }\n}",
            ["3: protocol lmtp: auth_username_format: authlua has one", "5: protocol lmtp: passdb: authlua has one"],
        ),
        (
            SERVICE.removeprefix(OLD) % "inet_listener x {\n port = 1\n ssl = yes\n}",
            ["3: inet_listener x: ssl: listeners"],
        ),
    ],
)
def test_what_cannot_be_carried_over_is_named(text: str, told: list[str]) -> None:
    """With its line, and why; in the file there is a comment about each."""
    found = left(OLD + text)
    assert len(told) == len(found)
    assert [line.startswith(start) for start, line in zip(told, found, strict=True)] == [True] * len(told)
    assert len(told) == toml_of(read_site(OLD + text)).count("# NOT CARRIED OVER")


def test_what_2_4_says_and_authlua_cannot() -> None:
    """In the words of 2.4."""
    text = (
        NEW + "passdb pam {\n session = yes\n use_cache = no\n fields {\n  a = %{user | {\n }\n}\n"
        "userdb ldap {\n}\nprotocol lmtp {\n userdb x {\n }\n}\n"
        "passdb static {\n nosuch = 1\n}\n"
    )
    assert [line.rsplit(": ", 1)[0] for line in left(text)] == [
        "4: passdb pam: session",
        "5: passdb pam: use_cache",
        "7: passdb pam: override_fields a",
        "10: userdb ldap: authlua has no such driver; write userdb-ldap.lua",
        "13: protocol lmtp: userdb x",
        "17: passdb static: nosuch",
    ]


def test_a_database_that_there_is_not_keeps_its_place() -> None:
    """As a script that is to be written: without it, whom a deny passdb keeps out would get in."""
    (passdb,) = made(OLD + PASSDB % "driver = ldap\nargs = /etc/ldap.conf\ndeny = yes\nusername_filter = *@x")["passdb"]
    assert passdb == {
        "driver": "lua",
        "name": "ldap",
        "script": "passdb-ldap.lua",
        "deny": True,
        "username_filter": ["*@x"],
    }


def test_a_filter_without_a_known_mechanism_lets_nobody_through() -> None:
    """An empty list would be all of them."""
    assert made(OLD + PASSDB % "driver = pam\nmechanisms = skey")["passdb"][0]["mechanisms"] == ["none"]


def test_what_is_not_of_auth_is_only_named() -> None:
    """Settings of other processes about auth are, too; the same setting for all protocols is nothing to tell."""
    text = (
        OLD
        + "auth_username_format = %Ln\nauth_socket_path = x\ndisable_plaintext_auth = no\nmail_location = maildir:~\n"
        "plugin {\n quota = x\n}\nservice imap {\n}\nprotocol lmtp {\n auth_username_format = %Ln\n}\n"
        "local_name x {\n ssl_cert = </x\n}\n"
    )
    site = read_site(text)
    assert (
        site.elsewhere,
        site.left,
    ) == (
        ["auth_socket_path", "disable_plaintext_auth", "mail_location", "plugin", "service imap", "local_name x"],
        [],
    )


HIDDEN_2_3 = "#hidden_use-P_to_show#"
HIDDEN = "# hidden, use -P to show it"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{OLD}auth_policy_hash_nonce = {HIDDEN}\nssl_key = {HIDDEN}\n", ["line 2: auth_policy_hash_nonce"]),
        (OLD + PASSDB % f"args = password={HIDDEN_2_3} a=b\ndriver = static", ["line 3: passdb static: password"]),
        (OLD + PASSDB % f"args = cache_key={HIDDEN_2_3} x\ndriver = pam", ["line 3: passdb pam: cache_key"]),
        (
            f"{NEW}auth_policy {{\n hash_nonce = {HIDDEN}\n}}\npassdb static {{\n password = {HIDDEN}\n}}\n",
            ["line 4: auth_policy_hash_nonce", "line 7: passdb static: password"],
        ),
        (
            f"{NEW}passdb lua {{\n lua_file = /x\n lua_settings {{\n  api_key = {HIDDEN}\n }}\n}}\n",
            ["line 6: passdb lua: api_key"],
        ),
    ],
)
def test_what_doveconf_hides_is_asked_for(text: str, told: list[str]) -> None:
    """A server with half a password helps nobody; other secrets do not matter."""
    with pytest.raises(ConfigError) as caught:
        read_site(text)
    assert caught.value.problems == (
        *(f"{one}: doveconf has hidden the value" for one in told),
        "give what `doveconf -nP` prints, which shows passwords and keys",
    )


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ("expected what `doveconf -n` prints: neither its first line nor a passdb tells which Dovecot",)),
        (OLD + "garbage\n}\n", ("line 2: ", "line 3: ")),
        (OLD + "passdb {\n", ("line 2: passdb { has no end",)),
        ("!include conf.d/*.conf\n", ("line 1: !include is for Dovecot to resolve, give what `doveconf -n` prints",)),
        ("doveconf: Fatal: Error in configuration file\n", ('line 1: expected "name = value"',)),
    ],
)
def test_what_is_no_such_text_is_refused(text: str, problems: tuple[str, ...]) -> None:
    """With each line that is none of it."""
    with pytest.raises(ConfigError) as caught:
        read_site(text)
    assert [True] * len(problems) == [
        told.startswith(start) for told, start in zip(caught.value.problems, problems, strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        (OLD, Dialect.V2_3),
        ("# 2.2.36 (1f10bfa63): c\n", Dialect.V2_3),
        ("# 2.4.0 (x): c\n", Dialect.V2_4_0),
        (NEW, Dialect.V2_4),
        ("# a comment of mine\npassdb {\n driver = pam # why not\n}\n", Dialect.V2_3),
        ("passdb pam {\n}\n", Dialect.V2_4),
        ("dovecot_config_version = 2.4.1\n", Dialect.V2_4),
        ("doveconf: Warning: whatever\n" + PASSDB % "driver = pam", Dialect.V2_3),
    ],
)
def test_the_text_tells_which_dovecot_it_is_of(text: str, dialect: Dialect) -> None:
    """By its first line, else by its grammar."""
    assert read_site(text).dialect is dialect


def test_who_knows_better_may_say_which_dovecot_it_is() -> None:
    """For a text without either."""
    assert read_site("auth_verbose = yes\n", Dialect.V2_4).dialect is Dialect.V2_4
