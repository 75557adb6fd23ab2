"""Fixtures of the end-to-end tests: each kind of stack is started once, and a failed test shows what was logged."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e import dovecot
from tests.e2e.programs import Scene
from tests.e2e.stack import Stack, running_stack

LAYOUTS = ("native", "E", "B", "M")
VERSIONS = {"2.3": pytest.mark.dovecot, "2.4": pytest.mark.dovecot24}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are end-to-end tests, and need root."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.root)


def scenes(item: pytest.Item) -> Iterator[Scene]:
    """The scenes of the fixtures that *item* uses."""
    for value in getattr(item, "funcargs", {}).values():
        if isinstance(scene := getattr(value, "scene", None), Scene):
            yield scene


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """What was logged before a test began is none of its business."""
    for scene in scenes(item):
        scene.mark()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what the programs logged meanwhile, and where their files stay."""
    report = yield
    if report.failed:
        for scene in scenes(item):
            scene.failed = True
            report.sections.append(("files", f"stay in {scene.directory}"))
            report.sections.extend(scene.news())
    return report


@pytest.fixture(
    scope="session",
    params=[
        pytest.param((version, layout), id=f"{version}-{layout}", marks=mark)
        for version, mark in VERSIONS.items()
        for layout in LAYOUTS
    ],
)
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A running Dovecot of each version in each layout; *native* keeps what the tests expect honest."""
    version, layout = request.param
    if reason := dovecot.missing(version):
        pytest.skip(reason)
    with Scene.open() as scene, running_stack(version, layout, scene) as stack:
        yield stack


@pytest.fixture(scope="session")
def native(stack: Stack) -> Iterator[Stack]:
    """A Dovecot of the same version as *stack*, with its own auth and the same script."""
    if stack.layout == "native":
        yield stack
        return
    with Scene.open() as scene, running_stack(stack.version, "native", scene) as native:
        yield native
