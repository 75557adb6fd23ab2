"""``authlua mail run``: a mail script's hooks, run for one user or for all of them."""

import argparse
import os
import sys
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from authlua.cli import EX_NOUSER, EX_TEMPFAIL
from authlua.cli.output import json_text, one_line, say

if TYPE_CHECKING:
    import trio

    from authlua.cli.progress import Progress
    from authlua.config import Settings
    from authlua.listing import Listing
    from authlua.mail import MailUser
    from authlua.server import Core, MailScripts, Rights

    Batch = tuple[list[MailUser], Rights]

Line = tuple[str, str]
"""Level and text of what a script wrote."""

BATCH = 16
"""Users that a process gets at once."""

MAX_LINES = 1000
"""What a script may write before it is printed, although the user is not done yet."""

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


def run(args: argparse.Namespace) -> int:
    """Run the hooks and report."""
    import trio

    from authlua.server import MailScripts, Zygote

    settings = _settings(args)
    zygote = Zygote()
    try:
        scripts = MailScripts(settings, zygote, trusts_owner=not settings.userdbs)
        runner = Runner(args, _core(settings), scripts)
        trio.run(runner.run)
    finally:
        zygote.close()
    tally = runner.tally
    if args.all:
        failed = sum(number for result, number in tally.items() if result != "OK")
        print(f"{sum(tally.values())} users, {failed} failed", file=sys.stderr)
    elif "USER_UNKNOWN" in tally:
        return EX_NOUSER
    return 0 if tally.keys() <= {"OK"} else EX_TEMPFAIL


def _core(settings: "Settings") -> "Core | None":
    """The userdb, if there is one."""
    from dataclasses import replace

    from authlua.logs import open_log
    from authlua.server import open_core

    if not settings.userdbs:
        return None
    return open_core(replace(settings, mail=replace(settings.mail, script=None)), open_log("auto", "warning"))


def _settings(args: argparse.Namespace) -> "Settings":
    """The configuration, with what the options put in its place.

    Without a configuration there is no userdb, and the options have to say everything.
    """
    from dataclasses import replace
    from pathlib import Path

    from authlua.cli.source import settings_or_defaults
    from authlua.config import LOCATION, Context
    from authlua.errors import ConfigError

    settings = settings_or_defaults(args)
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


class Runner:
    """Runs the hooks for one user or for all, and reports on each."""

    def __init__(self, args: argparse.Namespace, core: "Core | None", scripts: "MailScripts") -> None:
        self._args = args
        self._core = core
        self._scripts = scripts
        self._progress: Progress | None = None
        self.tally: dict[str, int] = {}
        """How many users came to what."""

    async def run(self) -> None:
        """Run them, and end what was started for that."""
        try:
            await (self._all() if self._args.all else self._one())
        finally:
            self._scripts.close()
            if self._core is not None:
                self._core.retire()

    async def _one(self) -> None:
        """Run them for the user that was named."""
        found = await self._found(self._args.user)
        if found is not None:
            await self._run([found[0]], found[1])

    async def _all(self) -> None:
        """Run them for all that the userdb lists, some users at a time."""
        import trio

        from authlua.cli.progress import Progress
        from authlua.errors import ConfigError

        if self._core is None:
            raise ConfigError(["--all: needs a configuration with a [[userdb]] that lists the users"])
        jobs = max(self._args.jobs, 1)
        self._scripts.limiter.total_tokens = jobs
        listing = self._core.auth.list_users()
        self._progress = Progress(None)
        send, receive = trio.open_memory_channel["Batch"](0)
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(jobs):
                    nursery.start_soon(self._work, receive.clone())
                receive.close()
                async with send:
                    async for batch in self._batches(listing):
                        await send.send(batch)
        finally:
            listing.close()
            self._progress.clear()

    async def _work(self, batches: "trio.MemoryReceiveChannel[Batch]") -> None:
        async with batches:
            async for users, rights in batches:
                await self._run(users, rights)

    async def _batches(self, listing: "Listing") -> "AsyncIterator[Batch]":
        """The users in their order, those together who have the same rights."""
        from authlua.server import complete

        users: list[MailUser] = []
        last: Rights | None = None
        while names := await complete(listing.piece()):
            for name in names:
                found = await self._found(name)
                if found is None:
                    continue
                user, rights = found
                if last is not None and users and (rights != last or len(users) == BATCH):
                    yield users, last
                    users = []
                users.append(user)
                last = rights
        if last is not None and users:
            yield users, last

    async def _found(self, name: str) -> "tuple[MailUser, Rights] | None":
        """The user and whose rights the script is to have; `None`, and reported, if that cannot be."""
        from authlua.mail import StorageError

        user = await self._user(name)
        if user is None:
            return None
        try:
            return user, await self._scripts.rights(user)
        except StorageError as error:
            self._over(user.username, "FAILED", str(error), [])
            return None

    async def _user(self, name: str) -> "MailUser | None":
        """The user as the userdb knows them; `None`, and reported, if there is none."""
        from authlua.auth import new_request
        from authlua.protocol import NotFound, UserFound
        from authlua.server import complete

        service = self._args.service
        if self._core is None:
            return self._owner(self._scripts.user(name, {}, service=service))
        auth = self._core.auth
        request = new_request([("service", service)], dialect=auth.options.dialect, id=1)
        match await complete(auth.lookup_user(request, name)):
            case UserFound(_, found, fields):
                known = {field: value or "" for field, value in fields}
                return self._scripts.user(found, known, service=service)
            case NotFound():
                self._over(name, "USER_UNKNOWN", None, [])
            case failed:
                self._over(name, "FAILED", failed.reason or "the userdb failed", [])
        return None

    def _owner(self, user: "MailUser") -> "MailUser":
        """*user* with the uid and gid of whoever owns the Maildir, which no userdb tells."""
        from dataclasses import replace

        from authlua.mail import StorageError

        try:
            owner = self._scripts.plan.maildir(user).stat() if self._scripts.plan.is_maildir else None
        except (OSError, StorageError):
            return user  # whatever is wrong with it, the script will be told
        return user if owner is None else replace(user, uid=owner.st_uid, gid=owner.st_gid)

    async def _run(self, users: "Sequence[MailUser]", rights: "Rights") -> None:
        """Sessions of *users*; one that ends its process takes none of the others along."""
        from authlua.errors import ScriptError
        from authlua.mail import StorageError

        left = list(users)
        lines: list[Line] = []

        def log(level: str, text: str, request: object, fields: object) -> None:
            lines.append((level, text))
            if len(lines) >= MAX_LINES and not self._args.json:
                self._write(left[0].username, lines)
                lines.clear()

        def over(result: str, reason: str | None) -> None:
            self._over(left.pop(0).username, result, reason, lines)
            lines.clear()

        while left:
            try:
                process = self._scripts.process_with(rights)
                try:
                    await process.run(left, log, over)
                finally:
                    self._scripts.give_back(process)
            except (ScriptError, StorageError) as error:
                if left:
                    over("FAILED", str(error))

    # -- reports

    def _over(self, user: str, result: str, reason: str | None, lines: "Sequence[Line]") -> None:
        """Tell what came of *user*."""
        self.tally[result] = self.tally.get(result, 0) + 1
        if self._args.json:
            import json

            log = [{"level": level, "text": json_text(text)} for level, text in lines]
            row = {"user": json_text(user), "result": result, "reason": reason and json_text(reason), "log": log}
            self._clear()
            say(json.dumps(row, ensure_ascii=False))
        else:
            self._write(user, lines)
            if result != "OK":
                reason = f": {one_line(reason)}" if reason else ""
                print(f"{one_line(user)}: {result}{reason}", file=sys.stderr)
        if self._progress is not None:
            done = sum(self.tally.values())
            self._progress.show(done, done - self.tally.get("OK", 0))

    def _write(self, user: str, lines: "Sequence[Line]") -> None:
        """Informational lines are what the script has to say; all else goes to standard error."""
        self._clear()
        for level, text in lines:
            if level == "info":
                say(one_line(text))
            elif level != "debug":
                print(f"{one_line(user)}: {level}: {one_line(text)}", file=sys.stderr)

    def _clear(self) -> None:
        if self._progress is not None:
            self._progress.clear()
