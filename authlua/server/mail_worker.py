"""A process for mail scripts, with the rights of the user whose mail it is: what a script does to its memory, its time
and its files, it does to nobody else.

It is forked from a process that has loaded all there is to load, and knows one configuration. It has one session at a
time, and when that has ended it may have another of a user with the same rights. A call that takes too long ends the
process, through the kernel's timer, so that no script can hold it off.
Frames are a length and that much JSON, since whoever reads them has more rights than whoever wrote them:

=====================  ===========================================================================================
to the worker          from the worker, after any number of ``["log", level, text, fields]``
=====================  ===========================================================================================
``["begin", user]``    ``["done", tired, refusal, fields, lasts]``: the session may begin unless there is a refusal
``["end"]``            ``["done", tired, fine]``: its deinit hooks have been run
``["leave"]``          ``["done", tired]``: the script is unloaded
``["push", user, p]``  ``["done", tired]``: the functions for a notification have been run
``["run", users]``     ``["outcome", result, reason]`` for each, a whole session; then ``["done", tired]``
..                     ``["failed", tired, text]`` instead of done
=====================  ===========================================================================================

``tired`` tells that the process has grown, and should have nobody else. A session ``lasts`` when hooks are left to run.
"""

import codecs
import gc
import json
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from email import message_from_bytes
from encodings.aliases import aliases
from functools import partial
from importlib import import_module
from traceback import format_exc
from typing import Any

import trio

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua import MailScript, decoded_header, prepare_mail_scripts
from authlua.mail import MailUser, StorageError
from authlua.protocol import Push
from authlua.server.mail_plan import LENGTH, MailPlan, encode_frame
from authlua.server.push_event import event_of
from authlua.server.worker import limit_memory, resident
from authlua.server.zygote import bear, become
from authlua.variables import compile_template

LATER = ("authlua.services.http_client", "calendar", "grp", "pwd", "queue", "socket", "threading", "uuid")
"""Modules that are otherwise imported when they are first needed."""


def _preload() -> None:
    """Load all that is read from files when it is first needed: a user's rights may not suffice for that."""
    for name in LATER:
        import_module(name)
    decoded_header(message_from_bytes(b"Subject: =?utf-8?q?x?=\n\n")["Subject"])
    compile_template("%u", Dialect.V2_3)
    compile_template("%{user}", Dialect.V2_4)
    for name in set(aliases.values()):
        with suppress(LookupError):  # of Windows alone
            codecs.lookup(name)


def work(_: tuple[()], orders_fd: int, plan_fd: int) -> None:
    """Load what every process needs, and fork one for each order: uid, gid and groups, and its socket."""
    with open(plan_fd, "rb") as file:
        file.seek(0)
        plan = MailPlan(**json.load(file))
    _preload()
    prepare_mail_scripts(plan.version)
    gc.collect()
    gc.freeze()  # its pages are shared by all processes, as long as nobody writes to them
    bear(socket.socket(fileno=orders_fd), partial(_serve, plan))


def _serve(plan: MailPlan, order: tuple[int, int, Sequence[int]], own_fd: int) -> None:
    """Become whom the *order* names, and serve sessions until nobody has any more."""
    uid, gid, groups = order
    own = socket.socket(fileno=own_fd)
    own.setblocking(True)
    for number in (signal.SIGALRM, signal.SIGCHLD):  # for the time limit, and for programs that a script waits for
        signal.signal(number, signal.SIG_DFL)
    try:
        become(uid, gid, groups)
    except OSError as error:
        own.sendall(encode_frame("failed", True, f"mail: cannot become uid {uid}, gid {gid}: {error.strerror}"))
        return
    worker = _Worker(own, plan, limit_memory(plan.memory_limit))
    frames = own.makefile("rb")
    while question := _read(frames):
        worker.asked(*question)
    worker.abandoned()


def _read(frames: Any) -> list[Any]:
    """The next frame; an empty list at the end."""
    head = frames.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return []
    data = frames.read(*LENGTH.unpack(head))
    found: list[Any] = json.loads(data)
    return found


class _Worker:
    def __init__(self, own: socket.socket, plan: MailPlan, limit: int) -> None:
        self._own = own
        self._plan = plan
        self._limit = limit
        self._script: MailScript | None = None
        self._loop = _Loop()

    def asked(self, verb: str, *arguments: Any) -> None:
        """Do it and say what came of it."""
        tired = False
        with _Alarm(self._plan.timeout):
            try:
                kind, answer = "done", getattr(self, "_" + verb)(*arguments)
            except (ScriptError, StorageError, MemoryError) as error:
                kind, answer = "failed", [_told(error)]
                self._give_up()
            except Exception:
                self._say("log", "error", "internal_error\n" + format_exc(), {})
                kind, answer, tired = "failed", ["authlua itself has failed; its log says why"], True
        self._say(kind, tired or resident() > self._limit, *answer)

    def abandoned(self) -> None:
        """The server is gone, or has lost interest."""
        with _Alarm(min(self._plan.timeout, 5.0) or 5.0):
            self._leave()

    # -- what may be asked

    def _begin(self, user: Mapping[str, Any]) -> Sequence[Any]:
        script = self._load(user)
        refusal = script.created()
        lasts = refusal is None and script.has_more
        if not lasts:
            self._leave()
        return refusal, script.fields, lasts

    def _end(self) -> Sequence[Any]:
        assert self._script is not None
        return (self._script.deinit(),)

    def _leave(self) -> Sequence[Any]:
        if self._script is not None:
            self._script.close()
            self._script = None
        return ()

    def _give_up(self) -> None:
        """Unload a script that has failed, as far as that is possible."""
        with suppress(MemoryError):
            self._leave()
        self._script = None

    def _push(self, user: Mapping[str, Any], push: Sequence[Any]) -> Sequence[Any]:
        script, notice = self._load(user), Push(*push)
        suffix = {"messageNew": "message_new", "messageAppend": "message_append"}[notice.event]
        script.notify(suffix, event_of(script.mailbox(notice.folder), notice))
        return self._leave()

    def _run(self, users: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        for user in users:
            with _Alarm(self._plan.timeout):
                try:
                    outcome = self._session(user)
                except (ScriptError, StorageError, MemoryError) as error:
                    outcome = "FAILED", _told(error)
                self._say("outcome", *outcome)
        return ()

    def _session(self, user: Mapping[str, Any]) -> tuple[str, str | None]:
        """A session that ends as soon as it has begun: its result and the reason for it."""
        script = self._load(user)
        try:
            refusal = script.created()
            fine = refusal is not None or script.deinit()
        finally:
            self._leave()
        return ("REFUSED", refusal) if refusal is not None else ("OK" if fine else "FAILED", None)

    # --

    def _load(self, user: Mapping[str, Any]) -> MailScript:
        self._leave()  # of one that failed
        found = MailUser(**user)
        self._script = self._plan.load(found, self._plan.storage(found, self._loop), self._log, in_process=True)
        return self._script

    def _log(self, level: str, text: str, request: object, fields: Mapping[str, object]) -> None:
        self._say("log", level, text, fields)

    def _say(self, *words: object) -> None:
        self._own.sendall(encode_frame(*words))


def _told(error: BaseException) -> str:
    return "not enough memory (lua.memory_limit)" if isinstance(error, MemoryError) else str(error)


class _Alarm:
    """Ends this process when the block takes more than so many seconds; 0 for as long as it likes."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


class _Loop:
    """The event loop for those who need one, in a thread of its own; started when it is first asked for."""

    def __init__(self) -> None:
        self._token: trio.lowlevel.TrioToken | None = None

    def __call__(self) -> trio.lowlevel.TrioToken:
        if self._token is None:
            from queue import SimpleQueue
            from threading import Thread

            started: SimpleQueue[trio.lowlevel.TrioToken] = SimpleQueue()

            async def main() -> None:
                started.put(trio.lowlevel.current_trio_token())
                await trio.sleep_forever()

            Thread(target=trio.run, args=(main,), daemon=True).start()
            self._token = started.get()
        return self._token
