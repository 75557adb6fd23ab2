"""A script cannot tell a twin from the module it stands for: values, errors, error texts."""

import re
from pathlib import Path

import pytest

from tests.lua.conftest import Bench
from tests.twins.conftest import CONTRACTS, Peer, real, twin

VERSIONS = pytest.mark.parametrize("version", ["5.1", "5.2", "5.3", "5.4", "5.5", "luajit"])


def contract(name: str, **words: object) -> str:
    """The script, its words replaced."""
    text = (CONTRACTS / f"{name}.lua").read_text()
    for word, value in words.items():
        text = text.replace(word, str(value))
    return text


def same(bench: Bench, source: str, directory: Path, version: str) -> None:
    """Hold the twin to what the module says in Lua 5.4; where there are no integers, 1.0 is 1."""
    said, expected = twin(bench, source, version=version), real(source, directory)
    if version in ("5.1", "5.2", "luajit"):
        said, expected = ([re.sub(r"\b(\d+)\.0\b", r"\1", line) for line in lines] for lines in (said, expected))
    assert said == expected


@VERSIONS
def test_socket(bench: Bench, tmp_path: Path, peer: Peer, version: str):
    """LuaSocket: tcp clients, time, names, throwing and catching."""
    same(bench, contract("socket", PORT=peer.port), tmp_path, version)
