"""The system's crypt(3), through ctypes, which lets other threads run while it computes.

Python's own module is gone since 3.13, and its successor on the package index keeps the others waiting.
"""

import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from authlua.passwords.scheme import MalformedHash

_STATE = 1 << 18
"""Bytes for ``struct crypt_data``: 32 KiB in libxcrypt, 129 KiB in the glibc of old."""


class _Own(threading.local):
    """What each thread keeps for its next hash. libxcrypt leaves nothing in it but the last result."""

    state: Any = None


_own = _Own()


@cache
def _library() -> tuple[Callable[..., bytes | None], Callable[[int], Any], Callable[[], int]] | None:
    """``crypt_r``, what makes its third argument, and what tells errno; `None` where no library has it."""
    import ctypes

    for name in "libcrypt.so.2", "libcrypt.so.1", None:  # libxcrypt's two names; musl has it in libc
        try:
            crypt_r = ctypes.CDLL(name, use_errno=True).crypt_r
        except (OSError, AttributeError):
            continue
        crypt_r.restype = ctypes.c_char_p
        crypt_r.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
        return crypt_r, ctypes.create_string_buffer, ctypes.get_errno
    return None


def crypt(password: bytes, setting: bytes) -> bytes:
    """crypt(3): *password* hashed as *setting* says, which may be an earlier result; no NUL in either.

    A setting it does not know gives a result that begins with ``*``, or an error, as libraries differ.
    Raises `MalformedHash` for an error, and where the system has no crypt(3).
    """
    library = _library()
    if library is None:
        raise MalformedHash("crypt() failed: there is no libcrypt on this system")
    crypt_r, buffer, errno = library
    if _own.state is None:
        _own.state = buffer(_STATE)
    result = crypt_r(password, setting, _own.state)
    if result is None:
        raise MalformedHash(f"crypt() failed: {os.strerror(errno())}")
    return result
