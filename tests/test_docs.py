"""What the documentation names is there, and what it shows is what one sees."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from authlua.cli.snippet import snippet

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
EXAMPLES = re.findall(r"^\$ \.venv/bin/(authlua .*)\n([^`]*)```", (ROOT / "README.md").read_text(), re.MULTILINE)
RULES = sorted(ROOT.glob("docs/rules/*.md"))
TEST = re.compile(r"`(tests/[\w/]+\.py|authlua/conformance/dialogues/[\w.-]+)(?:::([\w.]+))?`")
PLACE = re.compile(r"`((?:\w+/)*\w+\.py)(?::([\w.]+))?`")


def names_in(node: ast.AST, prefix: str = "") -> set[str]:
    """Classes, functions and methods below *node*: ``Client``, ``Client.take``, …"""
    names = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names |= {prefix + child.name} | names_in(child, f"{prefix}{child.name}.")
    return names


@pytest.mark.parametrize(("path", "name"), sorted(set(PLACE.findall((ROOT / "docs/flow.md").read_text()))))
def test_the_map_names_places_that_exist(path, name):
    """A map of streets that were renamed is worse than none."""
    file = ROOT / "authlua" / path
    assert file.is_file()
    assert name == "" or name in names_in(ast.parse(file.read_bytes()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    """A link to a file of ours finds it."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize(("command", "output"), EXAMPLES)
def test_readme_shows_what_one_sees(command, output):
    """The commands of the README print what stands below them; fields come in any order."""
    words = command.removeprefix("authlua ").split()
    done = subprocess.run(
        [sys.executable, "-m", "authlua", *words], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert sorted(done.stdout.splitlines()) == sorted(output.splitlines())


def test_readme_and_snippet_give_dovecot_the_same_lines():
    """The three lines in the README are the ones that the end-to-end tests load into Dovecot."""
    lines = snippet("dovecot-2.3", (), layout="M").splitlines()
    assert "\n".join(line for line in lines if not line.startswith("#")) in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", RULES, ids=lambda page: page.stem)
def test_each_rule_has_a_test(page):
    """Each item of a list of rules names tests that are there."""
    names: dict[str, set[str]] = {}
    for item in re.findall(r"^- .*(?:\n  .*)*", page.read_text(), re.MULTILINE):
        tests = TEST.findall(item)
        assert tests, f"no test is named: {item}"
        for path, name in tests:
            assert (ROOT / path).is_file(), path
            if path.endswith(".py") and path not in names:
                names[path] = names_in(ast.parse((ROOT / path).read_bytes()))
            assert name == "" or name in names[path], f"{path}::{name}"
