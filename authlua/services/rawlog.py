"""Raw logs: files with all that is sent and received on a connection, as Dovecot's ``rawlog_dir`` writes them.

They hold what the log never does, passwords among it. So they are written only where a script asks for it, into a
directory that is there already, into files that only the server's user can read.
Source: ``core:2.4.4:src/lib/iostream-rawlog.c``.
"""

import os
from itertools import count
from pathlib import Path
from time import localtime, strftime, time_ns

_numbers = count(1)


class Rawlog:
    """The two files of one connection. Its methods block."""

    def __init__(self, directory: str) -> None:
        """Make the files; raises `OSError`, with the file that could not be made."""
        prefix = f"{directory}/{strftime('%Y%m%d-%H%M%S', localtime())}.{os.getpid()}.{next(_numbers)}"
        self._received = _File(f"{prefix}.in")
        try:
            self._sent = _File(f"{prefix}.out")
        except OSError:
            self._received.close()
            Path(f"{prefix}.in").unlink()
            raise

    def sent(self, data: bytes) -> None:
        """Write down what went out; raises `OSError`."""
        self._sent.write(data)

    def received(self, data: bytes) -> None:
        """Write down what came in; raises `OSError`."""
        self._received.write(data)

    def close(self) -> None:
        """There will be no more."""
        self._sent.close()
        self._received.close()


class _File:
    def __init__(self, path: str) -> None:
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        self._path = path
        self._in_line = False

    def write(self, data: bytes) -> None:
        if not data:
            return
        seconds, rest = divmod(time_ns(), 10**9)
        stamp = b"%d.%06d " % (seconds, rest // 1000)
        first = b"" if self._in_line else stamp
        text = first + data[:-1].replace(b"\n", b"\n" + stamp) + data[-1:]
        self._in_line = not data.endswith(b"\n")
        while text:
            try:
                text = text[os.write(self._descriptor, text) :]
            except OSError as error:
                raise OSError(error.errno, error.strerror, self._path) from error

    def close(self) -> None:
        os.close(self._descriptor)
