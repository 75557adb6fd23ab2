"""A script's life from its first line to its last, and what its events carry: asked of a running Dovecot as well."""

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from authlua.conformance.raw import RawConnection
from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua import load_passdb
from tests.lua.conftest import Bench, listed, login, now
from tests.lua.test_against_dovecot import BOTH, plain, probes
from tests.lua.test_life_cycle import REFUSED
from tests.reference.dovecot import Dovecot, Dovecot24, why_not

Series = tuple[type[Dovecot], Dialect]


@pytest.fixture(params=BOTH)
def series(request: pytest.FixtureRequest) -> Series:
    """Each Dovecot there is."""
    kind, dialect = request.param
    if reason := why_not(kind.series):
        pytest.skip(reason)
    return kind, dialect


def running(kind: type[Dovecot], script: str, **settings: Any) -> Dovecot:
    return kind(script, auth_failure_delay="0", **{"auth_debug": "no", **settings})


# -- the start ------------------------------------------------------------------------------------------------------

ASKED = [
    "a missing file", "syntax", "main chunk", "script_init raises", "script_init returns nothing",
    "script_init returns a float", "script_init returns a text", "script_init returns 1", "the cache key is nil",
    "the cache key raises",
]  # fmt: skip


def refusal(kind: type[Dovecot], source: str | None, ours: str) -> str:
    """What the log of a Dovecot says that cannot start with the script *source*, up to the last line of *ours*."""
    databases = None
    if source is None:
        databases = kind._lua_databases().replace("auth.lua", "nosuch.lua")
    with running(kind, source or "", databases=databases) as dovecot:
        with RawConnection.connect(dovecot.sockets["client"]) as client:
            client.send(b"VERSION\t1\t2\nCPID\t77\n")
        # our paths are shorter than those in the log
        log = dovecot.wait_for_log(ours.splitlines()[-1].rpartition(".lua")[2] + "\n")
    lines = re.findall(r"auth: (?:Fatal|Error): (.*)", log)
    return "\n".join(lines).replace(f"{dovecot.directory}/", "")


def test_what_keeps_a_script_from_starting_is_told_as_by_dovecot(
    series: Series, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Line by line, with Lua's traceback; no login is answered then. What we add about results is not asked for."""
    kind, dialect = series
    cases = {name: case[0] for name, case in REFUSED.items() if case[1] is dialect and name.startswith(tuple(ASKED))}
    cases.pop("a missing file, 2.4", None)  # there it is the configuration that is refused
    assert len(cases) >= 5
    monkeypatch.chdir(tmp_path)
    ours = {}
    for name, source in cases.items():
        file = "nosuch.lua" if source is None else "auth.lua"
        if source is not None:
            (tmp_path / file).write_text(source)
        with pytest.raises(ScriptError) as caught:
            load_passdb(file, log=bench.log, server_dialect=dialect, dialect=dialect)
        ours[name] = re.sub(r" \([^()]*auth\.lua [^()]*\)$", "", str(caught.value))
    with ThreadPoolExecutor(4) as pool:
        said = pool.map(lambda name: refusal(kind, cases[name], ours[name]), cases)
        assert dict(zip(cases, said, strict=True)) == ours


# -- the life -------------------------------------------------------------------------------------------------------

LIFE = """
local function say(what, ...) dovecot.i_info("PROBE " .. what .. " " .. select("#", ...) .. " " .. type((...))) end
calls = 0
local function count() calls = calls + 1 return calls end
say("chunk", dovecot.auth)
function script_load() say("load") end
function script_init(...) say("init", ...) return 0 end
function script_deinit(...) say("deinit", ...) error("PROBE no end", 0) end
function auth_passdb_lookup(...)
  say("passdb", ...)
  auth_passdb_lookup = function() return 1, { password = "pass", n = count(), later = "y" } end
  auth_password_verify = function() return 1, { judged = "y" } end
  return 1, { password = "pass", n = count() }
end
function auth_userdb_lookup(...) say("userdb", ...) return 1, { n = count() } end
function auth_userdb_iterate(...) say("list", ...) return { "u" .. count() } end
"""
MASK = {"2.3": "", "2.4": "\tuser=*"}
"""2.4.1 lists nobody without one."""


def test_a_script_is_called_when_dovecot_calls_it(series: Series, bench: Bench) -> None:
    """Main chunk and script_init once for each database, then functions by their names of the moment, script_deinit at
    the end. To list users Dovecot loads the script once more, in a worker; authlua asks the one it has."""
    kind, dialect = series
    with running(kind, LIFE) as dovecot:
        with RawConnection.connect(dovecot.sockets["client"]) as client:
            client.handshake(pid=77)
            logins = client.ask(*(f"AUTH\t{number}\tPLAIN\tservice=imap\tresp={plain('t')}" for number in (1, 2)))
        with RawConnection.connect(dovecot.sockets["master"]) as master:
            master.handshake(minor=1)
            user = master.ask("USER\t1\tt\tservice=imap")
            users = master.ask(f"LIST\t2\tservice=imap{MASK[kind.series]}")
        assert dovecot._process is not None
        dovecot._process.terminate()
        end = " auth: Error: script_deinit() failed"
        first = dovecot.wait_for_log(end).index(end) + len(end)
        dovecot.wait_for_log(end, since=first)
        log = dovecot.log()
    assert [sorted(answer.split(b"\t")) for answer in (*logins, *user)] == [
        [b"1", b"OK", b"n=1", b"user=t"],
        [b"2", b"OK", b"later=y", b"n=2", b"user=t"],
        [b"1", b"USER", b"n=1", b"t"],
    ]
    assert users[0] == b"LIST\t2\tu1"
    listing = probes("\n".join(re.findall(r"auth-worker.*: Info: PROBE.*", log)))
    assert [probe.split()[1] for probe in listing if "deinit" not in probe] == [
        "chunk",
        "init",
        "chunk",
        "init",
        "list",
    ]
    theirs = probes("\n".join(re.findall(r" auth: (?:Info|Error): .*PROBE.*", log)))
    failed = "script_deinit() failed: lua_pcall(script_deinit, 0, 0) failed: "
    assert log.count(f" auth: Error: {failed}PROBE no end") == 2

    script = bench.script(LIFE)
    passdb, userdb = bench.passdb(script, dialect), bench.userdb(script, dialect)
    ours = [dict(now(passdb.lookup(login("t"))).fields) for _ in range(2)]
    assert ours == [{"password": "pass", "n": "1"}, {"password": "pass", "n": "2", "later": "y"}]
    assert not passdb.verifies
    assert dict(now(userdb.lookup(login("t"))).fields) == {"n": "1"}
    before = len(bench.lines)
    assert listed(userdb.iterate()) == ["u2"]
    del bench.lines[before:]
    bench.close()
    texts = [text.partition("\n")[0] for text in bench.texts]
    loads = [text for text in texts if text == "PROBE load 0 nil"]
    assert len(loads) == 2
    assert theirs == [text.removeprefix(failed) for text in texts if text not in loads]


INHERITED = """
local function say(what) dovecot.i_info("PROBE " .. what) end
setmetatable(_G, { __index = {
  script_init = function() say("init") return 0 end,
  script_deinit = function() say("deinit") end,
  auth_passdb_get_cache_key = function() say("key") return "%{user}" end,
  auth_password_verify = function() return 1, { judged = "y" } end,
  auth_passdb_lookup = function() return 1, { password = "pass", found = "y" } end,
  auth_userdb_lookup = function() return 1, { found = "y" } end,
  auth_userdb_iterate = function() return { "u" } end,
} })
"""


def test_lookups_may_be_inherited_and_other_functions_not(series: Series, bench: Bench) -> None:
    """Dovecot calls lookups through a metatable of the globals, but looks for the others in the globals themselves."""
    kind, dialect = series
    with running(kind, INHERITED) as dovecot:
        with RawConnection.connect(dovecot.sockets["client"]) as client:
            client.handshake(pid=77)
            answers = client.ask(f"AUTH\t1\tPLAIN\tservice=imap\tresp={plain('t')}")
        with RawConnection.connect(dovecot.sockets["master"]) as master:
            master.handshake(minor=1)
            answers += master.ask("USER\t1\tt\tservice=imap", f"LIST\t2\tservice=imap{MASK[kind.series]}")
        theirs = probes(dovecot.log())
    assert answers == [b"OK\t1\tuser=t\tfound=y", b"USER\t1\tt\tfound=y", b"DONE\t2\tfail"]
    script = bench.script(INHERITED)
    passdb, userdb = bench.passdb(script, dialect), bench.userdb(script, dialect)
    assert not passdb.verifies
    assert passdb.cache_key is None
    assert dict(now(passdb.lookup(login("t"))).fields) == {"password": "pass", "found": "y"}
    assert dict(now(userdb.lookup(login("t"))).fields) == {"found": "y"}
    with pytest.raises(ScriptError, match="'auth_userdb_iterate' is not a function"):
        listed(userdb.iterate())
    bench.close()
    assert (theirs, bench.texts) == ([], [])


# -- the log --------------------------------------------------------------------------------------------------------

LEVELS = """
function auth_passdb_lookup(req)
  for _, level in ipairs { "debug", "info", "warning", "error" } do
    local lone, own, once = dovecot.event(), req:event(), dovecot.event():passthrough_event()
    dovecot["i_" .. level]("PROBE i_" .. level)
    req["log_" .. level](req, "PROBE request " .. level)
    lone["log_" .. level](lone, "PROBE event " .. level)
    own["log_" .. level](own, "PROBE event of the request " .. level)
    once["log_" .. level](once, "PROBE passthrough event " .. level)
  end
  return 1, { password = "pass" }
end
"""


@pytest.mark.parametrize(("debug", "verbose"), [(False, False), (False, True), (True, False)])
def test_the_same_lines_are_written(series: Series, bench: Bench, debug: bool, verbose: bool) -> None:
    """auth_verbose brings what a request says, auth_debug the rest; plain lines and those of events need neither."""
    kind, dialect = series
    switches = {"auth_debug": "yes" if debug else "no", "auth_verbose": "yes" if verbose else "no"}
    with running(kind, LEVELS, **switches) as dovecot:
        with RawConnection.connect(dovecot.sockets["client"]) as client:
            client.handshake(pid=77)
            client.ask(f"AUTH\t1\tPLAIN\tservice=imap\tresp={plain('t')}")
        log = dovecot.wait_for_log("PROBE passthrough event error")
    theirs = re.findall(r"auth.*: (Debug|Info|Warning|Error): .*?(PROBE .*)", log)
    now(bench.passdb(LEVELS, dialect, debug=debug, verbose=verbose).lookup(login("t")))
    said = [line for line in bench.lines if "PROBE" in line.text]
    ours = [(line.level.capitalize(), line.text.removeprefix("db-lua: ")) for line in said]
    assert len(ours) >= 15
    assert theirs == ours


EXPORT = {
    "2.3": "event_exporter all {\n  format = json\n  format_args = time-rfc3339\n  transport = log\n}\n"
    "metric probes {\n  exporter = all\n  filter = event=probe\n  exporter_include = name fields\n}\n",
    "2.4": "event_exporter all {\n  driver = log\n  format = json\n  time_format = rfc3339\n}\n"
    "metric probes {\n  exporter = all\n  filter = event=probe\n  exporter_include = name fields\n}\n",
}
FIELDS = """
function auth_passdb_lookup(req)
  local function probe(event, text) event:set_name("probe"):log_info("PROBE " .. text) end
  local own = req:event():add_str("s", "text"):add_int("i", "5"):inc_int("i", 2):add_timeval("t", 7):add_str(1, 2)
  probe(own, "of the request")
  own:log_info("PROBE without name")
  probe(req:event(), "of another event of the request")
  local parent = dovecot.event():add_int("n", 1):add_str("who", "parent"):set_name("nobody")
  local child = dovecot.event(parent)
  child:inc_int("n", 5)
  probe(child, "adding begins anew below the parent")
  probe(child:inc_int("n", -7), "and goes on there")
  parent:add_str("later", "yes"):add_str("who", "changed"):add_int("n", 2)
  probe(dovecot.event(child), "of a grandchild")
  probe(parent:add_str("n", "x"), "a text in place of a number")
  probe(parent:inc_int("n", 3), "a number in place of a text")
  probe(parent:add_timeval("n", 3), "a time in place of a number")
  probe(parent:inc_int("n", 4), "a number in place of a time")
  probe(parent:passthrough_event():add_str("who", "once"):add_int("m", 1), "of a passthrough event")
  probe(parent, "as it was before that")
  parent:set_name("probe")
  dovecot.event(parent):log_info("PROBE a child has no name")
  probe(parent:add_str("empty", ""):add_int("least", math.mininteger), "at the edge")
  dovecot.i_info("PROBE end")
  return 1, { password = "pass" }
end
"""
OF_THE_REQUEST = {
    "duration", "script", "mechanism", "transport", "service", "protocol", "original_user", "user", "translated_user",
    "passdb", "passdb_id", "passdb_name", "passdb_driver", "remote_pid", "remote_uid", "remote_gid",
}  # fmt: skip


def exported(value: object) -> object:
    """A time as our log has it, ``SECONDS.USECS``."""
    if isinstance(value, str) and (time := re.fullmatch(r"1970-01-01T00:00:(\d\d)\.000000Z", value)):
        return f"{int(time[1])}.0"
    return value


def test_an_event_carries_the_same_fields(series: Series, bench: Bench) -> None:
    """Of all kinds, set over each other, of parents and children, and with a name that is for one message."""
    kind, dialect = series
    with running(kind, FIELDS, extra=EXPORT[kind.series]) as dovecot:
        with RawConnection.connect(dovecot.sockets["client"]) as client:
            client.handshake(pid=77)
            client.ask(f"AUTH\t1\tPLAIN\tservice=imap\tresp={plain('t')}")
        log = dovecot.wait_for_log('"least"')
    theirs = [
        {key: exported(value) for key, value in json.loads(record)["fields"].items() if key not in OF_THE_REQUEST}
        for record in re.findall(r'stats: Info: (\{"event":"probe".*)', log)
    ]
    now(bench.passdb(FIELDS, dialect).lookup(login("t")))
    ours = [
        {key: value for key, value in line.fields.items() if key not in OF_THE_REQUEST | {"event_name"}}
        for line in bench.lines
        if line.fields.get("event_name") == "probe"
    ]
    assert len(theirs) == 12
    assert theirs == ours
    assert {line.fields.get("event_name") for line in bench.lines} == {"probe", None}


# -- the settings ---------------------------------------------------------------------------------------------------

SETTINGS = {
    "plain": "text",
    "number": "5",
    "percent": "100%",
    "double": "%%x",
    "literal": "x%{literal('q')}",
    "provider": "%{dovecot:name}",
    "environment": "%{env:PATH}",
    "filtered": "%{literal('a') | upper}",
}
ECHO = """
function script_init(settings)
  for name, value in pairs(settings) do dovecot.i_info("PROBE " .. name .. " " .. type(value) .. " " .. value) end
end
"""


def with_settings(settings: Mapping[str, str]) -> str:
    lines = "".join(f"    {name} = {value}\n" for name, value in settings.items())
    return f"passdb lua {{\n  lua_file = {{directory}}/auth.lua\n  lua_settings {{\n{lines}  }}\n}}\n"


@pytest.mark.dovecot24
def test_settings_arrive_filled_in(bench: Bench) -> None:
    """With what is known without a request, each as a text; the mistake in one keeps the script from starting."""
    if reason := why_not("2.4"):
        pytest.skip(reason)
    with running(Dovecot24, ECHO, databases=with_settings(SETTINGS)) as dovecot:
        with RawConnection.connect(dovecot.sockets["client"]) as client:
            client.handshake(pid=77)
        for name in SETTINGS:
            dovecot.wait_for_log(f"PROBE {name} ")
        theirs = probes(dovecot.log())
    bench.passdb(ECHO, Dialect.V2_4, settings=SETTINGS)
    assert len(theirs) == len(SETTINGS)
    assert sorted(theirs) == sorted(bench.texts)

    wrong = {"good": "text", "bad": "%{user}"}
    with running(Dovecot24, ECHO, databases=with_settings(wrong)) as dovecot:
        with RawConnection.connect(dovecot.sockets["client"]) as client:
            client.send(b"VERSION\t1\t2\n")
        (said,) = re.findall("auth: Fatal: (.*)", dovecot.wait_for_log("Fatal: "))
    with pytest.raises(ScriptError) as caught:
        bench.passdb(ECHO, Dialect.V2_4, settings=wrong)
    assert said == str(caught.value)
