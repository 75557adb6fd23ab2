"""check: everything that is wrong before the server starts."""

import pytest

from authlua.cli import main

PASSDB = "function auth_passdb_lookup(request) return 1, {} end\n"
LUAJIT = '[lua]\nversion = "luajit"\n'  # the quickest to run out of patience
USERDB = "function auth_userdb_lookup(request) return 1, {} end\n"


@pytest.fixture
def check(tmp_path, capsys):
    """Checks a configuration with a passdb script and a userdb script."""

    def run(
        passdb: str, userdb: str = "function auth_userdb_lookup(request) return 1, {} end", *, more: str = ""
    ) -> tuple[int, list[str]]:
        (tmp_path / "passdb.lua").write_text(passdb)
        (tmp_path / "userdb.lua").write_text(userdb)
        config = tmp_path / "authlua.toml"
        config.write_text(more + '[[passdb]]\nscript = "passdb.lua"\n[[userdb]]\nscript = "userdb.lua"\n')
        code = main(["check", "-c", str(config)])
        return code, [line.removeprefix(f"{tmp_path}/") for line in capsys.readouterr().out.splitlines()]

    return run


def test_what_is_right_is_0(check):
    """And says what was looked at."""
    assert check(PASSDB) == (0, ["authlua.toml: all is well"])


def test_a_script_that_never_gets_ready_is_told(check):
    """With the line where it loops; the command comes to an end."""
    code, lines = check(f"function script_init()\n  repeat until false\nend\n{PASSDB}", more=LUAJIT)
    assert code == 65
    failed = "passdb-lua: initialization failed: lua_pcall(script_init, 0, 1) failed"
    assert f"{failed}: the script ran for too long outside of any request" in lines
    assert any("passdb.lua:2: in function" in line for line in lines)


def test_every_script_that_does_not_load_is_told(check, tmp_path):
    """Not only the first; with the line where Lua stopped."""
    code, lines = check("function auth_passdb_lookup(\n", "error('no database')\n")
    assert code == 65
    first, second = [line for line in lines if "failed" in line]
    assert first.startswith(f"passdb-lua: initialization failed: lua_load({tmp_path}/passdb.lua) failed: ")
    assert first.endswith("/passdb.lua:2: <name> or '...' expected near <eof>")
    assert second.startswith(f"userdb-lua: initialization failed: lua_pcall({tmp_path}/userdb.lua) failed: ")
    assert second.endswith("/userdb.lua:1: no database")


def test_a_script_that_cannot_be_read_does_not_load(tmp_path, capsys):
    """And that is all there is to say of it. (Nobody, not even root, can read the first page of a process's memory.)"""
    config = tmp_path / "authlua.toml"
    config.write_text(
        '[auth]\nmechanisms = ["cram-md5"]\n'
        + "".join(f'[[{section}]]\nscript = "/proc/self/mem"\n' for section in ("passdb", "userdb"))
    )
    assert main(["check", "-c", str(config)]) == 65
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["passdb-lua", "userdb-lua"]
    assert all("/proc/self/mem: Input/output error" in line for line in lines)


def test_script_init_is_run(check):
    """What it refuses, is refused here."""
    code, lines = check(PASSDB + "function script_init() return 1 end")
    assert code == 65
    assert "init" in "\n".join(lines)


def test_misspelt_functions_and_unset_globals_are_told_with_their_lines(check):
    """They load well, and fail at the first login."""
    code, lines = check("function auth_pasdb_lookup(request)\n  return dovecot.auth.PASSDB_RESULT_OK, fieldz\nend\n")
    assert code == 65
    assert lines == [
        "passdb.lua:1: auth_pasdb_lookup is never called, did you mean auth_passdb_lookup?",
        "passdb.lua:2: global fieldz is never set",
        "passdb.lua: a passdb needs a function auth_passdb_lookup or auth_password_verify",
    ]


def test_a_wrong_configuration_is_78(tmp_path, capsys):
    """Scripts are looked at when it is known which they are."""
    config = tmp_path / "authlua.toml"
    config.write_text("[auth]\nx = 1\n")
    assert main(["check", "-c", str(config)]) == 78
    assert "auth.x: unknown key" in capsys.readouterr().err


def test_a_mech_that_never_sees_the_password_needs_a_lookup(check):
    """A script that only judges passwords cannot serve it; one that also looks up can."""
    judge = "function auth_password_verify(request, password) return 1, {} end\n"
    scram = "[auth]\nmechanisms = ['plain', 'scram-sha-256']\n"
    problem = "auth.mechanisms: scram-sha-256 needs a passdb with the function auth_passdb_lookup"
    assert check(judge, more=scram) == (65, [problem])
    assert check(judge, more=scram + "[[passdb]]\ndriver = 'imap'\nhost = 'x'\n") == (65, [problem])
    assert check(judge + PASSDB, more=scram)[0] == 0


def test_a_mail_script_is_checked_too(check, tmp_path):
    """It is loaded for a user without mail, and read like the others."""
    mail = tmp_path / "mail.lua"
    more = f'[mail]\nscript = "{mail}"\n'
    mail.write_text("function mail_user_created(user) return 0 end\nfunction mail_user_deinit_pre(user) end\n")
    assert check(PASSDB, more=more) == (0, ["authlua.toml: all is well"])
    mail.write_text("function mail_user_create(user) return 0 end\n")
    assert check(PASSDB, more=more) == (
        65,
        [
            "mail.lua:1: mail_user_create is never called, did you mean mail_user_created?",
            "mail.lua: a mail script needs a function mail_user_created or dovecot_lua_notify_begin_txn",
        ],
    )
    mail.write_text("error('no', 0)\n")
    code, (line, *_) = check(PASSDB, more=more)
    assert (code, line) == (65, f"dlua_script_init({mail}) failed: lua_pcall({mail}) failed: no")


def test_a_notification_function_of_dovecots_own_driver_is_no_mistake(check, tmp_path):
    """A script may serve authlua and Dovecot."""
    mail = tmp_path / "mail.lua"
    mail.write_text(
        "function dovecot_lua_notify_begin_txn(user) return {} end\n"
        "function dovecot_lua_notify_event_flags_set(context, event) end\n"
        "function dovecot_lua_notify_end_txn(context, success) end\n"
    )
    assert check(PASSDB, more=f'[mail]\nscript = "{mail}"\n') == (0, ["authlua.toml: all is well"])
