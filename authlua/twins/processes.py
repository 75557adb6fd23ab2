"""Programs that scripts run with ``io.popen``; lupa's Lua has none of its own, but for LuaJIT."""

import os
import subprocess
from collections.abc import Callable, Generator
from typing import Any

from authlua.twins.operations import READ, WRITE, Steps, Until, Waits, Want, begin

Answer = tuple[Any, ...]


class Process:
    """A shell command, and the end of the pipe to it that is ours."""

    def __init__(self, command: bytes, writes: bool) -> None:
        pipe = {"stdin": subprocess.PIPE} if writes else {"stdout": subprocess.PIPE}
        self._process = subprocess.Popen(["/bin/sh", "-c", command], bufsize=0, **pipe)  # type: ignore[call-overload]
        self._pipe = self._process.stdin if writes else self._process.stdout
        os.set_blocking(self._pipe.fileno(), False)
        self._buffer = b""
        self._ended = False

    def __del__(self) -> None:
        self._pipe.close()
        self._process.poll()
        self._process.returncode = self._process.returncode or 0  # nobody asks any more, the system collects it

    def _more(self) -> Generator[Want, bool, bool]:
        """Read some more; whether anything came."""
        while not self._ended:
            data = self._pipe.read(65536)
            if data is None:
                yield Until(self._pipe.fileno(), READ)
            elif data:
                self._buffer += data
                return True
            else:
                self._ended = True
        return False

    def read(self, what: bytes | int) -> Steps:
        """All (``a``), a line without (``l``) or with (``L``) its end, or so many bytes; `None` at the end."""
        if what == b"a":
            while (yield from self._more()):
                pass
            return (self._take(len(self._buffer)),)
        if isinstance(what, int):
            while len(self._buffer) < max(what, 1) and (yield from self._more()):
                pass
            return (self._take(what) if self._buffer else None,)
        while b"\n" not in self._buffer and (yield from self._more()):
            pass
        line, end, _ = self._buffer.partition(b"\n")
        if not line and not end:
            return (None,)
        self._take(len(line + end))
        return (line + end if what == b"L" else line,)

    def _take(self, count: int) -> bytes:
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def write(self, data: bytes) -> Steps:
        """Send all of *data*; `True`, or `None` and why not."""
        while data:
            try:
                sent = self._pipe.write(data)
            except OSError as error:
                return None, os.strerror(error.errno or 0).encode(), error.errno
            if sent is None:
                yield Until(self._pipe.fileno(), WRITE)
            else:
                data = data[sent:]
        return (True,)

    def close(self) -> Steps:
        """Wait for the end of the program: ``exit`` and its code, or ``signal`` and which."""
        self._pipe.close()
        if self._process.poll() is None:
            fd = os.pidfd_open(self._process.pid)
            try:
                yield Until(fd, READ)
            finally:
                os.close(fd)
        code = self._process.wait()
        return (b"exit", code) if code >= 0 else (b"signal", -code)


class Processes:
    """What the Lua side of ``io.popen`` calls."""

    def __init__(self, waits: Waits) -> None:
        self._waits = waits

    def functions(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {
            "process_start": Process,
            "process_read": lambda process, what: begin(process.read(what), self._waits),
            "process_write": lambda process, data: begin(process.write(data), self._waits),
            "process_close": lambda process: begin(process.close(), self._waits),
        }
