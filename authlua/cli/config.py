"""``authlua config``: the configuration as it is in effect."""

import argparse

from authlua.cli.output import say

HELP = "print the configuration with all defaults, secrets hidden"
WHERE = ("script",)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but the options that every command has."""


def run(args: argparse.Namespace) -> int:
    """Load, which reports all problems, and print."""
    from authlua.cli.source import load_settings
    from authlua.config import toml_text

    say(toml_text(load_settings(args)).rstrip())
    return 0
