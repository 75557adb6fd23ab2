"""Asking the scripts themselves, without a server: the same core that a server runs, for one request."""

import argparse
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import trio

from authlua.auth import new_request
from authlua.cli.peer import answer
from authlua.cli.request import params
from authlua.cli.sasl import Client
from authlua.cli.source import load_settings
from authlua.cli.test_auth import Outcome
from authlua.cli.test_lookup import Found
from authlua.errors import ConfigError, ScriptError
from authlua.logs import open_log
from authlua.protocol import Fail, NotFound, Ok, UserFound
from authlua.request import AuthRequest
from authlua.results import PassdbResult
from authlua.secret import Secret
from authlua.server import Core, Done, begin, complete, finish, open_core
from authlua.wishes import Ask

T = TypeVar("T")


def _with_core(args: argparse.Namespace, use: Callable[[Core], Awaitable[T]]) -> T:
    """What *use* makes of the core that *args* ask for.

    Whoever asks by hand wants to know why, so the log is on standard error, readable, and as with ``auth.verbose``.
    """
    settings = load_settings(args)
    settings = replace(settings, auth=replace(settings.auth, verbose=True))
    log = open_log("auto", "debug" if settings.log.level == "debug" else "info")

    async def run() -> T:
        core = open_core(settings, log)
        try:
            return await use(core)
        finally:
            core.retire()

    return trio.run(run)


def lookup(args: argparse.Namespace, sides: Sequence[str]) -> Mapping[str, Found]:
    """What passdb and userdb, as far as they are among *sides*, say of ``args.user``."""
    ask = {"passdb": _passdb, "userdb": _userdb}

    async def use(core: Core) -> dict[str, Found]:
        return {side: await ask[side](core, args) for side in sides}

    return _with_core(args, use)


async def _passdb(core: Core, args: argparse.Namespace) -> Found:
    request = new_request(params(args), dialect=core.auth.options.dialect, id=1)
    result, _ = await complete(core.auth.lookup_passdb(request, args.user))
    if result is not PassdbResult.OK:
        return Found(result.name, args.user)
    fields: list[tuple[str, str | None]] = []
    if request.credentials is not None:
        fields.append(("password", request.credentials))
    return Found(result.name, request.user or args.user, [*fields, *request.passdb_fields])


async def _userdb(core: Core, args: argparse.Namespace) -> Found:
    request = new_request(params(args), dialect=core.auth.options.dialect, id=1)
    match await complete(core.auth.lookup_user(request, args.user)):
        case UserFound(_, user, fields):
            return Found("OK", user, fields)
        case NotFound():
            return Found("USER_UNKNOWN", args.user)
        case failed:
            return Found("INTERNAL_FAILURE", args.user, reason=failed.reason)


def authenticate(args: argparse.Namespace, client: Client) -> Outcome:
    """How the login ends; with a script alone, any mech is there."""

    async def use(core: Core) -> Outcome:
        offered = [mech.name for mech in core.auth.mechs]
        if args.mech not in offered and not args.script:
            raise ConfigError([f"{args.mech} is not among auth.mechanisms ({', '.join(offered).lower()})"])
        request = new_request(params(args), dialect=core.auth.options.dialect, id=1, mech=args.mech)
        reply = await _converse(core, request, client)
        if isinstance(reply, Ok):
            return Outcome("OK", [("user", reply.user), *reply.fields])
        return Outcome("FAIL", reply.fields)

    return _with_core(args, use)


async def _converse(core: Core, request: AuthRequest, client: Client) -> Ok | Fail:
    initial = next(client)
    login = core.auth.authenticate(request, None if initial is None else Secret(initial), login=False)
    step = begin(login)
    while not isinstance(step, Done):
        if isinstance(step, Ask):
            step = begin(login, Secret(answer(client, step.challenge)))
        else:
            step = await finish(login, step, Ask)
    reply: Ok | Fail = step.value
    return reply


def list_users(args: argparse.Namespace, print_name: Callable[[str], None]) -> bool:
    """Print each user's name; false if a script could not name them, which it says on standard error."""

    async def use(core: Core) -> bool:
        try:
            users = core.auth.list_users()
            while names := await complete(users.piece()):
                for name in names:
                    print_name(name)
        except ScriptError as error:
            print(f"authlua list-users: {error}", file=sys.stderr)
            return False
        return True

    return _with_core(args, use)
