"""A script cannot tell a twin from the module it stands for: values, errors, error texts."""

import re
from pathlib import Path

import pytest

from tests.lua.conftest import Bench
from tests.services.backend import Backend, Tls
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
