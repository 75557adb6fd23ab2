"""Dovecot's file dict: a key in a line and its value in the next (``core:2.4.4:src/lib-dict/dict-file.c``).

Both are tab-escaped. All of this blocks, and is called in threads. A file is read whole and replaced whole, under one
of Dovecot's locks, so that Dovecot's own processes may use it at the same time.
"""

import contextlib
import fcntl
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from authlua.errors import Unreachable
from authlua.protocol import escape, unescape

LOCK_TIMEOUT = 120.0
"""Seconds to wait for others who are writing."""

STALE_TIMEOUT = 60.0
"""Seconds after which a lock file was forgotten by whoever made it."""

POLL = 0.05

RECURSE, SORT_BY_KEY, SORT_BY_VALUE, EXACT_KEY = 1, 2, 4, 16
"""Some of ``dovecot.dict.ITERATE_FLAG_…``; the others make no difference to a file."""

Change = tuple[str, str | None]
"""A key, and its new value; `None` when it is to go."""


def lookup(path: Path, key: str) -> str | None:
    """The value of *key*; `Unreachable` when the file cannot be read."""
    return _read(path).get(key)


def iterate(path: Path, prefix: str, flags: int) -> list[tuple[str, str]]:
    """Keys that begin with *prefix*, and their values: those on its level, all below it, or the very key."""
    found = []
    for key, value in _read(path).items():
        if not key.startswith(prefix):
            continue
        rest = key[len(prefix) :]
        if flags & RECURSE or (not rest if flags & EXACT_KEY else "/" not in rest):
            found.append((key, value))
    if flags & SORT_BY_KEY:
        found.sort()
    elif flags & SORT_BY_VALUE:
        found.sort(key=lambda pair: pair[1])
    return found


def commit(path: Path, changes: Iterable[Change], lock_method: str) -> None:
    """Make *changes*, all or none of them; `Unreachable` when that is not possible."""
    try:
        try:
            _replace(path, changes, lock_method)
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(path, changes, lock_method)
    except OSError as error:
        raise Unreachable(f"write({path}) failed: {error.strerror}") from error


def _replace(path: Path, changes: Iterable[Change], lock_method: str) -> None:
    with _LOCKS[lock_method](path) as (fd, temporary):
        values = _read(path)
        for key, value in changes:
            if value is None:
                values.pop(key, None)
            else:
                values[key] = value
        _copy_permissions(path, fd)
        text = "".join(f"{escape(key)}\n{escape(value)}\n" for key, value in values.items())
        data = text.encode("utf-8", "surrogateescape")
        while data:
            data = data[os.write(fd, data) :]
        os.rename(temporary, path)


def _read(path: Path) -> dict[str, str]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Unreachable(f"open({path}) failed: {error.strerror}") from error
    lines = iter(data.decode("utf-8", "surrogateescape").split("\n")[:-1])
    # a key whose value was not written any more does not count
    return {unescape(key): unescape(value) for key, value in zip(lines, lines, strict=False)}


def _copy_permissions(path: Path, fd: int) -> None:
    """Those of the file that is replaced; a new one has its directory's, as far as they are for files."""
    try:
        old = os.stat(path)
        mode = old.st_mode & 0o7777
    except FileNotFoundError:
        old = os.stat(path.parent)
        mode = old.st_mode & 0o666
    mine = os.fstat(fd)
    if mine.st_gid != old.st_gid and (mode & 0o070) >> 3 != mode & 0o007:
        # that the group is not ours to give is no reason to keep the value back
        with contextlib.suppress(PermissionError):
            os.fchown(fd, -1, old.st_gid)
    os.fchmod(fd, mode)


# -- locks; each gives what to write to, and the name it has until it is complete


@contextlib.contextmanager
def _dotlock(path: Path) -> Iterator[tuple[int, str]]:
    lock = f"{path}.lock"
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fd = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            break
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                if time.time() - os.stat(lock).st_mtime > STALE_TIMEOUT:
                    os.unlink(lock)
                    continue
        if time.monotonic() > deadline:
            raise Unreachable(f"file_dotlock_open({path}) failed: timed out")
        time.sleep(POLL)
    try:
        os.write(fd, f"{os.getpid()}:{socket.gethostname()}".encode())  # whose it is, as long as it is a lock
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd, lock
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(lock)
        raise
    finally:
        os.close(fd)


def _file_lock(take: Callable[[int], object]) -> Callable[[Path], contextlib.AbstractContextManager[tuple[int, str]]]:
    @contextlib.contextmanager
    def lock(path: Path) -> Iterator[tuple[int, str]]:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            locked = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                _take(take, locked, path, deadline)
                # whoever had the lock before us has put another file in its place
                if os.path.exists(path) and os.path.samestat(os.fstat(locked), os.stat(path)):
                    temporary = f"{path}.tmp"
                    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
                    fd = os.open(temporary, flags, 0o600)
                    try:
                        yield fd, temporary
                    finally:
                        os.close(fd)
                    return
            finally:
                os.close(locked)

    return lock


def _take(take: Callable[[int], object], fd: int, path: Path, deadline: float) -> None:
    while True:
        try:
            take(fd)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Unreachable(f"file_wait_lock({path}) failed: timed out") from None
        time.sleep(POLL)


_WHOLE_FILE = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
"""A lock that Dovecot's keep off and are kept off by, but of this descriptor: theirs would be the whole process's, all
its threads', and over when any of them closes the file."""

_LOCKS: dict[str, Callable[[Path], contextlib.AbstractContextManager[tuple[int, str]]]] = {
    "dotlock": _dotlock,
    "fcntl": _file_lock(lambda fd: fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _WHOLE_FILE)),
    "flock": _file_lock(lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)),
}
"""Dovecot's ``dict_file_lock_method``."""
