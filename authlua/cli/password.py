"""Passwords that are not on the command line, where everybody on the machine could read them."""

import getpass
import os
import sys
from typing import NoReturn

from authlua.cli import EX_USAGE


def typed(command: str, *prompts: str) -> bytes:
    """The password typed, the same at each of *prompts*, without echo.

    Where standard input is no terminal, its lines are taken. Leaves with 64 when there is none, or not always the same.
    """
    if sys.stdin.isatty():
        try:
            answers = [os.fsencode(getpass.getpass(prompt)) for prompt in prompts]
        except EOFError:
            _leave(command, "expected a password")
    else:
        lines = [sys.stdin.buffer.readline() for _ in prompts]
        if not all(lines):
            times = f", {len(prompts)} times" if len(prompts) > 1 else ""
            _leave(command, f"expected the password on standard input{times}")
        answers = [line.removesuffix(b"\n") for line in lines]
    if len(set(answers)) > 1:
        _leave(command, "Passwords don't match!")
    return answers[0]


def _leave(command: str, problem: str) -> NoReturn:
    print(f"authlua {command}: {problem}", file=sys.stderr)
    raise SystemExit(EX_USAGE)
