"""Driving the core: its wishes come true on trio.

One function takes the first step on the spot (`begin`); only a core that wishes for something is carried on inside
a task (`finish`). Both run the same coroutines of `authlua.auth`.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

import trio

from authlua.services import fulfil, wait_for
from authlua.wishes import Compute, Errand, Flight, Hash, Outcome, Service, Sleep, Wish

T = TypeVar("T")


class Done:
    """What the core came to."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def begin(core: Coroutine[Wish, Any, Any], answer: Any = None) -> Done | Wish:
    """Run *core* until it is done or wishes for something."""
    try:
        return core.send(answer)
    except StopIteration as done:
        return Done(done.value)


def resume(core: Coroutine[Wish, Any, Any], outcome: Outcome) -> Done | Wish:
    """Run *core*, whose errand has ended, until it is done or wishes for something."""
    if outcome.failure is None:
        return begin(core, outcome.value)
    try:
        return core.throw(outcome.failure)
    except StopIteration as done:
        return Done(done.value)


async def _compute(wish: Compute) -> Any:
    return await trio.to_thread.run_sync(wish.function, *wish.args, abandon_on_cancel=True)


async def _sleep(wish: Sleep) -> None:
    await trio.sleep(wish.seconds)


async def _join(flight: Flight) -> None:
    landed = trio.Event()
    flight.when_landed(landed.set)
    await landed.wait()


FULFIL: Mapping[type[Wish], Callable[[Any], Awaitable[Any]]] = {
    Compute: _compute,
    Hash: _compute,
    Sleep: _sleep,
    Flight: _join,
    Service: fulfil,
}
"""How each kind of wish comes true."""


async def finish(core: Coroutine[Wish, Any, Any], wish: Wish, *stop_at: type[Wish]) -> Done | Wish:
    """Carry *core* on from its *wish* until it is done, or wishes for one of the kinds in *stop_at*.

    However this ends, a core that did not come to its end is closed, so that what it holds is released.
    """
    try:
        step: Done | Wish = wish
        while isinstance(step, Wish) and not isinstance(step, stop_at):
            fulfil: Callable[[Any], Awaitable[Any]] = wait_for if isinstance(step, Errand) else FULFIL[type(step)]
            try:
                answer = await fulfil(step)
            except Exception as failure:
                step = resume(core, Outcome(failure=failure))
            else:
                step = begin(core, answer)
    except BaseException:
        core.close()
        raise
    return step


async def complete(core: Coroutine[Wish, Any, T]) -> T:
    """All of *core*, from start to end; for those who have nothing else to do meanwhile."""
    step = begin(core)
    if isinstance(step, Wish):
        step = await finish(core, step)
    if not isinstance(step, Done):
        raise AssertionError("without stop_at, only the end is an end")
    value: T = step.value
    return value
