"""The configuration: what is accepted, what is told about the rest, and that the manual says the same."""

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authlua.config import (
    DURATION,
    REQUIRED,
    SECTIONS,
    SIZE,
    Context,
    Settings,
    as_toml,
    embedded,
    filtered_mechanisms,
    keys,
    load,
    toml_text,
)
from authlua.dialect import Dialect
from authlua.errors import ConfigError
from authlua.passwords import LIMITS
from authlua.sasl import MECHS

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "conf" / "authlua.toml"
MANUAL = ROOT / "docs" / "reference" / "authlua.toml.5.md"

OFFERED = ", ".join(MECHS).lower()

BASE = """
[[passdb]]
script = "auth.lua"
[[userdb]]
script = "auth.lua"
"""


@pytest.fixture
def config(tmp_path):
    """Writes a file beside an empty script and loads it."""
    (tmp_path / "auth.lua").touch()

    def read(text: str) -> Settings:
        path = tmp_path / "authlua.toml"
        path.write_text(text)
        return load(path)

    return read


@pytest.fixture
def problems(config):
    """What is wrong with a text, without the file's name."""

    def read(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            config(text)
        assert all(problem.split(": ", 1)[0].endswith("authlua.toml") for problem in caught.value.problems)
        return [problem.split(": ", 1)[1] for problem in caught.value.problems]

    return read


def test_a_script_alone_is_served_with_all_defaults(tmp_path):
    """Without a file, the script is passdb and userdb, and Dovecot's own sockets are in the base directory."""
    script = tmp_path / "auth.lua"
    script.touch()
    settings = embedded(script, tmp_path / "run")
    assert settings.path is None
    assert ([script], [script]) == ([p.script for p in settings.passdbs], [u.script for u in settings.userdbs])
    assert {
        str(listener.path.relative_to(tmp_path / "run")): (listener.kind, listener.mode)
        for listener in settings.listeners
        if listener.path is not None
    } == {
        "login": ("login", 0o666),
        "auth-client": ("client", 0o600),
        "auth-login": ("login", 0o600),
        "auth-userdb": ("userdb", 0o666),
        "auth-master": ("master", 0o600),
        "control": ("control", 0o600),
    }


def test_paths_start_at_the_file_and_listeners_at_base_dir(config, tmp_path):
    """A configuration works the same from wherever the command is started."""
    settings = config(BASE + '[server]\nbase_dir = "run"\n[lua]\npath = ["lib/?.lua"]\n')
    assert tmp_path / "auth.lua" == settings.passdbs[0].script
    assert tmp_path / "run" / "login" == settings.listeners[0].path
    assert (str(tmp_path / "lib/?.lua"),) == settings.lua.path


def test_all_problems_are_told_at_once(problems):
    """An admin corrects a file in one go: each line names the key, what is accepted and what came."""
    assert [
        re.sub(r"/\S*/(?=nosuch)", ".../", problem)
        for problem in problems(
            """
            [sever]
            [log]
            level = "loud"
            [auth]
            failure_delay = "soon"
            mechanisms = ["plan"]
            verbos = true
            [[passdb]]
            script = "auth.lua"
            skip = "always"
            [[userdb]]
            [[userdb]]
            script = "nosuch.lua"
            use_worker = 1
            """
        )
    ] == [
        "sever: unknown section, did you mean server?",
        'log.level: expected one of debug, info, warning, error, got "loud"',
        'auth.failure_delay: expected a time such as "500ms", "2s", "5m" or "1h", or a number of seconds, got "soon"',
        f'auth.mechanisms: expected a list of mechanisms out of {OFFERED}, got ["plan"]',
        "auth.verbos: unknown key, did you mean verbose?",
        'passdb.skip: expected one of never, authenticated, unauthenticated, got "always"',
        "userdb[2].use_worker: expected true or false, got 1",
        "userdb[1].script: missing, and driver lua cannot do without it",
        "userdb[2].script: no such file: .../nosuch.lua",
    ]


CLIENT = "[[listener]]\nkind = 'client'\n"
TCP = "address = '[::1]:9'\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[auth]\npolicy_server_url = 'x'\npolicy_hash_nonce = 'x'",
            "auth.policy_server_url: expected a web address (Relative HTTP URL not allowed)",
        ),
        (
            "[auth]\npolicy_server_url = 'http://x/'",
            "auth.policy_hash_nonce: a policy server needs one, a random text that stays secret",
        ),
        ("[lua]\nworker_max = 0", "lua.worker_max: expected a whole number from 1 on, got 0"),
        ("[auth]\nfirst_valid_uid = -1", "auth.first_valid_uid: expected a whole number from 0 to 4294967294, got -1"),
        (
            "[auth]\npolicy_hash_truncate = 513",
            "auth.policy_hash_truncate: expected a whole number from 0 to 512, got 513",
        ),
        ("[auth]\nworker_max_count = 5", "auth.worker_max_count: unknown key, did you mean lua.worker_max?"),
        ("[auth]\nmemory_limit = '1G'", "auth.memory_limit: unknown key, it belongs into [lua]"),
        ("[auth]\nauth_verbose = true", "auth.auth_verbose: unknown key, did you mean verbose?"),
        (
            "[[passdb]]\ndriver = 'passwd'\nmechanisms_filter = ['plain']",
            "passdb[2].mechanisms_filter: unknown key, did you mean mechanisms?",
        ),
        (
            "[[passdb]]\ndriver = 'imap'\nhost = 'h'\nport = 65536",
            "passdb[2].port: expected a whole number from 0 to 65535, got 65536",
        ),
        (
            "[auth]\npolicy_hash_mech = 'rot13'",
            "auth.policy_hash_mech: expected one of md5, sha1, sha224, sha256, sha384, sha512, sha3-256, sha3-512, "
            'got "rot13"',
        ),
        ("[[passdb]]\nscript = '/'", "passdb[2].script: expected a file: /"),
        ("[mail]\nscript = '/dev/null/x.lua'", "mail.script: /dev/null/x.lua: Not a directory"),
        (CLIENT, "listener: needs a path or an address, one of the two"),
        (f"{CLIENT}path = 'a'\n{TCP}", "listener: needs a path or an address, one of the two"),
        (f"{CLIENT}{TCP}mode = '0600'", "listener: mode, user and group belong to a path, not to an address"),
        (
            f"{CLIENT}path = 'a'\nmode = 660",
            'listener.mode: expected an octal file mode as text, such as "0660", got 660',
        ),
        (
            f"[[listener]]\nkind = 'control'\n{TCP}",
            "listener.address: control is for a unix socket only, give a path",
        ),
        (
            f"{CLIENT}address = '12345'",
            'listener.address: expected an address and a port such as "127.0.0.1:12345" or "[::1]:12345", got "12345"',
        ),
        (f"{CLIENT}path = 'a'\ngroup = 'nosuch'", "listener.group: this machine knows no group 'nosuch'"),
        ("[server]\nuser = 'nosuch'", "server.user: this machine knows no user 'nosuch'"),
        ("listener = 1", "listener: expected [[listener]] in double brackets, one for each listener"),
        ("log = 1", "log: expected a table of keys, got 1"),
        ("[server]\ndialect = '2.2'", 'server.dialect: expected one of 2.3, 2.4.0, 2.4, got "2.2"'),
        ("[auth]\nmechanisms = []", f"auth.mechanisms: expected at least one mechanism out of {OFFERED}, got []"),
        (
            "[auth]\nmechanisms = ['scram-sha-256-plus']",
            'auth.mechanisms: scram-sha-256-plus needs server.dialect = "2.4"',
        ),
        (
            "[server]\ndialect = '2.4'\n[auth]\nmechanisms = ['scram-sha-1-plus']",
            'auth.mechanisms: scram-sha-1-plus is offered only by a [[listener]] with handshake = "late"',
        ),
        (
            "[auth]\nmechanisms = ['external']",
            "auth.mechanisms: external needs auth.ssl_username_from_cert = true",
        ),
        ("[auth]\nmechanisms = ['ntlm']", "auth.mechanisms: ntlm needs auth.use_winbind = true"),
        (
            "[auth]\nmechanisms = ['gss-spnego']\nuse_winbind = true\nwinbind_helper_path = '/nosuch'",
            "auth.mechanisms: gss-spnego needs Samba's helper, and /nosuch is missing",
        ),
        (
            "[auth]\nmechanisms = ['anonymous']\nanonymous_username = ''",
            "auth.mechanisms: anonymous needs an auth.anonymous_username",
        ),
        (
            "[[userdb]]\ndriver = 'static'\nfields = { uid = 'nobody-here', gid = '5000', home = '/%u' }\n",
            "userdb[2].fields.uid: this machine knows no uid 'nobody-here'",
        ),
        (
            "default_fields = { 'gid:protected' = 'nobody-here', uid = '%n' }\n",
            "userdb.default_fields.gid: this machine knows no gid 'nobody-here'",
        ),
        (
            "[auth]\nverbose_passwords = 'md5'",
            "auth.verbose_passwords: expected no, plain or sha1, "
            'the last two also with a length such as sha1:6, got "md5"',
        ),
    ],
)
def test_each_mistake_has_its_line(problems, text, problem):
    """What is not available yet is refused, never ignored; what does not fit together is told."""
    assert [problem] == problems(text + BASE if text.startswith(("listener", "log =")) else BASE + text)


@pytest.mark.parametrize("key", ["deny = true", "master = true", "mechanisms = ['plain']", "username_filter = ['a']"])
def test_a_userdb_is_not_chosen_as_a_passdb_is(problems, key):
    """It has `skip` alone."""
    (problem,) = problems(f"{BASE}{key}\n")
    assert problem.startswith(f"userdb.{key.partition(' ')[0]}: unknown key")


@pytest.mark.parametrize(
    ("mechanisms", "problem"),
    [
        ("plain", "auth.mechanisms: cram-md5 is left out by the mechanisms of every [[passdb]]"),
        ("cram-md5", "auth.mechanisms: cram-md5 needs stored passwords, and the driver pam has none"),
    ],
)
def test_a_mech_needs_a_passdb_that_can_serve_it(problems, mechanisms, problem):
    """As Dovecot's start-up check, and a filter counts too."""
    passdb = f"[[passdb]]\ndriver = 'pam'\nmechanisms = ['login', '{mechanisms}']\n"
    userdb = "[[userdb]]\nscript = 'auth.lua'\n"
    assert [problem] == problems(f"[auth]\nmechanisms = ['cram-md5', 'login']\n{passdb}{userdb}")


@pytest.mark.parametrize(
    ("words", "in_2_3", "in_2_4"),
    [
        ([], ["PLAIN", "LOOKUP"], ["PLAIN", "LOOKUP"]),
        (["plain"], ["PLAIN"], ["PLAIN"]),
        (["none"], [], []),
        (["LOGIN", "none"], ["LOOKUP"], []),
        (["Plain", "None"], ["PLAIN", "LOOKUP"], ["PLAIN"]),
        (["lookup"], ["LOOKUP"], ["LOOKUP"]),
    ],
)
def test_what_a_filter_of_mechanisms_lets_through(config, words, in_2_3, in_2_4):
    """In any case. 2.3 calls lookups without a mech none, which alone means nothing at all; 2.4 calls them lookup."""
    for dialect, expected in ((Dialect.V2_3, in_2_3), (Dialect.V2_4, in_2_4)):
        text = f"[server]\ndialect = '{dialect}'\n[auth]\nmechanisms = ['plain']\n{BASE}"
        more = f"[[passdb]]\nscript = 'auth.lua'\nmechanisms = {words}\n"
        passdb = config(text + more).passdbs[1]
        names = filtered_mechanisms(passdb.mechanisms, dialect)
        assert [mech for mech in ("PLAIN", "LOOKUP") if not names or mech in names] == expected


def test_what_waits_by_default(config):
    """A call for a minute, a request for two and a half, an internal failure for two seconds; scripts have workers."""
    settings = config(BASE)
    assert (settings.lua.timeout, settings.server.request_timeout) == (60, 150)
    assert (settings.auth.failure_delay, settings.auth.internal_failure_delay) == (2, 2)
    assert [one.use_worker for one in (*settings.passdbs, *settings.userdbs)] == [True, True]


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("pass = true", 'result_success = "continue"'),
        ("mechanisms_filter = ['plain']", "mechanisms"),
        ("default_password_scheme = 'PLAIN'", "scheme"),
    ],
)
def test_words_of_dovecot_are_pointed_out(problems, line, meant):
    """A passdb has one name for each thing."""
    text = f"[[passdb]]\nscript = 'auth.lua'\nresult_success = 'return-ok'\n{line}\n[[userdb]]\nscript = 'auth.lua'\n"
    assert problems(text) == [f"passdb.{line.partition(' ')[0]}: unknown key, did you mean {meant}?"]


def test_otp_needs_a_passdb_that_stores(problems, config):
    """Only a script can; whether it does is seen when it is loaded."""
    text = "[auth]\nmechanisms = ['otp']\n[[passdb]]\ndriver = 'static'\nfields = { nopassword = 'y' }\n"
    assert problems(text + "[[userdb]]\nscript = 'auth.lua'\n") == [
        "auth.mechanisms: otp needs a passdb that stores passwords: a script with auth_passdb_set_credentials"
    ]
    config("[auth]\nmechanisms = ['otp']\n" + BASE)


def test_the_chain_must_be_able_to_decide(problems):
    """Dovecot's own start-up checks: the last passdb decides, a master that goes on needs somewhere to go."""
    last = BASE + "[[passdb]]\nscript = 'auth.lua'\nresult_success = 'continue'\n"
    assert problems(last) == [
        'passdb.result_success: the last passdb cannot be "continue": nothing would decide the login'
    ]
    alone = (
        "[[passdb]]\nscript = 'auth.lua'\nmaster = true\nresult_success = 'continue'\n[[userdb]]\nscript = 'auth.lua'\n"
    )
    assert 'passdb.result_success: a master passdb with "continue" needs a passdb that is not master' in problems(alone)
    both = BASE + "[[passdb]]\nscript = 'auth.lua'\nmaster = true\ndeny = true\n"
    assert problems(both) == ["passdb[2]: master and deny exclude each other"]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("driver = 'passwd-file'", "file: missing, and driver passwd-file cannot do without it"),
        ("driver = 'static'\nfile = 'x'", "file: not for driver static, only for passwd-file"),
        ("driver = 'static'\nscript = 'auth.lua'", "script: not for driver static, only for lua"),
        ("script = 'auth.lua'\nfields = { a = 'b' }", "fields: not for driver lua, only for static"),
        ("driver = 'passwd-file'\nfile = 'x'\ncache_key = '%n'", "cache_key: not for driver passwd-file, only for "),
        ("driver = 'sql'", 'driver: expected one of lua, static, passwd-file, passwd, pam, imap, oauth2, got "sql"'),
    ],
)
def test_a_driver_has_the_keys_it_needs_and_no_others(problems, more, problem):
    """What a driver would not look at is not accepted beside it."""
    told = problems(f"[[passdb]]\n{more}\n[[userdb]]\ndriver = 'passwd'\n")
    assert told[0].startswith("passdb." + problem)


def test_a_password_in_fields_is_not_shown(config):
    """``static`` may have one for everybody."""
    settings = config(
        "[[passdb]]\ndriver = 'static'\nfields = { password = 'swordfish' }\n[[userdb]]\ndriver = 'passwd'\n"
    )
    assert settings.passdbs[0].fields == (("password", "swordfish"),)
    assert "swordfish" not in toml_text(settings) + repr(settings)


def test_a_file_is_found_from_the_configuration_whatever_its_name(config, tmp_path):
    """Variables are for the part that is written, a percent sign in the directory is one."""
    settings = config("[[passdb]]\ndriver = 'passwd-file'\nfile = '%d/users'\n[[userdb]]\ndriver = 'passwd'\n")
    assert settings.passdbs[0].file == f"{str(tmp_path).replace('%', '%%')}/%d/users"


def test_listeners_need_their_databases(problems):
    """A socket that could answer nothing is not opened."""
    assert problems(
        "\n".join(f"[[listener]]\nkind = '{kind}'\npath = '{kind}'" for kind in ("client", "userdb", "master"))
    ) == [
        "listener[1]: kind client needs a [[passdb]] that is not master",
        "listener[2]: kind userdb needs a [[userdb]]",
        "listener[3]: kind master needs a [[userdb]]",
    ]


def test_two_listeners_cannot_have_one_path(problems):
    """The path counts, however it is written."""
    text = f"[server]\nbase_dir = '/x'\n{CLIENT}path = 'a'\n{CLIENT}path = '/x/a'"
    assert problems(BASE + text) == ["listener[2]: /x/a is already listener[1]"]


def test_an_alias_is_the_same_key(config, problems):
    """``blocking`` is Dovecot 2.3's word for ``use_worker``; both at once are one too many."""
    passdb = "[[passdb]]\nscript = 'auth.lua'\nblocking = false\n"
    userdb = "[[userdb]]\nscript = 'auth.lua'\n"
    assert config(passdb + userdb).passdbs[0].use_worker is False
    assert problems(passdb + "use_worker = true\n" + userdb) == [
        "passdb.use_worker: another name of blocking, give one of the two"
    ]


def test_who_shares_a_script_wants_the_same_of_it(config, problems):
    """They have one Lua state; who does not share is free."""
    one = "script = 'auth.lua'\nshare = true\nsettings = { a = 'b' }\n"
    other = "script = 'auth.lua'\nshare = true\nuse_worker = false\ndialect = '2.4'\nauth_verbose = true\n"
    assert config(f"[[passdb]]\n{one}[[userdb]]\n{one}").userdbs[0].share is True
    assert config(f"[[passdb]]\n{one}[[userdb]]\n{other.replace('share = true', 'share = false')}")
    assert problems(f"[[passdb]]\n{one}[[passdb]]\n{one}[[userdb]]\n{other}") == [
        f"userdb.{name}: must be that of passdb[1], which shares auth.lua"
        for name in ("dialect", "use_worker", "settings", "auth_verbose")
    ]


def test_defaults_follow_the_dialect(config):
    """Where 2.4 has another default, a server that speaks 2.4 has it too."""
    old, new = config(BASE), config(BASE + "[server]\ndialect = '2.4'")
    assert (old.auth.username_format, old.auth.allow_weak_schemes, old.passdbs[0].cache_key) == ("%Lu", True, "%u")
    assert (
        new.auth.username_format,
        new.auth.allow_weak_schemes,
        new.passdbs[0].cache_key,
    ) == ("%{user | lower}", False, "")


def test_templates_are_read_in_the_dialect_of_the_server(config, problems):
    """A template that only the other Dovecot understands is a mistake here."""
    assert (
        config(BASE + "[server]\ndialect = '2.4'\n[auth]\nusername_format = '%{user | upper}'").auth.username_format
        == "%{user | upper}"
    )
    [problem] = problems(BASE + "[server]\ndialect = '2.4'\n[auth]\nusername_format = '%{user'")
    assert problem.startswith("auth.username_format: expected a template of Dovecot 2.4 (")


def test_fields_keep_their_order(config):
    """Numbers may be written as numbers."""
    settings = config(BASE + "default_fields = { uid = 5000, 'home:protected' = '/srv/%u' }")
    assert settings.userdbs[0].default_fields == (("uid", "5000"), ("home:protected", "/srv/%u"))


def test_a_file_that_is_not_there_or_not_toml_is_a_config_error(tmp_path):
    """The line says which file, and where TOML went wrong."""
    with pytest.raises(ConfigError, match=r"nosuch\.toml: No such file or directory"):
        load(tmp_path / "nosuch.toml")
    (tmp_path / "bad.toml").write_text("[auth\n")
    with pytest.raises(ConfigError, match=r"bad\.toml: not a TOML file: .*line 1"):
        load(tmp_path / "bad.toml")
    (tmp_path / "bad.toml").write_text("[auth]\nverbose = yes\n")
    with pytest.raises(ConfigError, match=r"line 2.*; TOML has true and false, and texts in quotes$"):
        load(tmp_path / "bad.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"bad\.toml: not a TOML file"):
        load(tmp_path / "bad.toml")


def test_what_is_printed_loads_as_the_same_settings(config):
    """``authlua config`` prints a configuration that means what is in effect."""
    settings = config(
        BASE + "override_fields = { quota = '1G' }\n[auth]\nfailure_delay = '1.5s'\n[server]\ndialect = '2.4'"
    )
    assert config(toml_text(settings)) == settings


def test_secrets_are_neither_printed_nor_shown(config):
    """A script's settings may be a connection string with its password."""
    settings = config(BASE + "settings = { dsn = 'mysql://u:swordfish@db' }\n")
    assert settings.userdbs[0].settings == {"dsn": "mysql://u:swordfish@db"}
    assert "swordfish" not in toml_text(settings) + repr(settings)
    assert 'dsn = "<hidden>"' in toml_text(settings)


def test_secrets_stay_out_of_error_messages(problems):
    """A mistake in a secret is told without it."""
    told = problems(BASE + "settings = { pin = 4711 }\n[auth]\npolicy_hash_nonce = 4712")
    assert len(told) == 2
    assert not any("471" in problem for problem in told)


def test_the_sample_shows_every_key_with_its_default():
    """What is written in the sample is what is in effect without it."""
    sample = tomllib.loads(SAMPLE.read_text())
    settings = load(SAMPLE)
    default = embedded(SAMPLE.parent / "example.lua", "/run/authlua")
    assert dataclasses.replace(settings, path=None) == default
    for name, section in SECTIONS.items():
        first = sample[name][0] if isinstance(sample[name], list) else sample[name]
        shown = set(first) | set(re.findall(r"^# (address|script) =", SAMPLE.read_text(), re.MULTILINE))
        assert set(keys(section)) <= shown, name


def test_the_sample_says_why_for_every_key():
    """One line, one reason."""
    lines = [line for line in SAMPLE.read_text().splitlines() if re.match(r"(# )?\w+ =", line)]
    first: dict[str, str] = {}
    for line in lines:
        first.setdefault(line.removeprefix("# ").split()[0], line)
    assert [name for name, line in first.items() if not re.search(r"[\]}\"\w] +# \S", line)] == []


@pytest.mark.parametrize("section", SECTIONS)
def test_the_manual_has_a_row_for_every_key(section):
    """Type, default and reload behaviour in the manual are those of the code."""
    text = re.search(rf"### \[+{section}\]+\n(.*?)(?=\n###|\n## )", MANUAL.read_text(), re.DOTALL)
    assert text is not None
    rows = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in text[1].splitlines() if line.startswith("| `")]
    manual = {row[0].strip("`"): row[1:4] for row in rows if len(row) == 5}
    expected = {}
    for name, key in keys(SECTIONS[section]).items():
        by_hand = (
            {"mode": "by kind", "path": "none", "address": "none"} if section == "listener" else {"script": "none"}
        )
        default = by_hand.get(name)
        if key.default is REQUIRED:
            default = "required"
        expected[name] = [
            key.kind.name,
            default or f"`{as_toml(key.kind.show(key.default))}`",
            "yes" if key.reload else "no",
        ]
    assert expected == manual


def test_no_key_is_accepted_and_then_ignored():
    """Each key that can be changed is read by the server somewhere."""
    code = "".join(path.read_text() for path in (ROOT / "authlua").rglob("*.py") if "config" not in path.parts)
    unread = {
        name
        for section in SECTIONS.values()
        for name, key in keys(section).items()
        if not re.search(rf"\.{name}\b", code)
    }
    assert unread == set()


@given(st.integers(0, 10**9))
def test_times_and_sizes_survive_being_printed(number):
    """Whatever unit is chosen to print them, they read back the same."""
    context = Context(Path(), Dialect.V2_3, ())
    assert number == SIZE.read(SIZE.show(number), context)
    assert number / 1000 == pytest.approx(DURATION.read(DURATION.show(number / 1000), context))


TOML = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(TOML, st.sampled_from([key.kind for section in SECTIONS.values() for key in keys(section).values()]))
def test_whatever_a_key_is_given_is_accepted_or_explained(value, kind):
    """No value makes reading raise anything but the explanation."""
    explained = ""
    try:
        kind.read(value, Context(Path("/"), Dialect.V2_3, ("PLAIN", "LOGIN")))
    except ValueError as error:
        explained = str(error)
    assert explained == "" or explained.startswith("expected ")


def test_the_limits_of_hashes_are_those_of_the_password_room(config) -> None:
    """The same names with the same defaults."""
    assert dataclasses.asdict(config(BASE).hashes) == LIMITS._asdict()
