"""How errands are waited for on trio, and the services that cores wish for by name."""

from collections.abc import Awaitable, Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

import trio

from authlua.wishes import Errand, Outcome, Service


async def wait_for(errand: Errand) -> Any:
    """The value of *errand*, in a task that has nothing else to do; raises its failure."""
    done = trio.Event()
    outcomes: list[Outcome] = []

    def report(outcome: Outcome) -> None:
        outcomes.append(outcome)
        done.set()

    errand.start(report)
    try:
        await done.wait()
    except trio.Cancelled:
        errand.cancel()
        raise
    if outcomes[0].failure is not None:
        raise outcomes[0].failure
    return outcomes[0].value


SERVICES = {
    "dict": ("dicts", "submit"),
    "dns": ("dns", "submit"),
    "doveadm": ("doveadm", "submit"),
    "http": ("http_client", "submit"),
    "imap_login": ("imap", "log_in"),
    "redis": ("redis_client", "submit"),
    "sleep": ("errands", "sleep"),
    "state": ("state", "submit"),
}
"""The file and the function behind each name; a file is loaded when it is first wanted."""


@lru_cache
def _service(name: str) -> Callable[..., Awaitable[tuple[Any, ...]]]:
    file, function = SERVICES[name]
    found: Callable[..., Awaitable[tuple[Any, ...]]] = getattr(import_module(f"authlua.services.{file}"), function)
    return found


async def fulfil(service: Service) -> Any:
    """The answer to *service*, as plain values."""
    return tuple(await _service(service.name)(*service.arguments))


async def sleep(seconds: float) -> tuple[()]:
    """Wait; unlike the wish `Sleep`, a worker is free for others meanwhile."""
    await trio.sleep(seconds)
    return ()


def fulfil_now(service: Service) -> Any:
    """The same, on the spot: for scripts that cannot wait where they are, as at load. Blocks the whole process."""
    from threading import Thread

    answers: list[Any] = []
    failures: list[Exception] = []

    def run() -> None:
        try:
            answers.append(trio.run(fulfil, service))
        except Exception as failure:
            failures.append(failure)

    # an event loop may run in this thread already
    thread = Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return answers[0]
