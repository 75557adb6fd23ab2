"""The command ``authlua``: one module for each command, imported only when it is the one that was asked for.

A command's module offers

* ``HELP``: one line for the list of commands,
* ``WHERE``: what else than a configuration it can work from, out of ``script`` and ``socket``; may be absent,
* ``SOCKET``: what that socket is, if only authlua has it; may be absent,
* ``arguments(parser)``: adds what it takes,
* ``run(args) -> int``: does it and returns the exit code; an `AuthluaError` it raises is explained here.

Importing a command must cost next to nothing, because ``--help`` imports them all.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import ModuleType

COMMANDS = (
    "serve",
    "dovecot-service",
    "test-lookup",
    "test-auth",
    "list-users",
    "repl",
    "test-script",
    "pw",
    "check",
    "config",
    "reload",
    "cache-flush",
    "status",
    "mail",
    "import-dovecot",
    "snippet",
    "conformance",
)

# sysexits.h, as doveadm uses them
EX_USAGE = 64
EX_DATAERR = 65
EX_NOUSER = 67
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_TEMPFAIL = 75
EX_NOPERM = 77
EX_CONFIG = 78


class Parser(argparse.ArgumentParser):
    """Leaves with 64 when it is used wrongly."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where to read on."""
        self.exit(EX_USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* and return its exit code."""
    _occupy_standard_streams()
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in COMMANDS:
        command, *rest = argv
        return _run(command, rest)
    return _overview(argv)


def _occupy_standard_streams() -> None:
    """Whoever started us may have closed descriptor 2: a socket would get that number, and the log's lines."""
    for fd, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is not None:
            continue
        lowest = os.open(os.devnull, os.O_RDWR)
        if lowest == fd:
            os.set_inheritable(fd, True)
            setattr(sys, name, os.fdopen(fd, mode))
        else:
            os.close(lowest)


def _overview(argv: Sequence[str]) -> int:
    """``authlua --help``, ``--version`` and wrong commands."""
    from authlua import __version__

    parser = Parser(prog="authlua", description="The authentication server that mail administrators script in Lua.")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--version", action="version", version=f"authlua {__version__}")
    parser.add_argument("command", help="one of the commands below; each has its own --help")
    if any(arg in ("-h", "--help") for arg in argv):
        width = max(map(len, COMMANDS))
        parser.epilog = "commands:\n" + "\n".join(
            f"  {command:{width}}  {module(command).HELP}" for command in COMMANDS
        )
    args = parser.parse_args(argv)
    import difflib

    close = difflib.get_close_matches(args.command, COMMANDS, 1)
    parser.error(f"no command {args.command!r}" + (f", did you mean {close[0]}?" if close else ""))


def module(command: str) -> "ModuleType":
    """The module of *command*."""
    return import_module(f"authlua.cli.{command.replace('-', '_')}")


def _run(command: str, argv: Sequence[str]) -> int:
    from authlua.errors import ConfigError, ScriptError, Unreachable

    parser = command_parser(command)
    args = parser.parse_args(argv)
    try:
        code = int(module(command).run(args))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # who read us has seen enough; nothing is left to flush to it
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if args.debug:
            import traceback

            traceback.print_exc()
        for line in _explain(error).splitlines():
            print(f"authlua {command}: {line}", file=sys.stderr)
        codes = {ConfigError: EX_CONFIG, ScriptError: EX_DATAERR, Unreachable: EX_UNAVAILABLE}
        return next((code for kind, code in codes.items() if isinstance(error, kind)), EX_SOFTWARE)


def _explain(error: Exception) -> str:
    """What *error* says, and what it is unless that is ours; of errors that came together what each of them says."""
    from authlua.errors import AuthluaError

    if isinstance(error, ExceptionGroup):
        return "\n".join(map(_explain, error.exceptions))
    return str(error) if isinstance(error, AuthluaError) else f"{type(error).__name__}: {error}"


def default_config() -> str:
    """Where the configuration is looked for when nobody says it."""
    return os.environ.get("AUTHLUA_CONFIG") or "/etc/authlua/authlua.toml"


def command_parser(command: str) -> Parser:
    """The parser of *command*, with the options that every command has."""
    found = module(command)
    parser = Parser(prog=f"authlua {command}", description=found.HELP[:1].upper() + found.HELP[1:] + ".")
    found.arguments(parser)
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        default=default_config(),
        help="the configuration (default: $AUTHLUA_CONFIG, else /etc/authlua/authlua.toml)",
    )
    offers = getattr(found, "WHERE", ())
    if "script" in offers:
        where.add_argument("--script", metavar="LUA", help="no configuration, only this script with all defaults")
    if "socket" in offers:
        about = getattr(found, "SOCKET", "ask the server that listens there, authlua or Dovecot")
        where.add_argument("--socket", metavar="PATH", help=about)
    parser.add_argument(
        "--debug",
        action="store_true",
        default=bool(os.environ.get("AUTHLUA_DEBUG")),
        help="with an error, show where in authlua it happened (also: AUTHLUA_DEBUG=1)",
    )
    return parser
