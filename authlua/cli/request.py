"""What a login or lookup comes with: service, addresses and whatever else clients tell."""

import argparse

Params = list[tuple[str, str | None]]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe the request."""
    parser.add_argument("--service", default="doveadm", help="imap, pop3, smtp, … (default: doveadm)")
    parser.add_argument("--rip", metavar="IP", type=_address, help="address of the client")
    parser.add_argument("--lip", metavar="IP", type=_address, help="address of the server the client came to")
    parser.add_argument(
        "-x",
        metavar="KEY=VALUE",
        type=_parameter,
        action="append",
        default=[],
        help="another parameter, such as session=abc, rport=4711, secured or no-penalty; may be repeated",
    )


def _address(text: str) -> str:
    """*text*, which is an address: servers pass over one that is none, and the answer would mislead."""
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
            return text
        except (OSError, ValueError):
            continue
    raise argparse.ArgumentTypeError(f"expected an IP address, not {text!r}")


def _parameter(text: str) -> str:
    if text.startswith("=") or not text:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE or a flag, not {text!r}")
    return text


def params(args: argparse.Namespace) -> Params:
    """The request's parameters as they stand on an ``AUTH``, ``USER`` or ``PASS`` line."""
    found: Params = [("service", args.service)]
    found += [(name, getattr(args, name)) for name in ("lip", "rip") if getattr(args, name) is not None]
    for item in args.x:
        name, equals, value = item.partition("=")
        found.append((name, value if equals else None))
    return found
