"""Running as Dovecot's own ``auth`` service: Dovecot's master owns sockets, permissions, restarts and reloads.

What the master gives its services is described in ``core:2.3.21.1:src/lib-master/master-interface.h`` and
``src/master/service-process.c``; `DovecotService` reads it, `serve_dovecot` lives by it.
"""

import os
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import trio

from authlua.config import ListenerSettings, Settings
from authlua.errors import ConfigError
from authlua.server.app import App
from authlua.server.core import open_core
from authlua.server.listeners import Listener
from authlua.server.running import make_lasting, make_zygote, run
from authlua.server.token_secret import load_token_secret

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

STATUS_FD = 5
"""We write here how many more connections we take."""
DEAD_FD = 6
"""Readable, at its end, when the master is gone or wants us to stop."""

_KINDS_2_3 = {
    "login": "login",
    "master": "master",
    "userdb": "userdb",
    "tokenlogin": "token-login",
    "token": "token-login",
}
_KINDS_2_4 = {"auth": "client", "auth-legacy": "client", **_KINDS_2_3, "token-login": "token-login"}


class Service(NamedTuple):
    """What the master told this process."""

    listeners: list[tuple[int, str, str]]
    """Descriptor, name and kind of each listener."""
    generation: int
    client_limit: int
    uid: str
    gid: str


def read_service(environ: Mapping[str, str]) -> Service:
    """What *environ* says.

    Raises:
        ConfigError: this process was not started by a Dovecot master.
    """
    try:
        count = int(environ["SOCKET_COUNT"])
        generation = int(environ["GENERATION"])
        listeners = []
        newer = False
        for index in range(count):
            name, *options = environ[f"SOCKET{index}_SETTINGS"].split("\t")
            given = dict(option.partition("=")[::2] for option in options)
            newer = newer or "type" in given
            listeners.append((name, _kind(name, given.get("type"))))
    except (KeyError, ValueError) as error:
        raise ConfigError(
            [f"not started by Dovecot: {error} is missing; put this command into service auth {{ executable = … }}"]
        ) from None
    # 2.4 hands its configuration over on a descriptor before the listeners
    first = 8 if newer or environ.get("DOVECOT_VERSION", "").startswith("2.4") else 7
    return Service(
        [(first + index, name, kind) for index, (name, kind) in enumerate(listeners)],
        generation,
        int(environ.get("CLIENT_LIMIT") or 1000),
        environ.get("RESTRICT_SETUID", ""),
        environ.get("RESTRICT_SETGID", ""),
    )


def _kind(name: str, given: str | None) -> str:
    """The kind of a listener, by its type or else by its name (``core:2.3.21.1:src/auth/main.c:auth_module_load…``)."""
    if given:
        return _KINDS_2_4.get(given, "client")
    suffix = name.rpartition("/")[2].rpartition("-")[2]
    return _KINDS_2_3.get(suffix, "client")


def serve_dovecot(settings: Settings, load: Callable[[], Settings], log: "FilteringBoundLogger") -> None:
    """Serve Dovecot's sockets until it stops us.

    Listeners of the configuration are not opened, but the options of one with the same kind, name or path apply.

    Raises:
        ConfigError: this process was not started by Dovecot.
        ScriptError: a script does not load.
    """
    service = read_service(os.environ)
    zygote = make_zygote(settings)
    listeners = []
    base_dir = settings.server.base_dir
    for fd, name, kind in service.listeners:
        sock = socket.socket(fileno=fd)
        listeners.append(Listener(_listener_settings(settings, sock, name, kind), sock))
        if sock.family == socket.AF_UNIX and name == "auth-master":
            base_dir = Path(sock.getsockname()).parent
    lasting = make_lasting(settings, log, load_token_secret(base_dir, log), zygote)
    core = open_core(settings, log, lasting)
    if os.geteuid() == 0:
        _become(service)

    async def accompany(app: App, stop: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_report, app, service)
            await trio.lowlevel.wait_readable(DEAD_FD)
            stop.set()
            nursery.cancel_scope.cancel()

    run(settings, core, listeners, load, log, lasting, accompany)


def _listener_settings(settings: Settings, sock: socket.socket, name: str, kind: str) -> ListenerSettings:
    path = Path(sock.getsockname()) if sock.family == socket.AF_UNIX else None
    for wanted in settings.listeners:
        if wanted.path == path or (wanted.name and wanted.name == name):
            return replace(wanted, kind=kind, path=path)
    return ListenerSettings(kind=kind, name=name, path=path)


def _become(service: Service) -> None:
    """Give up root as the master wants it (``RESTRICT_SETUID`` and ``RESTRICT_SETGID``)."""
    if service.gid:
        os.setgid(int(service.gid))
        os.setgroups([])
    if service.uid and service.uid != "0":
        os.setuid(int(service.uid))


async def _report(app: App, service: Service) -> None:
    """Keep the master informed about how many more connections we take."""
    told = -1
    while True:
        available = max(0, service.client_limit - len(app.clients) - len(app.masters))
        if available != told:
            # the master throttles its accepts by this number; it reads native struct master_status
            status = struct.pack("=iII", os.getpid(), service.generation, available)
            await trio.lowlevel.wait_writable(STATUS_FD)
            os.write(STATUS_FD, status)
            told = available
        await trio.sleep(0.2)
