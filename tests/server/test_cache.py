"""The auth cache of a running server: loaded from a configuration, flushed, counted."""

from pathlib import Path
from typing import Any

import pytest
import structlog

from authlua.auth import CacheKey, new_request
from authlua.config import load
from authlua.errors import ConfigError, ScriptError
from authlua.protocol import PassFound
from authlua.server import Core, open_core
from tests.auth import test_cache as test_auth
from tests.auth.fakes import House, run
from tests.server.living import living, login, read_until
from tests.server.test_clients import auth
from tests.server.test_control import ask

SCRIPT = """
calls = 0
function auth_passdb_lookup(req)
  calls = calls + 1
  return dovecot.auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass", calls = tostring(calls) }
end
"""
KEY = """
function auth_passdb_get_cache_key()
  return "%{user}%{protocol}"
end
"""


def core_of(tmp_path: Path, script: str, *, dialect: str, more: str = "", auth: str = "") -> Core:
    (tmp_path / "auth.lua").write_text(script)
    (tmp_path / "authlua.toml").write_text(
        f'[server]\ndialect = "{dialect}"\n[auth]\ncache_size = "1M"\n{auth}\n'
        f'[[passdb]]\nscript = "auth.lua"\n{more}\n[[userdb]]\nscript = "auth.lua"\n'
    )
    return open_core(load(tmp_path / "authlua.toml"), structlog.wrap_logger(structlog.ReturnLogger(), processors=[]))


@pytest.mark.parametrize(
    ("dialect", "script", "more", "calls"),
    [
        ("2.3", SCRIPT, "", ["1", "1", "2", "1"]),
        ("2.3", SCRIPT, "cache_key = '%u%s'", ["1", "2", "3", "1"]),
        ("2.3", SCRIPT, "cache_key = ''", ["1", "2", "3", "4"]),
        ("2.3", SCRIPT, "default_fields = { home = '/%s' }", ["1", "2", "3", "1"]),
        ("2.4", SCRIPT, "", ["1", "2", "3", "4"]),
        ("2.4", SCRIPT + KEY, "", ["1", "2", "3", "1"]),
        ("2.3", SCRIPT + KEY, "dialect = '2.4'", ["1", "2", "3", "1"]),
    ],
)
def test_the_key_is_the_configurations_or_the_scripts(
    tmp_path: Path, dialect: str, script: str, more: str, calls: list[str]
) -> None:
    """A script of 2.4 has a function for it and is not cached without; 2.3 has a setting, and caches by user."""
    core = core_of(tmp_path, script, dialect=dialect, more=more)
    found = []
    for user, service in (("a", "imap"), ("a", "pop3"), ("b", "imap"), ("a", "imap")):
        reply = run(core.auth.lookup_passdb(new_request([("service", service)], id=1), user))[1]
        assert isinstance(reply, PassFound)
        found.append(dict(reply.fields)["calls"])
    core.retire()
    assert found == calls


@pytest.mark.parametrize(("key", "problem"), [("%{user", "syntax error, "), ("%{nosuch}", "Unknown variable 'nosuch'")])
def test_a_key_that_is_none_keeps_the_server_from_starting(tmp_path: Path, key: str, problem: str) -> None:
    """Whether the script or the configuration says it."""
    with pytest.raises(ScriptError) as wrong:
        core_of(tmp_path, SCRIPT + KEY.replace("%{user}%{protocol}", key), dialect="2.4")
    assert str(wrong.value).startswith(f"passdb-lua: auth_passdb_get_cache_key() failed: {key}: {problem}")
    with pytest.raises(ConfigError, match=r"passdb\.cache_key: "):
        core_of(tmp_path, SCRIPT, dialect="2.4", more=f"cache_key = '{key}'")


async def test_the_cache_is_flushed_and_counted(tmp_path: Path) -> None:
    """Over the control socket; by a user's name or a mask, or wholly."""
    from authlua.dialect import Dialect
    from authlua.variables import compile_template

    key = CacheKey.of_template("P", 1, compile_template("%u", Dialect.V2_3), Dialect.V2_3)
    house = House({"t": {"password": "{PLAIN}pass"}}, placed=[{"cache_key": key}], cache_size=1 << 20)
    async with living(tmp_path, house.auth) as server:
        client = await login(server)
        await client.send_all(auth(1, "t") + auth(2, "t") + auth(3, "u") + auth(4, "t"))
        await read_until(client, b"OK\t4\tuser=t\n")
        control: Any = server.connect("control")
        status = (await ask(control, {"command": "status"}))["status"]["cache"]
        assert (status["hits"], status["misses"], status["entries"]) == (2, 2, 2)
        assert [event["cached"] for event in server.events("auth_request_finished")] == [False, True, False, True]
        assert (await ask(control, {"command": "cache-flush", "users": ["t"]}))["flushed"] == 1
        master = server.connect("master")
        await read_until(master, b"\n")
        await master.send_all(b"VERSION\t1\t0\nCACHE-FLUSH\t1\t*\n")
        assert (await read_until(master, b"OK\t1\t1\n")).endswith(b"OK\t1\t1\n")


async def test_what_the_cache_did_is_told_since_the_last_time(tmp_path: Path) -> None:
    """What SIGUSR2 asks for; the counters of the metrics go on."""
    house = House({"t": {"password": "{PLAIN}pass"}}, placed=[{"cache_key": test_auth.key()}], cache_size=1 << 20)
    async with living(tmp_path, house.auth) as server:
        client = await login(server)
        server.app.tell_cache()
        await client.send_all(auth(1, "t") + auth(2, "t") + auth(3, "t"))
        await read_until(client, b"OK\t3\tuser=t\n")
        server.app.tell_cache()
        await client.send_all(auth(4, "t"))
        await read_until(client, b"OK\t4\tuser=t\n")
        server.app.tell_cache()
        told = [(one["hits"], one["misses"], one["entries"]) for one in server.events("auth_cache_statistics")]
        assert told == [(0, 0, 0), (2, 1, 1), (1, 0, 1)]
        assert server.app.status()["cache"]["hits"] == 3  # type: ignore[index]


async def test_a_reload_begins_with_an_empty_cache(tmp_path: Path) -> None:
    """SIGHUP flushes it, as in Dovecot."""
    core, fresh = (core_of(tmp_path, SCRIPT, dialect="2.3") for _ in range(2))
    run(core.auth.lookup_passdb(new_request([("service", "x")], id=1), "t"))
    async with living(tmp_path, core.auth, reload=lambda: fresh) as server:
        control = server.connect("control")
        assert (await ask(control, {"command": "status"}))["status"]["cache"]["entries"] == 1
        await ask(control, {"command": "reload"})
        assert (await ask(control, {"command": "status"}))["status"]["cache"]["entries"] == 0
    core.retire()
