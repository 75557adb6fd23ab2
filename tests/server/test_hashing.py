"""The threads that hash: every job is done once, nobody waits behind a flood, what nobody wants is left undone."""

import os
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from authlua.server import hashing
from authlua.server.hashing import LEAST_AHEAD, MOST_AHEAD, Hasher
from authlua.server.ready import Ready
from authlua.wishes import Hash, Outcome, Unfulfilled
from tests.auth.fakes import House
from tests.server.living import living, login, read_until
from tests.server.test_clients import auth, slow_house


async def until(there: Callable[[], bool]) -> None:
    """Wait for what is bound to come."""
    with trio.fail_after(20):
        while not there():  # noqa: ASYNC110  threads set no trio events
            await trio.sleep(0.001)


class Room:
    """A hasher, and what became of the jobs it was given, in order."""

    def __init__(self, ready: Ready) -> None:
        self.batches = 0
        self.hasher = Hasher(ready, self._batch_done, timeout=150, threads=1)
        self.outcomes: list[tuple[str, Outcome]] = []

    def _batch_done(self) -> None:
        self.batches += 1

    def submit(self, function: Callable[..., Any], *args: Any, whose: str = "somebody") -> hashing.HashJob:
        job = self.hasher.job(Hash(function, *args), for_whom=whose)
        job.start(lambda outcome: self.outcomes.append((whose, outcome)))
        return job

    async def hear(self, count: int) -> list[Outcome]:
        """The first *count* outcomes."""
        await until(lambda: len(self.outcomes) >= count)
        return [outcome for _, outcome in self.outcomes]


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    """Ready to hash on one thread."""
    ready = Ready()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ready.run)
        made = Room(ready)
        nursery.start_soon(made.hasher.run)
        yield made
        made.hasher.close()
        nursery.cancel_scope.cancel()
    ready.close()


async def test_the_outcome_comes_back_from_another_thread(room: Room) -> None:
    """Of the function with its arguments."""
    room.submit(lambda a, b: (a + b, threading.get_ident()), 1, 2)
    (outcome,) = await room.hear(1)
    assert outcome.value[0] == 3
    assert outcome.value[1] != threading.get_ident()


async def test_what_the_function_raises_is_the_outcome(room: Room) -> None:
    """And the thread goes on."""
    room.submit(int, "x")
    room.submit(int, "7")
    failed, fine = await room.hear(2)
    assert isinstance(failed.failure, ValueError)
    assert (fine.failure, fine.value) == (None, 7)


async def test_every_job_is_done_once(room: Room) -> None:
    """However many there are, and whoever they are for."""
    room.hasher._threads = 4
    done: Counter[int] = Counter()
    for number in range(1000):
        room.submit(done.update, [number], whose=str(number % 7))
    await room.hear(1000)
    assert done == Counter(range(1000))
    assert room.batches <= 1000


async def test_in_a_flood_many_outcomes_are_told_at_a_time(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bell rests between; no outcome is lost, and when there are few again each is told at once."""
    monkeypatch.setattr(hashing, "AHEAD", 1.0)
    monkeypatch.setattr(hashing, "MOST_AHEAD", 1000)
    for _ in range(300):
        room.submit(time.sleep, 0.001)
    await room.hear(300)
    assert room.batches < 100
    for count in range(301, 304):
        room.submit(int)
        await room.hear(count)


async def test_an_outcome_does_not_wait_for_a_hash_that_has_begun(room: Room) -> None:
    """Nor for the one that is next."""
    begin = threading.Event()
    room.submit(int)
    room.submit(begin.wait)
    room.submit(int)
    await room.hear(1)
    begin.set()
    await room.hear(3)


async def test_who_sends_a_flood_delays_only_their_own(room: Room) -> None:
    """Jobs are taken in turn by whom they are for."""
    begin = threading.Event()
    room.submit(begin.wait, whose="flood")
    for _ in range(100):
        room.submit(int, whose="flood")
    for _ in range(3):
        room.submit(int, whose="modest")
    begin.set()
    await room.hear(104)
    places = [place for place, (whose, _) in enumerate(room.outcomes) if whose == "modest"]
    assert max(places) < MOST_AHEAD + 2 * 3


async def test_a_job_that_nobody_waits_for_is_left_undone(room: Room) -> None:
    """Whether it is with the threads already or not."""
    begin, done = threading.Event(), []
    room.submit(begin.wait)
    jobs = [room.submit(done.append, number) for number in range(8)]
    for job in jobs[1::2]:
        job.cancel()
    begin.set()
    await room.hear(5)
    room.submit(int)
    await room.hear(6)
    assert done == list(range(0, 8, 2))


async def test_more_than_can_wait_fail_at_once(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """So memory has a bound, and the client is told to try again."""
    monkeypatch.setattr(hashing, "MOST_WAITING", 5)
    begin = threading.Event()
    room.submit(begin.wait)
    for _ in range(LEAST_AHEAD - 1 + 5):
        room.submit(int)
    assert room.outcomes == []
    room.submit(int)
    assert len(room.outcomes) == 1
    assert isinstance(room.outcomes[0][1].failure, Unfulfilled)
    begin.set()
    outcomes = await room.hear(1 + LEAST_AHEAD + 5)
    assert [outcome.failure for outcome in outcomes[1:]] == [None] * (LEAST_AHEAD + 5)


async def test_a_job_that_waits_too_long_fails(room: Room, autojump_clock: MockClock) -> None:
    """One that a thread is at as well as one that waits for a thread; neither is reported again."""
    begin, done = threading.Event(), []
    room.submit(begin.wait)
    for number in range(8):
        room.submit(done.append, number)
    await trio.sleep(152)
    assert len(room.outcomes) == 9
    assert {type(outcome.failure) for _, outcome in room.outcomes} == {Unfulfilled}
    begin.set()
    room.hasher.close()
    for thread in threading.enumerate():
        if thread.name == "hasher":
            thread.join(20)
    assert done == []
    assert len(room.outcomes) == 9


async def test_closing_ends_the_threads() -> None:
    """And gives back the descriptor, when the last is through."""
    ready = Ready()
    before = threading.active_count()
    hasher = Hasher(ready, lambda: None, timeout=150, threads=2)
    done = threading.Event()
    hasher.job(Hash(done.set), for_whom=None).start(lambda outcome: None)
    assert threading.active_count() == before + 2
    hasher.close()
    await until(lambda: threading.active_count() == before)
    assert done.is_set()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.eventfd_write(hasher.fileno(), 1)
    ready.close()


class TestInTheServer:
    """A login whose passdb wishes for a hash."""

    async def test_a_hash_takes_no_task(self, tmp_path: Path) -> None:
        """The login goes on in the batch that the bell announced."""
        begin = threading.Event()
        house, _ = slow_house(lambda: Hash(begin.wait))
        async with living(tmp_path, house.auth) as server:
            stream = await login(server)
            tasks = len(server.app.tasks.child_tasks)
            await stream.send_all(auth(1, "t") + auth(2, "u"))
            await until(lambda: server.app.core.holds == 2)
            assert len(server.app.tasks.child_tasks) == tasks
            assert server.app.status()["hashes"] == 2
            begin.set()
            answers = b""
            while answers.count(b"\n") < 2:
                answers += await stream.receive_some()
            assert sorted(answers.splitlines()) == [b"OK\t1\tuser=t", b"OK\t2\tuser=u"]
            assert (server.app.core.holds, server.app.status()["hashes"]) == (0, 0)

    async def test_a_cancelled_login_is_never_hashed(self, tmp_path: Path) -> None:
        """Nor is one whose client has hung up."""
        begin, done = threading.Event(), []
        wishes = iter([Hash(begin.wait) for _ in range(64)])
        house, passdb = slow_house(lambda: next(wishes))
        async with living(tmp_path, house.auth) as server:
            server.app.hasher._threads = 1
            stream = await login(server)
            await stream.send_all(b"".join(auth(id, "t") for id in range(1, 9)))
            await until(lambda: server.app.core.holds == 8)
            passdb.wait = lambda: Hash(done.append, 1)
            await stream.send_all(auth(9, "t") + b"CANCEL\t9\n" + auth(10, "t"))
            await until(lambda: passdb.asked == 10)
            await stream.aclose()
            await until(lambda: server.app.core.holds == 0)
            begin.set()
            assert passdb.abandoned == 10
        assert done == []

    async def test_a_hash_that_fails_is_a_temporary_failure(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        """When there is too much to do, nobody is told that their password is wrong."""
        begin = threading.Event()
        house = House({"t": {"password": "{SHA512-CRYPT}$6$rounds=1000$abc$x"}})
        async with living(tmp_path, house.auth) as server:
            server.app.hasher._threads = 1
            server.app.hasher.job(Hash(begin.wait), for_whom=None).start(lambda outcome: None)
            stream = await login(server)
            await stream.send_all(auth(1, "t"))
            assert (await read_until(stream, b"\n")).startswith(b"FAIL\t1\tuser=t\tcode=temp_fail")
            begin.set()
        assert ("error", "Verifying the password: no thread was done with it after 150 s") in house.log
