"""Listening sockets: opening them, taking them over, accepting on them."""

import errno
import grp
import os
import pwd
import select
import socket
import stat
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from authlua.config import ListenerSettings
from authlua.errors import ConfigError
from authlua.protocol import ClientKind, MasterKind

if TYPE_CHECKING:
    from authlua.server.app import App

CLIENT_KINDS = {"client": ClientKind.CLIENT, "login": ClientKind.LOGIN, "token-login": ClientKind.TOKEN_LOGIN}
MASTER_KINDS = {
    "master": MasterKind.MASTER,
    "login-master": MasterKind.LOGIN_MASTER,
    "userdb": MasterKind.USERDB,
}

BACKLOG = 511
ACCEPT_BATCH = 64
"""Connections accepted at a time, so that a flood of them leaves time for those that are open."""

OVERLOAD_PAUSE = 0.1
"""Seconds without accepting when the system has no descriptor or memory left for one more connection."""

_OVERLOAD = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class Listener:
    """A listening socket and what its connections are for."""

    def __init__(self, settings: ListenerSettings, sock: socket.socket) -> None:
        self.settings = settings
        self.name = _where(sock) or settings.name or settings.kind
        self.late = settings.handshake == "late"
        self.close_on_tempfail = settings.tempfail == "close"
        self._sock = sock
        self._app: App | None = None
        self._overloaded = False
        """The system had no room for a connection, and those who wait have not all been accepted since."""
        self._world_owner = _world_owner(sock) if settings.kind == "userdb" else None
        sock.setblocking(False)

    @property
    def client_kind(self) -> ClientKind:
        """What its auth clients may do."""
        return CLIENT_KINDS[self.settings.kind]

    @property
    def master_kind(self) -> MasterKind:
        """What its masters may do."""
        return MASTER_KINDS[self.settings.kind]

    def peer(self, sock: socket.socket) -> tuple[int, int | None]:
        """The pid of a unix peer (else 0), and the uid it is restricted to on a world-accessible userdb socket.

        As ``core:2.3.21.1:src/auth/auth-master-connection.c:auth_master_connection_create`` and its callers: owner
        and group of a socket of mode 0666 have full rights, root too, and all others may see themselves.
        """
        if sock.family != socket.AF_UNIX:
            return 0, None
        pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if self._world_owner is None or uid == 0 or uid == self._world_owner[0] or gid == self._world_owner[1]:
            return pid, None
        return pid, uid

    def fileno(self) -> int:
        """The listening descriptor."""
        return self._sock.fileno()

    def start(self, app: "App") -> None:
        """Accept from now on."""
        self._app = app
        app.ready.watch(self, select.EPOLLIN)

    def ready(self, events: int) -> None:
        """Accept those who wait."""
        app = self._app
        if app is None:
            return
        for _ in range(ACCEPT_BATCH):
            try:
                sock, _address = self._sock.accept()
            except BlockingIOError:
                self._overloaded = False
                return
            except OSError as error:
                if error.errno in _OVERLOAD:
                    if not self._overloaded:
                        app.log.warning("accept_paused", listener=self.name, reason=error.strerror)
                        self._overloaded = True
                    app.ready.forget(self)
                    app.tasks.start_soon(self._resume, app)
                    return
                continue  # the client went away before we came to it
            app.connect(self, sock)

    async def _resume(self, app: "App") -> None:
        await trio.sleep(OVERLOAD_PAUSE)
        if self._app is not None:
            app.ready.watch(self, select.EPOLLIN)

    def stop(self) -> None:
        """Accept no more; the socket's file, if it is ours, goes too."""
        if self._app is not None:
            self._app.ready.forget(self)
            self._app = None
        self._sock.close()


class OwnedListener(Listener):
    """A listener on a socket file that we made, and remove."""

    def stop(self) -> None:
        """Accept no more and remove the socket's file; where only root may, the next start replaces it."""
        super().stop()
        if self.settings.path is not None:
            with suppress(PermissionError):
                self.settings.path.unlink(missing_ok=True)


def _where(sock: socket.socket) -> str:
    """Where *sock* listens, which for one that was passed in need not be where the configuration says."""
    bound = sock.getsockname()
    if isinstance(bound, tuple):
        host, port, *_ = bound
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return os.fsdecode(bound).replace("\0", "@", 1)


def _world_owner(sock: socket.socket) -> tuple[int, int] | None:
    """Owner and group of a unix socket whose mode is exactly 0666, else `None`."""
    if sock.family != socket.AF_UNIX:
        return None
    try:
        status = os.stat(sock.getsockname())
    except OSError:
        return None
    return (status.st_uid, status.st_gid) if stat.S_IMODE(status.st_mode) == 0o666 else None


def open_listeners(
    wanted: tuple[ListenerSettings, ...], passed: Mapping[str, Sequence[socket.socket]]
) -> list[Listener]:
    """All listeners of the configuration, or none.

    Args:
        passed: sockets a service manager opened for us, by name; a listener whose name or kind is there uses them all.

    Raises:
        ConfigError: some cannot be opened; nothing stays open then.
    """
    left = dict(passed)
    inherited = [left.pop(settings.name or settings.kind, ()) for settings in wanted]
    listeners: list[Listener] = []
    problems: list[str] = []
    for settings, sockets in zip(wanted, inherited, strict=True):
        sockets = sockets or left.pop(settings.kind, ())
        if sockets:
            listeners += [Listener(settings, sock) for sock in sockets]
            continue
        try:
            if settings.path is not None:
                listeners.append(OwnedListener(settings, _open_unix(settings, settings.path)))
            else:
                listeners.append(Listener(settings, _open_tcp(settings.address or "")))
        except (OSError, LookupError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            problems.append(f"listener {settings.path or settings.address}: {reason}")
    for name, sockets in left.items():
        problems.append(f"socket {name!r} was passed in, but no listener has that name or kind")
        for sock in sockets:
            sock.close()
    if problems:
        for listener in listeners:
            listener.stop()
        raise ConfigError(problems)
    return listeners


def _open_unix(settings: ListenerSettings, path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            _remove_stale(path)
        elif os.path.lexists(path):
            raise OSError(errno.EEXIST, "there is something that is no socket; remove it, or choose another path")
        # nobody may connect before owner and mode are right
        umask = os.umask(0o777)
        try:
            sock.bind(str(path))
        finally:
            os.umask(umask)
    except BaseException:
        sock.close()
        raise
    try:
        uid = pwd.getpwnam(settings.user).pw_uid if settings.user else -1
        gid = grp.getgrnam(settings.group).gr_gid if settings.group else -1
        if (uid, gid) != (-1, -1):
            os.chown(path, uid, gid)
        path.chmod(settings.mode or 0)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        path.unlink()
        raise
    return sock


def _remove_stale(path: Path) -> None:
    """Remove a socket's file that nobody listens on any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "another server listens there")


def _open_tcp(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    family, kind, protocol, _, name = socket.getaddrinfo(
        host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(name)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
