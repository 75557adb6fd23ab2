"""The plan of the house, drawn again from the code: who imports whom, and what a wheel holds."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "authlua"
MODULES = sorted(path.relative_to(ROOT).with_suffix("") for path in PACKAGE.rglob("*.py"))

FLOORS: list[set[str]] = [
    # Imports go down only; rooms on one floor do not know each other. Floor 0 is one room.
    {"authlua", "dialect", "errors", "fields", "listing", "masks", "request", "results", "secret", "urls", "wishes"},
    {"mail", "onetime", "passwords", "protocol", "variables"},
    {"databases", "lua", "sasl"},
    {"auth", "config", "logs", "services", "twins"},
    {"doveconf", "server"},
    {"conformance"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

KEPT_TO = {
    # a library → the only rooms that may import it
    "lupa": {"lua"},
    "trio": {"server", "services", "cli"},
    "structlog": {"logs", "server"},  # the server only names the type of the log it is given
    "h11": {"server"},
    "httptools": {"services"},
    "hiredis": {"services"},
    "bcrypt": {"passwords"},
    "argon2": {"passwords"},
    "pamela": {"databases"},
    "prometheus_client": {"server"},
}


def room_of(module: Path) -> str:
    """``authlua/sasl/plain`` → ``sasl``; ``authlua/__init__`` → ``authlua``."""
    parts = module.parts
    return "authlua" if parts[1] == "__init__" else parts[1]


def imports_of(module: Path) -> Iterator[str]:
    """The dotted names of all modules that *module* imports anywhere in it, relative ones made absolute."""
    tree = ast.parse((ROOT / module).with_suffix(".py").read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(module.parts[: len(module.parts) - node.level]) if node.level else ""
            origin = ".".join(filter(None, (above, node.module)))
            # ``from authlua import results`` names a module in the part after ``import``
            yield from (f"{origin}.{alias.name}" for alias in node.names) if origin == "authlua" else (origin,)


def rooms_imported(module: Path) -> Iterator[tuple[str, str]]:
    """``("authlua.sasl.wishes", "sasl")`` for each import of our own in *module*."""
    for name in imports_of(module):
        top, _, inside = name.partition(".")
        room = inside.partition(".")[0]
        if top == "authlua" and room in FLOOR:
            yield name, room


def reaches_up(module: Path) -> list[str]:
    """The imports of *module* that do not go down."""
    here = room_of(module)
    return [
        name
        for name, room in rooms_imported(module)
        if room != here and FLOOR[room] >= FLOOR[here] and not FLOOR[room] == FLOOR[here] == 0
    ]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_has_a_place_in_the_house(module):
    """A new room is put on a floor before it is furnished."""
    assert room_of(module) in FLOOR


def test_the_plan_in_the_docs_is_this_one():
    """Whoever reads it finds every room, on its floor."""
    rows = re.findall(r"^\| (\d) \| ([`\w ]+) \|", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)
    drawn = {int(number): set(re.findall(r"`(\w+)`", rooms)) for number, rooms in rows}
    assert drawn == {number: rooms - {"authlua"} for number, rooms in enumerate(FLOORS[:-1])}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_go_down_only(module):
    """A room knows the floors below it and nothing else of the house."""
    assert reaches_up(module) == []


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_room_is_entered_by_its_door(module):
    """What a package shows others stands in its ``__init__``; its files are its own affair."""
    here = room_of(module)
    assert [n for n, room in rooms_imported(module) if room != here and FLOOR[room] and n.count(".") > 1] == []


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_library_stays_in_its_room(module):
    """Lua is seen in one room, the event loop in few; the core knows neither."""
    tops = {name.partition(".")[0] for name in imports_of(module)}
    assert {library for library in tops & KEPT_TO.keys() if room_of(module) not in KEPT_TO[library]} == set()


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_says_what_it_is_for(module):
    """The first line of a file is its purpose."""
    assert ast.get_docstring(ast.parse((ROOT / module).with_suffix(".py").read_bytes()))


QUICK = sorted({room_of(module) for module in MODULES} - {"__main__", "lua", "server", "services"})


@pytest.mark.parametrize("room", QUICK)
def test_an_import_brings_nothing_heavy(room):
    """Start-up time is part of the interface: a library is loaded by what uses it, when it does."""
    name = "authlua" if room == "authlua" else f"authlua.{room}"
    script = f"import sys, {name}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(done.stdout.split()) & KEPT_TO.keys() == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """What ``pip install`` would get."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", os.fspath(target)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    with zipfile.ZipFile(next(target.glob("*.whl"))) as archive:
        yield archive


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel):
    """The Lua files travel with the Python files; tests and notes stay at home."""
    files = {
        path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == files


COMPILED = [
    Path(name.removeprefix("/")).with_suffix("")
    for name in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "hooks"
    ]["mypyc"]["include"]
]
"""The modules that are compiled in wheels."""


def test_what_is_compiled_is_there():
    """A module that moves is still compiled."""
    assert [module for module in COMPILED if module not in MODULES] == []


def classes_in(module: Path) -> dict[str, list[str]]:
    """The classes of *module* and the names of their bases."""
    tree = ast.parse((ROOT / module).with_suffix(".py").read_bytes())
    return {
        node.name: [ast.unparse(base) for base in node.bases] for node in tree.body if isinstance(node, ast.ClassDef)
    }


def test_below_a_compiled_class_are_compiled_ones():
    """To make an object of another ends in a `TypeError`, in wheels alone."""
    built = {
        name: module for module in COMPILED for name, bases in classes_in(module).items() if "Protocol" not in bases
    }
    foreign = [
        f"{module}: {name}({base})"
        for module in MODULES
        if module not in COMPILED
        for name, bases in classes_in(module).items()
        for base in bases
        if base in built and not is_exception(base, built)
    ]
    assert foreign == []


def is_exception(name: str, built: dict[str, Path]) -> bool:
    """Whether the compiled class *name* is an exception, below which there may be any."""
    bases = classes_in(built[name])[name] if name in built else [name]
    return name.endswith(("Error", "Exception")) or any(is_exception(base, built) for base in bases if base != name)


def test_the_wheel_brings_the_command(wheel):
    """``authlua`` is on the path after an installation."""
    entries = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "authlua = authlua.cli:main" in wheel.read(entries).decode().splitlines()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="what belongs to the project is seen in a checkout: git clone")
def test_all_that_is_kept_can_be_read():
    """No archive, and nothing else that was made elsewhere, got in by accident."""
    kept = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    unreadable = []
    for path in filter(Path.is_file, (ROOT / name for name in kept.split("\0"))):  # some may be deleted, uncommitted
        try:
            path.read_text("utf-8")
        except UnicodeDecodeError:
            unreadable.append(path)
    assert unreadable == []
