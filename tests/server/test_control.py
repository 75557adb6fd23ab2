"""The control socket, and reloads."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from authlua.errors import ScriptError
from authlua.server.core import Core
from authlua.wishes import Flight
from tests.auth.fakes import House
from tests.server.living import living, login, read_until
from tests.server.test_clients import auth, slow_house


class Script:
    """Counts how often it is closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


async def ask(stream: trio.SocketStream, command: Any) -> Any:
    await stream.send_all(json.dumps(command).encode() + b"\n")
    return json.loads(await read_until(stream, b"\n"))


async def test_status_counts_what_happened(tmp_path: Path) -> None:
    """Requests, connections, uptime."""
    house = House({"t": {"password": "{PLAIN}pass"}})
    async with living(tmp_path, house.auth) as server:
        client = await login(server)
        await client.send_all(auth(1, "t") + auth(2, "x") + auth(3, "t"))
        await read_until(client, b"OK\t3\tuser=t\n")
        answer = await ask(server.connect("control"), {"command": "status"})
        assert answer["ok"]
        assert answer["status"].items() >= {"requests": 3, "successes": 2, "failures": 1, "clients": 1}.items()


async def test_nonsense_is_answered_with_what_is_known(tmp_path: Path) -> None:
    """And the conversation goes on."""
    async with living(tmp_path, House({}).auth) as server:
        stream = server.connect("control")
        for nonsense in ({"command": "dance"}, {}, [], 7):
            answer = await ask(stream, nonsense)
            assert not answer["ok"]
            assert "status" in answer["error"]
        for users in ("t", 5, [1], {"t": 1}):
            answer = await ask(stream, {"command": "cache-flush", "users": users})
            assert answer == {"ok": False, "error": "users: expected a list of names or masks"}
        assert (await ask(stream, {"command": "cache-flush"})) == {"ok": True, "flushed": 0}


async def test_a_mistake_of_ours_costs_one_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw is logged with its traceback; all others are served on."""
    async with living(tmp_path, House({"t": {"password": "{PLAIN}pass"}}).auth) as server:
        client, other, stream = await login(server), await login(server), server.connect("control")
        master = server.connect("master")
        await master.send_all(b"VERSION\t1\t1\n")
        await read_until(master, b"SPID\t%d\n" % os.getpid())
        with monkeypatch.context() as broken:
            broken.setattr(server.app, "core", None)  # functions of what is compiled cannot be replaced
            await stream.send_all(b'{"command": "status"}\n')
            assert await read_until(stream, b"\n") == b""
            await master.send_all(b"USER\t1\tt\tservice=imap\n")
            assert await read_until(master, b"\n") == b""
            await other.send_all(auth(1, "t"))
            assert await read_until(other, b"\n") == b""
        assert [entry["listener"] for entry in server.events("internal_error")] == ["control", "master", "client"]
        await client.send_all(auth(1, "t"))
        assert await read_until(client, b"\n") == b"OK\t1\tuser=t\n"


async def test_json_that_is_too_deep_is_nonsense(tmp_path: Path) -> None:
    """And no end of the server."""
    async with living(tmp_path, House({}).auth) as server:
        stream = server.connect("control")
        await stream.send_all(b"[" * 60000 + b"\n")
        assert json.loads(await read_until(stream, b"\n"))["ok"] is False


async def test_a_reload_swaps_the_core_and_lets_the_old_one_finish(tmp_path: Path) -> None:
    """Requests that run end where they began; then the old scripts are closed."""
    flight = Flight()
    old, _ = slow_house(lambda: flight)
    new = House({"t": {"password": "{PLAIN}pass", "from": "new"}})
    fresh = Core(new.auth, [])
    async with living(tmp_path, old.auth, reload=lambda: fresh) as server:
        script: Any = Script()
        server.app.core._scripts = [script]
        client = await login(server)
        await client.send_all(auth(1, "t"))
        assert await ask(server.connect("control"), {"command": "reload"}) == {"ok": True}
        assert script.closed == 0
        await client.send_all(auth(2, "t"))
        assert await read_until(client, b"\n") == b"OK\t2\tuser=t\tfrom=new\n"
        assert script.closed == 0
        flight.land()
        assert await read_until(client, b"\n") == b"OK\t1\tuser=t\n"
        assert script.closed == 1


class Loading:
    """Loads cores that are all the same, when it is told to."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.begun = 0
        self.go_on = threading.Event()
        self.cores: list[Core] = []

    def __call__(self) -> Core:
        self.begun += 1
        self.go_on.wait(60)
        core = Core(self.house.auth, [])
        self.cores.append(core)
        return core


async def until(condition: Callable[[], bool]) -> None:
    """Return when it is so."""
    with trio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - it becomes so in a thread
            await trio.sleep(0.01)


async def test_the_server_serves_on_while_it_loads(tmp_path: Path) -> None:
    """And those who ask meanwhile wait for one more reload, all for the same."""
    house = House({"t": {"password": "{PLAIN}pass"}})
    loading = Loading(house)
    async with living(tmp_path, house.auth, reload=loading) as server:
        controls = [server.connect("control") for _ in range(4)]
        await controls[0].send_all(b'{"command": "reload"}\n')
        await until(lambda: loading.begun == 1)
        for control in controls[1:]:
            await control.send_all(b'{"command": "reload"}\n')
        await until(lambda: server.app._reloads_asked == len(controls))
        client = await login(server)
        await client.send_all(auth(1, "t"))
        assert await read_until(client, b"\n") == b"OK\t1\tuser=t\n"
        loading.go_on.set()
        for control in controls:
            assert await read_until(control, b"\n") == b'{"ok": true}\n'
        assert loading.begun == 2
        assert server.app.core is loading.cores[1]


async def test_a_script_that_blocks_when_it_is_loaded_is_given_up(tmp_path: Path) -> None:
    """With an error; what comes of it later is not taken."""
    house = House({})
    loading = Loading(house)
    async with living(tmp_path, house.auth, reload=loading, request_timeout=0.05) as server:
        old = server.app.core
        answer = await ask(server.connect("control"), {"command": "reload"})
        assert answer == {"ok": False, "error": "a script did not load within 0.05 s", "error_of": "script"}
        loading.go_on.set()
        await until(lambda: bool(loading.cores) and loading.cores[0]._retired)
        assert server.app.core is old


async def test_a_bug_in_a_reload_ends_only_the_reload(tmp_path: Path) -> None:
    """It is logged as what it is."""

    def broken() -> Core:
        raise ZeroDivisionError("ours")

    async with living(tmp_path, House({}).auth, reload=broken) as server:
        answer = await ask(server.connect("control"), {"command": "reload"})
        assert answer == {"ok": False, "error": "ZeroDivisionError: ours", "error_of": "authlua"}
        assert server.events("internal_error")


async def test_a_reload_that_fails_changes_nothing(tmp_path: Path) -> None:
    """And says why, to the asker and in the log."""

    def broken() -> Core:
        raise ScriptError("auth.lua:7: boom")

    house = House({"t": {"password": "{PLAIN}pass"}})
    async with living(tmp_path, house.auth, reload=broken) as server:
        answer = await ask(server.connect("control"), {"command": "reload"})
        assert answer == {"ok": False, "error": "auth.lua:7: boom", "error_of": "script"}
        client = await login(server)
        await client.send_all(auth(1, "t"))
        assert await read_until(client, b"\n") == b"OK\t1\tuser=t\n"
        assert server.events("reload_failed")[0]["reason"] == "auth.lua:7: boom"
