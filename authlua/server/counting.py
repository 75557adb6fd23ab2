"""What happened, as plain numbers: counting is on the way of every login, so it may cost next to nothing.

`authlua.server.metrics` tells the numbers to whoever asks.
"""

from time import time
from typing import Final

from authlua.auth import Event
from authlua.request import AuthRequest

MAX_SERVICES: Final = 30
"""Different services told apart: the word comes from the client, and each makes new counters."""

BUCKETS: Final[tuple[float, ...]] = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                     0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # fmt: skip
"""Seconds up to which latencies are told apart."""


class Tally:
    """How often something happened, and how long it took."""

    def __init__(self) -> None:
        self.times = 0
        self.seconds = 0.0
        """All together."""
        self.buckets = [0] * (len(BUCKETS) + 1)
        """How many took longer than the bucket before, and not longer than this one; the last has no bound."""
        self.since = time()
        """When it began, in seconds since the epoch."""

    def count(self, seconds: float) -> None:
        """It happened once more, and took so long."""
        self.times += 1
        self.seconds += seconds
        place = 0
        for bound in BUCKETS:  # compiled, a third of what `bisect` costs, which needs objects to compare
            if seconds <= bound:
                break
            place += 1
        self.buckets[place] += 1


class Kind:
    """What is counted under one name, by its labels.

    Args:
        duration: the name of its latencies, which are told by the first label alone; without one nobody asks for them.
    """

    def __init__(
        self, name: str, text: str, labels: tuple[str, ...], duration: str = "", duration_text: str = ""
    ) -> None:
        self.name = name
        self.text = text
        self.labels = labels
        self.duration = duration
        self.duration_text = duration_text
        self.tallies: dict[tuple[str, ...], Tally] = {}

    def tally(self, values: tuple[str, ...]) -> Tally:
        """How often it happened with these labels."""
        tally = self.tallies.get(values)
        if tally is None:
            tally = self.tallies[values] = Tally()
        return tally


class Counts:
    """All that is counted; it outlives reloads."""

    def __init__(self) -> None:
        self._services: set[str] = set()
        self._logins = Kind(
            "auth_requests", "Logins by how they ended.", ("mech", "service", "result"),
            "auth_request_duration", "From AUTH to the verdict, client included.",
        )  # fmt: skip
        self._started = {
            kind: Kind(f"{kind}_requests_started", f"Questions put to {kind}s.", (kind,))
            for kind in ("passdb", "userdb")
        }  # fmt: skip
        self._finished = {
            kind: Kind(
                f"{kind}_requests", f"Questions to {kind}s by their answers.", (kind, "result", "cache"),
                f"{kind}_request_duration", f"Of a {kind}'s answer.",
            )
            for kind in ("passdb", "userdb")
        }  # fmt: skip
        self._policy = Kind(
            "policy_requests", "Requests to the policy server.", ("mode", "result"),
            "policy_request_duration", "Of the server's answer.",
        )  # fmt: skip
        self._workers = Kind(
            "worker_requests", "Calls of workers.", ("command", "result"),
            "worker_request_duration", "Of a worker's answer.",
        )  # fmt: skip
        self.kinds = [self._logins, *self._started.values(), *self._finished.values(), self._policy, self._workers]

    def login(self, mech: str, service: str, result: str, seconds: float) -> None:
        """A login ended: ``ok``, ``fail``, or one of Dovecot's codes."""
        if service not in self._services:
            if len(self._services) >= MAX_SERVICES:
                service = "other"
            self._services.add(service)
        self._logins.tally((mech, service, result)).count(seconds)

    def event(self, event: Event, request: AuthRequest | None, seconds: float) -> None:
        """*event* has happened, and took so long (`authlua.auth.Observe`)."""
        tally = event.tally
        if not isinstance(tally, Tally):
            tally = event.tally = self._tally(event)
        tally.count(seconds)

    def _tally(self, event: Event) -> Tally:
        fields = event.fields
        if event.name == "auth_policy_request_finished":
            return self._policy.tally((fields["mode"], fields["result"]))
        if event.name == "auth_worker_request_finished":
            return self._workers.tally((fields["command"], "failed" if "error" in fields else "answered"))
        kind = "passdb" if "passdb" in fields else "userdb"
        # 2.3 has the name in a field of its own
        database = fields.get("passdb_name" if kind == "passdb" else "userdb_name") or fields[kind]
        if event.name.endswith("_started"):
            return self._started[kind].tally((database,))
        return self._finished[kind].tally((database, fields["result"], fields.get("cache", "")))
