"""The one task that serves all sockets."""

import os
import select

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from authlua.server.ready import Ready


class _Bell:
    """Something to serve."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0)

    def fileno(self) -> int:
        return self.fd

    def ready(self, events: int) -> None:
        os.eventfd_read(self.fd)


@pytest.mark.parametrize("again", range(16))  # who goes first when both are woken together is a matter of chance
async def test_closing_may_meet_something_to_serve(again: int) -> None:
    """At the end of the server: what has just become ready is served before, or not at all, and that is no error."""
    ready, bell = Ready(), _Bell()
    ready.watch(bell, select.EPOLLIN)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ready.run)
        await wait_all_tasks_blocked()
        os.eventfd_write(bell.fd, 1)
        await trio.lowlevel.wait_readable(bell.fd)
        ready.close()
        nursery.cancel_scope.cancel()
    os.close(bell.fd)
