"""What servers remember together, and what each remembers while Redis is away."""

from typing import Any

import pytest
import trio

from authlua.auth import Penalty
from authlua.request import AuthRequest
from authlua.secret import Secret
from authlua.server.driving import complete
from authlua.services import State, fulfil, use
from authlua.services.state import MAX_REMEMBERED
from authlua.urls import parse_redis_url
from authlua.wishes import Service
from tests.services.redis_server import RedisServer, needs_redis


class Clock:
    """Time that stands still unless told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Server:
    """One of several that share a Redis."""

    def __init__(self, redis: RedisServer, timeout: float = 5.0) -> None:
        self.said: list[tuple[str, str]] = []
        self.clock = Clock()
        self.state = State(parse_redis_url(redis.url), timeout=timeout, say=self._say, clock=self.clock)
        self.penalty = Penalty(shared=self.state)

    def _say(self, level: str, event: str, **fields: object) -> None:
        self.said.append((level, event))

    async def level(self, ip: str = "192.0.2.1") -> int:
        """What a login from *ip* would wait for."""
        return await complete(self.penalty.shared_level(ip))

    async def fails(self, password: str, ip: str = "192.0.2.1", user: str = "t") -> int:
        """A login with a wrong password; the level it came at."""
        level = await self.level(ip)
        self.penalty.failed(ip, level, attempt(password, user))
        return level


def attempt(password: str | None, user: str = "t") -> AuthRequest:
    request = AuthRequest("imap")
    request.user = user
    request.password = None if password is None else Secret(password.encode())
    return request


async def test_alone_a_server_remembers_for_as_long_as_asked() -> None:
    """A key is new until it was given; then for so many seconds it is not."""
    clock = Clock()
    state = State(clock=clock)
    assert [await state.first(b"k", 10), await state.first(b"k", 10), await state.first(b"other", 10)] == [
        True,
        False,
        True,
    ]
    clock.now += 10
    assert await state.first(b"k", 10)


async def test_what_is_remembered_alone_has_an_end() -> None:
    """The oldest go first."""
    state = State(clock=Clock())
    for number in range(MAX_REMEMBERED + 2):
        await state.first(b"%d" % number, 10)
    assert not await state.first(b"2", 10)
    assert await state.first(b"0", 10)


@needs_redis
async def test_what_one_server_has_seen_is_not_new_to_another() -> None:
    """Until its time is over; and a script, wherever it runs, asks by a wish."""
    with RedisServer() as redis:
        one, other = Server(redis), Server(redis)
        assert await one.state.first(b"reply", 30)
        assert not await other.state.first(b"reply", 30)
        assert 0 < int(redis("PTTL", "authlua:seen:reply")) <= 30_000
        use(other.state)
        try:
            assert await fulfil(Service("state", (b"reply", 30.0))) == (False,)
            assert await fulfil(Service("state", (b"second", 30.0))) == (True,)
        finally:
            use(State())
        assert not await one.state.first(b"second", 30)


@needs_redis
async def test_while_redis_is_away_each_server_goes_by_what_it_saw() -> None:
    """It says so once, asks again a second later, and says when it is back."""
    with RedisServer() as redis:
        server, other = Server(redis), Server(redis)
        assert await server.state.first(b"seen", 30)
        redis.stop()
        await trio.testing.wait_all_tasks_blocked(0.05)  # until the end of the connection was seen
        assert not await server.state.first(b"seen", 30)
        assert [await server.state.first(b"new", 30), await server.state.first(b"new", 30)] == [True, False]
        assert [await server.fails(f"wrong{n}") for n in range(3)] == [0, 1, 2]
        assert server.said == [("warning", "state_unreachable")]
        assert (server.state.up, server.state.failures) == (False, 1)
        redis.start()
        assert await server.level() == 3  # it has not asked again yet
        server.clock.now += 1
        assert await server.level() == 0  # the Redis that came back knows nothing
        assert server.said == [("warning", "state_unreachable"), ("info", "state_back")]
        assert await other.state.first(b"new", 30)


@needs_redis
async def test_a_redis_that_hangs_holds_up_only_who_asked_first() -> None:
    """Each of them for the timeout; all who come later go on at once."""
    with RedisServer() as redis:
        server = Server(redis, timeout=0.2)
        assert await server.level() == 0
        redis.freeze()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(server.level)
        assert server.state.failures == 20
        assert server.state.ask(("PING",)) is None
        assert server.said == [("warning", "state_unreachable")]
        server.clock.now += 1
        assert server.state.ask(("PING",)) is not None  # one tries
        assert server.state.ask(("PING",)) is None


@needs_redis
async def test_a_redis_that_refuses_is_as_good_as_none() -> None:
    """One that may not write, say."""
    with RedisServer() as redis:
        server = Server(redis)
        redis("REPLICAOF", "127.0.0.1", "1")
        assert await server.state.first(b"k", 30)
        assert not await server.state.first(b"k", 30)
        assert server.said == [("warning", "state_unreachable")]


# -- penalties


@needs_redis
async def test_a_shared_penalty_counts_as_one_servers_does() -> None:
    """The same calls, to a penalty alone and by turns to two servers that share one: the same levels."""
    calls: list[tuple[Any, ...]] = [
        *(("fails", f"wrong{n}") for n in range(3)),
        ("fails", "wrong2"),
        ("fails", "wrong2", "192.0.2.1", "u"),
        ("fails", "x", "2001:db8:1:2::3"),
        ("fails", "y", "2001:db8:1:ffff::1"),
        ("fails", "x", "2001:db8:2::1"),
        ("fails", "x", "::ffff:192.0.2.1"),
        *(("fails", f"again{n}") for n in range(12)),
        ("succeeds",),
        ("fails", "wrong0"),
        ("fails", None),
        ("fails", None),
    ]

    def alone() -> list[int]:
        penalty, levels = Penalty(), []
        for what, *arguments in calls:
            ip = arguments[1] if len(arguments) > 1 else "192.0.2.1"
            levels.append(penalty.level(ip))
            if what == "fails":
                penalty.failed(ip, levels[-1], attempt(arguments[0], *arguments[2:]))
            else:
                penalty.succeeded(ip)
        return levels

    with RedisServer() as redis:
        servers, together = [Server(redis), Server(redis)], []
        for number, (what, *arguments) in enumerate(calls):
            server = servers[number % 2]
            if what == "fails":
                together.append(await server.fails(*arguments))
            else:
                together.append(await server.level())
                server.penalty.succeeded("192.0.2.1")
            await server.level()  # whatever was told before this was answered has been heard
        assert together == alone()
        assert max(together) == 4


@needs_redis
async def test_a_shared_penalty_ends_by_itself() -> None:
    """15 seconds after its last increase; what failed is forgotten after 30, and is not told in clear."""
    with RedisServer() as redis:
        server = Server(redis)
        await server.fails("hunter2")
        await server.level()
        assert 13 < int(redis("TTL", "authlua:penalty:192.0.2.1")) <= 15
        assert 28 < int(redis("TTL", "authlua:attempts:192.0.2.1")) <= 30
        assert len(redis("LRANGE", "authlua:attempts:192.0.2.1", "0", "-1")) == 3
        server.penalty.succeeded("192.0.2.1")
        await server.level()
        assert redis("KEYS", "*") == ""


@needs_redis
async def test_nonsense_in_redis_is_no_penalty() -> None:
    """Another program's key, or a level that there is not."""
    with RedisServer() as redis:
        server = Server(redis)
        redis("SET", "authlua:penalty:192.0.2.1", "-1x")
        assert await server.level() == 0
        redis("SET", "authlua:penalty:192.0.2.1", "99")
        assert await server.level() == 4


@pytest.mark.parametrize("url", ["", "redis://:p4ss@h"])
def test_a_state_does_not_show_its_password(url: str) -> None:
    """Wherever it is printed."""
    state = State(parse_redis_url(url) if url else None)
    assert "p4ss" not in f"{state!r}{vars(state)}"
