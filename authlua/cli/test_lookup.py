"""``authlua test-lookup``: what the databases say about a user."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from authlua.cli import EX_NOPERM, EX_NOUSER, EX_TEMPFAIL, request
from authlua.cli.output import Fields, hide_password, json_fields, json_text, one_line, say, say_fields, say_json

if TYPE_CHECKING:
    from authlua.protocol import MasterPeer

HELP = "look a user up in passdb and userdb, without a password"
WHERE = ("script", "socket")


class Found(NamedTuple):
    """What one side answered; *result* is the constant's name without its prefix."""

    result: str
    user: str
    fields: Fields = ()
    reason: str | None = None
    """The text that goes with a failure, when the server gave one."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("user")
    side = parser.add_mutually_exclusive_group()
    side.add_argument("--passdb", action="store_true", help="the passdb only")
    side.add_argument("--userdb", action="store_true", help="the userdb only")
    request.arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--show-password", action="store_true", help="do not hide the password field")


def run(args: argparse.Namespace) -> int:
    """Look up, print, and say with the exit code whether the user was found."""
    sides = [side for side in ("passdb", "userdb") if getattr(args, side) or not (args.passdb or args.userdb)]
    found = {side: _over_socket(args, side) for side in sides} if args.socket else _locally(args, sides)
    if args.json:
        say_json({"user": json_text(args.user)} | {side: _json(args, answer) for side, answer in found.items()})
    else:
        for side, answer in found.items():
            changed = f" as {one_line(answer.user)}" if answer.user != args.user else ""
            say(f"{side}: {answer.result}{changed}" + (f" ({one_line(answer.reason)})" if answer.reason else ""))
            say_fields(hide_password(answer.fields, show=args.show_password))
    return exit_code([answer.result for answer in found.values()])


def _json(args: argparse.Namespace, found: Found) -> dict[str, Any]:
    shown: dict[str, Any] = {"result": found.result, "user": json_text(found.user)}
    if found.reason:
        shown["reason"] = json_text(found.reason)
    return {**shown, "fields": json_fields(hide_password(found.fields, show=args.show_password))}


def exit_code(results: list[str]) -> int:
    """The exit code for what passdb and userdb said; the graver result wins."""
    if "INTERNAL_FAILURE" in results or "SCHEME_NOT_AVAILABLE" in results or "NEXT" in results:
        return EX_TEMPFAIL
    if "USER_UNKNOWN" in results:
        return EX_NOUSER
    return 0 if set(results) <= {"OK"} else EX_NOPERM


def _over_socket(args: argparse.Namespace, side: str) -> Found:
    from authlua.cli.peer import ask_master

    params = request.params(args)

    def line(peer: "MasterPeer") -> bytes:
        return (peer.passdb if side == "passdb" else peer.user)(1, args.user, params)

    reply = ask_master(args.socket, line)
    if reply.word in ("PASS", "USER"):
        user = reply.user or reply.field("user") or args.user
        return Found(
            "OK", user, [(name, value) for name, value in reply.fields if reply.word != "PASS" or name != "user"]
        )
    result = "USER_UNKNOWN" if reply.word == "NOTFOUND" else "INTERNAL_FAILURE"
    return Found(result, args.user, reason=reply.field("reason"))


def _locally(args: argparse.Namespace, sides: list[str]) -> Mapping[str, Found]:
    from authlua.cli.local import lookup

    return lookup(args, sides)
