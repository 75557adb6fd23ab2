"""Counters and latencies, told to Prometheus and its like over HTTP.

Without a listener of kind ``metrics`` nothing here is made and nothing counts; prometheus_client and h11 are loaded
by the first listener of that kind.
"""

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import trio

from authlua.errors import ConfigError

if TYPE_CHECKING:
    from prometheus_client.metrics import MetricWrapperBase

    from authlua.server.app import App
    from authlua.server.listeners import Listener

TIMEOUT = 60.0
"""Seconds that a connection may stay idle."""

MAX_SERVICES = 30
"""Different services told apart: the word comes from the client, and each makes new counters."""

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """What is counted; it outlives reloads.

    Raises:
        ConfigError: prometheus_client is not installed.
    """

    def __init__(self) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Histogram
        except ImportError:
            raise ConfigError(["a metrics listener needs prometheus-client: pip install authlua[metrics]"]) from None
        self._registry = CollectorRegistry()
        self._services: set[str] = set()
        self._children: dict[tuple[str, ...], Any] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"authlua_{name}", text, labels, registry=self._registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"authlua_{name}_seconds", text, labels, registry=self._registry, buckets=BUCKETS)

        self._logins = counter("auth_requests", "Logins by how they ended.", "mech", "service", "result")
        self._login_time = histogram("auth_request_duration", "From AUTH to the verdict, client included.", "mech")
        self._started = {
            "auth_passdb_request_started": counter("passdb_requests_started", "Questions put to passdbs.", "passdb"),
            "auth_userdb_request_started": counter("userdb_requests_started", "Questions put to userdbs.", "userdb"),
        }
        self._counters = {
            "auth_passdb_request_finished": counter(
                "passdb_requests", "Questions to passdbs by their answers.", "passdb", "result", "cache"
            ),
            "auth_userdb_request_finished": counter(
                "userdb_requests", "Questions to userdbs by their answers.", "userdb", "result", "cache"
            ),
            "auth_policy_request_finished": counter(
                "policy_requests", "Requests to the policy server.", "mode", "result"
            ),
            "auth_worker_request_finished": counter("worker_requests", "Calls of workers.", "command", "result"),
        }
        self._histograms = {
            "auth_passdb_request_finished": histogram("passdb_request_duration", "Of a passdb's answer.", "passdb"),
            "auth_userdb_request_finished": histogram("userdb_request_duration", "Of a userdb's answer.", "userdb"),
            "auth_policy_request_finished": histogram("policy_request_duration", "Of the server's answer.", "mode"),
            "auth_worker_request_finished": histogram("worker_request_duration", "Of a worker's answer.", "command"),
        }

    def login(self, mech: str, service: str, result: str, seconds: float) -> None:
        """A login ended: ``ok``, ``fail``, or one of Dovecot's codes."""
        if service not in self._services:
            if len(self._services) >= MAX_SERVICES:
                service = "other"
            self._services.add(service)
        self._child(self._logins, mech, service, result).inc()
        self._child(self._login_time, mech).observe(seconds)

    def event(self, name: str, fields: Mapping[str, str], seconds: float) -> None:
        """An event of this name, with Dovecot's fields."""
        if name in self._started:
            self._child(self._started[name], _database(fields)).inc()
            return
        what: str
        match name:
            case "auth_policy_request_finished":
                what, *more = fields["mode"], fields["result"]
            case "auth_worker_request_finished":
                what, *more = fields["command"], "failed" if "error" in fields else "answered"
            case _:
                what, *more = _database(fields), fields["result"], fields.get("cache", "")
        self._child(self._counters[name], what, *more).inc()
        self._child(self._histograms[name], what).observe(seconds)

    def _child(self, metric: "MetricWrapperBase", *values: str) -> Any:
        key = (metric._name, *values)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*values)
        return child

    def text(self, app: "App") -> bytes:
        """All of it in the OpenMetrics format, with what *app* has at the moment."""
        from prometheus_client import CollectorRegistry, Counter, Gauge
        from prometheus_client.openmetrics.exposition import generate_latest

        now = CollectorRegistry()
        connections = Gauge("authlua_connections", "Open connections.", ["kind"], registry=now)
        connections.labels("client").set(len(app.clients))
        connections.labels("master").set(len(app.masters))
        Gauge("authlua_requests_waiting", "Requests that wait for something.", registry=now).set(app.core.holds)
        Gauge("authlua_hashes_waiting", "Slow hashes not made yet.", registry=now).set(app.hasher.pending)
        if app.state.shared:
            Gauge("authlua_state_up", "Whether Redis answers.", registry=now).set(app.state.up)
            failures = Counter("authlua_state_failures", "Questions that Redis left unanswered.", registry=now)
            failures.inc(app.state.failures)
        if app.core.auth.cache is not None:
            cache = app.core.auth.cache.statistics()
            Gauge("authlua_cache_entries", "Entries of the auth cache.", registry=now).set(cache.entries)
            Gauge("authlua_cache_bytes", "Its memory, estimated.", registry=now).set(cache.size)
            for name, value in (("hits", cache.hits), ("misses", cache.misses), ("evictions", cache.evicted)):
                Counter(f"authlua_cache_{name}", f"Cache {name} since the last reload.", registry=now).inc(value)
        end = b"# EOF\n"
        counted, present = map(generate_latest, (self._registry, now))
        return bytes(counted.removesuffix(end) + present)


def _database(fields: Mapping[str, str]) -> str:
    """The name of a passdb or userdb; 2.3 has that in a field of its own."""
    kind = "passdb" if "passdb" in fields else "userdb"
    return fields.get(f"{kind}_name") or fields[kind]


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
    elif path == b"/metrics" and app.tally.metrics is not None:
        status, kind, body = 200, CONTENT_TYPE_LATEST, app.tally.metrics.text(app)
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
