"""The Redis client: replies in order, many at once, and what is said when the server is not there."""

import socket
from collections.abc import Iterator

import pytest
import trio

from authlua.errors import Unreachable
from authlua.server.driving import complete
from authlua.services.redis_client import Redis, RedisError, submit
from authlua.urls import parse_redis_url
from tests.services.redis_server import RedisServer, needs_redis


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis."""
    with RedisServer() as server:
        yield server


async def replies(redis: Redis, *commands: tuple[str | int, ...]) -> list[object]:
    """What *redis* says to *commands*."""

    async def core() -> list[object]:
        answer: list[object] = await redis.ask(*commands)
        return answer

    return await complete(core())


@needs_redis
async def test_replies_come_back_in_the_order_of_the_commands(server: RedisServer) -> None:
    """Of each kind; a refused command is one reply among the others."""
    redis = Redis(parse_redis_url(server.url))
    await replies(redis, ("FLUSHALL",))
    assert await replies(redis, ("SET", "a", "1"), ("INCR", "a"), ("GET", "a"), ("GET", "none")) == [
        b"OK",
        2,
        b"2",
        None,
    ]
    wrong, right = await replies(redis, ("LPUSH", "a", "x"), ("MGET", "a", "none"))
    assert isinstance(wrong, RedisError)
    assert str(wrong).startswith("WRONGTYPE")
    assert right == [b"2", None]


@needs_redis
@pytest.mark.parametrize("place", ["socket", "port"])
async def test_thousands_ask_at_once_on_one_connection(server: RedisServer, place: str) -> None:
    """Each hears what is meant for it."""
    url = f"unix://{server.path}?db=3" if place == "socket" else f"{server.url}/3"
    heard: dict[int, object] = {}

    async def ask(number: int) -> None:
        (heard[number],), problem = await submit(url, ("ECHO", number))
        assert problem == ""

    before = int(server("INFO", "stats").partition("total_connections_received:")[2].split()[0])
    async with trio.open_nursery() as nursery:
        for number in range(2000):
            nursery.start_soon(ask, number)
    assert heard == {number: str(number).encode() for number in range(2000)}
    after = int(server("INFO", "stats").partition("total_connections_received:")[2].split()[0])
    assert after - before == 2  # ours, and that of redis-cli


@needs_redis
async def test_the_database_of_the_url_is_the_one_that_is_used(server: RedisServer) -> None:
    """And not the first."""
    await submit(f"{server.url}/5", ("SET", "where", "five"))
    assert (server("-n", "5", "GET", "where"), server("GET", "where")) == ("five", "")


@needs_redis
async def test_who_needs_a_password_says_it_first() -> None:
    """A wrong one is a reason that all who wait hear of, and it does not show itself."""
    with RedisServer("s3cret") as server:
        assert await submit(server.url, ("PING",)) == ([b"PONG"], "")
        answer, problem = await submit(server.url.replace("s3cret", "wr0ng"), ("PING",))
        assert answer == []
        assert problem.startswith(f"Redis at 127.0.0.1:{server.port}: not let in: ")
        assert "wr0ng" not in problem
        assert "s3cret" not in repr(parse_redis_url(server.url))


@needs_redis
async def test_a_server_that_comes_back_is_used_again() -> None:
    """What is asked meanwhile fails, with the reason; nothing has to be done about it."""
    with RedisServer() as server:
        redis = Redis(parse_redis_url(server.url))
        assert await replies(redis, ("PING",)) == [b"PONG"]
        server.stop()
        await trio.testing.wait_all_tasks_blocked(0.05)  # until the end of the connection was seen
        with pytest.raises(Unreachable, match="connect failed: Connection refused"):
            await replies(redis, ("PING",))
        server.start()
        assert await replies(redis, ("PING",)) == [b"PONG"]


@needs_redis
async def test_a_server_that_hangs_is_given_up(server: RedisServer) -> None:
    """All who wait hear of it, and the next who asks gets a new connection."""
    redis = Redis(parse_redis_url(server.url), timeout=0.1)
    assert await replies(redis, ("PING",)) == [b"PONG"]
    server.freeze()
    try:
        with pytest.raises(Unreachable, match=r"no answer within 0\.1 s"):
            await replies(redis, ("PING",))
    finally:
        server.freeze(thaw=True)
    assert await replies(Redis(parse_redis_url(server.url)), ("PING",)) == [b"PONG"]


@needs_redis
async def test_who_does_not_wait_any_more_disturbs_nobody(server: RedisServer) -> None:
    """Their reply comes, and is dropped."""
    redis = Redis(parse_redis_url(server.url))
    with trio.CancelScope() as scope:
        scope.cancel()
        await replies(redis, ("ECHO", "dropped"))
    assert await replies(redis, ("ECHO", "kept")) == [b"kept"]


async def test_what_is_no_redis_is_told(autojump_clock: trio.testing.MockClock) -> None:
    """An HTTP server, say."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        redis = Redis(parse_redis_url(f"redis://127.0.0.1:{port}"))

        async def serve() -> None:
            with trio.socket.from_stdlib_socket(listener) as place:
                peer, _ = await place.accept()
                with peer:
                    await peer.recv(100)
                    await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with pytest.raises(Unreachable, match="it does not speak Redis"):
                await replies(redis, ("PING",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://h", (False, "h", 6379, "", "", "", 0)),
        ("redis://:p%40ss@h:1/7", (False, "h", 1, "", "", "p@ss", 7)),
        ("rediss://u:p@[::1]:6380", (True, "::1", 6380, "", "u", "p", 0)),
        ("unix:///run/redis.sock", (False, "", 0, "/run/redis.sock", "", "", 0)),
        ("unix://:p@/run/redis.sock?db=2", (False, "", 0, "/run/redis.sock", "", "p", 2)),
    ],
)
def test_urls_say_where_redis_is(text: str, expected: tuple[object, ...]) -> None:
    """In the forms that other clients take."""
    assert tuple(parse_redis_url(text)) == expected


@pytest.mark.parametrize("text", ["", "http://h", "redis://", "redis://p4ss@h", "redis://h/x", "unix://run/p4ss.sock"])
def test_what_is_no_url_is_refused(text: str) -> None:
    """Without repeating any of it: there may be a password inside."""
    with pytest.raises(ValueError, match=r"expected|host") as caught:
        parse_redis_url(text)
    assert "p4ss" not in str(caught.value)
