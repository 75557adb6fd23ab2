"""The dialect a script shows."""

import pytest

from authlua.dialect import Dialect
from authlua.lua import detect
from tests.lua.conftest import SCRIPTS, Bench

V23, V240, V24 = Dialect.V2_3, Dialect.V2_4_0, Dialect.V2_4

MARKS = {
    # 2.3 alone
    "local t = req:response_from_template(x)": V23,
    "function auth_passdb_lookup(request) return f(request.service) end": V23,
    "function auth_passdb_lookup(r) return r.rip end": V23,
    "auth_userdb_lookup = function(q) return q.domain end": V23,
    "auth_password_verify = function ( q , p ) return q . username end": V23,
    "req:var_expand('%Lu')": V23,
    'req:var_expand("x %{if;%u;eq;a;b;c}")': V23,
    "dovecot.http.client { request_timeout_msecs = 500 }": V23,
    "dovecot.http.client { no_auto_retry = true }": V23,
    "return dovecot.auth.PASSDB_RESULT_OK, 'password=x'": V23,
    'return dovecot.auth.PASSDB_RESULT_OK, ""': V23,
    'more = "nopassword=y"': V23,
    "local client = dovecot.http.client {\n  timeout = 10000;\n  max_attempts = 3;\n}": V23,
    "dovecot.http.client({ debug = true })": V23,
    "if x then return 1, req.domain else return auth.PASSDB_RESULT_USER_UNKNOWN end": V23,
    # 2.4.0, before strings beside OK were taken away
    "function script_init(args) return 0 end return dovecot.auth.PASSDB_RESULT_OK, 'password=x'": V240,
    "dovecot.http.client { request_timeout = '5s' } return dovecot.auth.PASSDB_RESULT_OK, ''": V240,
    "return req:response_from_template('a=%{user | lower}')": V240,
    # 2.4 alone
    "function auth_passdb_get_cache_key() return '%{user}' end": V24,
    "local now = dovecot.gettimeofday()": V24,
    "dovecot . base64.encode(x)": V24,
    "function auth_userdb_lookup(request) return f(request.protocol) end": V24,
    "req.owner_user": V24,
    "function script_init(settings) end": V24,
    "script_init = function(s) return 0 end": V24,
    "req:var_expand('%{user | lower}')": V24,
    "dovecot.http.client { request_timeout = '5s' }": V24,
    "event:set_forced_debug()": V24,
    "function f(req) if req.user == 'x' then return auth.USERDB_RESULT_USER_UNKNOWN end return g() end": V24,
    "return dovecot.auth.PASSDB_RESULT_OK": V24,
    "return dovecot.auth.PASSDB_RESULT_PASSWORD_MISMATCH, nil end": V24,
    # neither, or both
    "": None,
    "function script_init() return 0 end": None,
    "function auth_passdb_lookup(req) return f(req.user, req.session, req.remote_ip) end": None,
    "function auth_passdb_lookup(req) return req.service or req.protocol end": None,
    "if dovecot.gettimeofday then a = { request_timeout = 1 } else a = { request_timeout_msecs = 1 } end": None,
    "-- req.service": None,
    "--[[ req.service\n]] local x = 1": None,
    "--[==[ ]] req.service\n]==] local x = 1": None,
    "other.service = 1": None,
    "dovecot.base64.encode(x) return dovecot.auth.PASSDB_RESULT_OK, ''": None,
    "return dovecot.auth.PASSDB_RESULT_OK, {}": None,
    "return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE": None,
    "socket.tcp():settimeout(5) timeout = 5 max_attempts = 3": None,
    "req:var_expand('%{user}')": None,
    "print('100% done')": None,
}


@pytest.mark.parametrize("source", MARKS)
def test_what_a_script_shows(source: str):
    """Only what exists on one side alone counts; comments do not."""
    assert MARKS[source] == detect(source.encode())


@pytest.mark.parametrize(
    ("script", "dialect"),
    [("01-passwd-file", None), ("03-return-shapes", V23), ("04-request-object", None), ("05-events", None),
     ("06-life-cycle", V24)],
)  # fmt: skip
def test_the_example_scripts(script: str, dialect: Dialect | None):
    """Those for both sides show neither."""
    assert dialect == detect((SCRIPTS / f"{script}.lua").read_bytes())


def test_the_servers_dialect_decides_what_a_script_does_not(bench: Bench):
    """And a script's own marks win over it."""
    assert bench.passdb("x = 1", None).dialect == V23
    assert bench.passdb("x = dovecot.gettimeofday()", None).dialect == V24


def test_any_bytes_have_a_dialect_or_none():
    """A script need not be UTF-8."""
    assert detect(bytes(range(256))) is None
