"""``authlua test-auth``: a whole authentication, as a client would do it."""

import argparse
import sys
from collections.abc import Iterator
from typing import NamedTuple

from authlua.cli import EX_NOPERM, EX_TEMPFAIL, EX_USAGE, request
from authlua.cli.output import Fields, hide_password, json_fields, json_text, say, say_fields, say_json

HELP = "authenticate a user with a password"
WHERE = ("script", "socket")


class Outcome(NamedTuple):
    """The end of an authentication: ``OK`` or ``FAIL`` and what came with it, ``user`` and ``code`` included."""

    result: str
    fields: Fields


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("user")
    parser.add_argument("password", nargs="?", help="asked for without echo when it is not given")
    parser.add_argument("--mech", type=str.upper, default="PLAIN", choices=["PLAIN", "LOGIN"], help="(default: PLAIN)")
    parser.add_argument("--master-user", metavar="NAME", help="log in as USER with NAME's password; PLAIN only")
    request.arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--show-password", action="store_true", help="do not hide fields with passwords")


def run(args: argparse.Namespace) -> int:
    """Authenticate, print, and say with the exit code how it went."""
    if args.mech == "LOGIN" and args.master_user is not None:
        print("authlua test-auth: LOGIN cannot name a master user, PLAIN can", file=sys.stderr)
        return EX_USAGE
    outcome = _over_socket(args) if args.socket else _locally(args)
    fields = dict(outcome.fields)
    code = fields.get("code")
    extra = [(name, value) for name, value in outcome.fields if name not in ("user", "code", "reason")]
    if args.json:
        say_json(
            {
                "user": json_text(fields.get("user") or args.user),
                "result": outcome.result,
                "code": code,
                "reason": None if fields.get("reason") is None else json_text(fields["reason"] or ""),
                "fields": json_fields(hide_password(extra, show=args.show_password)),
            }
        )
    else:
        say(outcome.result)
        say_fields(hide_password(outcome.fields, show=args.show_password))
    if outcome.result == "OK":
        return 0
    return EX_TEMPFAIL if code == "temp_fail" else EX_NOPERM


def dialogue(args: argparse.Namespace) -> tuple[bytes | None, Iterator[bytes]]:
    """The client's side of the mech: its initial response, and its answers to the challenges."""
    import getpass

    user = args.user.encode("utf-8", "surrogateescape")
    given = getpass.getpass("Password: ") if args.password is None else args.password
    password = given.encode("utf-8", "surrogateescape")
    if args.mech == "LOGIN":
        return None, iter([user, password])
    if args.master_user is None:
        return b"\0" + user + b"\0" + password, iter(())
    master = args.master_user.encode("utf-8", "surrogateescape")
    return user + b"\0" + master + b"\0" + password, iter(())


def _over_socket(args: argparse.Namespace) -> Outcome:
    from authlua.cli.peer import authenticate

    initial, answers = dialogue(args)
    reply = authenticate(args.socket, args.mech, request.params(args), initial, answers)
    return Outcome(reply.word, reply.fields)


def _locally(args: argparse.Namespace) -> Outcome:
    from authlua.cli.local import authenticate

    return authenticate(args, *dialogue(args))
