"""From the file to the last call: what runs when a script loads, what refuses it, what runs at the end."""

import re
from pathlib import Path

import pytest

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua import load_passdb, pcall, script_create_string, script_init, script_unref
from authlua.secret import Secret
from tests.lua.conftest import SCRIPTS, Bench, listed, login, now

V23, V24 = Dialect.V2_3, Dialect.V2_4

REFUSED = {
    "a missing file, 2.3": (
        None,
        V23,
        "passdb-lua: initialization failed: access(PATH) failed: No such file or directory",
    ),
    "a missing file, 2.4": (None, V24, "passdb-lua: Lua script 'PATH': access(PATH) failed: No such file or directory"),
    "syntax, 2.3": (
        "\nx = = 1",
        V23,
        "passdb-lua: initialization failed: lua_load(PATH) failed: PATH:2: unexpected symbol near '='",
    ),
    "syntax, 2.4": (
        "\nx = = 1",
        V24,
        "passdb-lua: Lua script 'PATH': lua_load(PATH) failed: PATH:2: unexpected symbol near '='",
    ),
    "main chunk, 2.3": (
        "error('top')",
        V23,
        "passdb-lua: initialization failed: lua_pcall(PATH) failed: PATH:1: top\nstack traceback:\n"
        "\t[C]: in function 'error'\n\tPATH:1: in main chunk",
    ),
    "main chunk, 2.4": (
        "error('top', 0)",
        V24,
        "passdb-lua: script_init() failed: lua_pcall(PATH) failed: top\nstack traceback:\n"
        "\t[C]: in function 'error'\n\tPATH:1: in main chunk",
    ),
    "script_init raises, 2.3": (
        "function script_init() error({}) end",
        V23,
        "passdb-lua: initialization failed: lua_pcall(script_init, 0, 1) failed: (null)",
    ),
    "script_init raises, 2.4": (
        "function script_init() error({}) end",
        V24,
        "passdb-lua: script_init() failed: lua_pcall(script_init, 1, 0) failed: (null)",
    ),
    "script_init returns nothing": (
        "function script_init() end",
        V23,
        "passdb-lua: initialization failed: script_init() returned non-number "
        "(nil; s.lua has to return 0, or be of dialect 2.4)",
    ),
    "script_init returns a float": (
        "function script_init() return 0.0 end",
        V23,
        "passdb-lua: initialization failed: script_init() returned non-number "
        "(float; s.lua has to return 0, or be of dialect 2.4)",
    ),
    "script_init returns a text": (
        "function script_init() return '0' end",
        V23,
        "passdb-lua: initialization failed: script_init() returned non-number "
        "(string; s.lua has to return 0, or be of dialect 2.4)",
    ),
    "script_init returns 1": (
        "function script_init() return 1 end",
        V23,
        "passdb-lua: initialization failed: Script init failed (script_init in s.lua returned 1, and 0 means success)",
    ),
    "script_load returns 1": (
        "function script_load() return 1 end",
        V23,
        "passdb-lua: initialization failed: script_load() refused: expected 0 or nothing, got 1",
    ),
    "script_load returns false": (
        "function script_load() return false end",
        V24,
        "passdb-lua: script_init() failed: script_load() refused: expected 0 or nothing, got boolean",
    ),
    "script_load raises": (
        "function script_load() error({}) end",
        V24,
        "passdb-lua: script_init() failed: lua_pcall(script_load, 0, 1) failed: (null)",
    ),
    "the cache key is nil": (
        "function auth_passdb_get_cache_key() end",
        V24,
        "passdb-lua: auth_passdb_get_cache_key() failed: "
        "db-lua: auth_passdb_get_cache_key invalid return value (expected string, got nil)",
    ),
    "the cache key raises": (
        "function auth_passdb_get_cache_key() error({}) end",
        V24,
        "passdb-lua: auth_passdb_get_cache_key() failed: lua_pcall(auth_passdb_get_cache_key, 0, 1) failed: (null)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_refuses_a_script(bench: Bench, tmp_path, monkeypatch, case: str):
    """Dovecot's text, with the script's own file and line."""
    source, dialect, expected = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    if source is not None:
        (tmp_path / "s.lua").write_text(source)
    with pytest.raises(ScriptError) as caught:
        load_passdb("s.lua", log=bench.log, server_dialect=V23, dialect=dialect)
    assert expected.replace("PATH", "s.lua") == str(caught.value)


ACCEPTED = {
    "2.3 needs no script_init": ("", V23),
    "2.3 wants the integer 0": ("function script_init(...) assert(select('#', ...) == 0) return 0 end", V23),
    "2.4 ignores the result": ("function script_init() return 'x' end", V24),
    "2.4 gives a table": ("function script_init(s) assert(next(s) == nil) end", V24),
    "script_load may return nothing": ("function script_load(...) assert(select('#', ...) == 0) end", V23),
    "script_load may return 0": ("function script_load() return 0.0 end", V24),
    "2.3 knows no cache key": ("function auth_passdb_get_cache_key() error() end", V23),
    "restricted globals": ("dovecot.restrict_global_variables(true)", V23),
    "a first line for the shell": ("#!/usr/bin/lua\n", V23),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_a_script_may_do_at_the_start(bench: Bench, case: str):
    """All of these load."""
    assert bench.passdb(*ACCEPTED[case]).cache_key is None


def test_the_order_of_things(bench: Bench):
    """Main chunk, script_load, script_init, cache key; script_deinit at the end."""
    bench.passdb(
        """
        print("chunk", dovecot.auth ~= nil)
        function script_load() print("load") end
        function script_init(settings) print("init", settings.a) end
        function auth_passdb_get_cache_key() print("key") return 12 end
        function auth_userdb_get_cache_key() print("not asked of a passdb") end
        function script_deinit(...) print("deinit", select("#", ...)) end
        """,
        V24,
        settings={"a": "ä"},
    )
    bench.close()
    assert bench.texts == ["chunk\ttrue", "load", "init\tä", "key", "deinit\t0"]
    bench.close()
    assert len(bench.texts) == 5


def test_an_error_at_the_end_is_logged(bench: Bench):
    """The state is freed all the same."""
    database = bench.passdb("function script_deinit() error('no end') end")
    database.close()
    (line,) = bench.lines
    assert line.level == "error"
    assert line.text.startswith("script_deinit() failed: lua_pcall(script_deinit, 0, 0) failed: ")
    assert "auth.lua:1: no end\nstack traceback:" in line.text


def test_databases_share_nothing(bench: Bench):
    """Each definition has its own Lua state, also for one file."""
    source = "count = 0\nfunction auth_passdb_lookup() count = count + 1 return 1, { n = count } end"
    first, second = bench.passdb(source), bench.passdb(source)
    assert [dict(now(db.lookup(login())).fields)["n"] for db in (first, first, second)] == ["1", "2", "1"]


def test_who_verifies_is_decided_at_the_start(bench: Bench):
    """A function defined later is called, but nobody asks for it."""
    database = bench.passdb("function auth_passdb_lookup() auth_password_verify = print return 0, '' end")
    now(database.lookup(login()))
    assert not database.verifies
    assert bench.passdb("function auth_password_verify() end").verifies
    assert not bench.passdb("auth_password_verify = setmetatable({}, { __call = print })").verifies


@pytest.mark.parametrize(
    ("ask", "problem"),
    [
        ("passdb", "db-lua: 'auth_passdb_lookup' is not a function"),
        ("userdb", "userdb-lua: 'auth_userdb_lookup' is not a function"),
        ("iterate", "db-lua: 'auth_userdb_iterate' is not a function"),
    ],
)
def test_a_missing_function_is_named(bench: Bench, ask: str, problem: str):
    """Restricted globals do not get in the way of looking."""
    source = "dovecot.restrict_global_variables(true)"
    call = bench.passdb(source).lookup(login()) if ask == "passdb" else None
    userdb = bench.userdb(source)
    with pytest.raises(ScriptError, match=f"^{problem}$"):
        now(call or (userdb.lookup(login()) if ask == "userdb" else userdb.iterate().piece()))
    if call:
        call.close()


def test_each_function_is_called_with_its_arguments(bench: Bench):
    """The request, and the password where it is to be judged; nothing for a list. A debug line names each."""
    source = """
    local function said(...)
      local _, password = ...
      print(select("#", ...), password)
      return 1, {}
    end
    auth_password_verify, auth_passdb_lookup, auth_userdb_lookup = said, said, said
    function auth_userdb_iterate(...) said(...) return {} end
    """
    passdb, userdb = bench.passdb(source, debug=True), bench.userdb(source, debug=True)
    now(passdb.verify_plain(login(), Secret(b"pass")))
    now(passdb.lookup(login()))
    now(userdb.lookup(login()))
    assert listed(userdb.iterate()) == []
    assert [line.text for line in bench.lines if line.level == "debug"] == [
        "Calling auth_password_verify",
        "Calling auth_passdb_lookup",
        "Calling auth_userdb_lookup",
        "Calling auth_userdb_iterate",
    ]
    assert [line.text for line in bench.lines if line.level == "info"] == ["2\tpass", "1\tnil", "1\tnil", "0\tnil"]


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        ("nil", "db-lua: Cannot iterate, return value is not table"),
        ("'x'", "db-lua: Cannot iterate, return value is not table"),
        ("{ 'a', {} }", "db-lua: Value is not string"),
        ("{ 'a', true }", "db-lua: Value is not string"),
    ],
)
def test_what_is_no_list_of_users(bench: Bench, returned: str, problem: str):
    """Then nobody is listed."""
    userdb = bench.userdb(f"function auth_userdb_iterate() return {returned} end")
    with pytest.raises(ScriptError, match=f"^{problem}$"):
        listed(userdb.iterate())


def test_an_error_while_listing(bench: Bench):
    """Names the function as Dovecot does."""
    userdb = bench.userdb("function auth_userdb_iterate(...) error(select('#', ...), 0) end")
    with pytest.raises(ScriptError) as caught:
        listed(userdb.iterate())
    problem = "db-lua: auth_userdb_iterate failed: lua_pcall(auth_userdb_iterate, 0, 1) failed: 0\nstack traceback:"
    assert str(caught.value).startswith(problem)


def test_a_restricted_script_still_answers(bench: Bench):
    """Script 06 restricts its globals for good."""
    passdb = bench.passdb(SCRIPTS / "06-life-cycle.lua", V24)
    assert [now(passdb.lookup(login())).result.name for _ in range(3)] == ["OK"] * 3


def test_too_many_fields_are_refused(bench: Bench):
    """Rather than to run out of Lua's stack."""
    script = "function auth_passdb_lookup(req) local t = {} for i = 1, req.user do t['f' .. i] = i end return 1, t end"
    passdb = bench.passdb(script)
    assert len(now(passdb.lookup(login("2000"))).fields) == 2000
    with pytest.raises(ScriptError, match="expected number got table of more than 2000 fields"):
        now(passdb.lookup(login("2001")))


@pytest.mark.parametrize("code", ["2", "-7", "100", "1e15"])
def test_a_code_out_of_range_is_the_scripts_error(bench: Bench, code: str):
    """Dovecot panics; nobody is told that there is no such user."""
    for function, load in (("passdb", bench.passdb), ("userdb", bench.userdb)):
        database = load(f"function auth_{function}_lookup() return {code}, 'x' end")
        with pytest.raises(ScriptError, match=r"expected one of the constants of dovecot\.auth, got "):
            now(database.lookup(login()))
    for passdbs in ("PASSDB_RESULT_USER_UNKNOWN", "PASSDB_RESULT_PASSWORD_MISMATCH"):
        userdb = bench.userdb(f"function auth_userdb_lookup() return dovecot.auth.{passdbs}, 'x' end")
        with pytest.raises(ScriptError, match=r"got (-3|0)"):
            now(userdb.lookup(login()))


def test_2_4_looks_at_the_table_before_the_code(bench: Bench):
    """Beside a code that nothing has, too."""
    passdb = bench.passdb("function auth_passdb_lookup() return 7, {} end", V24)
    with pytest.raises(ScriptError, match=r"error return value \(expected nil or string, got table\)"):
        now(passdb.lookup(login()))


@pytest.mark.parametrize(
    ("version", "half", "code"), [("5.1", "2", "OK"), ("luajit", "2", "OK"), ("5.3", "0", "PASSWORD_MISMATCH")]
)
def test_a_fraction_is_cut_off_or_nothing(bench: Bench, version: str, half: str, code: str):
    """By Lua, which changed its mind with 5.3; a password may be a number."""
    source = "function auth_passdb_lookup(req) return tonumber(req.user), { n = 2.5, password = 1234 } end"
    passdb = bench.passdb(source, version=version)
    assert dict(now(passdb.lookup(login("1"))).fields) == {"n": half, "password": "1234"}
    assert now(passdb.lookup(login("1.5"))).result.name == code


@pytest.mark.parametrize("key", ["1", "1.5", "true", "{}", "print", "'\\t'", "'a\\rb'", "'a\\nb'", "''", "'\\0'"])
def test_an_unusable_key_is_ignored_with_a_warning(bench: Bench, key: str):
    """Dovecot crashed on these, or warns since 2.3.21; the rest of the table counts."""
    request = login()
    passdb = bench.passdb(f"function auth_passdb_lookup() return 1, {{ [{key}] = 'x', good = 'y' }} end")
    assert list(now(passdb.lookup(request)).fields) == [("good", "y")]
    ((level, text, bound, _),) = bench.lines
    assert ("warning", request) == (level, bound)
    assert text in (
        "db-lua: Field key must be a string - ignoring",
        "db-lua: Field key cannot be empty - ignoring",
        "db-lua: Field key cannot contain <CR>, <LF> or <TAB> - ignoring",
    )


def test_metamethods_of_a_result_do_not_count(bench: Bench):
    """The table is walked raw."""
    passdb = bench.passdb(
        """
        function auth_passdb_lookup()
          local function never() error("not called") end
          return 1, setmetatable({ a = "b" }, { __pairs = never, __index = never, __len = never })
        end
        """
    )
    assert list(now(passdb.lookup(login())).fields) == [("a", "b")]


def test_a_string_result_has_fields_in_2_3(bench: Bench):
    """Words at single spaces, the first = parts, nothing is unescaped, a password is PLAIN unless it says otherwise."""
    script = "function auth_passdb_lookup(req) return 1, req.user end"
    said = "password=x  a=b%20c=d flag e= {=y"
    expected = [("password", "{PLAIN}x"), ("a", "b%20c=d"), ("flag", None), ("e", None), ("{", "y")]
    assert expected == list(now(bench.passdb(script).lookup(login(said))).fields)
    for password in ("{SHA}x", "$1$a$b"):
        reply = now(bench.passdb(script).lookup(login(f"password={password}")))
        assert [("password", password)] == list(reply.fields)
    kept = now(bench.passdb(script, Dialect.V2_4_0).lookup(login("a= b")))
    assert list(kept.fields) == [("a", ""), ("b", "")]


def test_2_4_0_takes_all_shapes(bench: Bench):
    """nil, string or table beside every code."""
    script = (
        "function auth_passdb_lookup(req) return tonumber(req.user), ({ n = nil, s = 'x=y', t = {} })[req.session] end"
    )
    passdb = bench.passdb(script, Dialect.V2_4_0)
    for code in ("1", "-3", "-6"):
        for second in "nst":
            assert int(code) == now(passdb.lookup(login(code, session=second))).result
    other = "function auth_passdb_lookup(req) return 1, true end"
    with pytest.raises(ScriptError, match=r"\(expected nil, string or table, got boolean\)"):
        now(bench.passdb(other, Dialect.V2_4_0).lookup(login()))


@pytest.mark.parametrize(
    ("program", "ended"), [("exit 0", "true exit 0"), ("exit 3", "nil exit 3"), ("kill $$", "nil signal 15")]
)
@pytest.mark.parametrize("version", ["5.2", "5.3", "5.4", "5.5"])
def test_how_a_program_ended_is_told_as_in_dovecot(bench: Bench, version: str, program: str, ended: str) -> None:
    """Lua as it comes in the wheel does not know that it runs on POSIX, and tells the raw status."""
    assert bench.evaluate(f"return os.execute('{program}')", version=version) == ended
    assert bench.evaluate("return select('#', os.execute()), os.execute()", version=version) == "1 true"


def test_a_script_that_cannot_be_read_says_why(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As Lua says it, for there is such a file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir.lua").mkdir()
    for name, said in {
        "dir.lua": "lua_load(dir.lua) failed: cannot open dir.lua: Is a directory",
        "dir.lua/x": "access(dir.lua/x) failed: No such file or directory",
    }.items():
        with pytest.raises(ScriptError, match=f"^{re.escape(f'passdb-lua: initialization failed: {said}')}$"):
            load_passdb(name, log=bench.log, server_dialect=V23)


def test_what_a_metatable_of_the_globals_says_is_no_end(bench: Bench):
    """An error in there, which ends Dovecot, or a loop finds no function; a call by name finds what it gives."""
    for index in ("error('x')", "while true do end"):
        passdb = bench.passdb(f"setmetatable(_G, {{ __index = function() {index} end }})", loading=100_000)
        with pytest.raises(ScriptError, match=r"^db-lua: 'auth_passdb_lookup' is not a function$"):
            now(passdb.lookup(login()))
        assert passdb.busy == 0
    script = script_create_string(
        "setmetatable(_G, { __index = { f = function(x) return x + 1 end } })", log=bench.log, dialect=V24
    )
    script_init(script)
    assert pcall(script, "f", 1) == (2,)
    script_unref(script)
