"""The end of a server while something is under way: it ends, says nothing of errors, and has given everything back."""

import base64
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from structlog.testing import LogCapture

from authlua.config import Settings, load
from authlua.server import running
from authlua.server.app import App
from authlua.server.core import Core, open_core
from authlua.server.listeners import open_listeners
from authlua.server.zygote import Zygote
from authlua.wishes import Hash
from tests.services.backend import Backend

SCRIPT = r"""
local acts = {
  asks = function() dovecot.http.client{}:request{ url = URL .. "/gate" }:submit() end,
  reads = function() assert(require("socket").connect("127.0.0.1", PORT)):receive(10) end,
  sleeps = function() require("socket").sleep(1000) end,
  hashes = function(req) req:password_verify("{PBKDF2}$1$salt$30000$" .. ("0"):rep(40), "secret") end,
}
function auth_passdb_lookup(req)
  acts[req.user](req)
  return dovecot.auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass" }
end
function auth_userdb_lookup(req)
  acts[req.user](req)
  return dovecot.auth.USERDB_RESULT_OK, {}
end
function auth_userdb_iterate()
  return function() return ("user"):rep(100) end
end
"""
ACTS = ["asks", "reads", "sleeps", "hashes"]

Body = Callable[[App], Awaitable[None]]


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """One for all servers."""
    zygote = Zygote()
    yield zygote
    zygote.close()


class Place:
    """A directory with a server's files, and who is to be talked to."""

    def __init__(self, directory: Path, zygote: Zygote, url: str, port: int) -> None:
        self.directory = directory
        self.zygote = zygote
        script = SCRIPT.replace("URL", f'"{url}"').replace("PORT", str(port))
        (directory / "auth.lua").write_text(script)
        self.sockets: list[socket.socket] = []

    def ask(self, kind: str, words: bytes) -> socket.socket:
        """A connection on which *words* have been sent."""
        sock = socket.socket(socket.AF_UNIX)
        self.sockets.append(sock)
        sock.connect(str(self.directory / kind))
        sock.sendall(words)
        return sock

    def serve(
        self, body: Body, *, use_worker: bool, load_anew: Callable[[Settings], Settings] = lambda old: old
    ) -> App:
        """The server, which has stopped when *body* was over and whose log has no errors."""
        used = f"script = 'auth.lua'\nuse_worker = {str(use_worker).lower()}\n"
        (self.directory / "authlua.toml").write_text(
            f"[server]\nbase_dir = '{self.directory}'\n[auth]\npenalty = false\n[[passdb]]\n{used}[[userdb]]\n{used}"
            "[[listener]]\nkind = 'client'\npath = 'client'\n[[listener]]\nkind = 'master'\npath = 'master'\n"
            "[[listener]]\nkind = 'control'\npath = 'control'\n"
        )
        settings = load(self.directory / "authlua.toml")
        capture = LogCapture()
        log = structlog.wrap_logger(structlog.ReturnLogger(), processors=[capture])
        lasting = running.make_lasting(settings, log, None, self.zygote)
        apps: list[App] = []

        async def accompany(app: App, stop: trio.Event) -> None:
            apps.append(app)
            await body(app)
            stop.set()

        core, listeners = open_core(settings, log, lasting), open_listeners(settings.listeners, {})
        running.run(settings, core, listeners, lambda: load_anew(settings), log, lasting, accompany)
        assert [entry for entry in capture.entries if entry["log_level"] == "error"] == []
        (app,) = apps
        pool = app.core.pool
        assert (app.core.holds, pool is not None and pool._closed) == (0, use_worker)
        return app


@pytest.fixture
def place(tmp_path: Path, zygote: Zygote, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A server there gives open requests no time when it has to stop."""
    monkeypatch.setattr(running, "STOP_TIMEOUT", 0.0)
    with Backend() as backend, socket.create_server(("127.0.0.1", 0)) as silent:
        place = Place(tmp_path, zygote, backend.url, silent.getsockname()[1])
        yield place
        for sock in place.sockets:
            sock.close()


async def until(condition: Callable[[], bool]) -> None:
    """As soon as it is so."""
    with trio.fail_after(240):
        while not condition():  # noqa: ASYNC110 - scripts, threads and processes make it so
            await trio.sleep(0.001)


def auth(id: int, user: str) -> bytes:
    """A PLAIN login."""
    response = base64.b64encode(f"\0{user}\0pass".encode()).decode()
    return f"AUTH\t{id}\tPLAIN\tservice=imap\tresp={response}\n".encode()


@pytest.mark.parametrize("use_worker", [True, False], ids=["worker", "server"])
@pytest.mark.parametrize("act", ACTS)
def test_logins_and_lookups_that_wait_end_with_the_server(place: Place, act: str, use_worker: bool) -> None:
    """Clients hear that it failed for now; all that a request held is given back, however it waits."""
    clients: list[socket.socket] = []
    go_on = threading.Event()  # hashes are not done before the server stops

    async def body(app: App) -> None:
        logins = b"".join(auth(number, act) for number in range(1, 4))
        clients.append(place.ask("client", b"VERSION\t1\t2\nCPID\t77\n" + logins))
        lookups = b"".join(
            b"%s\t%d\t%s\tservice=x\n" % (what, n, act.encode()) for n in (1, 2) for what in (b"USER", b"PASS")
        )
        for _ in range(app.hasher._threads):
            app.hasher.job(Hash(go_on.wait, 240), for_whom=0).start(lambda outcome: None)
        place.ask("master", b"VERSION\t1\t1\n" + lookups)
        await until(lambda: app.core.holds == 7)

    place.serve(body, use_worker=use_worker)
    go_on.set()
    said = b"".join(iter(lambda: clients[0].recv(65536), b""))
    assert said.endswith(b"".join(b"FAIL\t%d\tuser=%s\tcode=temp_fail\n" % (n, act.encode()) for n in (1, 2, 3)))


@pytest.mark.parametrize("use_worker", [True, False], ids=["worker", "server"])
@pytest.mark.parametrize("again", range(4))  # who goes first when all are cancelled together is a matter of chance
def test_a_list_that_nobody_reads_ends_with_the_server(place: Place, use_worker: bool, again: int) -> None:
    """Its worker is told, or is gone already."""

    async def body(app: App) -> None:
        place.ask("master", b"VERSION\t1\t1\nLIST\t1\tservice=x\n")
        await until(lambda: any(master._drained is not None for master in app.masters))

    place.serve(body, use_worker=use_worker)


@pytest.mark.parametrize("use_worker", [True, False], ids=["worker", "server"])
def test_what_is_loaded_when_the_server_stops_is_let_go(
    place: Place, use_worker: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it."""
    begun, go_on = threading.Event(), threading.Event()
    cores: list[Core] = []

    def opened(*arguments: Any) -> Core:
        cores.append(open_core(*arguments))
        return cores[-1]

    monkeypatch.setattr(running, "open_core", opened)

    def load_anew(settings: Settings) -> Settings:
        begun.set()
        go_on.wait(60)
        return settings

    async def body(app: App) -> None:
        place.ask("control", b'{"command": "reload"}\n')
        await until(begun.is_set)

    app = place.serve(body, use_worker=use_worker, load_anew=load_anew)
    go_on.set()
    trio.run(until, lambda: bool(cores) and cores[0]._retired)
    assert app.core is not cores[0]
