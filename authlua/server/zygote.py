"""The zygote: a small process, made before the server has threads or sockets, from which workers are forked.

A fork of the running server would carry its threads' locks and all its descriptors along; a fresh interpreter would
cost a tenth of a second each time. The zygote has everything imported and nothing opened.
"""

import ctypes
import marshal
import os
import signal
import socket
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

MAX_ORDER = 4096

PATIENCE = 5
"""Seconds that workers have to end by themselves once the server is gone."""

_PR_SET_PDEATHSIG = 1  # prctl(2)


class Zygote:
    """The server's hold on its zygote. Make it first of all; workers end when the server does."""

    def __init__(self) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            try:
                self._sock.close()
                _live(theirs)
            finally:
                os._exit(1)
        theirs.close()
        self.pid = pid
        self.is_root = os.geteuid() == 0
        """Its workers can become others, whoever the server is by then."""

    def fork(self, worker: str, order: tuple[Any, ...], *fds: int) -> None:
        """Have a worker made that owns *fds* and does ``authlua.server.WORKER.work(order, *fds)``."""
        socket.send_fds(self._sock, [marshal.dumps((worker, order))], fds)

    def close(self) -> None:
        """Let the zygote end, when all workers have or `PATIENCE` is over."""
        self._sock.close()
        os.waitpid(self.pid, 0)


def _live(sock: socket.socket) -> NoReturn:
    # a terminal's Ctrl-C and a manager's SIGTERM are for the server, which ends us by closing its sockets
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _keep_only(0, 1, 2, sock.fileno())
    bear(sock, _work)


def _work(order: tuple[str, tuple[Any, ...]], *fds: int) -> None:
    worker, what = order
    import_module(f"authlua.server.{worker}").work(what, *fds)


def bear(sock: socket.socket, work: Callable[..., None]) -> NoReturn:
    """Fork a process for each order that comes on *sock*, to do ``work(order, *fds)``, until that ends.

    Each is to see by its own descriptors that the server is gone. One whose script loops sees nothing, so none
    outlives this process, which waits `PATIENCE` for them.
    """
    while True:
        message, fds, _flags, _address = socket.recv_fds(sock, MAX_ORDER, 8)
        if not message:
            _wait_for_workers()
        if os.fork() == 0:
            sock.close()
            try:
                _end_with_parent()
                work(marshal.loads(message), *fds)
            finally:
                os._exit(0)
        for fd in fds:
            os.close(fd)


def _wait_for_workers() -> NoReturn:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(PATIENCE)
    try:
        while True:
            os.wait()
    except ChildProcessError:
        os._exit(0)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def become(uid: int, gid: int, groups: Sequence[int]) -> None:
    """Give up all rights but those of *uid*, *gid* and *groups*, for good."""
    if os.geteuid() == 0:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        _end_with_parent()  # who becomes another forgets it
    elif (uid, gid) != (os.geteuid(), os.getegid()):
        raise PermissionError(1, "only root can become others")


def _keep_only(*fds: int) -> None:
    """Close all other descriptors: a service manager's pipes, the journal of whoever started us."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd not in fds:
            try:
                os.close(fd)
            except OSError:
                continue  # the one that was listing
