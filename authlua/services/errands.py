"""How errands are waited for on trio, and the services that cores wish for by name."""

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


async def fulfil(service: Service) -> Any:
    """The answer to *service*, as plain values."""
    match service.name:
        case "http":
            from authlua.services import http_client

            return tuple(await http_client.submit(*service.arguments))
        case "redis":
            from authlua.services import redis_client

            return await redis_client.submit(*service.arguments)
        case "state":
            from authlua.services import state

            return await state.submit(*service.arguments)
        case "imap_login":
            from authlua.services.imap import log_in

            return tuple(await log_in(*service.arguments))
    raise AssertionError(f"there is no service {service.name}")


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
