"""Counters and latencies, told to Prometheus and its like over HTTP.

Without a listener of kind ``metrics`` nothing counts; prometheus_client and h11 are loaded by the first listener of
that kind.
"""

import socket
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import trio

from authlua.errors import ConfigError
from authlua.server.counting import BUCKETS, Counts, Kind, Tally

if TYPE_CHECKING:
    from prometheus_client import Metric

    from authlua.server.app import App
    from authlua.server.listeners import Listener

TIMEOUT = 60.0
"""Seconds that a connection may stay idle."""


def open_counts() -> Counts:
    """What counts, when there will be somebody to tell it to.

    Raises:
        ConfigError: prometheus_client is not installed.
    """
    try:
        import prometheus_client  # noqa: F401  what is missing is to be known at start, and loading takes its time
    except ImportError:
        raise ConfigError(["a metrics listener needs prometheus-client: pip install authlua[metrics]"]) from None
    return Counts()


class Collector:
    """The counts as families of prometheus_client's, whenever it asks for them."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def collect(self) -> "Iterator[Metric]":
        """Each with the time of its first count."""
        from prometheus_client.core import CounterMetricFamily

        for kind in self._counts.kinds:
            counted = CounterMetricFamily(f"authlua_{kind.name}", kind.text, labels=kind.labels)
            for values, tally in kind.tallies.items():
                counted.add_metric(values, tally.times, tally.since)
            yield counted
            if kind.duration:
                yield _latencies(kind, f"authlua_{kind.duration}_seconds")


def _latencies(kind: Kind, name: str) -> "Metric":
    """How long things of that kind took, whatever their other labels."""
    from prometheus_client.core import HistogramMetricFamily

    taken = HistogramMetricFamily(name, kind.duration_text, labels=kind.labels[:1])
    together: dict[str, list[Tally]] = {}
    for values, tally in kind.tallies.items():
        together.setdefault(values[0], []).append(tally)
    for value, tallies in together.items():
        buckets = map(sum, zip(*(tally.buckets for tally in tallies), strict=True))
        sums = list(zip([*map(str, BUCKETS), "+Inf"], accumulate(buckets), strict=True))
        taken.add_metric([value], sums, sum(tally.seconds for tally in tallies))
        taken.add_sample(f"{name}_created", {kind.labels[0]: value}, min(tally.since for tally in tallies))
    return taken


def exposition(app: "App", counts: Counts) -> bytes:
    """All numbers in the OpenMetrics format: *counts*, and what *app* has at the moment."""
    from prometheus_client import CollectorRegistry, Counter, Gauge
    from prometheus_client.openmetrics.exposition import generate_latest

    registry = CollectorRegistry()
    registry.register(Collector(counts))
    connections = Gauge("authlua_connections", "Open connections.", ["kind"], registry=registry)
    connections.labels("client").set(len(app.clients))
    connections.labels("master").set(len(app.masters))
    Gauge("authlua_requests_waiting", "Requests that wait for something.", registry=registry).set(app.core.holds)
    Gauge("authlua_hashes_waiting", "Slow hashes not made yet.", registry=registry).set(app.hasher.pending)
    if app.state.shared:
        Gauge("authlua_state_up", "Whether Redis answers.", registry=registry).set(app.state.up)
        failures = Counter("authlua_state_failures", "Questions that Redis left unanswered.", registry=registry)
        failures.inc(app.state.failures)
    if app.core.auth.cache is not None:
        cache = app.core.auth.cache.statistics()
        Gauge("authlua_cache_entries", "Entries of the auth cache.", registry=registry).set(cache.entries)
        Gauge("authlua_cache_bytes", "Its memory, estimated.", registry=registry).set(cache.size)
        for name, value in (("hits", cache.hits), ("misses", cache.misses), ("evictions", cache.evicted)):
            Counter(f"authlua_cache_{name}", f"Cache {name} since the last reload.", registry=registry).inc(value)
    return bytes(generate_latest(registry))  # type: ignore[no-untyped-call]


async def serve_metrics(app: "App", listener: "Listener", sock: socket.socket) -> None:
    """Answer ``GET /metrics`` and ``GET /healthz`` on one connection until it ends; never raises."""
    import h11

    http = h11.Connection(h11.SERVER)
    with trio.socket.from_stdlib_socket(sock) as connection:
        try:
            with trio.move_on_after(TIMEOUT) as scope:
                while True:
                    event = http.next_event()
                    if event is h11.NEED_DATA:
                        http.receive_data(await connection.recv(4096))
                    elif isinstance(event, h11.Request):
                        request = event
                    elif isinstance(event, h11.EndOfMessage):
                        await _send_all(connection, _answer(app, http, request))
                        if http.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                            return
                        http.start_next_cycle()
                        scope.deadline = trio.current_time() + TIMEOUT
                    elif isinstance(event, h11.ConnectionClosed):
                        return
        except h11.RemoteProtocolError as error:
            app.log.warning("metrics_disconnected", reason=str(error), listener=listener.name)
        except OSError:
            return  # the connection is over, and nobody waits for the answer


def _answer(app: "App", http: Any, request: Any) -> bytes:
    import h11
    from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST

    path = request.target.partition(b"?")[0]
    status, kind, body = 404, "text/plain; charset=utf-8", b"here are /metrics and /healthz\n"
    if request.method not in (b"GET", b"HEAD"):
        status, body = 405, b"only GET\n"
    elif path == b"/metrics" and app.tally.counts is not None:
        status, kind, body = 200, CONTENT_TYPE_LATEST, exposition(app, app.tally.counts)
    elif path == b"/healthz":
        status, body = 200, b"ok\n"
    headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
    parts = [http.send(h11.Response(status_code=status, headers=headers))]
    if request.method != b"HEAD":
        parts.append(http.send(h11.Data(body)))
    return b"".join([*parts, http.send(h11.EndOfMessage())])


async def _send_all(connection: trio.socket.SocketType, data: bytes) -> None:
    while data:
        data = data[await connection.send(data) :]
