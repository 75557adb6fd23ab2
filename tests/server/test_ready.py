"""The one task that serves all sockets."""

import os
import select
from collections.abc import Callable, Iterator

import pytest
import trio

from authlua.server.ready import Ready


class _Bell:
    """Something to serve, which rings all the time."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.fd = os.eventfd(1)
        self.served = 0
        self._then = then

    def fileno(self) -> int:
        return self.fd

    def ready(self, events: int) -> None:
        self.served += 1
        self._then()


@pytest.fixture
def ready() -> Iterator[Ready]:
    """A set of nobody yet."""
    ready = Ready()
    yield ready
    ready.close()


def test_who_gets_the_descriptor_of_another_is_not_taken_for_it(ready: Ready) -> None:
    """What is served first may end another that was found ready as well; the system gives its descriptor to whoever
    comes next, of whom nothing has been found yet. It is found when somebody looks again."""
    bells = [_Bell(), _Bell()]
    newcomers: list[_Bell] = []

    def replace_the_other() -> None:
        (other,) = (bell for bell in bells if not bell.served)
        ready.forget(other)
        os.close(other.fd)
        newcomers.append(_Bell())
        ready.watch(newcomers[0], select.EPOLLIN)
        assert newcomers[0].fd == other.fd

    for bell in bells:
        bell._then = replace_the_other
        ready.watch(bell, select.EPOLLIN)
    ready.poll(0)
    assert [newcomer.served for newcomer in newcomers] == [0]
    (first,) = (bell for bell in bells if bell.served)
    first._then = lambda: None
    ready.poll(0)
    assert [newcomer.served for newcomer in newcomers] == [1]
    os.close(newcomers[0].fd)
    os.close(first.fd)


def test_to_forget_once_more_forgets_nobody_else(ready: Ready) -> None:
    """Not even who has the same descriptor by now."""
    old, new = _Bell(), _Bell()
    os.close(new.fd)
    new.fd = old.fd
    ready.watch(old, select.EPOLLIN)
    ready.forget(old)
    ready.watch(new, select.EPOLLIN)
    ready.forget(old)
    ready.poll(0)
    assert (old.served, new.served) == (0, 1)
    ready.forget(new)
    ready.poll(0)
    assert (old.served, new.served) == (0, 1)
    os.close(old.fd)


class _Due:
    soon = True


async def test_what_is_due_at_once_is_served_in_the_same_turn(ready: Ready) -> None:
    """Trio wakes the task once for what was ready and for what came of it."""
    bell = _Bell()
    turns: list[int] = []

    class Watching(trio.abc.Instrument):
        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            turns.append(bell.served)

    trio.lowlevel.add_instrument(Watching())
    ready.watch(bell, select.EPOLLIN)
    ready.eager.add(_Due())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ready.run)
        while not bell.served:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert next(filter(None, turns)) == 2
    os.close(bell.fd)
