"""Configurations that load, and hardly do what was meant."""

import pytest
import structlog

from authlua.cli import main
from authlua.config import doubts, load
from authlua.server import open_core
from authlua.server.running import tell_doubts
from tests.e2e.server import serving

STATIC = "[[passdb]]\ndriver = 'static'\nfields = { nopassword = 'y' }\n"
ENDS = "result_failure = 'return-fail'\nresult_internalfail = 'return-fail'\n"
IMAP = "[[passdb]]\ndriver = 'imap'\nhost = 'x'\n"
PASSWD = "[[userdb]]\ndriver = 'passwd'\n"
LISTENER = "[[listener]]\nkind = 'client'\npath = 'client'\n"


@pytest.fixture
def found(tmp_path):
    """What is doubtful about a text."""

    def read(text: str, *, listener: str = LISTENER) -> list[str]:
        (tmp_path / "auth.lua").write_text("function auth_passdb_lookup(request) return 1, {} end\n")
        (tmp_path / "authlua.toml").write_text(text + listener)
        return doubts(load(tmp_path / "authlua.toml"))

    return read


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        (f"{STATIC}{ENDS}{STATIC}{PASSWD}", "passdb 'static' is never asked: one before it ends the chain"),
        (f"{STATIC}skip = 'unauthenticated'\n{STATIC}{PASSWD}", "passdb 'static' is never asked: nothing before it"),
        (f"{STATIC}{STATIC}skip = 'unauthenticated'\n{PASSWD}", "passdb 'static' is never asked: nothing before it"),
        (f"{STATIC}master = true\n{ENDS}{STATIC}master = true\n{STATIC}{PASSWD}", "master passdb 'static' is never"),
        (
            f"[auth]\nmechanisms = ['login']\n{STATIC}master = true\n{STATIC}{PASSWD}",
            "auth.master_user_separator: without one nobody can reach the master passdbs",
        ),
        (f"[auth]\nmaster_user_separator = '*'\n{STATIC}{PASSWD}", "auth.master_user_separator: there is no master"),
        (
            f"{STATIC}mechanisms = ['cram-md5']\n{STATIC}{PASSWD}",
            "passdb 'static' is never asked: auth.mechanisms has none",
        ),
        (
            f"{STATIC}mechanisms = ['none']\n{STATIC}{PASSWD}",
            "passdb 'static' is never asked: auth.mechanisms has none",
        ),
        (f"[auth]\ncache_size = '1M'\ncache_ttl = 0\n{STATIC}{PASSWD}", "auth.cache_size: nothing is cached with a"),
        (f"[auth]\ndebug = true\n{STATIC}{PASSWD}", "auth.debug: nothing of it is seen without log.level"),
        (f"{STATIC}{PASSWD}{ENDS}{PASSWD}", "userdb 'passwd' is never asked: one before it ends the chain"),
        (f"{STATIC}{PASSWD}skip = 'notfound'\n", "userdb 'passwd' is asked in spite of its skip: nothing"),
        (f"{STATIC}{PASSWD}skip = 'found'\n", "userdb 'passwd' is asked in spite of its skip: nothing"),
        (
            "[auth]\nmechanisms = ['plain']\n[[passdb]]\ndriver = 'pam'\n[[userdb]]\ndriver = 'static'\n",
            "userdb 'static' cannot learn who exists",
        ),
    ],
)
def test_each_doubt_has_its_line(found, text, doubt):
    """It says what will not happen, and why."""
    told = found(text)
    assert len(told) == 1
    assert told[0].startswith(doubt)


@pytest.mark.parametrize(
    "text",
    [
        f"{STATIC}{STATIC}{PASSWD}",
        f"{STATIC}mechanisms = ['lookup']\n{STATIC}{PASSWD}",
        f"{STATIC}mechanisms = ['none', 'cram-md5']\n{STATIC}{PASSWD}",
        f"[log]\nlevel = 'debug'\n[auth]\ndebug = true\ncache_size = 0\ncache_ttl = 0\n{STATIC}{PASSWD}",
        f"{STATIC}{ENDS}username_filter = ['a']\n{STATIC}{PASSWD}",
        f"{STATIC}{ENDS}mechanisms = ['login']\n{STATIC}{PASSWD}",
        f"{STATIC}{ENDS}deny = true\n{STATIC}{PASSWD}",
        f"[[passdb]]\nscript = 'auth.lua'\n{ENDS}{STATIC}{PASSWD}",
        f"{STATIC}result_success = 'continue-ok'\n{STATIC}skip = 'unauthenticated'\n{PASSWD}",
        f"{STATIC}master = true\nresult_success = 'continue'\n{STATIC}skip = 'unauthenticated'\n{PASSWD}",
        f"{STATIC}master = true\n{STATIC}{PASSWD}",
        f"[auth]\nmaster_user_separator = '*'\n{STATIC}master = true\n{STATIC}{PASSWD}",
        f"{STATIC}[[userdb]]\ndriver = 'static'\n",
    ],
)
def test_what_can_have_an_effect_is_not_doubted(found, text):
    """A script may say NEXT, a filter may let others through, a client may name whom to become."""
    assert found(text) == []


def test_prefetch_alone_serves_logins_only(found):
    """Which is all right as long as nobody else asks."""
    text = STATIC + "[[userdb]]\ndriver = 'prefetch'\n"
    assert found(text) == []
    (told,) = found(text, listener="[[listener]]\nkind = 'userdb'\npath = 'u'\n")
    assert told.startswith("userdb 'prefetch' cannot answer who asks without a login")


def test_check_tells_doubts(found, tmp_path, capsys):
    """With the file's name; the exit code is that of a configuration error."""
    found(f"{STATIC}{ENDS}{STATIC}{PASSWD}")
    assert main(["check", "-c", str(tmp_path / "authlua.toml")]) == 78
    assert "authlua.toml: passdb 'static' is never asked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("functions", "more", "is_doubted"),
    [
        (["auth_password_verify"], "", True),
        (["auth_password_verify", "auth_passdb_lookup"], "", False),
        (["auth_password_verify"], "[[passdb]]\ndriver = 'imap'\nhost = 'x'\n", True),
        (["auth_password_verify"], STATIC, False),
        (["auth_password_verify"], f"{STATIC}mechanisms = ['plain']\n", True),
        (["auth_password_verify"], f"{STATIC}master = true\n", True),
    ],
)
def test_a_loaded_server_doubts_mechs_that_no_passdb_can_serve(tmp_path, functions, more, is_doubted):
    """Only the scripts themselves show what they can; `running.tell_doubts` logs it at start and at each reload."""
    script = "".join(f"function {name}(request, password) return 1, {{}} end\n" for name in functions)
    (tmp_path / "auth.lua").write_text(script)
    mechs = "[auth]\nmechanisms = ['plain', 'scram-sha-256']\n"
    passdb = "[[passdb]]\nscript = 'auth.lua'\nuse_worker = false\n"
    (tmp_path / "authlua.toml").write_text(mechs + passdb + more + PASSWD + LISTENER)
    log = structlog.wrap_logger(structlog.ReturnLogger(), processors=[])
    core = open_core(load(tmp_path / "authlua.toml"), log)
    problem = "auth.mechanisms: scram-sha-256 needs a passdb with the function auth_passdb_lookup"
    assert list(core.doubts) == [problem] * is_doubted
    core.retire()
    with structlog.testing.capture_logs() as events:
        tell_doubts(load(tmp_path / "authlua.toml"), core, structlog.get_logger())
    assert (problem in [event["reason"] for event in events]) == is_doubted


def test_a_server_says_so_when_it_starts(found, tmp_path):
    """Of each chain; and it serves."""
    judge = "[[passdb]]\nscript = 'auth.lua'\nmechanisms = ['plain', 'scram-sha-256']\nuse_worker = false\n"
    found(
        f"[server]\nbase_dir = '{tmp_path}'\n[auth]\nmechanisms = ['plain', 'scram-sha-256']\n"
        f"master_user_separator = '*'\n{judge}{IMAP}{ENDS}{IMAP}{PASSWD}"
    )
    (tmp_path / "auth.lua").write_text("function auth_password_verify(request, password) return 1, {} end\n")
    with serving(tmp_path / "authlua.toml"):
        log = (tmp_path / "authlua.log").read_text()
    doubts = [line for line in log.splitlines() if "config_doubt" in line]
    for part in ("scram-sha-256 needs", "there is no master passdb", "passdb 'imap' is never asked: one before"):
        assert any(part in line for line in doubts), part


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"{STATIC}result_success = 'continue'\n{PASSWD}", "the last passdb cannot be"),
        (f"{STATIC}master = true\ndeny = true\n{STATIC}{PASSWD}", "passdb[1]: master and deny exclude each other"),
        (f"{STATIC}master = true\nresult_success = 'continue'\n{PASSWD}", "needs a passdb that is not master"),
        (f"[auth]\nmechanisms = ['cram-md5']\n[[passdb]]\ndriver = 'pam'\n{PASSWD}", "auth.mechanisms: cram-md5"),
    ],
)
def test_what_can_decide_nothing_is_refused(tmp_path, capsys, command, text, problem):
    """Before any socket is there."""
    (tmp_path / "authlua.toml").write_text(text + LISTENER)
    assert main([command, "-c", str(tmp_path / "authlua.toml")]) == 78
    assert problem in capsys.readouterr().err
