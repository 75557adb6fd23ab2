"""What a login or lookup comes with: service, addresses and whatever else clients tell."""

import argparse

Params = list[tuple[str, str | None]]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe the request."""
    parser.add_argument("--service", default="doveadm", help="imap, pop3, smtp, … (default: doveadm)")
    parser.add_argument("--rip", metavar="IP", help="address of the client")
    parser.add_argument("--lip", metavar="IP", help="address of the server the client came to")
    parser.add_argument(
        "-x",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="another parameter, such as session=abc, rport=4711, secured or no-penalty; may be repeated",
    )


def params(args: argparse.Namespace) -> Params:
    """The request's parameters as they stand on an ``AUTH``, ``USER`` or ``PASS`` line."""
    found: Params = [("service", args.service)]
    found += [(name, getattr(args, name)) for name in ("lip", "rip") if getattr(args, name) is not None]
    for item in args.x:
        name, equals, value = item.partition("=")
        found.append((name, value if equals else None))
    return found
