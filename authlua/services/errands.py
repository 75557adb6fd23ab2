"""How errands are waited for on trio, and the services that cores wish for by name."""

from collections.abc import Awaitable, Callable
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

import trio

from authlua.wishes import Errand, Outcome, Service, Watcher


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


class Attached(NamedTuple):
    """Who looks after sockets of services, and wants to know when outcomes have been reported."""

    watcher: Watcher
    batch_done: Callable[[], None]


attached: trio.lowlevel.RunVar[Attached | None] = trio.lowlevel.RunVar("authlua services' sockets")


def attach(watcher: Watcher, batch_done: Callable[[], None]) -> None:
    """Have *watcher* look after sockets in this event loop from now on, so that services can be errands.

    Args:
        batch_done: called after outcomes have been reported.
    """
    attached.set(Attached(watcher, batch_done))


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


def errand(service: Service) -> Errand | None:
    """*service* as something that takes no task to wait for, if it can be had so at the moment."""
    if service.name != "http":
        return None
    from authlua.services import http_client

    return http_client.exchange(*service.arguments)


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
