"""``authlua dovecot-service``: the server as Dovecot's own ``auth`` service, started by Dovecot's master."""

import argparse

HELP = "serve as Dovecot's auth service; Dovecot starts this itself"
WHERE = ("script",)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but the options that every command has."""


def run(args: argparse.Namespace) -> int:
    """Serve the sockets that Dovecot hands over; the log goes to Dovecot's log process."""
    from authlua.cli.source import load_settings
    from authlua.logs import open_log
    from authlua.server import serve_dovecot

    settings = load_settings(args)
    serve_dovecot(settings, lambda: load_settings(args), open_log("dovecot", settings.log.level))
    return 0
