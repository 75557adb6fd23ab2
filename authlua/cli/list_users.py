"""``authlua list-users``: the names of all users, a line each."""

import argparse
import re
import sys
from collections.abc import Callable

from authlua.cli import EX_TEMPFAIL
from authlua.cli.output import one_line, say

HELP = "list the users, a name a line"
WHERE = ("script", "socket")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("mask", nargs="?", default="*", help="only names that match it; * and ? are wildcards")


def run(args: argparse.Namespace) -> int:
    """Print each name as it comes."""
    matches = matcher(args.mask)

    def print_name(name: str) -> None:
        if matches(name):
            say(one_line(name))

    if (_over_socket if args.socket else _locally)(args, print_name):
        return 0
    print("authlua list-users: the list is not complete, the server could not go on", file=sys.stderr)
    return EX_TEMPFAIL


def matcher(mask: str) -> Callable[[str], object]:
    """Says whether a name matches *mask*, in which ``*`` and ``?`` are wildcards and case does not count."""
    pattern = "".join(".*" if char == "*" else "." if char == "?" else re.escape(char) for char in mask)
    return re.compile(pattern, re.IGNORECASE | re.DOTALL).fullmatch


def _over_socket(args: argparse.Namespace, print_name: Callable[[str], None]) -> bool:
    """Print the names; false if the server could not name them all."""
    from authlua.cli.peer import master

    with master(args.socket) as (conversation, peer):
        conversation.send(peer.list(1, args.mask, [("service", "doveadm")]))
        for reply in conversation.read(peer.receive):
            if reply.word != "LIST":
                return reply.word == "DONE" and reply.field("fail") is None
            print_name(reply.user or "")  # a 2.3 server leaves the choice to its client
    raise AssertionError("a conversation ends with an answer or Unreachable")


def _locally(args: argparse.Namespace, print_name: Callable[[str], None]) -> bool:
    """Print the names; false if a script could not name them all."""
    from authlua.cli.local import list_users

    return list_users(args, print_name)
