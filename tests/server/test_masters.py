"""Masters: lookups that wait, lists, and fetching a login."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from authlua.listing import WholeListing
from authlua.request import AuthRequest
from authlua.results import UserdbReply, UserdbResult
from authlua.wishes import Errand, Outcome, Sleep
from tests.auth.fakes import House
from tests.server.living import Living, living, login, read_until
from tests.server.test_clients import auth

PASS = {"password": "{PLAIN}pass"}


async def master(server: Living, kind: str = "master") -> trio.SocketStream:
    stream = server.connect(kind)
    await stream.send_all(b"VERSION\t1\t1\n")
    await read_until(stream, b"SPID\t%d\n" % os.getpid())
    return stream


async def test_a_master_fetches_a_login_once(tmp_path: Path) -> None:
    """By client pid, id and cookie."""
    house = House({"t": PASS}, userdbs=[{"t": {"uid": "5"}}])
    async with living(tmp_path, house.auth) as server:
        client = server.connect("login")
        await client.send_all(b"VERSION\t1\t2\nCPID\t77\n" + auth(1, "t"))
        hello = await read_until(client, b"OK\t1\tuser=t\n")
        cookie = hello.split(b"COOKIE\t")[1].split(b"\n")[0]
        stream = await master(server)
        request = b"REQUEST\t%d\t77\t1\t%s\n"
        await stream.send_all(request % (5, b"0" * 32) + request % (6, cookie) + request % (7, cookie))
        assert await read_until(stream, b"FAIL\t7\n") == b"FAIL\t5\nUSER\t6\tt\tuid=5\tauth_mech=PLAIN\nFAIL\t7\n"
        await client.send_all(auth(1, "t"))
        assert await read_until(client, b"\n") == b"OK\t1\tuser=t\n"


async def test_lookups_run_side_by_side(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A slow one does not hold the next one up; one that takes too long fails."""

    class Slow:
        async def lookup(self, request: Any) -> UserdbReply:
            await Sleep(float(request.user))
            return UserdbReply(UserdbResult.OK)

        def iterate(self) -> WholeListing:
            raise AssertionError("nobody asks")

    house = House(userdbs=[{}])
    object.__setattr__(house.auth._userdbs._entries[0], "userdb", Slow())
    async with living(tmp_path, house.auth, request_timeout=100.0) as server:
        stream = await master(server)
        await stream.send_all(b"".join(b"USER\t%d\t%d\tservice=x\n" % (n, n) for n in (500, 30, 10)))
        assert await read_until(stream, b"FAIL\t500\n") == b"USER\t10\t10\t\nUSER\t30\t30\t\nFAIL\t500\n"
        assert server.app.core.holds == 0


async def test_a_long_list_waits_for_its_reader(tmp_path: Path) -> None:
    """It is not piled up in memory, and comes whole."""
    names = {f"user{number}@example.com": {} for number in range(30000)}
    house = House(userdbs=[names])
    async with living(tmp_path, house.auth) as server:
        stream = await master(server)
        await stream.send_all(b"LIST\t1\nUSER\t2\tuser1@example.com\tservice=x\n")
        await trio.sleep(0.2)
        (served,) = server.app.masters
        assert len(served._unsent) < 200_000
        got = await read_until(stream, b"DONE\t1\t\n")
        assert got.count(b"LIST\t1\t") == 30000


async def test_a_list_is_fetched_as_it_is_read(tmp_path: Path) -> None:
    """A client that does not read gets what the sockets hold, and no more is asked of the userdb."""

    class Endless:
        given = 0
        closed = False

        async def lookup(self, request: Any) -> UserdbReply:
            raise AssertionError("only lists")

        def iterate(self) -> "Endless":
            return self

        async def piece(self) -> list[str]:
            self.given += 1
            return [f"user{number}@example.com" for number in range(1000)]

        def close(self) -> None:
            self.closed = True

    endless = Endless()
    house = House(userdbs=[{}])
    object.__setattr__(house.auth._userdbs._entries[0], "userdb", endless)
    async with living(tmp_path, house.auth) as server:
        stream = await master(server)
        await stream.send_all(b"LIST\t1\n")
        given = -1
        while given != endless.given:
            given = endless.given
            await trio.sleep(0.3)
        assert 0 < given < 50
        assert server.app.core.holds == 1
        await stream.receive_some(1 << 20)
        await trio.sleep(0.1)
        assert endless.given > given
        await stream.aclose()
        while not endless.closed:  # noqa: ASYNC110
            await trio.sleep(0.01)
        assert server.app.core.holds == 0


async def test_a_list_that_fails_says_so(tmp_path: Path) -> None:
    """And its script's error is in the log."""
    from authlua.errors import ScriptError

    class Broken:
        async def lookup(self, request: Any) -> UserdbReply:
            raise AssertionError("only lists")

        def iterate(self) -> WholeListing:
            return WholeListing(self.names)

        async def names(self) -> list[str]:
            raise ScriptError("auth.lua:3: boom")

    house = House(userdbs=[{}])
    object.__setattr__(house.auth._userdbs._entries[0], "userdb", Broken())
    async with living(tmp_path, house.auth) as server:
        stream = await master(server)
        await stream.send_all(b"LIST\t1\n")
        assert await read_until(stream, b"\n") == b"DONE\t1\tfail\n"
        assert "boom" in repr(server.log.entries)


async def test_a_mask_filters_whatever_its_case(tmp_path: Path) -> None:
    """With ``*`` and ``?``; other characters mean themselves."""
    house = House(userdbs=[{"Ann@x": {}, "bob@x": {}, "[ab]@x": {}}])
    async with living(tmp_path, house.auth) as server:
        stream = await master(server)
        await stream.send_all(b"LIST\t1\tuser=a??@X\n")
        assert await read_until(stream, b"DONE\t1\t\n") == b"LIST\t1\tAnn@x\nDONE\t1\t\n"
        await stream.send_all(b"LIST\t2\tuser=[ab]@x\n")
        assert await read_until(stream, b"DONE\t2\t\n") == b"LIST\t2\t[ab]@x\nDONE\t2\t\n"


async def test_a_master_that_hangs_up_leaves_nothing_behind(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Its lookups are abandoned."""

    class Slow:
        async def lookup(self, request: Any) -> UserdbReply:
            await Sleep(60)
            raise AssertionError("nobody waits for this")

        def iterate(self) -> WholeListing:
            raise AssertionError("nobody asks")

    house = House(userdbs=[{}])
    object.__setattr__(house.auth._userdbs._entries[0], "userdb", Slow())
    async with living(tmp_path, house.auth) as server:
        stream = await master(server)
        await stream.send_all(b"USER\t1\tt\tservice=x\n")
        await trio.sleep(1)
        assert server.app.core.holds == 1
        await stream.aclose()
        await trio.sleep(1)
        assert (server.app.core.holds, server.app.masters) == (0, set())


class Errands:
    """A userdb that asks somebody who reports back: who asked what, and who was given up."""

    def __init__(self) -> None:
        self.asked: dict[str, Callable[[Outcome], None]] = {}
        self.given_up: list[str] = []

    async def lookup(self, request: AuthRequest) -> UserdbReply:
        name = request.user or ""
        home: str = await _Asked(self, name)
        if home == "/slow":
            await Sleep(10)
            home = await _Asked(self, name)
        return UserdbReply(UserdbResult.OK, [("home", home)])

    def iterate(self) -> WholeListing:
        raise AssertionError("nobody asks")


class _Asked(Errand):
    def __init__(self, house: Errands, name: str) -> None:
        self._house = house
        self._name = name

    def start(self, report: Callable[[Outcome], None]) -> None:
        self._house.asked[self._name] = report

    def cancel(self) -> None:
        self._house.given_up.append(self._name)


async def test_lookups_that_run_errands_take_no_task(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Those whose outcomes come together are told together; one that has to wait for something else goes on after."""
    house, userdb = House(userdbs=[{}]), Errands()
    object.__setattr__(house.auth._userdbs._entries[0], "userdb", userdb)
    async with living(tmp_path, house.auth) as server:
        stream = await master(server)
        tasks = len(server.app.tasks.child_tasks)
        await stream.send_all(b"".join(b"USER\t%d\tu%d\tservice=x\n" % (id, id) for id in range(1, 5)))
        await wait_all_tasks_blocked()
        (served,) = server.app.masters
        assert sorted(userdb.asked) == ["u1", "u2", "u3", "u4"]
        assert (len(server.app.tasks.child_tasks), served.idle) == (tasks, False)
        userdb.asked["u3"](Outcome("/3"))
        userdb.asked["u1"](Outcome("/1"))
        userdb.asked["u2"](Outcome(failure=RuntimeError("a bug")))
        userdb.asked["u4"](Outcome("/slow"))
        server.app.write_all()
        assert await read_until(stream, b"FAIL\t2\n") == b"USER\t3\tu3\thome=/3\nUSER\t1\tu1\thome=/1\nFAIL\t2\n"
        await trio.sleep(20)
        userdb.asked["u4"](Outcome("/4"))
        server.app.write_all()
        assert await read_until(stream, b"\n") == b"USER\t4\tu4\thome=/4\n"
        assert (served.idle, server.app.core.holds, len(server.events("internal_error"))) == (True, 0, 1)


async def test_an_errand_of_a_master_that_hangs_up_is_called_off(tmp_path: Path) -> None:
    """Nobody waits for it any more."""
    house, userdb = House(userdbs=[{}]), Errands()
    object.__setattr__(house.auth._userdbs._entries[0], "userdb", userdb)
    async with living(tmp_path, house.auth) as server:
        stream = await master(server)
        await stream.send_all(b"USER\t1\tt\tservice=x\n")
        await wait_all_tasks_blocked()
        assert server.app.core.holds == 1
        await stream.aclose()
        await wait_all_tasks_blocked()
        assert (userdb.given_up, server.app.core.holds) == (["t"], 0)


async def test_a_login_is_not_fetched_from_another_connections_pid(tmp_path: Path) -> None:
    """Nor after its client has gone."""
    house = House({"t": PASS}, userdbs=[{"t": {}}])
    async with living(tmp_path, house.auth) as server:
        client = await login(server, "login")
        await client.send_all(auth(1, "t"))
        await read_until(client, b"\n")
        await client.aclose()
        await trio.sleep(0.05)
        stream = await master(server)
        await stream.send_all(b"REQUEST\t5\t%d\t1\t%s\n" % (os.getpid(), b"0" * 32))
        assert await read_until(stream, b"\n") == b"FAIL\t5\n"
