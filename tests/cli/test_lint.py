"""What is said of a script without running it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authlua.cli.lint import defines, lint

ROOT = Path(__file__).parent.parent.parent


def findings(text: str, version: str = "5.4") -> list[tuple[int, str]]:
    return [(line, finding) for line, finding in lint(text, version)]


def test_a_global_that_nobody_sets_is_told_with_its_line():
    """The first place is named, and a name that was perhaps meant."""
    text = "local users = {}\nfunction f()\n  return usres, tostrin(1), usres\nend\n"
    assert findings(text) == [
        (3, "global tostrin is never set, did you mean tostring?"),
        (3, "global usres is never set"),
    ]


def test_a_misspelt_function_is_told():
    """It would never be called, and the login would fail for no visible reason."""
    assert findings("function auth_pasdb_lookup(req)\n  return 1\nend") == [
        (1, "auth_pasdb_lookup is never called, did you mean auth_passdb_lookup?")
    ]
    assert findings("function auth_passdb_lookup() end\nfunction auth_passdb_lookups() end") == []


def test_a_misspelt_result_is_told():
    """It is nil, and each such login fails for now."""
    text = "local auth = dovecot.auth\nreturn auth.USERDB_RESULT_USER_UKNOWN, dovecot.auth.PASSDB_RESULT_OK"
    assert findings(text) == [(2, "there is no USERDB_RESULT_USER_UKNOWN, did you mean USERDB_RESULT_USER_UNKNOWN?")]
    assert findings("return\ndovecot.status.PASSDB_RESULT_NEXT") == [
        (2, "there is no dovecot.status.PASSDB_RESULT_NEXT, did you mean dovecot.auth.PASSDB_RESULT_NEXT?")
    ]
    assert findings("dovecot = { auth = { PASSDB_RESULT_MINE = 1 } } dovecot.auth.PASSDB_RESULT_ITS = 2") == []


@pytest.mark.parametrize(
    "condition",
    [
        "if req:password_verify(hash, pass) then",
        "if user == req.user and request.password_verify(request, f(hash), (pass)) then",
        "if a then elseif (req:password_verify(hash, pass)) then",
        "if not req:password_verify(hash, pass) then",
        "return req:password_verify(hash, pass) and 1",
    ],
)
def test_a_password_that_is_always_right_is_told(condition):
    """Public scripts let everybody in so, Dovecot's own test among them."""
    text = f"local hash, pass, req, request, user, a, f\n{condition}"
    assert findings(text) == [
        (2, "password_verify returns a number, which is true whatever it is: a right password has 1")
    ]


@pytest.mark.parametrize(
    "condition",
    [
        "if req:password_verify(hash, pass) == 1 then",
        "if req.password_verify(req, hash, pass) > 0 and user then",
        "if (req:password_verify(hash, pass)) ~= 1 then",
        "local code, why = req:password_verify(hash, pass) if code == 1 then",
        "local code = hash and req:password_verify(hash, pass) or 0",
        "if judge(req:password_verify(hash, pass)) then",
        "if other.password_verify then",
    ],
)
def test_a_password_that_is_judged_by_its_number_is_not(condition):
    """Nor what cannot be told."""
    assert findings(f"local hash, pass, req, user, judge, other\n{condition}") == []


@pytest.mark.parametrize(
    "text",
    [
        "local a <const>, b <close> = 1, 2 return a + b",
        "for i = 1, 3 do print(i) end",
        "for k, v in pairs({}) do for j = 1, 2 do print(k, v, j) end end",
        "for _, f in ipairs({ function() for x = 1, 2 do print(x) end end }) do f() end",
        "local function f(a, ...) return f, a, ... end",
        "local t = { a = 1, ['b'] = 2; c = function(x) d = 3 return x, d end } return t.a, t:c()",
        "x, y = 1, 2 return x, y",
        "x, (print).y = 1, 2 return x",
        "local t = {} t.a, y, z = 1, 2, 3 return y, z",
        "repeat local done = true until done",
        "if true then local a = 1 print(a) elseif b0 then local c = 2 print(c) else local d = 1 print(d) end b0 = 1",
        "goto out\ndo local x = 1 end\n::out::",
        "local s = 'it\\'s' .. \"a\\\"b\" .. [[x]] .. [==[y]]]==] -- undefined here\n--[[ and\nhere ]] return s",
        "function mod() end mod.f = function(self) return self end",
        "local m = {} function m.a.b:c(x) return self, x end return m",
        "#!/usr/bin/lua\nprint(1)",
        "local function f() local x = 1; do local y = 2 end while false do local z = x end return x end return f",
        "print(({...})[1], 0x1p-3, 1e+5, .5, #'x', 1 // 2, 1 ~= 2)",
        "return anything, _ENV.other",
        "local f = function(a) return function(b) return a + b end end return f",
    ],
)
def test_what_is_right_is_left_alone(text):
    """No warning is better than a wrong one."""
    assert findings(text) == []


def test_locals_end_with_their_block():
    """What is local elsewhere is still an unset global here."""
    assert findings("do local a = 1 end\nprint(a)") == [(2, "global a is never set")]
    assert findings("for i = 1, 2 do end\nprint(i)") == [(2, "global i is never set")]
    assert findings("local function f(p) end\nprint(p)") == [(2, "global p is never set")]
    assert findings("if x0 then\n local b = 1\nend\nprint(b)\nx0 = 1") == [(4, "global b is never set")]


def test_every_lua_has_its_own_globals():
    """``unpack`` went, ``utf8`` came."""
    assert findings("return unpack", "5.1") == findings("return utf8", "5.4") == findings("return jit", "luajit") == []
    assert findings("return utf8", "5.1") == [(1, "global utf8 is never set")]


@pytest.mark.parametrize("script", ["conf/example.lua", "tests/reference/auth.lua"])
def test_scripts_that_work_are_left_alone(script):
    """Whole scripts, as people write them."""
    assert findings((ROOT / script).read_text()) == []


def test_a_function_may_come_from_elsewhere():
    """Only a script that is alone with itself can be said not to have a function."""
    assert defines("function auth_userdb_lookup() end", ["auth_userdb_lookup"])
    assert not defines("local function auth_userdb_lookup() end", ["auth_userdb_lookup"])
    assert defines("require 'users'", ["auth_userdb_lookup"])


@given(
    st.lists(
        st.sampled_from(
            [
                "end",
                "do",
                "then",
                "else",
                "until",
                "repeat",
                "function",
                "local",
                "for",
                "in",
                "=",
                ",",
                "(",
                ")",
                "{",
                "}",
                "[",
                "]",
                ".",
                ":",
                "a",
                "b",
                "'",
            ]
        )
    )
)
def test_no_text_breaks_it(words):
    """It is asked about scripts that compile, and survives all others."""
    lint(" ".join(words), "5.4")
