"""``authlua repl``: a Lua prompt that has what scripts have."""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from authlua.cli import prompt
from authlua.cli.output import say

if TYPE_CHECKING:
    from authlua.request import AuthRequest

HELP = "a Lua prompt with all that scripts have"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--script", metavar="LUA", type=Path, help="load this script first")
    prompt.arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate what is typed, or piped in, until it ends; 1 when something that was piped in failed."""
    source = prompt.sources(args.script) if args.script is not None else b""
    state = prompt.open_prompt(args, Path.cwd(), source, _log)
    try:
        if args.script is not None:
            state.script(args.script)
        typed = sys.stdin.isatty()
        failed, begun = False, ""
        for line in _typed() if typed else sys.stdin:
            begun += line
            outcome = state.evaluate(begun)
            if outcome is None:
                continue
            begun = ""
            fine, said = outcome
            if not fine:
                failed = True
                print(said, file=sys.stderr)
            elif said:
                say(said)
            sys.stdout.flush()
        if begun:
            failed = True
            print("stdin: this has no end:", begun, file=sys.stderr)
        return int(failed and not typed)
    finally:
        state.close()


def _typed() -> Iterator[str]:
    """Lines as they are typed, with what `readline` offers."""
    import readline  # noqa: F401 - input() uses it when it is there

    print("Lua, with dovecot and request{ user = … }; Ctrl-D ends it")
    while True:
        try:
            yield input("> ") + "\n"
        except EOFError:
            print()
            return


def _log(level: str, text: str, request: "AuthRequest | None", fields: Mapping[str, object]) -> None:
    print(f"{level}: {text}", file=sys.stderr)
