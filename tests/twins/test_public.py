"""Scripts in the styles that one finds in public, unchanged, against real backends: with twins and with the modules.

Each runs in the workers of a server, which is what a configuration that says nothing means.
"""

import base64
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from authlua.config import TWINS
from authlua.conformance.raw import RawConnection
from tests.e2e.server import serving
from tests.services.backend import Backend, Tls
from tests.twins.conftest import INSTALL

PUBLIC = Path(__file__).with_name("public")
MODULES = Path("/usr/share/lua/5.4/DBI.lua")


CONFIG = """
[server]
base_dir = "{directory}"
[lua]
twins = {twins}
[auth]
failure_delay = "0s"
penalty = false
[[passdb]]
script = "auth.lua"
[[listener]]
kind = "client"
path = "client"
"""


@contextmanager
def asked(directory: Path, source: str, twins: Sequence[str]) -> Iterator[RawConnection]:
    """A connection to a server with the script; a process of its own, as C modules belong to one Lua for each."""
    (directory / "auth.lua").write_text(source)
    config = directory / "authlua.toml"
    config.write_text(CONFIG.format(directory=directory, twins=json.dumps(list(twins))))
    with serving(config), RawConnection.connect(directory / "client", patience=60) as client:
        client.handshake(pid=4242)
        yield client


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


@pytest.mark.parametrize("twins", [TWINS, ()], ids=["twins", "modules"])
@pytest.mark.parametrize("source", NAMES, indirect=True, ids=NAMES)
def test_a_script_in_a_style_of_the_public(tmp_path: Path, source: str, twins: Sequence[str]) -> None:
    """It lets users in and others not, many at a time, and says what it should of NULLs."""
    if not twins and not MODULES.exists():
        pytest.skip(f"the Lua modules are not installed; {INSTALL}")
    users = [("alice", "wonderland"), ("bob", "wonderland"), ("alice", "wrong")]
    users += [(f"nobody{number}", "wonderland") for number in range(50)]
    lines = []
    for id, (user, password) in enumerate(users, 1):
        response = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        lines.append(f"AUTH\t{id}\tPLAIN\tservice=imap\tresp={response}")
    with asked(tmp_path, source, twins) as client:
        answers = {int(line.split(b"\t")[1]): line.decode() for line in client.ask(*lines)}
    alice, bob, wrong, *nobodies = (answers[id] for id in range(1, len(users) + 1))
    assert [line.split("\t")[0] for line in (alice, bob, wrong)] == ["OK", "OK", "FAIL"]
    assert "temp_fail" not in "".join(answers.values())
    assert {line.split("\t")[0] for line in nobodies} == {"FAIL"}
    if "auth_password_verify" in source:
        assert sorted(alice.split("\t")[2:]) == ["class=gold", "original_user=alice", "user=alice@example.com"]
    elif "popen" in source:
        assert alice.split("\t")[2:] == ["user=alice", "class=gold"]
    else:
        assert alice.split("\t")[2:] == ["user=alice"]
