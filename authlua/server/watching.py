"""Scripts that changed are loaded again (``[lua] watch``)."""

import os
from collections.abc import Iterable, Mapping
from typing import Protocol

import trio

INTERVAL = 1.0
"""Seconds between two looks. A change is acted on when the next look finds nothing newer, so that it is whole."""

Stamps = Mapping[str, tuple[int, ...]]
"""Paths, and what changes with a file; a file that is not there has nothing."""


def stamps(paths: Iterable[str]) -> Stamps:
    """What the files look like now."""
    return {path: _stamp(path) for path in paths}


def _stamp(path: str) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino


class Loaded(Protocol):
    """What was loaded, and from what."""

    @property
    def stamps(self) -> Stamps:
        """The watched files as they were just before; empty when none is watched."""


class Reloading(Protocol):
    """The server, as far as the watch knows it."""

    @property
    def core(self) -> Loaded:
        """What is loaded now."""

    async def reload(self) -> Exception | None:
        """Load anew; what went wrong, which is logged, and then all stays as it was."""


async def watch(app: Reloading) -> None:
    """Have *app* reload whenever a file it was loaded from has changed; for ever."""
    last: Stamps = {}
    refused: Stamps = {}
    while True:
        await trio.sleep(INTERVAL)
        loaded = app.core.stamps
        now = stamps(loaded)
        settled, last = now == last, now
        if now in (loaded, refused) or not settled or not all(now.values()):
            continue
        refused = {} if await app.reload() is None else now
