"""What is counted, and how monitoring asks for it."""

from pathlib import Path
from typing import Any

import h11
import pytest
import trio
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from authlua.auth import CacheKey, Event, new_request
from authlua.dialect import Dialect
from authlua.errors import ConfigError, ScriptError
from authlua.protocol import UserFound
from authlua.server.core import _observer
from authlua.server.counting import BUCKETS, MAX_SERVICES, Counts
from authlua.server.metrics import Collector, open_counts
from authlua.variables import compile_template
from tests.auth.fakes import House, run
from tests.server.living import Living, living, login, read_until
from tests.server.test_clients import auth

USERS: dict[str, Any] = {"t": {"password": "{PLAIN}pass"}, "down": ScriptError("down")}


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Every number by its name and the values of its labels, in the order of the labels' names."""

    def key(sample: Sample) -> tuple[str, ...]:
        return (sample.name, *(value for _, value in sorted(sample.labels.items())))

    return {key(sample): sample.value for family in text_string_to_metric_families(text) for sample in family.samples}


def counted(counts: Counts, name: str) -> dict[tuple[str, ...], int]:
    """How often, by labels."""
    (kind,) = [one for one in counts.kinds if one.name == name]
    return {values: tally.times for values, tally in kind.tallies.items()}


async def get(server: Living, *requests: bytes) -> list[tuple[int, str]]:
    """The answers to requests sent on one connection."""
    stream = server.connect("metrics")
    http = h11.Connection(h11.CLIENT)
    answers = []
    for request in requests:
        method, target = request.split()
        sent = http.send(h11.Request(method=method, target=target, headers=[("Host", "x")])) or b""
        await stream.send_all(sent + (http.send(h11.EndOfMessage()) or b""))
        body, status = b"", 0
        with trio.fail_after(1000):
            while not isinstance(event := http.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    http.receive_data(await stream.receive_some())
                elif isinstance(event, h11.Response):
                    status = event.status_code
                elif isinstance(event, h11.Data):
                    body += event.data
        answers.append((status, body.decode()))
        http.start_next_cycle()
    return answers


async def test_requests_that_wait_are_counted(tmp_path: Path) -> None:
    """Whatever they wait for."""
    house = House(USERS)
    async with living(tmp_path, house.auth, counts=Counts()) as server:
        client = await login(server)
        waiting = []
        for line in (b"AUTH\t1\tPLAIN\tservice=x\n", b"AUTH\t2\tPLAIN\tservice=x\n", b"CONT\t1\tAHQAcGFzcw==\n"):
            await client.send_all(line)
            await read_until(client, b"\n")
            [(_, text)] = await get(server, b"GET /metrics")
            waiting.append(samples(text)["authlua_requests_waiting",])
    assert waiting == [1, 2, 1]


async def test_logins_and_answers_are_counted(tmp_path: Path) -> None:
    """By how they ended; monitoring may keep its connection."""
    counts = Counts()
    key = CacheKey.of_template("P", 1, compile_template("%u", Dialect.V2_3), Dialect.V2_3)
    house = House(USERS, placed=[{"cache_key": key}], cache_size=1 << 20, observe=_observer(counts, None))
    async with living(tmp_path, house.auth, counts=counts) as server:
        client = await login(server)
        await client.send_all(b"".join(auth(id, user) for id, user in enumerate(["t", "t", "x", "down", "t"], 1)))
        await read_until(client, b"OK\t5\tuser=t\n")
        [(status, text), (health, ok), (missing, _)] = await get(
            server, b"GET /metrics", b"GET /healthz", b"GET /nothing"
        )
    assert (status, health, ok, missing) == (200, 200, "ok\n", 404)
    found = samples(text)
    assert {key[1:]: value for key, value in found.items() if key[0] == "authlua_auth_requests_total"} == {
        ("PLAIN", "ok", "imap"): 3,
        ("PLAIN", "fail", "imap"): 1,
        ("PLAIN", "temp_fail", "imap"): 1,
    }
    assert found["authlua_auth_request_duration_seconds_count", "PLAIN"] == 5
    assert {key[1:]: value for key, value in found.items() if key[0] == "authlua_passdb_requests_total"} == {
        ("miss", "lua", "ok"): 1,
        ("hit", "lua", "ok"): 2,
        ("miss", "lua", "user_unknown"): 1,
        ("miss", "lua", "internal_failure"): 1,
    }
    assert found["authlua_passdb_requests_started_total", "lua"] == 5
    assert found["authlua_connections", "client"] == 1
    assert (found["authlua_cache_hits_total",], found["authlua_cache_misses_total",]) == (2, 3)


async def test_nonsense_ends_the_connection(tmp_path: Path) -> None:
    """And nothing else."""
    async with living(tmp_path, House({}).auth, counts=Counts()) as server:
        stream = server.connect("metrics")
        await stream.send_all(b"\0nonsense\r\n\r\n")
        assert await read_until(stream, b"never") == b""
        assert await get(server, b"POST /metrics") == [(405, "only GET\n")]
        assert [status for status, _ in await get(server, b"HEAD /metrics")] == [200]


def test_userdbs_are_counted_too() -> None:
    """By their answers; without a cache that is neither a hit nor a miss."""
    counts = Counts()
    key = CacheKey.of_template("U", 1, compile_template("%u", Dialect.V2_3), Dialect.V2_3)
    house = House(userdbs=[{"t": {"home": "/t"}}], userdb_key=key, observe=_observer(counts, None))
    for name in ("t", "x", "t"):
        run(house.auth.lookup_user(new_request([("service", "lmtp")], id=1), name))
    assert counted(counts, "userdb_requests") == {("lua", "ok", ""): 2, ("lua", "user_unknown", ""): 1}


def test_clients_cannot_make_counters_without_end() -> None:
    """The service is a word of theirs."""
    counts = Counts()
    for number in range(MAX_SERVICES + 20):
        counts.login("PLAIN", f"service{number}", "ok", 0.1)
    logins = counted(counts, "auth_requests")
    assert len(logins) == MAX_SERVICES + 1
    assert logins["PLAIN", "other", "ok"] == 20


def test_the_numbers_are_told_as_the_library_tells_its_own() -> None:
    """Times on the edge of a bucket, and over all of them, included."""
    counts, theirs = Counts(), CollectorRegistry()
    (kind,) = [one for one in counts.kinds if one.name == "policy_requests"]
    counted = PrometheusCounter("authlua_policy_requests", kind.text, kind.labels, registry=theirs)
    name = "authlua_policy_request_duration_seconds"
    taken = Histogram(name, kind.duration_text, kind.labels[:1], registry=theirs, buckets=BUCKETS)
    for result in ("ok", 'o"k'):
        for seconds in (0.0, 0.0004, 0.0005, 0.02, 0.025, 30.0, 31.0):
            event = Event("auth_policy_request_finished", {"mode": "allow", "result": result})
            counts.event(event, None, seconds)
            counted.labels("allow", result).inc()
            taken.labels("allow").observe(seconds)
    ours = CollectorRegistry()
    ours.register(Collector(counts))
    told, expected = (
        {
            line
            for line in generate_latest(registry).decode().splitlines()
            if "policy" in line and "_created" not in line
        }
        for registry in (ours, theirs)
    )
    assert told == expected
    assert len(told) > len(BUCKETS)


def test_events_are_in_the_debug_log() -> None:
    """With Dovecot's names for what they say."""
    lines: list[Any] = []
    observe = _observer(None, lambda level, text, request, fields: lines.append((level, text, dict(fields))))
    house = House({"t": {"password": "{PLAIN}pass"}}, userdbs=[{"t": {}}], observe=observe)
    run(house.auth.lookup_passdb(new_request([("service", "x")], id=1), "t"))
    assert isinstance(run(house.auth.lookup_user(new_request([("service", "x")], id=1), "t")), UserFound)
    assert [(level, text) for level, text, _ in lines] == [
        ("debug", "auth_passdb_request_started"),
        ("debug", "auth_passdb_request_finished"),
        ("debug", "auth_userdb_request_started"),
        ("debug", "auth_userdb_request_finished"),
    ]
    assert lines[1][2]["result"] == "ok"
    assert (lines[1][2]["user"], lines[1][2]["service"]) == ("t", "x")
    assert ("duration" in lines[0][2], "duration" in lines[1][2]) == (False, True)


def test_nothing_is_observed_when_nobody_wants_to_know() -> None:
    """The chains then do not even look at the clock."""
    assert _observer(None, None) is None


def test_a_missing_library_is_told_to_the_admin(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"authlua\[metrics\]"):
        open_counts()
