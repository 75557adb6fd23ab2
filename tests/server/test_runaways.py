"""A running server whose scripts do their worst, and one that is reloaded under load: nobody else notices."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from authlua.conformance.raw import PATIENCE, RawConnection

RELOADS = int(os.environ.get("AUTHLUA_RELOADS", "20"))  # 200: make reloads

CRASH = "int luaopen_crash(void *state) { (void)state; return *(volatile int *)0; }\n"

WILD = """
local function eat() local t = {} while true do t[#t + 1] = ("x"):rep(1000000) .. #t end end
local acts = {
  loop = function() while true do end end,
  caught = function() while true do pcall(eat) end end,
  eat = eat,
  giant = function() return ("x"):rep(60000000) end,
  churn = function() while true do local text = ("x"):rep(5000000) end end,
  exit = function() os.exit(1) end,
  crash = function() require "crash" end,
}
function auth_passdb_lookup(req)
  if acts[req.user] then acts[req.user]() end
  return dovecot.auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass", user = req.user }
end
"""


class Server:
    """An authlua process and its files."""

    def __init__(self, directory: Path, process: "subprocess.Popen[str]") -> None:
        self.directory = directory
        self.process = process
        self.clients: list[RawConnection] = []

    def client(self) -> RawConnection:
        """An auth client that has shaken hands."""
        client = RawConnection.connect(self.directory / "auth-client")
        client.handshake(pid=4242 + len(self.clients))
        self.clients.append(client)
        return client

    def reload(self) -> object:
        """The answer of the control socket."""
        control = RawConnection.connect(self.directory / "authlua-control")
        (answer,) = control.ask('{"command": "reload"}')
        control.close()
        return json.loads(answer)

    def log(self) -> str:
        return (self.directory / "log").read_text()


@contextmanager
def serving(directory: Path, script: str, use_worker: bool, lua: str = "") -> Iterator[Server]:
    """A server with that script."""
    (directory / "auth.lua").write_text(script)
    config = directory / "authlua.toml"
    config.write_text(
        f"[server]\nbase_dir = '{directory}'\n[lua]\n{lua}\n[auth]\nfailure_delay = '0s'\npenalty = false\n"
        f"[[passdb]]\nscript = 'auth.lua'\nuse_worker = {str(use_worker).lower()}\n"
        "[[listener]]\nkind = 'client'\npath = 'auth-client'\n"
        "[[listener]]\nkind = 'control'\npath = 'authlua-control'\n"
    )
    with (directory / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "authlua", "serve", "-c", str(config)], stderr=log, text=True)
        try:
            server = Server(directory, process)
            while " ready" not in server.log() and process.poll() is None:
                os.sched_yield()
            yield server
            for client in server.clients:
                client.close()
        finally:
            process.terminate()
            process.wait(PATIENCE)


def auth(id: int, user: str) -> str:
    """A PLAIN login."""
    return f"AUTH\t{id}\tPLAIN\tservice=imap\tresp={base64.b64encode(f'{chr(0)}{user}{chr(0)}pass'.encode()).decode()}"


def crash_module(directory: Path) -> None:
    """A C module for which it is fatal to be loaded."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc): tests/e2e/install-clients, as root on Debian")
    (directory / "crash.c").write_text(CRASH)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "crash.so", "crash.c"], check=True, cwd=directory)


def test_scripts_in_workers_that_go_wild_cost_their_own_calls(tmp_path: Path) -> None:
    """One loops, one eats memory and catches the error, one leaves, one crashes in C; a hundred others get in before
    the first is cut off, and all who went wild fail for now, not for ever."""
    crash_module(tmp_path)
    limits = f"timeout = '5s'\nmemory_limit = '16M'\nworker_max = 8\ncpath = ['{tmp_path}/?.so']"
    with serving(tmp_path, WILD, True, limits) as server:
        wild, others = server.client(), server.client()
        acts = ["loop", "caught", "eat", "exit", "crash"]
        wild.send("".join(f"{auth(number, act)}\n" for number, act in enumerate(acts, 1)).encode())
        for number in range(1, 101):
            assert others.ask(auth(number, f"u{number}")) == [f"OK\t{number}\tuser=u{number}".encode()]
        assert b"FAIL\t1\t" not in wild.waiting()
        answers = {wild.receive() for _ in acts}
        assert answers == {f"FAIL\t{number}\tuser={act}\tcode=temp_fail".encode() for number, act in enumerate(acts, 1)}
        assert others.ask(auth(101, "loop's neighbour")) != []
        log = server.log()
        for problem in ("took longer than 5 s", "not enough memory", "os.exit() would end", "died unexpectedly"):
            assert problem in log, problem
        assert server.process.poll() is None


def test_scripts_in_the_server_that_go_wild_cost_their_own_calls(tmp_path: Path) -> None:
    """All but C modules, which can do here what they like."""
    with serving(tmp_path, WILD, False) as server:
        wild, others = server.client(), server.client()
        acts = ["loop", "caught", "eat", "giant", "churn", "exit"]
        for round in range(5):
            first = len(acts) * round + 1
            wild.send("".join(f"{auth(number, act)}\n" for number, act in enumerate(acts, first)).encode())
            for number in range(20 * round + 1, 20 * round + 21):
                assert others.ask(auth(number, f"u{number}")) == [f"OK\t{number}\tuser=u{number}".encode()]
            assert {wild.receive() for _ in acts} == {
                f"FAIL\t{number}\tuser={act}\tcode=temp_fail".encode() for number, act in enumerate(acts, first)
            }
        for problem in ("ran for too long", "not enough memory", "os.exit() would end"):
            assert problem in server.log(), problem


SCRIPT = """
local generation = "%d"
function script_init() return 0 end
function auth_passdb_lookup(req)
  return dovecot.auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass", generation = generation }
end
"""


class Logins(threading.Thread):
    """Logs in without end, ten at a time, and keeps the answers that are none."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._client = server.client()
        self._server = server
        self.done = False
        self.count = 0
        self.bad: list[object] = []
        self.problem: Exception | None = None

    def run(self) -> None:
        try:
            while not self.done:
                first = self.count + 1
                answers = self._client.ask(*(auth(number, f"u{number}") for number in range(first, first + 10)))
                self.count += 10
                self.bad += [answer for answer in answers if not answer.startswith(b"OK\t")]
        except Exception as problem:
            self.problem = problem


@pytest.mark.parametrize("use_worker", [False, True], ids=["in the server", "in workers"])
def test_reloads_under_load_fail_no_login(tmp_path: Path, use_worker: bool) -> None:
    """Who logs in meanwhile is served by the old script or the new one; after a reload, by the new. A script that does
    not load changes nothing. ``AUTHLUA_RELOADS`` says how often."""
    with serving(tmp_path, SCRIPT % 0, use_worker, "worker_max = 4") as server:
        logins = [Logins(server) for _ in range(4)]
        for one in logins:
            one.start()
        try:
            asker = server.client()
            for number in range(1, RELOADS + 1):
                (tmp_path / "auth.lua").write_text(SCRIPT % number)
                assert server.reload() == {"ok": True}
                (answer,) = asker.ask(auth(number, "asker"))
                assert answer == f"OK\t{number}\tuser=asker\tgeneration={number}".encode()
            (tmp_path / "auth.lua").write_text("function auth_passdb_lookup(")
            assert "lua_load" in str(server.reload())
            server.process.send_signal(signal.SIGHUP)
            (answer,) = asker.ask(auth(RELOADS + 1, "asker"))
            assert answer == f"OK\t{RELOADS + 1}\tuser=asker\tgeneration={RELOADS}".encode()
        finally:
            for one in logins:
                one.done = True
            for one in logins:
                one.join()
        assert [one.problem for one in logins] == [None] * 4
        assert [one.bad for one in logins] == [[]] * 4
        assert all(one.count > 0 for one in logins)
