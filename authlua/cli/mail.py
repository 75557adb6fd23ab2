"""``authlua mail run``: a mail script's hooks, run for one user or for all of them."""

import argparse
import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from authlua.cli import EX_NOUSER, EX_TEMPFAIL
from authlua.cli.output import json_text, one_line, say

if TYPE_CHECKING:
    from authlua.config import Settings
    from authlua.server import Core, MailScripts

DOVEADM = "exec:doveadm exec imap -u %{user} -o imap_metadata=yes"
"""The location that ``--doveadm`` stands for."""

HELP = "run a mail script for one user or for all"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "action", choices=["run"], help="run the hooks of the script, as for a session that ends at once"
    )
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", metavar="NAME", help="for this user")
    who.add_argument("--all", action="store_true", help="for every user that the userdb lists")
    parser.add_argument("--script", metavar="LUA", help="the mail script (default: mail.script of the configuration)")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--maildir", metavar="DIR", help="where the Maildir is; may hold variables such as %%d/%%n")
    place.add_argument("--imap", metavar="URL", help="ask this server: imap://[MASTER@]HOST[:PORT] or imaps://…")
    place.add_argument("--doveadm", action="store_true", help="ask Dovecot through `doveadm exec imap`")
    parser.add_argument("--metadata", metavar="FILE", help="where a Maildir's metadata is; may hold variables")
    parser.add_argument(
        "--service", metavar="NAME", default="authlua", help="what user.service says (default: authlua)"
    )
    parser.add_argument("--jobs", type=int, metavar="N", default=os.cpu_count() or 1, help="users at a time")
    parser.add_argument("--json", action="store_true", help="one JSON object a line for each user")


class Outcome(NamedTuple):
    """What the hooks came to for one user."""

    user: str
    result: str
    """``OK``, ``REFUSED`` by the script, ``FAILED`` in a hook, or ``USER_UNKNOWN``."""
    reason: str | None
    lines: Iterable[tuple[str, str]]
    """Level and text of all that the script wrote."""


def run(args: argparse.Namespace) -> int:
    """Run the hooks and report."""
    import trio

    from authlua.server import MailScripts

    settings = _settings(args)
    scripts = MailScripts(settings)
    tally: dict[str, int] = trio.run(_all if args.all else _one, args, settings, scripts)
    if args.all:
        failed = sum(number for result, number in tally.items() if result != "OK")
        print(f"{sum(tally.values())} users, {failed} failed", file=sys.stderr)
    if "USER_UNKNOWN" in tally:
        return EX_NOUSER
    return 0 if tally.keys() <= {"OK"} else EX_TEMPFAIL


def _settings(args: argparse.Namespace) -> "Settings":
    """The configuration, with what the options put in its place.

    Without a configuration there is no userdb, and the options have to say everything.
    """
    from dataclasses import replace
    from pathlib import Path

    from authlua.config import LOCATION, Context, load, without_file
    from authlua.errors import ConfigError

    default = os.environ.get("AUTHLUA_CONFIG") or "/etc/authlua/authlua.toml"
    alone = args.config == default and not os.path.exists(default)
    settings = without_file() if alone else load(args.config)
    changes: dict[str, Any] = {}
    if args.script:
        changes["script"] = Path(args.script)
        if not changes["script"].is_file():
            raise ConfigError([f"--script: no such file: {args.script}"])
    location = f"maildir:{args.maildir}" if args.maildir else DOVEADM if args.doveadm else args.imap
    if location:
        try:
            changes["location"] = LOCATION.read(location, Context(Path(), settings.server.dialect, ()))
        except ValueError as error:
            raise ConfigError([f"{location}: {error}"]) from error
    if args.metadata:
        changes["attribute_dict"] = f"file:{args.metadata}"
    return replace(settings, mail=replace(settings.mail, **changes))


async def _one(args: argparse.Namespace, settings: "Settings", scripts: "MailScripts") -> dict[str, int]:
    core = _core(settings)
    try:
        outcome = await _outcome(core, scripts, args.user, args.service)
    finally:
        if core is not None:
            core.retire()
    _report(outcome, args.json)
    return {outcome.result: 1}


async def _all(args: argparse.Namespace, settings: "Settings", scripts: "MailScripts") -> dict[str, int]:
    import trio

    from authlua.cli.progress import Progress
    from authlua.errors import ConfigError
    from authlua.server import complete

    core = _core(settings)
    if core is None:
        raise ConfigError(["--all: needs a configuration with a [[userdb]] that lists the users"])
    scripts.limiter.total_tokens = max(args.jobs, 1)
    names = await complete(core.auth.list_users())
    progress = Progress(len(names) if isinstance(names, list) else None)
    tally: dict[str, int] = {}

    async def work(users: "trio.MemoryReceiveChannel[str]") -> None:
        async for user in users:
            outcome = await _outcome(core, scripts, user, args.service)
            progress.clear()
            _report(outcome, args.json)
            tally[outcome.result] = tally.get(outcome.result, 0) + 1
            progress.show(sum(tally.values()), sum(tally.values()) - tally.get("OK", 0))

    send, receive = trio.open_memory_channel[str](0)
    try:
        async with trio.open_nursery() as nursery:
            for _ in range(max(args.jobs, 1)):
                nursery.start_soon(work, receive.clone())
            receive.close()
            async with send:
                for name in names:
                    await send.send(name)
    finally:
        progress.clear()
        core.retire()
    return tally


def _core(settings: "Settings") -> "Core | None":
    from authlua.logs import open_log
    from authlua.server import open_core

    if not settings.userdbs:
        return None
    return open_core(settings, open_log("auto", "warning"))


async def _outcome(core: "Core | None", scripts: "MailScripts", name: str, service: str) -> Outcome:
    """Look *name* up, and run the hooks in a thread."""
    import trio

    from authlua.auth import new_request
    from authlua.protocol import NotFound, UserFound
    from authlua.server import complete

    fields: Mapping[str, str | None] = {}
    if core is not None:
        match await complete(
            core.auth.lookup_user(new_request([("service", service)], dialect=core.auth.options.dialect, id=1), name)
        ):
            case UserFound(_, name, found):
                fields = dict(found)
            case NotFound():
                return Outcome(name, "USER_UNKNOWN", None, ())
            case failed:
                return Outcome(name, "FAILED", failed.reason or "the userdb failed", ())
    known = {field: value or "" for field, value in fields.items()}
    return await trio.to_thread.run_sync(_hooks, scripts, name, known, service, limiter=scripts.limiter)


def _hooks(scripts: "MailScripts", name: str, fields: Mapping[str, str], service: str) -> Outcome:
    """A session that ends as soon as it has begun; blocks."""
    from authlua.errors import ScriptError
    from authlua.mail import StorageError

    lines: list[tuple[str, str]] = []
    try:
        user = scripts.user(name, fields, service=service)
        script = scripts.load(user, lambda level, text, request, more: lines.append((level, text)))
        try:
            refusal = script.created()
            fine = refusal is not None or script.deinit()
        finally:
            script.close()
    except (ScriptError, StorageError) as error:
        return Outcome(name, "FAILED", str(error), lines)
    if refusal is not None:
        return Outcome(name, "REFUSED", refusal, lines)
    return Outcome(name, "OK" if fine else "FAILED", None, lines)


def _report(outcome: Outcome, as_json: bool) -> None:
    """Informational lines are what the script has to say; all else goes to standard error."""
    if as_json:
        import json

        log = [{"level": level, "text": json_text(text)} for level, text in outcome.lines]
        reason = None if outcome.reason is None else json_text(outcome.reason)
        row = {"user": json_text(outcome.user), "result": outcome.result, "reason": reason, "log": log}
        say(json.dumps(row, ensure_ascii=False))
        return
    for level, text in outcome.lines:
        if level == "info":
            say(one_line(text))
        elif level != "debug":
            print(f"{one_line(outcome.user)}: {level}: {one_line(text)}", file=sys.stderr)
    if outcome.result != "OK":
        reason = f": {one_line(outcome.reason)}" if outcome.reason else ""
        print(f"{one_line(outcome.user)}: {outcome.result}{reason}", file=sys.stderr)
