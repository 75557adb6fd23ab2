"""``authlua test-auth``: a whole authentication, as a client would do it."""

import argparse
import sys
from typing import TYPE_CHECKING, NamedTuple

from authlua.cli import EX_NOPERM, EX_TEMPFAIL, EX_USAGE, request
from authlua.cli.output import Fields, hide_password, json_fields, json_text, say, say_fields, say_json

if TYPE_CHECKING:
    from authlua.cli.sasl import Client

HELP = "authenticate a user with a password"
WHERE = ("script", "socket")


class Outcome(NamedTuple):
    """The end of an authentication: ``OK`` or ``FAIL`` and what came with it, ``user`` and ``code`` included."""

    result: str
    fields: Fields


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("user")
    parser.add_argument(
        "password",
        nargs="?",
        help="asked for without echo when it is not given; a line of standard input when that is no terminal",
    )
    parser.add_argument("--mech", type=str.upper, default="PLAIN", help="SCRAM-SHA-256, XOAUTH2, … (default: PLAIN)")
    parser.add_argument("--master-user", metavar="NAME", help="log in as USER with NAME's password")
    request.arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--show-password", action="store_true", help="do not hide fields with passwords")


def run(args: argparse.Namespace) -> int:
    """Authenticate, print, and say with the exit code how it went."""
    from authlua.cli.sasl import CLIENTS, WITH_TARGET

    if args.mech not in CLIENTS:
        print(f"authlua test-auth: unknown mech {args.mech}; known are {', '.join(CLIENTS)}", file=sys.stderr)
        return EX_USAGE
    if args.master_user is not None and args.mech not in WITH_TARGET:
        able = ", ".join(WITH_TARGET)
        print(f"authlua test-auth: {args.mech} cannot name a master user; {able} can", file=sys.stderr)
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


def client(args: argparse.Namespace) -> "Client":
    """The client's side of the mech; the password is asked for if it was not given and is needed."""
    from authlua.cli.sasl import CLIENTS, Identity

    if args.password is not None or args.mech in ("ANONYMOUS", "EXTERNAL"):
        password = (args.password or "").encode("utf-8", "surrogateescape")
    else:
        from authlua.cli.password import typed

        password = typed("test-auth", "Password: ")
    user, service, master = (
        (text or "").encode("utf-8", "surrogateescape") for text in (args.user, args.service, args.master_user)
    )
    who = Identity(master, password, user, service) if master else Identity(user, password, service=service)
    return CLIENTS[args.mech](who)


def _over_socket(args: argparse.Namespace) -> Outcome:
    from authlua.cli.peer import authenticate

    reply = authenticate(args.socket, args.mech, request.params(args), client(args))
    return Outcome(reply.word, reply.fields)


def _locally(args: argparse.Namespace) -> Outcome:
    from authlua.cli.local import authenticate

    return authenticate(args, client(args))
