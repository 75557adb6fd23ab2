"""Every dialogue, against authlua and against the real thing: what both say is true, what one says is a bug.

The dialogues for one server run side by side, for nearly all their time is spent waiting for the failure delay.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import Any, cast

import pytest

from authlua.conformance import dialogue as d
from tests.dialogues.memory import memory_target
from tests.dialogues.targets import AuthluaTarget, DovecotTarget, configuration
from tests.reference.dovecot import REPOSITORY, why_not

DIALOGUES = d.fixed()
ROWS = 72
LOG_TAIL = 10

each_dialogue = pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda dialogue: dialogue.name)


class SideBySide:
    """All dialogues that some test is going to ask for, each played once, on one server per list of mechanisms."""

    def __init__(
        self, start: Callable[[str], AbstractContextManager[Any]], wanted: list[d.Dialogue], dialect: str, subject: str
    ) -> None:
        self.stack = ExitStack()
        self.pool = self.stack.enter_context(ThreadPoolExecutor(max_workers=max(1, len(wanted))))
        self.targets: dict[str, Any] = {}
        self.mechanisms: dict[str, str] = {}
        self.futures: dict[str, Future[None]] = {}
        for dialogue in wanted:
            try:
                mechanisms = dialogue.mechanisms(dialect, subject)
                if mechanisms not in self.targets:
                    self.targets[mechanisms] = self.stack.enter_context(start(mechanisms))
            except d.NotPlayed as reason:
                self.futures[dialogue.name] = Future()
                self.futures[dialogue.name].set_exception(reason)
                continue
            self.mechanisms[dialogue.name] = mechanisms
            self.futures[dialogue.name] = self.pool.submit(d.play_blocking, dialogue, self.targets[mechanisms])

    def result(self, dialogue: d.Dialogue) -> None:
        """Pass, fail or skip as *dialogue* did."""
        try:
            self.futures[dialogue.name].result()
        except d.NotPlayed as reason:
            pytest.skip(str(reason))
        except Exception as error:
            log = self.targets[self.mechanisms[dialogue.name]].log().splitlines()
            error.add_note("\n".join(["end of the server's log:", *log[-LOG_TAIL:]]))
            raise


def side_by_side(
    request: pytest.FixtureRequest, kind: type[DovecotTarget] | type[AuthluaTarget], dialect: str
) -> Iterator[SideBySide]:
    tests = [item for item in request.session.items if isinstance(item, pytest.Function)]
    asking = [test for test in tests if request.fixturename in test.fixturenames]
    wanted = [cast("d.Dialogue", test.callspec.params["dialogue"]) for test in asking]
    if os.geteuid() != 0:
        wanted = [dialogue for dialogue in wanted if not dialogue.needs_root]
    playing = SideBySide(lambda mechanisms: kind(dialect, mechanisms), wanted, dialect, kind.subject)
    with playing.stack:
        yield playing


def skip_without_root(dialogue: d.Dialogue) -> None:
    if dialogue.needs_root and os.geteuid() != 0:
        pytest.skip("connecting as another user needs root")


@pytest.fixture(scope="module")
def dovecot23(request):
    if reason := why_not("2.3"):
        pytest.skip(reason)
    yield from side_by_side(request, DovecotTarget, "2.3")


@pytest.fixture(scope="module")
def dovecot24(request):
    if reason := why_not("2.4"):
        pytest.skip(reason)
    yield from side_by_side(request, DovecotTarget, "2.4")


@pytest.fixture(scope="module")
def authlua_as_23(request):
    yield from side_by_side(request, AuthluaTarget, "2.3")


@pytest.fixture(scope="module")
def authlua_as_24(request):
    yield from side_by_side(request, AuthluaTarget, "2.4")


@pytest.fixture
def config(dialogue: d.Dialogue, dialect, piece, tmp_path) -> str:
    """What authlua in memory is configured with for *dialogue*, if it may be played there."""
    if piece == 1 and dialogue.needs_one_packet:
        pytest.skip(f"it is about lines that arrive together: {dialogue.needs_one_packet}")
    try:
        return configuration(tmp_path, dialect, dialogue.mechanisms(dialect, "authlua"))
    except d.NotPlayed as reason:
        pytest.skip(str(reason))


@each_dialogue
@pytest.mark.parametrize("piece", [1 << 20, 1], ids=["as_sent", "byte_by_byte"])
@pytest.mark.parametrize("dialect", ["2.3", "2.4"])
async def test_authlua_says_so_in_memory(dialogue, dialect, piece, config, tmp_path, autojump_clock):
    """The file is true of authlua, however its bytes arrive."""
    async with memory_target(tmp_path, dialect, config, piece=piece) as target:
        await d.play(dialogue, target)


@each_dialogue
def test_authlua_as_23_says_so_on_its_sockets(dialogue: d.Dialogue, authlua_as_23: SideBySide):
    """The file is true of a served authlua that speaks like 2.3."""
    skip_without_root(dialogue)
    authlua_as_23.result(dialogue)


@each_dialogue
def test_authlua_as_24_says_so_on_its_sockets(dialogue: d.Dialogue, authlua_as_24: SideBySide):
    """The file is true of a served authlua that speaks like 2.4."""
    skip_without_root(dialogue)
    authlua_as_24.result(dialogue)


@pytest.mark.dovecot
@each_dialogue
def test_dovecot_23_says_so(dialogue: d.Dialogue, dovecot23: SideBySide):
    """The file is true of Dovecot 2.3."""
    skip_without_root(dialogue)
    dovecot23.result(dialogue)


@pytest.mark.dovecot24
@each_dialogue
def test_dovecot_24_says_so(dialogue: d.Dialogue, dovecot24: SideBySide):
    """The file is true of Dovecot 2.4."""
    skip_without_root(dialogue)
    dovecot24.result(dialogue)


def test_every_row_of_the_checklist_has_its_dialogue():
    """No row is forgotten, and no file covers nothing."""
    covered = set().union(*(dialogue.rows for dialogue in DIALOGUES))
    assert set(range(1, ROWS + 1)) == covered
    assert all(dialogue.rows and dialogue.summary for dialogue in DIALOGUES)


def test_every_known_difference_is_told():
    """Where a dialogue lets authlua answer otherwise than Dovecot, docs/differences.md names that dialogue."""
    told = (REPOSITORY / "docs" / "differences.md").read_text()
    different = [dialogue.name for dialogue in DIALOGUES if any(step.tags & d.SUBJECTS for step in dialogue.steps)]
    assert different
    assert [name for name in different if f"`{name}`" not in told] == []
