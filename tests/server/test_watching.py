"""The watch over scripts: when it reloads, and when it does not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
import trio
from trio.testing import MockClock

from authlua.config import load
from authlua.errors import ScriptError
from authlua.server import open_core
from authlua.server.watching import Stamps, stamps, watch


class App:
    """Counts reloads; refuses those of a broken script."""

    def __init__(self, *paths: Path) -> None:
        self.paths = [str(path) for path in paths]
        self.stamps: Stamps = stamps(self.paths)
        self.reloads = 0

    @property
    def core(self) -> "App":
        return self

    def _broken(self) -> bool:
        return any("broken" in Path(path).read_text() for path in self.paths)

    async def reload(self) -> Exception | None:
        self.reloads += 1
        if self._broken():
            return ScriptError("does not load")
        self.stamps = stamps(self.paths)
        return None


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A script's file."""
    path = tmp_path / "auth.lua"
    path.write_text("one")
    return path


async def reloads(app: App, *changes: Callable[[], object]) -> list[int]:
    """How often *app* was reloaded after some time, and some time after each change."""
    counts = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, app)
        for change in (lambda: None, *changes):
            change()
            await trio.sleep(10)
            counts.append(app.reloads)
        nursery.cancel_scope.cancel()
    return counts


async def test_a_changed_script_is_loaded_once(script: Path, autojump_clock: MockClock) -> None:
    """Written in place or put in place of the old one."""

    def replace() -> None:
        other = script.with_name("new")
        other.write_text("new")
        other.rename(script)

    app = App(script)
    assert await reloads(app, lambda: script.write_text("other"), replace) == [0, 1, 2]


async def test_a_script_that_is_missing_or_does_not_load_is_not_tried_for_ever(
    script: Path, autojump_clock: MockClock
) -> None:
    """Only when the file is something else again."""
    app = App(script)
    changes: list[Callable[[], object]] = [
        script.unlink,
        lambda: script.write_text("broken"),
        lambda: script.write_text("mended"),
    ]
    assert await reloads(app, *changes) == [0, 0, 1, 2]


async def test_a_file_that_is_still_being_written_is_waited_for(script: Path, autojump_clock: MockClock) -> None:
    """It has to be the same in two looks."""
    app = App(script)
    write = script.write_text
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, app)
        for length in range(1, 8):
            write("x" * length * 10)
            await trio.sleep(0.7)
        assert app.reloads == 0
        await trio.sleep(3)
        assert app.reloads == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("value", "watched"), [("true", 1), ("false", 0)])
def test_only_who_asks_is_watched(tmp_path: Path, value: str, watched: int) -> None:
    """The scripts of passdbs and userdbs, each once."""
    (tmp_path / "auth.lua").write_text("function auth_passdb_lookup(req) end")
    (tmp_path / "authlua.toml").write_text(
        f'[lua]\nwatch = {value}\n[[passdb]]\nscript = "auth.lua"\n[[userdb]]\nscript = "auth.lua"\n'
    )
    core = open_core(load(tmp_path / "authlua.toml"), structlog.wrap_logger(structlog.ReturnLogger(), processors=[]))
    assert len(core.stamps) == watched
    core.retire()
