"""Mailbox metadata in Dovecot's ``file:`` dict: a key and its value a line each, one file a user.

The file is replaced under the dotlock that Dovecot itself takes, so both may write it
(``core:2.3.21.1:src/lib-dict-backend/dict-file.c``).
"""

import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from authlua.mail.storage import StorageError

LOCK_TIMEOUT = 120.0
"""Seconds that somebody else may keep the file locked."""
STALE = 60.0
"""Seconds after which a lock was left behind by somebody who is gone."""

_ESCAPES = {b"\0": b"\0010", b"\1": b"\0011", b"\t": b"\1t", b"\n": b"\1n", b"\r": b"\1r"}
_ESCAPED = {escape[1:]: byte for byte, escape in _ESCAPES.items()}


class AttributeFile:
    """The metadata of all mailboxes of a user."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, guid: str, key: str) -> bytes | None:
        """The value under *key*, ``/private/…`` or ``/shared/…``, of the mailbox *guid*."""
        return self._read().get(_name(guid, key))

    def below(self, guid: str, prefix: str) -> Mapping[str, bytes]:
        """All keys at or below *prefix* with their values."""
        start = _name(guid, prefix).rstrip(b"/")
        scope = _name(guid, _scope(prefix))
        found = {}
        for name, value in self._read().items():
            if name == start or name.startswith(start + b"/"):
                found[_scope(prefix) + name[len(scope) :].decode("utf-8", "surrogateescape")] = value
        return found

    def set(self, guid: str, key: str, value: bytes | None) -> None:
        """Set or, with `None`, delete one value."""
        name = _name(guid, key)
        if value is None and name not in self._read():
            return
        with self._locked() as lock:
            values = self._read()
            if value is None:
                values.pop(name, None)
            else:
                values[name] = value
            text = b"".join(_escape(key) + b"\n" + _escape(value) + b"\n" for key, value in values.items())
            while text:
                text = text[os.write(lock, text) :]

    def _read(self) -> dict[bytes, bytes]:
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return {}
        return {_unescape(key): _unescape(value) for key, value in zip(lines[::2], lines[1::2], strict=False)}

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The descriptor of a new file that takes the place of the old one at the end."""
        lock = self._path.with_name(self._path.name + ".lock")
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                break
            except FileExistsError:
                if time.monotonic() > deadline:
                    raise StorageError(f"{lock}: another process keeps the metadata locked") from None
                try:
                    if time.time() - lock.stat().st_mtime > STALE:
                        lock.unlink()
                        continue
                except FileNotFoundError:
                    continue
                time.sleep(0.05)
        try:
            keep_owner(descriptor, self._path)
            yield descriptor
            os.replace(lock, self._path)
        except BaseException:
            lock.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)


def keep_owner(new: int, old: Path) -> None:
    """Give the open file *new* to whoever owns *old*, or else the folder that *old* is to be in; only root can.

    By its descriptor, because a user could put a link in the place of its name meanwhile.
    """
    if os.geteuid() != 0:
        return
    try:
        state = os.stat(old, follow_symlinks=False)
        if stat.S_ISREG(state.st_mode):
            os.fchmod(new, state.st_mode & 0o777)
    except FileNotFoundError:
        state = old.parent.stat()
    os.fchown(new, state.st_uid, state.st_gid)


def _scope(key: str) -> str:
    return "/private/" if key.startswith("/private") else "/shared/"


def _name(guid: str, key: str) -> bytes:
    scope, _, rest = key.lstrip("/").partition("/")
    return f"{'priv' if scope == 'private' else 'shared'}/{guid}/{rest}".encode("utf-8", "surrogateescape")


def _escape(data: bytes) -> bytes:
    return re.sub(rb"[\0\x01\t\n\r]", lambda match: _ESCAPES[match[0]], data)


def _unescape(data: bytes) -> bytes:
    return re.sub(rb"(?s)\x01(.?)", lambda match: _ESCAPED.get(match[1], match[1]), data)
