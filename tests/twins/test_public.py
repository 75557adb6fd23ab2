"""Scripts in the styles that one finds in public, unchanged, against real backends: with twins and with the modules.

Each runs in worker processes, which is what a configuration that says nothing means.
"""

import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from authlua.auth import new_request
from authlua.config import TWINS
from authlua.passwords import Limits
from authlua.results import PassdbReply, PassdbResult
from authlua.secret import Secret
from authlua.server.driving import complete
from authlua.server.pool import Pool, WorkerPassdb
from authlua.server.ready import Ready
from authlua.server.zygote import Zygote
from tests.services.backend import Backend, Tls
from tests.twins.conftest import INSTALL

PUBLIC = Path(__file__).with_name("public")
MODULES = Path("/usr/share/lua/5.4")


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """Where workers come from."""
    zygote = Zygote()
    yield zygote
    zygote.close()


Ask = Callable[[str, str], Coroutine[Any, Any, PassdbReply]]


@asynccontextmanager
async def workers(zygote: Zygote, source: str, twins: Sequence[str]) -> AsyncIterator[Ask]:
    """A pool for the script, and how to ask it about a user."""

    def log(level: str, text: str, about: object, fields: Mapping[str, object]) -> None:
        raise AssertionError(f"logged: {text}")

    pool = Pool(zygote, log, max=10, timeout=60, memory_limit=64 << 20)
    options = {"settings": {}, "limits": tuple(Limits()), "twins": list(twins)}
    number = pool.add("passdb", "auth.lua", source.encode(), "2.3", "2.3", options, False)
    passdb = WorkerPassdb(pool, number, verifies="auth_password_verify" in source, cache_key=None)

    async def ask(user: str, password: str) -> PassdbReply:
        request = new_request([("service", "imap")], id=1, mech="PLAIN")
        request.user = request.original_user = user
        if passdb.verifies:
            reply: PassdbReply = await complete(passdb.verify_plain(request, Secret(password.encode())))
        else:
            reply = await complete(passdb.lookup(request))
        return reply

    ready = Ready()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ready.run)
        pool.start(ready, lambda: None)
        nursery.start_soon(pool.run)
        with trio.fail_after(240):
            yield ask
        pool.close()
        nursery.cancel_scope.cancel()
    ready.close()


class Service(Backend):
    """A JSON service that knows alice."""

    def answer(self, sock: socket.socket, head: bytes, body: bytes) -> bool:
        asked = json.loads(body)
        assert asked["service"] == "imap"
        answer: dict[str, object] = {"error": None, "mailbox": f"{asked['username']}@example.com", "class": "gold"}
        status = b"200 OK"
        if asked["username"] not in ("alice", "bob"):
            status, answer = b"404 Not Found", {}
        elif asked["password"] != "wonderland":
            status, answer = b"401 Unauthorized", {}
        said = json.dumps(answer).encode()
        sock.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(said), said))
        return True


class SecureService(Service, Tls):
    """The same over TLS."""


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path, servers: Callable[[str], int]) -> Iterator[str]:
    """A script of tests/twins/public, with its backend."""
    name: str = request.param
    text = (PUBLIC / f"{name}.lua").read_text()
    with ExitStack() as stack:
        if name == "https-json":
            text = text.replace("BACKEND", stack.enter_context(SecureService(tmp_path)).url)
        elif name == "http-client":
            text = text.replace("BACKEND", stack.enter_context(Service()).url)
        elif name == "popen":
            program = tmp_path / "ask"
            program.write_text('#!/bin/sh\ncase "$1" in alice|bob) echo "{PLAIN}wonderland gold";; esac\n')
            program.chmod(0o755)
            text = text.replace("PROGRAM", str(program))
        elif name == "luasql":
            port = servers("mysql")
            fill("mysql", port)
            text = text.replace("PORT", str(port))
        else:
            port = servers("postgres")
            fill("postgres", port)
            text = text.replace("PORT", str(port))
        yield text


def fill(kind: str, port: int) -> None:
    """Make the users."""
    from authlua.twins import mysql, postgres

    make, database = (mysql.sessions, b"test") if kind == "mysql" else (postgres.sessions, b"postgres")
    open_session, _ = make(database, b"mail", b"secret", b"127.0.0.1", port)
    session = open_session()
    for statement in (
        b"drop table if exists users",
        b"create table users (name varchar(50), password varchar(50), quota varchar(10), active bool)",
        b"insert into users values ('alice', '{PLAIN}wonderland', '1G', true)",
        b"insert into users values ('bob', '{PLAIN}wonderland', null, true)",
    ):
        session.execute(statement)
    session.close()


NAMES = ["https-json", "http-client", "popen", "luasql", "dbi"]
NEEDS = {"https-json": "ssl.lua", "http-client": "cjson", "luasql": "../../../lib", "dbi": "DBI.lua", "popen": ""}


@pytest.mark.parametrize("twins", [TWINS, ()], ids=["twins", "modules"])
@pytest.mark.parametrize("source", NAMES, indirect=True, ids=NAMES)
async def test_a_script_in_a_style_of_the_public(
    zygote: Zygote, source: str, twins: Sequence[str], request: pytest.FixtureRequest
) -> None:
    """It finds users, does not find others, and says what it should of NULLs; fifty at a time."""
    name = request.node.callspec.id.partition("-twins")[0].partition("-modules")[0]
    if not twins and not MODULES.joinpath(NEEDS.get(name, "")).exists():
        pytest.skip(f"the Lua modules are not installed; {INSTALL}")
    got: dict[str, PassdbReply] = {}
    async with workers(zygote, source, twins) as ask:

        async def one(user: str, password: str = "wonderland") -> None:
            got[f"{user} {password}"] = await ask(user, password)

        async with trio.open_nursery() as nursery:
            for user in ("alice", "bob", "mallory"):
                nursery.start_soon(one, user)
            nursery.start_soon(one, "alice", "wrong")
            for number in range(50):
                nursery.start_soon(one, f"nobody{number}")
    fields = dict(got["alice wonderland"].fields)
    assert got["alice wonderland"].result is PassdbResult.OK
    assert got["bob wonderland"].result is PassdbResult.OK
    assert {reply.result for user, reply in got.items() if user.startswith("nobody")} == {PassdbResult.USER_UNKNOWN}
    assert got["mallory wonderland"].result is PassdbResult.USER_UNKNOWN
    if "auth_password_verify" in source:
        assert fields == {"user": "alice@example.com", "class": "gold"}
        assert got["alice wrong"].result is PassdbResult.PASSWORD_MISMATCH
    elif "popen" in source:
        assert fields == {"password": "{PLAIN}wonderland", "class": "gold"}
    else:
        assert fields == {"password": "{PLAIN}wonderland", "userdb_quota_rule": "*:storage=1G"}
        assert "userdb_quota_rule" not in dict(got["bob wonderland"].fields)
