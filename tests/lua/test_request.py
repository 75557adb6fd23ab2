"""The auth_request object: what it shows of a request, and when it stops."""

import pytest

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.fields import Fields
from authlua.passwords import encode
from authlua.request import VARIABLES_2_3, VARIABLES_2_4
from authlua.secret import Secret
from tests.lua.conftest import Bench, login, now

V23, V24 = Dialect.V2_3, Dialect.V2_4


def full_request():
    """A request in which every part has a value of its own."""
    return login(
        "some.one@a.example@b.example",
        original_user="as.typed@c.example",
        master_user="master@m.example",
        requested_login_user="login@l.example",
        lip="192.0.2.1",
        rip="192.0.2.2",
        lport=143,
        rport=5555,
        real_lip="192.0.2.3",
        real_rip="192.0.2.4",
        real_lport=1143,
        real_rport=6666,
        session="S1",
        session_pid=99,
        client_pid=77,
        password=Secret(b"p\xffss"),
        secured="TLS",
        valid_client_cert=True,
        local_name="mail.example",
        client_id="x=y",
        ssl_ja3_hash="ja3",
        ssl_client_cert_fp="fp",
        ssl_client_cert_pubkey_fp="pfp",
    )


@pytest.mark.parametrize(("dialect", "variables"), [(V23, VARIABLES_2_3), (V24, VARIABLES_2_4)])
def test_every_variable_is_a_member(bench: Bench, dialect: Dialect, variables):
    """Under its dialect's name, as text; the other dialect's names are nil."""
    names = sorted({*VARIABLES_2_3, *VARIABLES_2_4})
    list_of_names = ", ".join(f'"{name}"' for name in names)
    passdb = bench.passdb(
        f"function auth_passdb_lookup(req) local t = {{}} for _, n in ipairs {{ {list_of_names} }} do"
        " t[n] = req[n] assert(t[n] == nil or type(t[n]) == 'string') assert(req[n] == t[n]) end return 1, t end",
        dialect,
    )
    request = full_request()
    expected = {name: value(request) for name, value in variables.items() if value(request) is not None}
    assert expected == {name: value or "" for name, value in now(passdb.lookup(request)).fields}


def test_the_databases_number_is_a_member_in_2_4(bench: Bench):
    """``req.id``; in 2.3 it is only in templates."""
    assert bench.evaluate("return req.id, req:var_expand('%{id}')", dialect=V24, id="3") == "3 3"
    assert bench.evaluate("return req.id, req:var_expand('%!')", dialect=V23, id="3") == "nil 3"


def test_the_four_booleans(bench: Bench):
    """Each is its own, and all are raw."""
    names = (
        "skip_password_check", "passdbs_seen_user_unknown", "passdbs_seen_internal_failure",
        "userdbs_seen_internal_failure",
    )  # fmt: skip
    body = "return " + ", ".join(f"rawget(req, '{name}')" for name in names)
    assert bench.evaluate(body) == "false false false false"
    for name in names:
        expected = " ".join(str(name == other).lower() for other in names)
        assert expected == bench.evaluate(body, request=named(name))


def named(flag: str):
    """A request with *flag* set."""
    request = login()
    setattr(request, flag, True)
    return request


def test_fields_so_far(bench: Bench):
    """Values, "" for a field without one, nil for no field; what a script assigns stays in Lua."""
    request = login(passdb_fields=Fields([("a", "b"), ("flag", None)]))
    body = "req.passdb.mine = 1 return req.passdb.a, req.passdb.flag == '', req.passdb.x, req.userdb.a, req.passdb.mine"
    assert bench.evaluate(body, request=request) == "b true nil nil 1"
    assert "mine" not in request.passdb_fields
    request.userdb_fields = Fields([("uid", "5")])
    assert bench.evaluate("return req.userdb.uid", request=request) == "5"


def test_a_user_may_be_unknown(bench: Bench):
    """As with mechs that learn it late."""
    assert bench.evaluate("return req.user, req.username", request=login(None)) == "nil nil"


@pytest.mark.parametrize(
    "use",
    [
        "kept.user", "kept.rip", "kept.passdb.x", "kept:log_error('x')", "kept:var_expand('x')", "kept:event()",
        "kept:password_verify('x', 'x')", "kept.log_info", "method(kept, 'x')",
    ],
)  # fmt: skip
def test_a_kept_request_is_dead(bench: Bench, use: str):
    """After its call, also while another call runs in the same coroutine."""
    script = f"""
    function auth_passdb_lookup(req)
      if not kept then kept, method = req, req.log_error local _ = req.rip return 0, "" end
      return 1, {{ result = tostring({use}) }}
    end
    """
    passdb = bench.passdb(script)
    now(passdb.lookup(login("first", rip="192.0.2.1")))
    with pytest.raises(ScriptError, match="auth_request is used after its call has returned"):
        now(passdb.lookup(login("second")))
    assert bench.lines == []


def test_a_kept_request_is_dead_between_calls(bench: Bench):
    """Also when nothing has taken its place."""
    script = """
    function auth_passdb_lookup(req) kept = req return 0, "" end
    function script_deinit() print(pcall(function() return kept.user end)) end
    """
    passdb = bench.passdb(script)
    now(passdb.lookup(login()))
    passdb.close()
    assert [line.text.partition("\t")[0] for line in bench.lines] == ["false"]


def test_a_request_kept_from_a_failed_call_is_dead_too(bench: Bench):
    """An error ends the call as well."""
    passdb = bench.passdb(
        "function auth_passdb_lookup(req) if not kept then kept = req error('x') end return 1, { u = kept.user } end"
    )
    for problem in ("x", "auth_request is used after"):
        with pytest.raises(ScriptError, match=problem):
            now(passdb.lookup(login()))


@pytest.mark.parametrize("receiver", ["{}", "setmetatable({}, {})", "setmetatable({}, { __metatable = 'x' })"])
def test_a_foreign_table_is_no_request(bench: Bench, receiver: str):
    """Dovecot crashes on it."""
    problem = f"return select(2, pcall(req.log_error, {receiver}, 'x'))"
    assert bench.evaluate(problem) == "Bad argument #1, expected auth_request got table"


@pytest.mark.parametrize(
    ("options", "debug_request", "shown"),
    [
        ({}, False, ["warning", "error"]),
        ({"verbose": True}, False, ["info", "warning", "error"]),
        ({"debug": True}, False, ["calling", "debug", "info", "warning", "error"]),
        ({}, True, ["calling", "debug", "info", "warning", "error"]),
    ],
)
def test_which_lines_of_a_request_are_written(bench: Bench, options, debug_request: bool, shown: list[str]):
    """auth_verbose brings info, auth_debug everything, also when a request asks for it itself."""
    body = "for _, l in ipairs { 'debug', 'info', 'warning', 'error' } do req['log_' .. l](req, l) end"
    request = login(debug=debug_request)
    bench.evaluate(body, request=request, **options)
    lines = {level: (level, f"db-lua: {level}", request, {}) for level in shown}
    lines["calling"] = ("debug", "Calling auth_passdb_lookup", request, {})
    assert [lines[level] for level in shown] == bench.lines


def test_a_debug_line_of_2_3_is_not_even_looked_at(bench: Bench):
    """Wrong arguments pass unless auth_debug is on."""
    assert bench.evaluate("return req:log_debug(), (pcall(req.log_debug, 1))") == "nil true"
    assert bench.evaluate("return (pcall(req.log_debug, req))", dialect=V24) == "false"


def test_templates_in_2_3(bench: Bench):
    """Split first, filled in then: expanded blanks are safe; a userdb turns names of accounts into numbers."""
    body = "local t = req:response_from_template('a=%u b=x%d c d= uid=root') return t.a, t.b, t.c, t.d, t.uid"
    assert bench.evaluate(body, request=login("some one@x")) == "some one@x xx nil  root"
    script = "function auth_userdb_lookup(req) return 1, req:response_from_template(req.session) end"
    userdb = bench.userdb(script)
    assert dict(now(userdb.lookup(login(session="uid=root gid=0 home=/h/%u"))).fields) == {
        "uid": "0",
        "gid": "0",
        "home": "/h/alice",
    }
    for template, problem in (
        ("uid=no-such-account", "Invalid UID value 'no-such-account'"),
        ("=x", "Field key cannot"),
    ):
        with pytest.raises(ScriptError, match=problem):
            now(userdb.lookup(login(session=template)))


@pytest.mark.parametrize("dialect", list(Dialect))
def test_a_password_is_verified_in_silence_for_the_name_that_was_typed(bench: Bench, dialect: Dialect):
    """Which matters where the name is part of the hash; a passdb may have changed it meanwhile."""
    stored = encode(b"pass", "DIGEST-MD5", user="as.typed@example.com")
    request = login("changed@example.com", original_user="as.typed@example.com")
    body = f"return (req:password_verify('{stored}', 'pass')), (req:password_verify('{stored}', 'other'))"
    assert bench.evaluate(body, dialect=dialect, request=request, debug=True) == "1.0 0.0"
    assert [line.text for line in bench.lines if not line.text.startswith("Calling")] == []


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("nil, 'x'", "Crypted password must not be nil"),
        ("{}, 'x'", "Crypted password must not be nil"),
        ("'x', nil", "Plain password must not be nil"),
        ("'x'", "Plain password must not be nil"),
    ],
)
def test_no_password_is_an_error(bench: Bench, dialect: Dialect, arguments: str, problem: str):
    """2.3 crashed."""
    body = f"return select(2, pcall(req.password_verify, req, {arguments}))"
    assert bench.evaluate(body, dialect=dialect) == problem


@pytest.mark.parametrize(("dialect", "template"), [(V23, "%u %w"), (V24, "%{user} %{password}")])
def test_a_template_fills_in_values_as_they_are(bench: Bench, dialect: Dialect, template: str):
    """Nothing is escaped, and nothing is read again."""
    request = login("o'neil\\%u\"", password=Secret(b"a'b\\%u\tc"))
    assert bench.evaluate(f"return req:var_expand('{template}')", dialect=dialect, request=request) == (
        "o'neil\\%u\" a'b\\%u\tc"
    )


@pytest.mark.parametrize(
    ("dialect", "template", "problem"),
    [
        (V23, "%{if;x;==;1;a;b}", "if: x (lhs) is not a number"),
        (V24, "%{user | hex}", "hex: Input is not a number"),
        (V24, "%{nosuch}", "Unknown variable 'nosuch'"),
        (V24, "%{user", "syntax error, unexpected end of file, expecting CCBRACE or PIPE"),
    ],
)
def test_a_template_that_cannot_be_expanded_is_an_error(
    bench: Bench, dialect: Dialect, template: str, problem: str
) -> None:
    """Which names it; but to 2.3 an unknown variable is just text."""
    body = f"return select(2, pcall(req.var_expand, req, '{template}'))"
    assert bench.evaluate(body, dialect=dialect) == f"var_expand({template}) failed: {problem}"
    assert bench.evaluate("return req:var_expand('%{nosuch}')", dialect=V23) == "UNSUPPORTED_VARIABLE_nosuch"


def test_weak_schemes_in_2_4(bench: Bench):
    """Refused there unless allowed, with 2.4's text; 2.3 has no such rule."""
    body = "return req:password_verify('{PLAIN-MD5}1a1dc91c907325c69271ddf0c944bc72', 'pass')"
    assert bench.evaluate(body, dialect=V24) == "1.0 nil"
    refused = "-1.0 Weak password scheme 'PLAIN-MD5' used and refused"
    assert refused == bench.evaluate(body, dialect=V24, allow_weak_schemes=False)
    assert bench.evaluate(body, dialect=V23, allow_weak_schemes=False) == "1.0 nil"


def test_var_expand_of_the_table_has_only_providers(bench: Bench):
    """``dovecot.var_expand`` of 2.4.2: no request, but the process and the like."""
    assert bench.evaluate("return dovecot.var_expand('x %{dovecot:name}')", dialect=V24) == "x Dovecot"
    for template in ("%{user}", "%{passdb:x}"):
        problem = bench.evaluate(f"return select(2, pcall(dovecot.var_expand, '{template}'))", dialect=V24)
        assert problem is not None
        assert problem.startswith(f"failed to expand '{template}': ")


def test_base64_of_2_4_2(bench: Bench):
    """Padding, no line breaks; what cannot be decoded ends it quietly."""
    body = """
    local b = dovecot.base64
    return b.encode('a\0b'), #b.encode(('x'):rep(99)), b.decode('YQ'), b.decode('Y W I=!!'), b.decode('!')
    """
    assert bench.evaluate(body, dialect=V24) == "YQBi 132 a ab "
