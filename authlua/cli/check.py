"""``authlua check``: would the server start, and would its scripts be called?"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from authlua.cli import EX_CONFIG, EX_DATAERR
from authlua.cli.output import say

if TYPE_CHECKING:
    from authlua.config import Settings

HELP = "check the configuration and load every script"
WHERE = ("script",)

NEEDED = {
    "passdb": ("auth_passdb_lookup", "auth_password_verify"),
    "userdb": ("auth_userdb_lookup",),
    "mail": ("mail_user_created", "dovecot_lua_notify_begin_txn"),
}
"""Of these functions a script needs one, to be of any use."""

NAMES = {"passdb": "a passdb", "userdb": "a userdb", "mail": "a mail script"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but the options that every command has."""


def run(args: argparse.Namespace) -> int:
    """Print all problems of all scripts; those of the configuration come as one `ConfigError`."""
    from authlua.cli.source import load_settings
    from authlua.config import doubts

    settings = load_settings(args)
    problems = [
        problem for script, sections in _uses(settings).items() for problem in _check(settings, script, sections)
    ]
    problems += _unserved(settings)
    doubtful = [f"{settings.path or 'embedded default'}: {doubt}" for doubt in doubts(settings)]
    for problem in problems + doubtful:
        say(problem)
    if problems:
        return EX_DATAERR
    if doubtful:
        return EX_CONFIG
    say(f"{settings.path or 'the embedded default'}: all is well")
    return 0


def _uses(settings: "Settings") -> dict[Path, dict[str, "Settings"]]:
    """Each script with the sections it serves, and for each of these the settings with nothing else in them."""
    uses: dict[Path, dict[str, Settings]] = {}
    for passdb in settings.passdbs:
        if passdb.script is not None:
            uses.setdefault(passdb.script, {})["passdb"] = replace(settings, passdbs=(passdb,), userdbs=())
    for userdb in settings.userdbs:
        if userdb.script is not None:
            uses.setdefault(userdb.script, {})["userdb"] = replace(settings, passdbs=(), userdbs=(userdb,))
    if settings.mail.script is not None:
        uses.setdefault(settings.mail.script, {})["mail"] = replace(settings, passdbs=(), userdbs=())
    return uses


def _check(settings: "Settings", script: Path, sections: dict[str, "Settings"]) -> Iterator[str]:
    """What is wrong with *script*: loaded as the server would do it and then, if that went well, read."""
    from authlua.cli.lint import defines, lint
    from authlua.errors import ScriptError
    from authlua.logs import open_log
    from authlua.server import MailScripts, open_core

    log = open_log(settings.log.format, settings.log.level)
    loaded = True
    for section, alone in sections.items():
        try:
            if section == "mail":
                MailScripts(alone).try_to_load(log)
            else:
                open_core(alone, log).retire()
        except ScriptError as error:
            loaded = False
            yield str(error)
    if loaded:
        text = script.read_text("utf-8", "surrogateescape")
        for line, finding in lint(text, settings.lua.version):
            yield f"{script}:{line}: {finding}"
        for section in sections:
            if not defines(text, NEEDED[section]):
                yield f"{script}: {NAMES[section]} needs a function {' or '.join(NEEDED[section])}"


def _unserved(settings: "Settings") -> Iterator[str]:
    """Mechs that need a stored password where every passdb is a script that gives none away."""
    from authlua.cli.lint import defines
    from authlua.config import TELLS_NO_PASSWORDS
    from authlua.sasl import MECHS

    for name in settings.auth.mechanisms:
        passdbs = [
            one
            for one in settings.passdbs
            if not one.master
            and (not one.mechanisms or name in one.mechanisms)
            and one.driver not in TELLS_NO_PASSWORDS
        ]
        scripts = [text for one in passdbs if one.script is not None for text in _read(one.script)]
        if not MECHS[name].looks_up or len(scripts) < len(passdbs):
            continue
        if not any(defines(text, ("auth_passdb_lookup",)) for text in scripts):
            yield f"auth.mechanisms: {name.lower()} needs a passdb with the function auth_passdb_lookup"


def _read(script: Path) -> list[str]:
    """The text of *script*; none if it cannot be read, which loading it has told."""
    try:
        return [script.read_text("utf-8", "surrogateescape")]
    except OSError:
        return []
