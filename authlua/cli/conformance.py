"""``authlua conformance``: does a server speak Dovecot's auth protocols?"""

import argparse
import os
from pathlib import Path

from authlua.cli.output import say

HELP = "put the conformance kit's questions to a running server"

EX_FAILED = 1


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--socket", metavar="PATH", type=Path, help="the server's auth-client socket")
    parser.add_argument("--login", metavar="PATH", type=Path, help="its login socket")
    parser.add_argument("--master", metavar="PATH", type=Path, help="its auth-master socket")
    parser.add_argument("--userdb", metavar="PATH", type=Path, help="its auth-userdb socket")
    parser.add_argument("--script", metavar="LUA", type=Path, help="what it serves (default: see --print-script)")
    parser.add_argument("--print-script", action="store_true", help="print the script that the server has to serve")
    parser.add_argument("--seconds", type=float, default=60, help="how long to try generated sessions (default: 60)")
    parser.add_argument("--sessions", type=int, default=100_000, help="at most so many of them")
    parser.add_argument("--seed", type=int, default=1, help="which ones (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Ask, report, and say with the exit code whether all is as it should be."""
    from authlua.conformance import SCRIPT
    from authlua.errors import Unreachable

    if args.print_script:
        say(SCRIPT.read_text().rstrip())
        return 0
    if args.socket is None:
        say("authlua conformance: --socket is needed; see authlua conformance --help")
        return 64
    given = {"client": args.socket, "login": args.login, "master": args.master, "userdb": args.userdb}
    sockets = {kind: path for kind, path in given.items() if path is not None}
    for kind, path in sockets.items():
        if not os.path.exists(path):
            raise Unreachable(f"{path}: no such socket ({kind})")
    failed = False
    if args.script is None or args.script.read_bytes() == SCRIPT.read_bytes():
        failed = _fixed(sockets)
    if args.seconds > 0:
        failed = _generated(args, sockets) or failed
    say("NOT CONFORMING" if failed else "CONFORMING")
    return EX_FAILED if failed else 0


def _fixed(sockets: dict[str, Path]) -> bool:
    from authlua.conformance import check

    outcome = check(sockets)
    for failure in outcome.failures:
        say(f"FAIL {failure.name}: {failure.rule}")
        for line in failure.reason.splitlines():
            say(f"     {line}")
    for name, why in sorted(outcome.skipped.items()):
        say(f"skip {name}: {why}")
    say(
        f"dialogues of {outcome.dialect}: {outcome.played - len(outcome.failures)} kept, "
        f"{len(outcome.failures)} broken, {len(outcome.skipped)} skipped"
    )
    return bool(outcome.failures)


def _generated(args: argparse.Namespace, sockets: dict[str, Path]) -> bool:
    try:
        import hypothesis  # noqa: F401
    except ImportError:
        say("generated sessions: skipped, they need hypothesis: pip install 'authlua[conformance]'")
        return False
    from authlua.conformance import compare_with_authlua

    report = compare_with_authlua(
        sockets, script=args.script, sessions=args.sessions, seconds=args.seconds, seed=args.seed
    )
    for found in report.found.values():
        say(f"DIFF {found.count} times{', not every time' * found.fleeting}; subject is authlua, reference this server")
        for line in f"{found.difference}\n{found.session!r}".splitlines():
            say(f"     {line if len(line) < 500 else line[:400] + '…'}")
    for gone in report.gone:
        say(f"GONE {gone}")
    known = ", ".join(f"{name} ({count})" for name, count in sorted(report.known.items()))
    say(
        f"generated sessions: {report.sessions}, seed {args.seed}, {len(report.found)} differences"
        + (f"; known ones met: {known}" if known else "")
    )
    return bool(report.gone) or not all(found.fleeting for found in report.found.values())
