"""Database servers of a test's own: in a directory, on a loopback port, gone when the block ends."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.ports import free_port

INSTALL = "as root: tests/e2e/install-clients"
TABLES = ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
USER = """
create database test;
flush privileges;
create user 'mail'@'%' identified by 'secret';
grant all on test.* to 'mail'@'%';
delete from mysql.global_priv where user='';
"""


def why_no_mariadb() -> str | None:
    """What keeps `mariadb` from starting one."""
    if shutil.which("mariadbd", path="/usr/sbin:/usr/bin") is None:
        return f"no mariadbd; {INSTALL}"
    return None


def why_no_postgres() -> str | None:
    """What keeps `postgres` from starting one."""
    return None if _postgres() else f"no PostgreSQL; {INSTALL}"


def _postgres() -> Path | None:
    return max(Path("/usr/lib/postgresql").glob("*/bin/postgres"), default=None)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    late = time.monotonic() + 60
    while True:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > late:
            raise RuntimeError(f"the database did not start: {log.read_text()}")
        time.sleep(0.05)


@contextmanager
def _directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="authlua-db-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@contextmanager
def _running(command: list[Any], port: int, log: Path, **options: Any) -> Iterator[int]:
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, **options) as process:
        try:
            _wait_for(port, process, log)
            yield port
        finally:
            process.terminate()


@contextmanager
def mariadb(*options: str) -> Iterator[int]:
    """A MariaDB with the database ``test`` and the user ``mail`` with password ``secret``; its port."""
    server = shutil.which("mariadbd", path="/usr/sbin:/usr/bin")
    assert server is not None
    with _directory() as directory:
        (directory / "data/mysql").mkdir(parents=True)
        data = [server, "--no-defaults", "--user=root", f"--datadir={directory / 'data'}"]
        small = ["--innodb-buffer-pool-size=8M", "--innodb-flush-log-at-trx-commit=0", "--performance-schema=off"]
        tables = "".join(Path("/usr/share/mysql", name).read_text() for name in TABLES)
        made = subprocess.run(
            [*data, *small, "--bootstrap"], input=f"use mysql;\n{tables}{USER}".encode(), capture_output=True
        )
        if b"ERROR" in made.stderr:
            raise RuntimeError(made.stderr.decode())
        port = free_port()
        where = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={directory / 'socket'}"]
        with _running([*data, *small, *where, *options], port, directory / "log"):
            yield port


@contextmanager
def postgres(*options: str) -> Iterator[int]:
    """A PostgreSQL with the superuser ``mail``, who needs no password; its port."""
    server = _postgres()
    assert server is not None
    # it refuses to be root
    user: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    with _directory() as directory:
        if user:
            os.chown(directory, pwd.getpwnam("postgres").pw_uid, -1)
        data = directory / "data"
        initdb: list[Any] = [
            server.with_name("initdb"),
            "-D",
            data,
            "-A",
            "trust",
            "-U",
            "mail",
            "--no-sync",
            "--locale=C.UTF-8",
        ]
        subprocess.run(initdb, check=True, capture_output=True, cwd=directory, **user)
        port = free_port()
        fast = ["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", *options]
        with _running(
            [server, "-D", data, "-p", str(port), "-k", directory, *fast],
            port,
            directory / "log",
            cwd=directory,
            **user,
        ):
            ready: list[Any] = [server.with_name("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
            while subprocess.run(ready).returncode:
                time.sleep(0.05)
            yield port
