"""Differences that the generated run once found, as Dovecot answers them; the name begins with its series."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from authlua.conformance import dialogue as d
from authlua.conformance.check import Server
from authlua.conformance.profiles import PROFILES
from authlua.conformance.servers import Authlua
from tests.conformance.reference import reference
from tests.reference.dovecot import why_not

FILES = sorted(Path(__file__).with_name("regressions").glob("*.txt"))

Place = tuple[str, str]


def place(path: Path) -> Place:
    """The dialect and the profile a file is about."""
    profile = re.search(r"^# profile: (\w+)$", path.read_text(), re.MULTILINE)
    assert profile is not None
    return path.name.split("-")[0], profile[1]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[Place, Authlua]]:
    """An authlua for each place."""
    with ExitStack() as stack:
        yield {
            (dialect, profile): stack.enter_context(Authlua(PROFILES[profile], dialect))
            for dialect, profile in {place(path) for path in FILES}
        }


@pytest.fixture(scope="module")
def dovecots() -> Iterator[dict[Place, dict[str, Path]]]:
    """The sockets of a Dovecot for each place, as far as they are installed."""
    with ExitStack() as stack:
        yield {
            (dialect, profile): stack.enter_context(reference(PROFILES[profile], dialect)).sockets
            for dialect, profile in {place(path) for path in FILES}
            if why_not(dialect) is None
        }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_authlua_says_so_now(path: Path, servers: dict[Place, Authlua]):
    """What was different stays mended."""
    dialect, profile = place(path)
    d.play_blocking(d.parse(path), Server(servers[dialect, profile].sockets, dialect, "authlua"))


@pytest.mark.dovecot
@pytest.mark.dovecot24
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dovecot_says_so(path: Path, dovecots: dict[Place, dict[str, Path]]):
    """It is what Dovecot says."""
    dialect, profile = place(path)
    if reason := why_not(dialect):
        pytest.skip(reason)
    d.play_blocking(d.parse(path), Server(dovecots[dialect, profile], dialect, "dovecot"))
