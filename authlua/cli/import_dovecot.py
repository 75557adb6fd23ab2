"""``authlua import-dovecot``: what Dovecot's own auth was told, as a configuration of ours."""

import argparse
import os
import sys
from pathlib import Path

from authlua.cli.output import say
from authlua.dialect import Dialect

HELP = "turn what `doveconf -n` prints into an authlua.toml"

LEFT_BEHIND = 1
"""The exit code when some settings of auth could not be carried over."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "file", metavar="FILE", help="what doveconf -n, or doveconf -nP, has printed; - for standard input"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write it (default: standard output)")
    parser.add_argument(
        "--dialect", choices=[str(one) for one in Dialect], help="which Dovecot it is from, when it does not tell"
    )


def run(args: argparse.Namespace) -> int:
    """Write the file, and name on standard error what is not in it."""
    from authlua.doveconf import describe, read_site, toml_of
    from authlua.errors import ConfigError

    name = "standard input" if args.file == "-" else args.file
    try:
        site = read_site(_read(args.file), args.dialect and Dialect(args.dialect))
    except ConfigError as error:
        raise ConfigError([f"{name}: {problem}" for problem in error.problems]) from None
    text = toml_of(site)
    if args.output:
        _write(args.output, text)
    else:
        say(text.rstrip("\n"))
    for left in site.left:
        print(f"not carried over: {name}:{describe(left)}", file=sys.stderr)
    if site.elsewhere:
        print(f"not of auth, stays in Dovecot: {', '.join(site.elsewhere)}", file=sys.stderr)
    return LEFT_BEHIND if site.left else 0


def _read(name: str) -> str:
    """The text; raises `ConfigError`."""
    from authlua.errors import ConfigError

    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return data.decode()
    except OSError as error:
        raise ConfigError([error.strerror or str(error)]) from None
    except UnicodeDecodeError:
        raise ConfigError(["expected UTF-8 text"]) from None


def _write(name: str, text: str) -> None:
    """For its owner only, as passwords may be in it; never over another file."""
    from authlua.errors import ConfigError

    try:
        with open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError([f"{name}: {error.strerror}"]) from None
