"""Where a twin says no, and the module it stands for would block, fill the memory or take what it cannot use."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from authlua.twins import sockets
from tests.lua.conftest import Bench
from tests.services.tls import make_certificate
from tests.twins.conftest import Peer, twin


def test_a_peer_that_never_ends_its_line_fills_no_memory(
    bench: Bench, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came is thrown away neither: the script has it, and an error."""
    monkeypatch.setattr(sockets, "MOST_UNREAD", 100_000)
    source = f"""
    local c = require("socket").connect("127.0.0.1", {peer.port})
    c:send("big 1000000\\n")
    local line, problem, rest = c:receive("*l")
    print(line, problem, #rest > 100000, #rest < 200000)
    """
    assert twin(bench, source) == ["nil\tCannot allocate memory\ttrue\ttrue"]


def test_a_key_whose_password_nobody_told_asks_nobody_on_the_terminal(tmp_path: Path) -> None:
    """The server may have been started in one, and would wait there with all its logins."""
    make_certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    encrypt = ["openssl", "pkey", "-in", "key.pem", "-aes256", "-out", "locked.pem", "-passout", "pass:s3cret"]
    subprocess.run(encrypt, cwd=tmp_path, check=True, capture_output=True)
    paths = f"b'certificate', b'{tmp_path}/cert.pem', b'key', b'{tmp_path}/locked.pem'"
    program = (
        "from authlua.twins.tls import context\n"
        f"print(context(b'any', b'client', {paths}))\n"
        f"print(context(b'any', b'client', {paths}, b'password', b'x' * 2000))\n"
        f"print(context(b'any', b'client', {paths}, b'password', b's3cret')[0])\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", program])
    said = b""
    try:
        while b"pass phrase" not in said and (more := os.read(terminal, 4096)):
            said += more
    except OSError:
        pass  # how a terminal ends
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    first, second, third = said.decode().splitlines()
    assert first.startswith("(None, b'error loading certificate (")
    assert second.startswith("(None, b'error loading private key (password cannot be longer than")
    assert third.startswith("<ssl.SSLContext")


def test_a_statement_that_is_no_text_is_refused_when_it_is_prepared(bench: Bench) -> None:
    """As it is when it is run: SQLite takes UTF-8."""
    source = """
    local db = require("DBI").Connect("SQLite3", ":memory:")
    print((select(2, db:prepare("SELECT '\\255'")):gsub(".*codec.*", "no text")))
    local env = require("luasql.sqlite3").sqlite3()
    print((select(2, env:connect(":memory:"):execute("SELECT '\\255'")):gsub(".*codec.*", "no text")))
    """
    assert twin(bench, source) == ["no text", "no text"]
