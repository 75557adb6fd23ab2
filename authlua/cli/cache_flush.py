"""``authlua cache-flush``: the running server forgets what it remembers of users."""

import argparse

from authlua.cli.output import say
from authlua.errors import Unreachable

HELP = "make the running server forget its cached answers"
WHERE = ("socket",)
SOCKET = "a master socket of authlua or Dovecot (default: the control socket of the configuration)"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("user", nargs="*", help="only what is known of these users")


def run(args: argparse.Namespace) -> int:
    """Flush, over the master socket that was given or else over the control socket, and print how many there were."""
    say(f"{_over_socket(args) if args.socket else _over_control(args)} entries flushed")
    return 0


def _over_socket(args: argparse.Namespace) -> str:
    from authlua.cli.peer import ask_master

    reply = ask_master(args.socket, lambda peer: peer.cache_flush(1, args.user))
    if reply.word != "OK":
        raise Unreachable(f"{args.socket}: the server could not flush its cache")
    return next((name for name, _ in reply.fields), "0")


def _over_control(args: argparse.Namespace) -> str:
    from authlua.cli.peer import control

    answer = control(args, {"command": "cache-flush", "users": args.user})
    if not answer["ok"]:
        raise Unreachable(f"the server could not flush its cache: {answer['error']}")
    return str(answer["flushed"])
