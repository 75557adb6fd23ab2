"""Requests that wait: delays, timeouts, cancellation, hang-ups."""

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from authlua.auth import PolicyOptions
from authlua.results import PassdbReply, PassdbResult
from authlua.secret import Secret
from authlua.wishes import Compute, Sleep
from tests.auth.fakes import House
from tests.server.living import living, login, read_until, silent


def auth(id: int, user: str, password: str = "pass") -> bytes:
    response = base64.b64encode(f"\0{user}\0{password}".encode())
    return b"AUTH\t%d\tPLAIN\tservice=imap\tresp=%s\n" % (id, response)


class SlowPassdb:
    """Lets everybody in, after what it is told to wait for."""

    verifies = True

    def __init__(self, wait: Callable[[], Any]) -> None:
        self.wait = wait
        self.asked = self.answered = self.abandoned = 0

    async def verify_plain(self, request: Any, password: Secret) -> PassdbReply:
        self.asked += 1
        try:
            await self.wait()
        except GeneratorExit:
            self.abandoned += 1
            raise
        self.answered += 1
        return PassdbReply(PassdbResult.OK)

    async def lookup(self, request: Any) -> PassdbReply:
        raise AssertionError("this passdb only verifies")


def slow_house(wait: Callable[[], Any]) -> tuple[House, SlowPassdb]:
    house = House({})
    passdb = SlowPassdb(wait)
    entry = house.auth._passdbs._passdbs[0]
    object.__setattr__(entry, "passdb", passdb)
    return house, passdb


async def test_a_slow_request_holds_nobody_up(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A quick one behind it is answered first."""
    house, _ = slow_house(lambda: Sleep(5))
    async with living(tmp_path, house.auth) as server:
        stream = await login(server)
        await stream.send_all(auth(1, "t") + b"AUTH\t2\tPLAIN\tservice=imap\tresp=!\n")
        assert (await read_until(stream, b"\n")).startswith(b"FAIL\t2\tcode=invalid_base64")
        assert await read_until(stream, b"\n") == b"OK\t1\tuser=t\n"


async def test_computing_happens_in_a_thread_and_its_result_comes_back(tmp_path: Path) -> None:
    """So the event loop never hashes."""
    import threading

    where: list[int] = []
    house, _ = slow_house(lambda: Compute(lambda: where.append(threading.get_ident())))
    async with living(tmp_path, house.auth) as server:
        stream = await login(server)
        await stream.send_all(auth(1, "t"))
        assert await read_until(stream, b"\n") == b"OK\t1\tuser=t\n"
    assert where != [threading.get_ident()]
    assert len(where) == 1


async def test_a_cancelled_request_is_abandoned_in_silence(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Also when the CANCEL comes in the same read; its id may be used again."""
    house, passdb = slow_house(lambda: Sleep(5))
    async with living(tmp_path, house.auth) as server:
        stream = await login(server)
        await stream.send_all(auth(1, "t") + b"CANCEL\t1\n")
        assert await silent(stream)
        assert (passdb.asked, passdb.answered, passdb.abandoned) == (1, 0, 1)
        await stream.send_all(auth(1, "t"))
        assert await read_until(stream, b"\n") == b"OK\t1\tuser=t\n"
        assert server.app.core.holds == 0


async def test_a_client_that_hangs_up_leaves_nothing_behind(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Neither running requests, nor those that wait for it or for a master."""
    house, passdb = slow_house(lambda: Sleep(5))
    async with living(tmp_path, house.auth) as server:
        stream = await login(server, "login")
        await stream.send_all(auth(1, "t"))
        await read_until(stream, b"\n")
        await stream.send_all(b"AUTH\t2\tPLAIN\tservice=imap\n" + auth(3, "t"))
        await read_until(stream, b"CONT\t2\t\n")
        await stream.aclose()
        await trio.sleep(1)
        assert (passdb.asked, passdb.abandoned) == (2, 1)
        app = server.app
        assert (app.core.holds, app.clients, app.logins, app.expiry._deadlines) == (0, set(), {}, {})


async def test_a_request_that_takes_too_long_fails_temporarily(tmp_path: Path, autojump_clock: MockClock) -> None:
    """It is answered, and logged as an error of ours."""
    house, passdb = slow_house(lambda: Sleep(1000))
    async with living(tmp_path, house.auth, request_timeout=150.0) as server:
        stream = await login(server)
        await stream.send_all(auth(1, "t"))
        assert await read_until(stream, b"\n") == b"FAIL\t1\tuser=t\tcode=temp_fail\n"
        assert passdb.abandoned == 1
        assert len(server.events("auth_request_timed_out")) == 1


@pytest.mark.parametrize("verbose", [True, False])
async def test_a_client_that_does_not_continue_is_forgotten(
    tmp_path: Path, autojump_clock: MockClock, verbose: bool
) -> None:
    """In silence but for the log, if that is verbose; what it says later has timed out."""
    house = House({"t": {"password": "{PLAIN}pass"}}, verbose=verbose)
    async with living(tmp_path, house.auth) as server:
        stream = await login(server)
        await stream.send_all(b"AUTH\t1\tPLAIN\tservice=imap\n")
        assert await read_until(stream, b"\n") == b"CONT\t1\t\n"
        assert await silent(stream, 160)
        await stream.send_all(b"CONT\t1\tAHQAcGFzcw==\n")
        assert await read_until(stream, b"\n") == b"FAIL\t1\treason=Authentication request timed out\n"
        line = ("info", "Request timed out waiting for client to continue authentication (150 secs)")
        assert house.log == [line] * verbose
        assert server.app.core.holds == 0


async def test_each_answer_gives_the_client_as_much_time_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The limit is on its silence, not on the login."""
    house = House({"t": {"password": "{PLAIN}pass"}})
    async with living(tmp_path, house.auth) as server:
        stream = await login(server)
        for pause, password_pause, reply in ((140, 140, b"OK\t1\tuser=t\n"), (140, 160, None)):
            await stream.send_all(b"AUTH\t1\tLOGIN\tservice=imap\n")
            await read_until(stream, b"CONT\t1\tVXNlcm5hbWU6\n")
            await trio.sleep(pause)
            await stream.send_all(b"CONT\t1\tdA==\n")
            await read_until(stream, b"CONT\t1\tUGFzc3dvcmQ6\n")
            await trio.sleep(password_pause)
            await stream.send_all(b"CONT\t1\tcGFzcw==\n")
            expected = reply or b"FAIL\t1\treason=Authentication request timed out\n"
            assert await read_until(stream, b"\n") == expected


async def test_a_success_that_no_master_fetches_is_forgotten(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Its id is free again."""
    house = House({"t": {"password": "{PLAIN}pass"}})
    async with living(tmp_path, house.auth) as server:
        stream = await login(server, "login")
        await stream.send_all(auth(1, "t"))
        await read_until(stream, b"\n")
        await trio.sleep(160)
        await stream.send_all(auth(1, "t"))
        assert await read_until(stream, b"\n") == b"OK\t1\tuser=t\n"


async def test_failures_are_told_after_the_delay_and_shuffled(tmp_path: Path, autojump_clock: MockClock) -> None:
    """None is lost; a success overtakes them."""
    house = House({"t": {"password": "{PLAIN}pass"}})
    async with living(tmp_path, house.auth) as server:
        stream = await login(server)
        start = trio.current_time()
        await stream.send_all(b"".join(auth(id, "t", "wrong") for id in range(1, 21)) + auth(99, "t"))
        assert await read_until(stream, b"\n") == b"OK\t99\tuser=t\n"
        assert trio.current_time() - start < 0.1
        got = b""
        while got.count(b"\n") < 20:
            got += await read_until(stream, b"\n")
        assert 2.0 <= trio.current_time() - start <= 2.6
        ids = [int(line.split(b"\t")[1]) for line in got.splitlines()]
        assert sorted(ids) == list(range(1, 21))
        assert ids != sorted(ids)


async def test_the_server_tells_open_requests_when_it_stops(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Delayed failures at once, running requests as temporary failures."""
    house, _ = slow_house(lambda: Sleep(500))
    async with living(tmp_path, house.auth) as server:
        stream = await login(server)
        await stream.send_all(auth(1, "bad name\t") + auth(2, "t") + b"AUTH\t3\tLOGIN\tservice=x\n")
        await read_until(stream, b"CONT\t3\tVXNlcm5hbWU6\n")
        server.app.close()
        told = await read_until(stream, b"never")
        assert b"FAIL\t2\tuser=t\tcode=temp_fail\n" in told
        assert b"FAIL\t1\t" in told


async def test_nobody_waits_until_the_policy_server_has_heard_of_a_login(tmp_path: Path) -> None:
    """Which it is told of all the same."""
    (silent_server,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with silent_server:
        url = f"http://127.0.0.1:{silent_server.socket.getsockname()[1]}/"
        policy = PolicyOptions(url, timeout=1000.0, check_before_auth=False, check_after_auth=False)
        house = House({"t": {"password": "{PLAIN}pass"}}, policy=policy, failure_delay=0)
        async with living(tmp_path, house.auth) as server:
            stream = await login(server)
            await stream.send_all(auth(1, "t") + auth(2, "t", "wrong"))
            with trio.fail_after(20):
                assert await read_until(stream, b"FAIL\t2\tuser=t\n") == b"OK\t1\tuser=t\nFAIL\t2\tuser=t\n"
                heard = await silent_server.accept()
                assert (await heard.receive_some()).startswith(b"POST /?command=report HTTP/1.1\r\n")
                await heard.aclose()


async def test_a_bug_of_ours_is_a_temporary_failure(tmp_path: Path) -> None:
    """With its traceback in the log, and the server goes on."""

    def bug() -> Any:
        raise ZeroDivisionError("a bug")

    house, _ = slow_house(bug)
    async with living(tmp_path, house.auth) as server:
        stream = await login(server)
        await stream.send_all(auth(1, "t") + b"CANCEL\t7\n")
        with trio.fail_after(10):
            assert b"code=temp_fail" in await read_until(stream, b"\n")
        assert len(server.events("internal_error")) == 1


async def test_a_temporary_failure_may_close_the_connection_instead(tmp_path: Path) -> None:
    """``tempfail = "close"``: Postfix and Exim then answer 4xx."""
    house = House({"t": PassdbResult.INTERNAL_FAILURE})
    async with living(tmp_path, house.auth) as server:
        stream = await login(server, tempfail="close")
        await stream.send_all(auth(1, "t"))
        assert await read_until(stream, b"\n") == b""


async def test_each_login_gets_one_line_in_the_log_without_its_password(tmp_path: Path) -> None:
    """With the names Dovecot gives its fields."""
    house = House({"t": {"password": "{PLAIN}pass"}}, verbose=True)
    async with living(tmp_path, house.auth) as server:
        stream = await login(server)
        await stream.send_all(auth(1, "t", "pass") + auth(2, "t", "hunter2"))
        await read_until(stream, b"OK\t1\tuser=t\n")
        good, bad = server.events("auth_request_finished")
        assert (good["success"], good["user"], good["mech"], good["service"]) == ("yes", "t", "PLAIN", "imap")
        assert bad["success"] == "no"
        assert "hunter2" not in repr(server.log.entries)


async def test_any_bytes_of_a_field_arrive_at_client_and_master(tmp_path: Path) -> None:
    """Escaped, so that no line or field ends before its end; what is no UTF-8 goes as it is."""
    value = "\t\r\n\0\x01=\udcff\u20ac"
    house = House({"t": {"password": "{PLAIN}pass", "a": value}}, userdbs=[{"t": {"b": value}}])
    escaped = b"\x01t\x01r\x01n\x010\x011=\xff\xe2\x82\xac"
    async with living(tmp_path, house.auth) as server:
        stream = await login(server)
        await stream.send_all(auth(1, "t"))
        assert await read_until(stream, b"\n") == b"OK\t1\tuser=t\ta=" + escaped + b"\n"
        master = server.connect("master")
        await master.send_all(b"VERSION\t1\t1\nUSER\t7\tt\tservice=x\n")
        assert (await read_until(master, b"\xac\n")).endswith(b"\nUSER\t7\tt\tb=" + escaped + b"\n")


async def test_a_peer_that_breaks_the_rules_is_named_in_the_log(tmp_path: Path) -> None:
    """One line: the rule and the peer."""
    house = House({})
    async with living(tmp_path, house.auth) as server:
        stream = await login(server, "login")
        await stream.send_all(b"FOO\n")
        assert await read_until(stream, b"\n") == b""
        (line,) = server.events("auth_client_disconnected")
        assert line["reason"] == "expected AUTH, CONT or CANCEL"
        assert line["client_pid"]


async def test_a_peer_that_does_not_read_is_not_read(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Back-pressure: its requests wait in its own socket, and all are answered once it reads."""
    house = House({"t": {"password": "{PLAIN}pass", "filler": "x" * 4000}})
    async with living(tmp_path, house.auth) as server:
        stream = await login(server)
        count = 2000
        sent = trio.Event()

        async def write() -> None:
            await stream.send_all(b"".join(auth(id, "t") for id in range(1, count + 1)))
            sent.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await trio.sleep(10)
            (client,) = server.app.clients
            assert len(client._unsent) < 51200 + 300 * 4100, "no more than one read's worth of replies"
            assert len(server.events("auth_request_finished")) < count
            got = b""
            while got.count(b"\n") < count:
                got += await stream.receive_some()
        assert len(server.events("auth_request_finished")) == count


@pytest.mark.parametrize(("kind", "seen"), [("client", 0), ("login", os.getpid())], ids=["client", "login"])
async def test_a_script_sees_the_pid_of_those_who_come_back(tmp_path: Path, kind: str, seen: int) -> None:
    """A login process is named by its pid in REQUEST; for who only asks, Dovecot's scripts see none."""
    house, passdb = slow_house(lambda: Sleep(0))
    pids: list[int] = []

    async def verify_plain(request: Any, password: Secret) -> PassdbReply:
        pids.append(request.client_pid)
        return PassdbReply(PassdbResult.OK)

    passdb.verify_plain = verify_plain  # type: ignore[method-assign]
    async with living(tmp_path, house.auth) as server:
        stream = await login(server, kind)
        await stream.send_all(auth(1, "t"))
        assert (await read_until(stream, b"\n")).startswith(b"OK\t1\t")
    assert pids == [seen]
