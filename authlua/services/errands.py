"""The services that cores wish for by name."""

from typing import Any

from authlua.wishes import Service


async def fulfil(service: Service) -> Any:
    """The answer to *service*, as plain values."""
    match service.name:
        case "http":
            from authlua.services import http_client

            return tuple(await http_client.submit(*service.arguments))
        case "redis":
            from authlua.services import redis_client

            return await redis_client.submit(*service.arguments)
    raise AssertionError(f"there is no service {service.name}")


def fulfil_now(service: Service) -> Any:
    """The same, on the spot: for scripts that cannot wait where they are, as at load. Blocks the whole process."""
    from threading import Thread

    import trio

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
