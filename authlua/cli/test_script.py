"""``authlua test-script``: unit tests of auth scripts, written in Lua."""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from authlua.cli import EX_DATAERR, prompt
from authlua.cli.output import one_line, say

if TYPE_CHECKING:
    from authlua.request import AuthRequest

HELP = "run unit tests of auth scripts"

_SCRIPT = re.compile(rb"\bscript\s*\(?\s*[\"']([^\"']+)")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path, help="Lua with global functions test_…")
    parser.add_argument("--script", metavar="LUA", type=Path, help="load this script before each test")
    parser.add_argument("-k", metavar="TEXT", default="", help="only tests with this in their name")
    prompt.arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the tests of all files, each in a state of its own; 1 when one fails, 65 when a file is none."""
    passed = failed = 0
    for file in args.files:
        say(one_line(str(file)))
        log: list[str] = []
        try:
            names = [name for name in _Run(args, file, log).names if args.k in name]
        except _Broken as broken:
            say(f"  cannot be loaded: {broken}")
            return EX_DATAERR
        for name in names:
            log.clear()
            problem = _Run(args, file, log).test(name)
            if problem is None:
                passed += 1
                say(f"  ok    {name}")
                continue
            failed += 1
            say(f"  FAIL  {name}")
            for line in [*problem.splitlines(), *log]:
                say(f"        {one_line(line.replace(chr(9), '  '))}")
    say(f"{passed} passed, {failed} failed")
    if not passed and not failed:
        say("there is no test: a test is a global function whose name begins with test_")
    return int(failed > 0 or passed == 0)


class _Broken(Exception):
    """A file that cannot be loaded."""


class _Run:
    """A state with a file of tests in it; *log* gets what the script logs."""

    def __init__(self, args: argparse.Namespace, file: Path, log: list[str]) -> None:
        from authlua.errors import ScriptError

        def write(level: str, text: str, request: "AuthRequest | None", fields: Mapping[str, object]) -> None:
            log.append(f"{level}: {text}")

        self._state = prompt.open_prompt(args, file.parent, _sources(args, file), write)
        try:
            if args.script is not None:
                self._state.script(args.script.absolute())
            self.names = self._state.tests(Path(file.name))
        except ScriptError as error:
            self._state.close()
            raise _Broken(str(error)) from error

    def test(self, name: str) -> str | None:
        """Run a test; why it failed."""
        from authlua.errors import ScriptError

        try:
            self._state.test(name)
        except ScriptError as error:
            return str(error)
        finally:
            self._state.close()
        return None


def _sources(args: argparse.Namespace, file: Path) -> bytes:
    """The texts of the tests and of the scripts that they load."""
    paths = [file] if args.script is None else [file, args.script]
    names = _SCRIPT.findall(prompt.sources(file))
    return prompt.sources(*paths, *(file.parent / name.decode("utf-8", "surrogateescape") for name in names))
