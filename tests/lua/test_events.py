"""Events beyond what a running Dovecot was asked: levels, sources, fields, and passthrough events that leak."""

import pytest

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from tests.lua.conftest import Bench, login, now

V23, V24 = Dialect.V2_3, Dialect.V2_4


def test_events_log_info_without_verbose_and_debug_only_when_told(bench: Bench):
    """As Dovecot: an event does not look at auth_verbose."""
    body = "for _, e in ipairs { req:event(), dovecot.event() } do e:log_debug('d') e:log_info('i') end"
    bench.evaluate(body)
    assert bench.texts == ["i", "i"]
    bench.lines.clear()
    bench.evaluate(body, debug=True)
    assert bench.texts == ["Calling auth_passdb_lookup", "d", "i", "d", "i"]
    bench.lines.clear()
    bench.evaluate(body, request=login(debug=True))
    assert bench.texts == ["Calling auth_passdb_lookup", "d", "i", "i"]


def test_forced_debug_is_inherited_by_later_children(bench: Bench):
    """2.4.1's set_forced_debug and unset_forced_debug."""
    bench.evaluate(
        """
        local parent = req:event()
        local before = dovecot.event(parent)
        parent:set_forced_debug()
        local after = dovecot.event(parent)
        before:log_debug("before") parent:log_debug("parent") after:log_debug("after")
        after:unset_forced_debug():log_debug("unset")
        """,
        dialect=V24,
    )
    assert bench.texts == ["parent", "after"]


def test_a_name_is_for_one_message(bench: Bench):
    """Also when the message is not written."""
    bench.evaluate("req:event():set_name('n'):log_info('a'):log_info('b'):set_name('m'):log_debug('c'):log_info('d')")
    assert [line.fields.get("event_name") for line in bench.lines] == ["n", None, None]


def test_the_nearest_field_of_a_name_counts(bench: Bench):
    """Children see their parents' fields at the time they log."""
    bench.evaluate(
        """
        local parent = req:event():add_str("a", "parent"):add_int("n", 1)
        local child = dovecot.event(parent):add_str("a", "child")
        parent:add_str("b", "later")
        child:inc_int("n", 5):log_info("x")
        parent:inc_int("n", 5):inc_int("n", "-2"):add_timeval("t", 7):add_str("n2", 3):log_info("y")
        """
    )
    assert [line.fields for line in bench.lines] == [
        {"a": "child", "n": 5, "b": "later"},
        {"a": "parent", "n": 4, "b": "later", "t": "7.0", "n2": "3"},
    ]


def test_the_source_is_told_when_asked_for(bench: Bench):
    """set_always_log_source is inherited; file name and line are the script's."""
    bench.evaluate("local e = req:event():set_always_log_source()\ndovecot.event(e):log_info('x') e:log_info('y')")
    assert [line.fields for line in bench.lines] == [{"source": "auth.lua:2"}] * 2
    bench.lines.clear()
    bench.evaluate("local run = loadstring or load run(\"dovecot.event():set_always_log_source():log_info('x')\")()")
    assert bench.lines[0].fields["source"] == "<non-file location>"


def test_an_event_outlives_its_request(bench: Bench):
    """Kept in a global it logs on, bound to nothing."""
    passdb = bench.passdb(
        """
        function auth_passdb_lookup(req)
          e = e or req:event():append_log_prefix("p: ")
          e:log_info(req.user)
          return 0, ""
        end
        """
    )
    first = login("one")
    for request in (first, login("two")):
        now(passdb.lookup(request))
    assert [("p: one", first), ("p: two", None)] == [(line.text, line.request) for line in bench.lines]


@pytest.mark.parametrize(
    "receiver", ["{}", "{ item = {} }", "setmetatable({}, {})", "req", "req:event():passthrough_event()"]
)
def test_a_foreign_table_is_no_event(bench: Bench, receiver: str):
    """Dovecot crashes on it."""
    body = f"""
    local e, r = req:event(), {receiver}
    return select(2, pcall(e.set_forced_debug or e.log_info, r, "x"))
    """
    assert bench.evaluate(body) == "Bad argument #1, expected struct event got table"
    assert (
        bench.evaluate(f"return select(2, pcall(dovecot.event, {receiver}))")
        == "Bad argument #1, expected struct event got table"
    )


LEAK = ("error", "Passthrough event leaked by Lua script at auth.lua:2")


def leaks(bench: Bench) -> list[tuple[str, str]]:
    return [(line.level, line.text) for line in bench.lines if "leaked" in line.text]


@pytest.mark.parametrize("end", ["return 1, {}", "error('x')"])
def test_a_leaked_passthrough_event_is_an_error_in_the_log(bench: Bench, end: str):
    """In the words of 2.4.3, where earlier releases die; the call itself goes on."""
    request = login()
    passdb = bench.passdb(
        f"function auth_passdb_lookup(req)\n req:event():passthrough_event():add_str('a', 'b')\n{end} end"
    )
    for _ in range(2):
        try:
            now(passdb.lookup(request))
        except ScriptError as error:
            assert "auth.lua:3: x" in str(error)  # noqa: PT017 - it is not always raised
    assert leaks(bench) == [LEAK, LEAK]
    assert request is bench.lines[0].request


def test_a_second_passthrough_event_ends_the_first(bench: Bench):
    """Which is as dead as one that was logged."""
    problem = bench.evaluate(
        "local e = req:event()\n local a = e:passthrough_event()\n e:passthrough_event():log_info('b')"
        " return select(2, pcall(a.log_info, a, 'a'))"
    )
    assert problem == "Passthrough event is used after it was logged"
    assert leaks(bench) == [LEAK]


def test_a_passthrough_event_is_used_once(bench: Bench):
    """Every method refuses it afterwards."""
    body = """
    local p = req:event():passthrough_event():log_info("x")
    return (pcall(p.log_info, p, "y")), (pcall(p.add_str, p, "a", "b"))
    """
    assert bench.evaluate(body) == "false false"
    assert bench.texts == ["x"]


def test_a_passthrough_event_leaks_while_the_script_loads(bench: Bench):
    """There too it is told, and does not meet the first call."""
    bench.passdb("local function f()\n dovecot.event():passthrough_event() end\nfunction script_load() f() end")
    assert leaks(bench) == [LEAK]


def test_a_name_with_nul_ends_there(bench: Bench):
    """Log texts are C strings."""
    bench.evaluate(
        "req:event():append_log_prefix('p\\0q'):log_info('a\\0b') dovecot.i_info('c\\0d') req:log_error('\\255')"
    )
    assert bench.texts == ["p", "c", "db-lua: \udcff"]
