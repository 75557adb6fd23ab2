"""``authlua serve``: the server, in the foreground."""

import argparse
import sys

from authlua.cli import EX_USAGE

HELP = "serve until SIGTERM or SIGINT"
WHERE = ("script",)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--base-dir",
        metavar="DIR",
        help="with --script: where the sockets are (default: $RUNTIME_DIRECTORY, else ./run)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve; everything else is said in the log."""
    from authlua.cli.source import load_settings
    from authlua.logs import open_log
    from authlua.server import serve

    if args.base_dir is not None and args.script is None:
        print("authlua serve: --base-dir goes with --script; a configuration has server.base_dir", file=sys.stderr)
        return EX_USAGE
    settings = load_settings(args)
    log = open_log(settings.log.format, settings.log.level)
    if args.script is not None:
        log.info("try", command=f"authlua test-auth USER --socket {settings.server.base_dir / 'auth-client'}")
    serve(settings, lambda: load_settings(args), log)
    return 0
