"""What a script finds in each dialect, and what it does not; and what is the same whatever the Lua."""

import re
import time

import pytest

from authlua.dialect import Dialect
from authlua.lua.runtime import VERSIONS
from tests.lua.conftest import Bench, login, now

V23, V24_0, V24 = Dialect.V2_3, Dialect.V2_4_0, Dialect.V2_4

SINCE_2_4_0 = (V24_0, V24)
SINCE_2_4_1 = (V24,)
UNTIL_2_4_0 = (V23, V24_0)
EACH = (V23, V24_0, V24)
MEMBERS = {
    "dovecot.i_debug": EACH, "dovecot.event": EACH, "dovecot.has_flag": EACH, "dovecot.http": EACH,
    "dovecot.restrict_global_variables": EACH, "req.event": EACH, "req.password_verify": EACH, "req.log_error": EACH,
    "req.log_info": EACH, "req.var_expand": EACH,
    "dovecot.gettimeofday": SINCE_2_4_0, "dovecot.nanoseconds": SINCE_2_4_0, "dovecot.microseconds": SINCE_2_4_0,
    "dovecot.net_ip_family": SINCE_2_4_0, "dovecot.tabescape": SINCE_2_4_0, "dovecot.tabunescape": SINCE_2_4_0,
    "dovecot.split_tabescaped": SINCE_2_4_0, "dovecot.doveadm_client": SINCE_2_4_0,
    "dovecot.event().set_forced_debug": SINCE_2_4_1, "dovecot.event().unset_forced_debug": SINCE_2_4_1,
    "dovecot.base64": SINCE_2_4_1, "dovecot.var_expand": SINCE_2_4_1,
    "req.response_from_template": UNTIL_2_4_0,
    "req.service": (V23,), "req.protocol": SINCE_2_4_0,
    "dovecot.event().passthrough_event": EACH, "dovecot.event():passthrough_event():log_info('').add_str": EACH,
    "dovecot.event():passthrough_event():log_info('').passthrough_event": (),
    "dovecot.event():passthrough_event():log_info('').set_forced_debug": (),
}  # fmt: skip


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_is_there_in_its_dialects(bench: Bench, member: str) -> None:
    """As of the release that brought it, or until the one that dropped it; what came in 2.4.2 is there in 2.4."""
    found = tuple(dialect for dialect in EACH if bench.evaluate(f"return {member} ~= nil", dialect=dialect) == "true")
    assert MEMBERS[member] == found


@pytest.mark.parametrize(("dialect", "given"), [(V23, "0"), (V24_0, "1 table"), (V24, "1 table")])
def test_script_init_gets_what_the_dialect_gives(bench: Bench, dialect: Dialect, given: str) -> None:
    """Nothing in 2.3, a table of settings since 2.4.0; no other function of the start gets anything."""
    bench.passdb(
        """
        local function say(...) print(select("#", ...) .. (... == nil and "" or " " .. type(...))) end
        function script_init(...) say(...) return 0 end
        function auth_passdb_get_cache_key(...) say(...) return "%{user}" end
        """,
        dialect,
    )
    assert bench.texts == [given, *(["0"] if dialect is not V23 else [])]


@pytest.mark.parametrize("version", VERSIONS)
def test_numbers_are_those_of_the_lua(bench: Bench, version: str) -> None:
    """Before 5.3 all are floats: a fraction is cut off where Dovecot wants an integer, and is none since."""
    old = version in ("5.1", "5.2", "luajit")
    passdb = bench.passdb(
        "function auth_passdb_lookup(req) local t = { a = 1.9, b = -2.5, c = 7.0, d = 1e300 }\n"
        "t.ok, t.why = pcall(req:event().add_int, req:event(), 'n', 1.5)\n"
        "t.one = tostring(dovecot.auth.PASSDB_RESULT_OK)\nt.kind = math.type and math.type(1) return 1.0, t end",
        version=version,
    )
    fields = dict(now(passdb.lookup(login())).fields)
    why = fields.pop("why", None)
    assert fields == (
        {"a": "1", "b": "18446744073709551614", "c": "7", "d": "0", "ok": "yes", "one": "1"}
        if old
        else {"a": "0", "b": "0", "c": "7", "d": "0", "ok": "no", "one": "1.0", "kind": "integer"}
    )
    assert (why is not None and why.endswith("(number has no integer representation)")) is not old


def test_the_clock_is_that_of_the_machine(bench: Bench) -> None:
    """Seconds, micro- and nanoseconds since 1970, as whole numbers."""
    body = """
    local t = dovecot.gettimeofday()
    for _, n in ipairs { t.tv_sec, t.tv_usec, dovecot.microseconds(), dovecot.nanoseconds() } do
      assert(math.type(n) == "integer")
    end
    return t.tv_sec * 1000000 + t.tv_usec, dovecot.microseconds(), dovecot.nanoseconds() // 1000
    """
    before = time.time_ns() // 1000
    said = bench.evaluate(body, dialect=V24)
    after = time.time_ns() // 1000
    assert said is not None
    times = [int(word) for word in said.split()]
    assert [before, *times, after] == sorted([before, *times, after])


PROVIDERS = {
    "%{literal('a') | upper}b": "Ab",
    "%{env:AUTHLUA_PROBE}": "from the environment",
    "%{env:AUTHLUA_NO_SUCH}": "",
    "%{process:pid}": r"\d+",
    "%{process:uid}": r"\d+",
    "%{system:os}": "Linux",
    "%{system:hostname}": r"\S+",
    "%{dovecot:name}": "Dovecot",
    "%{date:year}": r"20\d\d",
    "%{time:hour}": r"\d\d",
    "%{generate:guid128}": "[0-9a-f]{32}",
    "%{generate:uuid}": "[-0-9a-f]{36}",
}


@pytest.mark.parametrize("template", PROVIDERS)
def test_a_template_without_a_request_has_providers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    """``dovecot.var_expand`` knows the process and the machine."""
    monkeypatch.setenv("AUTHLUA_PROBE", "from the environment")
    said = bench.evaluate(f'return dovecot.var_expand("{template}")', dialect=V24)
    assert re.fullmatch(PROVIDERS[template], said or ""), said


def test_garbage_is_left_to_lua(bench: Bench) -> None:
    """Dovecot collects it all after each call; here what only weak tables hold may be there at the next one."""
    passdb = bench.passdb(
        "weak = setmetatable({ {} }, { __mode = 'v' })\n"
        "function auth_passdb_lookup() return 1, { held = weak[1] ~= nil } end"
    )
    assert [dict(now(passdb.lookup(login())).fields)["held"] for _ in range(3)] == ["yes"] * 3


def test_the_default_lua_counts_as_far_as_dovecots(bench: Bench) -> None:
    """5.4, with integers of 64 bits."""
    assert bench.evaluate("return _VERSION, math.maxinteger, 3 // 2, 1 << 62") == f"Lua 5.4 {2**63 - 1} 1 {2**62}"
