"""``authlua reload``: the running server reads its configuration and scripts again."""

import argparse
import sys

from authlua.cli import EX_CONFIG, EX_DATAERR, EX_SOFTWARE

HELP = "make the running server load its configuration and scripts again"
WHERE = ("socket",)
SOCKET = "the server's control socket (default: that of the configuration)"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but the options that every command has."""


def run(args: argparse.Namespace) -> int:
    """Ask for the reload; what was wrong with the new configuration is printed, the old one keeps running then."""
    from authlua.cli.peer import control

    answer = control(args, {"command": "reload"})
    if answer["ok"]:
        return 0
    for line in str(answer["error"]).splitlines():
        print(f"authlua reload: {line}", file=sys.stderr)
    codes = {"configuration": EX_CONFIG, "script": EX_DATAERR}
    return codes.get(str(answer.get("error_of")), EX_SOFTWARE)
