"""The same logins again and again, in one process without waiting: what `bench.guard` counts the instructions of.

``python -m bench.replay login N`` answers N batches of sixteen logins through a socketpair, ``… user N`` of userdb
lookups; events are counted as for a listener of kind ``metrics``. ``worker-login`` and ``worker-user`` do so with the
script in a worker, which is played by the same process. ``… unit N`` does N rounds of everyday Python, to tell how many
instructions this interpreter needs for anything at all.
"""

import os
import select
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

BATCH = 16
PARAMS = b"service=imap\tsecured\tsession=wGM65tdgfOJ/AAAB\tlip=192.0.2.1\trip=198.51.100.7\tlport=143\trport=57980"
RESPONSE = b"AHUxQHgAcGFzcw=="  # u1@x, pass
SHAPES = {
    "login": (
        "client",
        b"VERSION\t1\t2\nCPID\t4242\n",
        b"AUTH\t%%d\tPLAIN\t%s\tresp=%s\n" % (PARAMS, RESPONSE),
        b"OK\t",
    ),
    "user": ("master", b"VERSION\t1\t0\n", b"USER\t%%d\tu1@x\t%s\n" % PARAMS, b"USER\t"),
}
"""A kind of listener, what its clients say first and again and again, and how each answer begins."""


def replay(what: str) -> Callable[[], None]:
    """Something that answers one batch of requests of that shape with each call."""
    from authlua.config import ListenerSettings, embedded
    from authlua.logs import open_log
    from authlua.server.app import App
    from authlua.server.core import Lasting, open_core
    from authlua.server.counting import Counts
    from authlua.server.listeners import Listener
    from authlua.server.worker import Worker
    from authlua.server.zygote import Zygote

    workers: list[Worker] = []

    class Ourselves(Zygote):
        """Makes workers of this very process."""

        def __init__(self) -> None:
            pass

        def fork(self, worker: str, order: tuple[Any, ...], *fds: int) -> None:
            workers.append(Worker(order[0], *map(os.dup, fds)))

    where, _, shape = what.rpartition("-")
    kind, hello, line, beginning = SHAPES[shape]
    script = str(Path(__file__).with_name("auth.lua"))
    settings = embedded(script, tempfile.gettempdir())
    log = open_log("text", "info", os.open(os.devnull, os.O_WRONLY))
    counts = Counts()
    core = open_core(settings, log, Lasting(counts=counts, zygote=Ourselves() if where else None))
    app = App(settings, core, log, lambda: core)
    if core.pool is not None:
        core.pool.start(app.ready, app.write_all)
    app.tally.counts = counts
    ours, theirs = socket.socketpair()
    app.connect(Listener(ListenerSettings(kind=kind), socket.socket(socket.AF_UNIX)), theirs)
    (connection,) = [*app.clients, *app.masters]
    ours.send(hello)
    connection.ready(select.EPOLLIN)
    ours.recv(1 << 16)
    last = 0

    def batch() -> None:
        nonlocal last
        ids = range(last + 1, last + BATCH + 1)
        last += BATCH
        ours.send(b"".join(line % id for id in ids))
        app.ready.serve([(connection.fileno(), select.EPOLLIN)])
        if workers:
            for _ in ids:
                workers[0].step()
            app.ready.poll(0)
        answers = ours.recv(1 << 16).splitlines()
        if len(answers) != BATCH or not all(answer.startswith(beginning) for answer in answers):
            raise RuntimeError(f"the replay is not answered as it should be: {answers[:1]}")

    return batch


class _Thing:
    __slots__ = ("name", "values")

    def __init__(self, name: str, values: dict[str, str]) -> None:
        self.name = name
        self.values = values

    def get(self, key: str) -> str | None:
        return self.values.get(key)


def unit() -> None:
    """A round of everyday Python: objects, calls, dicts, splitting and joining."""
    for number in range(100):
        values = dict(pair.split("=") for pair in f"id={number}\tservice=imap\trip=192.0.2.1".split("\t"))
        thing = _Thing("thing", values)
        "\t".join(word for word in (thing.name, thing.get("id"), thing.get("rip"), thing.get("lip")) if word)


async def main() -> None:
    """Do what the command line says; inside trio, whose clock workers' calls are timed by."""
    what, count = sys.argv[1:]
    work = unit if what == "unit" else replay(what)
    for _ in range(int(count)):
        work()


if __name__ == "__main__":
    trio.run(main)
