"""One Lua text, run by Debian's interpreter with the real modules and by authlua with their twins."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
import trio

from authlua.config import TWINS
from authlua.server.driving import complete
from authlua.twins import Waits, open_twins
from tests.lua.conftest import Bench, login
from tests.twins.databases import mariadb, postgres, why_no_mariadb, why_no_postgres

CONTRACTS = Path(__file__).with_name("contracts")
INSTALL = "as root: tests/e2e/install-clients"


def real(source: str, directory: Path, version: str = "5.4") -> list[str]:
    """What *source* prints where the installed modules serve."""
    interpreter = shutil.which(f"lua{version}")
    if interpreter is None:
        pytest.skip(f"no lua{version}; {INSTALL}")
    script = directory / "auth.lua"
    script.write_text(source)
    done = subprocess.run([interpreter, script], capture_output=True, text=True, errors="surrogateescape", timeout=60)
    missing = [line for line in done.stderr.splitlines() if "module '" in line and "not found" in line]
    if missing:
        pytest.skip(f"{missing[0]}; {INSTALL}")
    assert done.stderr == "", done.stderr
    return done.stdout.splitlines()


def twin(bench: Bench, source: str, **options: Any) -> list[str]:
    """What the same text prints where the twins serve, in a passdb lookup."""
    script = f"local function body() {source}\nend function auth_passdb_lookup(req) body() return 1, {{}} end\n"
    options.setdefault("operations", partial(open_twins, Waits()))
    passdb = bench.passdb(script, twins=TWINS, **options)
    trio.run(complete, passdb.lookup(login()))
    return "\n".join(bench.texts).splitlines()


class Peer:
    """A server on loopback that greets, and then does what each line tells it: ``say TEXT``, ``big COUNT``, ``end``."""

    def __init__(self, greeting: bytes = b"") -> None:
        self._greeting = greeting
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        for sock in self._open:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it has ended
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with sock, sock.makefile("rb") as lines:
                sock.sendall(self._greeting)
                for line in lines:
                    word, _, text = line.rstrip(b"\n").partition(b" ")
                    if word == b"say":
                        sock.sendall(text.replace(rb"\r", b"\r").replace(rb"\n", b"\n"))
                    elif word == b"big":
                        sock.sendall(b"x" * int(text))
                    elif word == b"end":
                        return
        except OSError:
            return  # whoever asked is gone


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A place to try scripts."""
    place = Bench(tmp_path)
    yield place
    place.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A server that does what it is told."""
    with Peer() as peer:
        yield peer


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], int]]:
    """The port of a server of that kind, started when it is first wanted."""
    ports: dict[str, int] = {}
    kinds = {"mysql": (why_no_mariadb, mariadb), "postgres": (why_no_postgres, postgres)}
    with ExitStack() as stack:

        def port(kind: str) -> int:
            why_not, start = kinds[kind]
            if reason := why_not():
                pytest.skip(reason)
            if kind not in ports:
                ports[kind] = stack.enter_context(start())
            return ports[kind]

        yield port
