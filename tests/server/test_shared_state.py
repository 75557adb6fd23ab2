"""Two servers and one Redis, all of them processes of their own."""

import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from authlua.conformance.raw import RawConnection
from tests.e2e.server import ROOT, serving
from tests.services.redis_server import RedisServer, needs_redis

pytestmark = needs_redis

SCRIPT = """
function auth_passdb_lookup() return dovecot.auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass" } end
function auth_userdb_lookup() return dovecot.auth.USERDB_RESULT_OK, {} end
"""

CONFIG = """
server.base_dir = "{directory}"
state = {{ url = "{url}", timeout = "0.3s" }}
auth.failure_delay = "0s"
passdb = [{{ script = "auth.lua", use_worker = false }}]
userdb = [{{ script = "auth.lua", use_worker = false }}]
listener = [
  {{ kind = "client", path = "auth-client" }},
  {{ kind = "control", path = "control" }},
  {{ kind = "metrics", path = "metrics" }},
]
"""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """What they share."""
    with RedisServer("p4ss") as redis:
        yield redis


def config(directory: Path, redis: RedisServer) -> Path:
    """A server's directory and configuration."""
    directory.mkdir()
    (directory / "auth.lua").write_text(SCRIPT)
    path = directory / "authlua.toml"
    path.write_text(CONFIG.format(directory=directory, url=redis.url))
    return path


def login(id: int, password: str, rip: str = "192.0.2.1") -> bytes:
    """A line of the protocol."""
    response = base64.b64encode(f"\0t\0{password}".encode()).decode()
    return f"AUTH\t{id}\tPLAIN\tservice=imap\trip={rip}\tresp={response}\n".encode()


def status(directory: Path) -> dict[str, object]:
    """What ``authlua status`` says."""
    command = [sys.executable, "-m", "authlua", "status", "--json", "-c", str(directory / "authlua.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_who_fails_at_one_server_waits_at_the_other(tmp_path: Path, redis: RedisServer) -> None:
    """And is free at both when one has let them in."""
    with ExitStack() as stack:
        clients = []
        for name in ("one", "other"):
            stack.enter_context(serving(config(tmp_path / name, redis)))
            client = stack.enter_context(RawConnection.connect(tmp_path / name / "auth-client"))
            client.handshake(pid=4242)
            clients.append(client)
        one, other = clients
        one.send(login(1, "wrong"))
        assert one.receive() == b"FAIL\t1\tuser=t"
        other.send(login(1, "pass"))
        assert status(tmp_path / "other")["waiting"] == 1
        assert other.waiting() == b""
        other.send(login(2, "pass", "192.0.2.2"))
        assert other.receive() == b"OK\t2\tuser=t"
        assert other.receive() == b"OK\t1\tuser=t"  # 4 s later
        one.send(login(2, "pass"))
        assert one.receive() == b"OK\t2\tuser=t"
        assert status(tmp_path / "one")["state"] == "up"
    assert "p4ss" not in "".join((tmp_path / name / "authlua.log").read_text() for name in ("one", "other"))


async def test_redis_stops_and_starts_under_load_and_no_login_is_lost(tmp_path: Path, redis: RedisServer) -> None:
    """Each outage is one warning; it ends by itself, and the metrics know of it."""
    outages = 3
    answers: list[bytes] = []
    with serving(config(tmp_path / "one", redis)):
        place = tmp_path / "one"
        done, answered = trio.Event(), trio.Event()

        enough = 0

        async def load(number: int) -> None:
            stream = await trio.open_unix_socket(str(place / "auth-client"))
            await stream.send_all(b"VERSION\t1\t2\nCPID\t%d\n" % (5000 + number))
            while not (await stream.receive_some()).endswith(b"DONE\n"):
                continue
            id = 0
            while not done.is_set():
                lines = b"".join(login(id + n, "pass", f"10.0.{number}.{n}") for n in range(1, 9))
                id += 8
                await stream.send_all(lines)
                got = b""
                while got.count(b"\n") < 8:
                    got += await stream.receive_some()
                answers.extend(got.splitlines())
                if len(answers) >= enough:
                    answered.set()
            await stream.aclose()

        async def becomes(state: str) -> None:
            with trio.fail_after(30):
                while True:
                    if (await trio.to_thread.run_sync(status, place))["state"] == state:
                        return

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(load, number)
            for outage in range(outages):
                await becomes("up")
                if outage == 1:
                    redis.freeze()
                else:
                    redis.stop()
                await becomes("down")
                enough, answered = len(answers) + 200, trio.Event()
                await answered.wait()
                if outage == 1:
                    redis.freeze(thaw=True)
                else:
                    redis.start()
            await becomes("up")
            done.set()
        metrics = await _metrics(place / "metrics")
    assert len(answers) > 200 * outages
    assert {line.split(b"\t")[0] for line in answers} == {b"OK"}
    log = (place / "authlua.log").read_text()
    warnings = log.count("state_unreachable")
    # hundreds of logins found it down; on a busy machine a Redis that answers late counts as one outage more
    assert outages <= warnings <= outages + 3
    assert log.count("state_back") == warnings
    assert re.search(r"^authlua_state_up 1\.0$", metrics, re.MULTILINE)
    failures = re.search(r"^authlua_state_failures_total (\d+)\.0$", metrics, re.MULTILINE)
    assert failures is not None
    assert int(failures[1]) >= outages


async def _metrics(path: Path) -> str:
    text = b""
    async with await trio.open_unix_socket(str(path)) as stream:
        await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        async for piece in stream:
            text += piece
    return text.decode()


def test_a_redis_that_was_never_there_keeps_nobody_out(tmp_path: Path, redis: RedisServer) -> None:
    """A server starts without it, counts by itself, and uses it once it comes."""
    redis.stop()
    with serving(config(tmp_path / "one", redis)), RawConnection.connect(tmp_path / "one/auth-client") as client:
        client.handshake(pid=4242)
        client.send(login(1, "pass"))
        assert client.receive() == b"OK\t1\tuser=t"
        client.send(login(2, "wrong", "192.0.2.9"))
        assert client.receive() == b"FAIL\t2\tuser=t"
        client.send(login(3, "pass", "192.0.2.9"))
        assert status(tmp_path / "one")["waiting"] == 1
        assert status(tmp_path / "one")["state"] == "down"
        redis.start()
        for id in range(4, 100):
            client.send(login(id, "pass"))
            assert client.receive() == b"OK\t%d\tuser=t" % id
            if status(tmp_path / "one")["state"] == "up":
                return
    raise AssertionError("it did not find out that Redis is there")
