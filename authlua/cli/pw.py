"""``authlua pw``: makes, tests and lists password hashes, with the option letters of ``doveadm pw``."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from authlua.cli import EX_DATAERR, EX_NOPERM, EX_USAGE
from authlua.cli.output import say

if TYPE_CHECKING:
    from authlua.passwords import Limits, MalformedHash, UnknownScheme

HELP = "make, test and list password hashes"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("-s", dest="scheme", metavar="SCHEME", help="scheme of the hash to make (default: CRYPT)")
    parser.add_argument(
        "-p",
        dest="password",
        metavar="PASSWORD",
        help="asked for without echo when it is not given; lines of standard input when that is no terminal",
    )
    parser.add_argument("-u", dest="user", metavar="USER", default="", help="user name, for DIGEST-MD5")
    parser.add_argument("-r", dest="rounds", metavar="ROUNDS", type=_rounds, help="cost, for schemes that have one")
    parser.add_argument("-V", dest="verify", action="store_true", help="test the hash that was made")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("-l", dest="list", action="store_true", help="list the schemes")
    other.add_argument("-t", dest="test", metavar="HASH", help="test whether the password fits {SCHEME}HASH")


def _rounds(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number, not {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Make, test or list; 77 says that the password does not fit, 65 that the hash is none."""
    from authlua.passwords import schemes

    if args.list:
        say(" ".join(schemes()))
        return 0
    if args.test is None:
        return _make(args)
    return _test(_text(args.test), _password(args, "Enter password to verify: "), args)


def _make(args: argparse.Namespace) -> int:
    from authlua.passwords import UnknownScheme, encode

    password = _password(args, "Enter new password: ", "Retype new password: ")
    try:
        made = encode(password, args.scheme or "CRYPT", user=_text(args.user), rounds=args.rounds)
    except UnknownScheme as error:
        return _complain(EX_USAGE, f"{error}; authlua pw -l lists those there are")
    except ValueError as error:
        return _complain(EX_USAGE, str(error))
    if args.verify:
        return _test(made, password, args)
    say(made)
    return 0


def _test(stored: str, password: bytes, args: argparse.Namespace) -> int:
    from authlua.passwords import MalformedHash, UnknownScheme, verify

    limits = _limits(args)
    try:
        fits = verify(password, stored, user=_text(args.user), default_scheme=args.scheme or "", limits=limits)
    except (MalformedHash, UnknownScheme) as error:
        return _complain(EX_DATAERR, _explain(error))
    if not fits:
        return _complain(EX_NOPERM, "Password mismatch")
    say(f"{stored} (verified)")
    return 0


def _limits(args: argparse.Namespace) -> "Limits":
    """What the configuration lets a hash cost; the defaults where nobody named one and there is none to be read."""
    from authlua.cli import default_config
    from authlua.passwords import LIMITS, Limits

    if args.config == default_config() and not os.access(args.config, os.R_OK):
        return LIMITS
    from dataclasses import asdict

    from authlua.config import load

    return Limits(**asdict(load(args.config).hashes))


def _explain(error: "MalformedHash | UnknownScheme") -> str:
    from authlua.passwords import UnknownScheme

    if isinstance(error, UnknownScheme) and not error.scheme:
        return "Missing {scheme} prefix from hash; -s SCHEME stands in for it"
    return str(error)


def _password(args: argparse.Namespace, *prompts: str) -> bytes:
    """The password given, or typed the same at each of *prompts*."""
    if args.password is not None:
        return os.fsencode(args.password)
    from authlua.cli.password import typed

    return typed("pw", *prompts)


def _text(argument: str) -> str:
    """*argument* as stored passwords are held: UTF-8, with surrogates for other bytes, whatever the locale is."""
    return os.fsencode(argument).decode("utf-8", "surrogateescape")


def _complain(code: int, problem: str) -> int:
    print(f"authlua pw: {problem}", file=sys.stderr)
    return code
