"""``authlua status``: how the running server is."""

import argparse

from authlua.cli.output import say_fields, say_json
from authlua.errors import Unreachable

HELP = "say how the running server is"
WHERE = ("socket",)
SOCKET = "the server's control socket (default: that of the configuration)"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Ask and print."""
    from authlua.cli.peer import control

    answer = control(args, {"command": "status"})
    if not answer["ok"]:
        raise Unreachable(f"the server could not tell: {answer['error']}")
    if args.json:
        say_json(answer["status"])
    else:
        say_fields((name, _shown(value)) for name, value in answer["status"].items())
    return 0


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
