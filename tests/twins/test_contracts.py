"""A script cannot tell a twin from the module it stands for: values, errors, error texts."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lua.conftest import Bench
from tests.ports import closed_port
from tests.services.backend import Backend, Tls
from tests.services.redis_server import RedisServer, needs_redis
from tests.twins.conftest import CONTRACTS, Peer, real, twin

VERSIONS = pytest.mark.parametrize("version", ["5.1", "5.2", "5.3", "5.4", "5.5", "luajit"])


def contract(name: str, **words: object) -> str:
    """The script, its words replaced."""
    text = (CONTRACTS / f"{name}.lua").read_text()
    for word, value in words.items():
        text = text.replace(word, str(value))
    return text


def held_to(expected: list[str], said: list[str], version: str) -> None:
    """Lua 5.4 said what is expected; where there are no integers, 1.0 is 1."""
    if version in ("5.1", "5.2", "luajit"):
        said, expected = ([re.sub(r"\b(\d+)\.0\b", r"\1", line) for line in lines] for lines in (said, expected))
    assert said == expected


@VERSIONS
def test_socket(bench: Bench, tmp_path: Path, peer: Peer, version: str):
    """LuaSocket: tcp clients, time, names, throwing and catching."""
    source = contract("socket", PORT=peer.port)
    said = twin(bench, source, version=version)
    held_to(real(source, tmp_path), said, version)


@VERSIONS
def test_select(bench: Bench, tmp_path: Path, peer: Peer, version: str):
    """LuaSocket: which of several sockets can be read or written."""
    source = contract("select", PORT=peer.port)
    said = twin(bench, source, version=version)
    held_to(real(source, tmp_path), said, version)


@VERSIONS
def test_udp(bench: Bench, tmp_path: Path, version: str):
    """LuaSocket: datagrams, to many and to one."""
    said = twin(bench, contract("udp"), version=version)
    held_to(real(contract("udp"), tmp_path), said, version)


@VERSIONS
def test_what_never_waits(bench: Bench, tmp_path: Path, version: str):
    """ltn12, mime, socket.url, socket.headers."""
    said = twin(bench, contract("texts"), version=version)
    held_to(real(contract("texts"), tmp_path), said, version)


@VERSIONS
def test_http(bench: Bench, tmp_path: Path, version: str):
    """Requests in all forms, redirects, what goes wrong; each side has a server of its own."""
    said = []
    for run in (lambda text: twin(bench, text, version=version), lambda text: real(text, tmp_path)):
        with Backend() as backend:
            lines = run(contract("http", BACKEND=backend.url, BPORT=backend.port, CLOSED=1))
            said.append([line.replace(str(backend.port), "PORT") for line in lines])
    held_to(said[1], said[0], version)


@pytest.mark.parametrize("version", ["5.4", "luajit"])
def test_https(bench: Bench, tmp_path: Path, version: str):
    """LuaSec: requests, contexts, connections, certificates."""
    with Tls(tmp_path) as backend, Peer(b"220 hello\r\n") as plain:
        source = contract("https", BACKEND=backend.url, CERT=backend.certificate, PLAIN=plain.port, TPORT=backend.port)
        said = twin(bench, source, version=version)
        held_to(real(source, tmp_path), said, version)


@VERSIONS
def test_cjson(bench: Bench, tmp_path: Path, version: str):
    """Ours, where there is no other: it is the only one without paths."""
    said = twin(bench, "package.path, package.cpath = '', ''" + contract("cjson"), version=version)
    held_to(real(contract("cjson"), tmp_path), said, version)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis."""
    with RedisServer() as server:
        yield server


@needs_redis
@VERSIONS
def test_redis(bench: Bench, tmp_path: Path, redis: RedisServer, version: str):
    """redis-lua: all ways to connect, what commands give, pipelines, transactions, messages."""
    with closed_port() as closed:
        source = contract("redis", HOST="127.0.0.1", PORT=redis.port, PATH=redis.path, CLOSED=closed)
        said = twin(bench, source, version=version)
        held_to(real(source, tmp_path, version="5.1"), said, version)


# -- databases


def places(kind: str, servers: Callable[[str], int], file: Path) -> dict[str, str]:
    """What ``connect`` gets: a good place, and two bad ones."""
    if kind == "sqlite3":
        return {"GOOD": f'"{file}"', "BAD1": '"/nosuch/dir/file"', "BAD2": '"/"'}
    port = servers(kind)
    database = {"mysql": "test", "postgres": "postgres"}[kind]
    where = f'"secret", "127.0.0.1", {port}'
    return {
        "GOOD": f'"{database}", "mail", {where}',
        "BAD1": f'"nosuch", "mail", {where}',
        "BAD2": f'"{database}", "mail", "secret", "127.0.0.1", 1',
    }


def cleared(kind: str, servers: Callable[[str], int], table: str) -> str:
    """Lua that drops *table*."""
    if kind == "sqlite3":
        return ""
    return (
        f'do local con = require("luasql.{kind}").{kind}():connect({places(kind, servers, Path())["GOOD"]})'
        f' con:execute("drop table if exists {table}") con:close() end '
    )


@pytest.mark.parametrize("version", ["5.4", "5.1", "luajit"])
@pytest.mark.parametrize("kind", ["sqlite3", "mysql", "postgres"])
def test_luasql(bench: Bench, tmp_path: Path, servers: Callable[[str], int], kind: str, version: str):
    """Environments, connections, cursors: values, NULLs, error texts."""
    said = []
    for run in (lambda text: real(text, tmp_path), lambda text: twin(bench, text, version=version)):
        file = tmp_path / f"{len(said)}.db"
        source = contract("luasql", DRIVER=kind, **places(kind, servers, file))
        said.append(run(cleared(kind, servers, "t") + source))
    held_to(said[0], said[1], version)


DRIVERS = {"sqlite3": "SQLite3", "mysql": "MySQL", "postgres": "PostgreSQL"}


@pytest.mark.parametrize("version", ["5.4", "5.1"])
@pytest.mark.parametrize("kind", ["sqlite3", "mysql", "postgres"])
def test_dbi(bench: Bench, tmp_path: Path, servers: Callable[[str], int], kind: str, version: str):
    """Connections and statements: parameters, rows by name and number, error texts."""
    said = []
    for run in (lambda text: real(text, tmp_path), lambda text: twin(bench, text, version=version)):
        where = places(kind, servers, tmp_path / f"{len(said)}.db")
        source = contract("dbi", **{word: f'"{DRIVERS[kind]}", {place}' for word, place in where.items()})
        said.append(run(cleared(kind, servers, "u") + source))
    if kind == "postgres":  # LuaDBI loses what libpq says of a connection that fails
        said = [[line for line in lines if not line.startswith("refused")] for lines in said]
    held_to(said[0], said[1], version)


@pytest.mark.parametrize("version", ["5.2", "5.3", "5.4", "5.5"])
def test_popen(bench: Bench, tmp_path: Path, version: str):
    """Programs, their output and how they ended; lupa's Lua has no io.popen of its own."""
    source = contract("popen")
    said = twin(bench, source, version=version)
    held_to(real(source, tmp_path), said, version)
