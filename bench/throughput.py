"""Logins a second over connections and requests in flight, authlua and Dovecot by turns."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.load import load
from bench.servers import Authlua, Dovecot, cpu_seconds

SCRIPT = Path(__file__).with_name("auth.lua")
SHAPES = [(1, 1), (1, 16), (50, 1), (100, 16), (1000, 1), (4000, 1)]

Server = Authlua | Dovecot


def measure(seconds: float, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Both servers, with the script in the server and in workers; ``{"inline": [point, …], "workers": […]}``,
    and beside each ``… userdb`` lookups and ``… plain``, authlua without its compiled parts."""
    found = {}
    for mode, worker in ("inline", False), ("workers", True):
        with Authlua(SCRIPT, worker=worker) as authlua, Dovecot(SCRIPT, worker=worker) as dovecot:
            found[mode] = [_point(shape, "auth", seconds, rounds, authlua, dovecot, say) for shape in SHAPES]
            found[mode + " userdb"] = [_point((1, 16), "user", seconds, rounds, authlua, dovecot, say)]
        with Authlua(SCRIPT, worker=worker, compiled=False) as authlua, Dovecot(SCRIPT, worker=worker) as dovecot:
            found[mode + " plain"] = [_point((1, 16), "auth", seconds, rounds, authlua, dovecot, say)]
    return found


def _point(
    shape: tuple[int, int],
    kind: str,
    seconds: float,
    rounds: int,
    authlua: Authlua,
    dovecot: Dovecot,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Medians over *rounds*; ``ratio`` is the median of each round's own ratio, since the machine changes between."""
    seen: dict[str, list[dict[str, float]]] = {"authlua": [], "Dovecot": []}
    for number in range(rounds):
        pair: list[Server] = [authlua, dovecot]
        for server in pair if number % 2 else reversed(pair):
            seen[server.name].append(_run(server, shape, kind, seconds))
    point: dict[str, Any] = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in seen.items()
    }
    pairs = list(zip(seen["authlua"], seen["Dovecot"], strict=True))
    point["ratio"] = statistics.median(ours["per_second"] / theirs["per_second"] for ours, theirs in pairs)
    point["connections"], point["inflight"] = shape
    say(f"{kind} {shape[0]} x {shape[1]}: {point['ratio']:.2f}")
    return point


def _run(server: Server, shape: tuple[int, int], kind: str, seconds: float) -> dict[str, float]:
    connections, inflight = shape
    socket = server.sockets["client" if kind == "auth" else "master"]
    before = cpu_seconds(server.pid)
    # no-penalty: who counts failures by address is another process in Dovecot, and not what is compared here
    run = load(socket, q=kind, c=connections, k=inflight, w=seconds / 5, t=seconds, x=True)
    cpu = cpu_seconds(server.pid) - before
    if run.failed or not run.replies:
        raise RuntimeError(f"{server.name} answered {run.replies} requests within {seconds:g} s, {run.failed} wrongly")
    time.sleep(0.1)  # for the connections to be closed
    whole = run.replies * (1 + 1 / 5)  # the warming up costs processor time too
    return {"per_second": run.per_second, "p50": run.p50, "p99": run.p99, "cpu": 1e6 * cpu / whole}
