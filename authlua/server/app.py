"""The running server: its connections, what they share, and what is said about them."""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from time import time
from typing import TYPE_CHECKING

import trio

from authlua.auth import Cache, Policy
from authlua.config import Settings
from authlua.errors import ConfigError, ScriptError
from authlua.logs import writer_of
from authlua.protocol import Fail, Ok
from authlua.request import AuthRequest
from authlua.results import PassdbResult
from authlua.server.clients import Client
from authlua.server.control import Control
from authlua.server.core import Core
from authlua.server.driving import complete
from authlua.server.finished import Finished
from authlua.server.hashing import Hasher
from authlua.server.listeners import CLIENT_KINDS, MASTER_KINDS, Listener
from authlua.server.masters import Master
from authlua.server.metrics import serve_metrics
from authlua.server.postlogin import serve_postlogin
from authlua.server.push import serve_push
from authlua.server.ready import Ready
from authlua.server.waiting import Expiry, FailureQueue
from authlua.services import State
from authlua.twins import Waits

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class App:
    """The running server: its connections, and what they share."""

    def __init__(self, settings: Settings, core: Core, log: "FilteringBoundLogger", reload: Callable[[], Core]) -> None:
        self.dialect = settings.server.dialect
        self.request_timeout = settings.server.request_timeout
        self.core = core
        self.log = log
        self.spid = os.getpid()
        self.ready = Ready(writer_of(log))
        self.failures = FailureQueue(settings.auth.failure_delay)
        self.expiry = Expiry(self.request_timeout)
        self.clients: set[Client] = set()
        self.masters: set[Master] = set()
        self.controls: set[Control] = set()
        self.logins: dict[int, Client] = {}
        self.unwritten: set[Client | Master] = set()
        """Who is to be written to when the errands that ended together have all been told."""
        self.hasher = Hasher(self.ready, self.write_all, timeout=self.request_timeout)
        self.state = State()
        self.waits = Waits()
        """What scripts in the server wait for."""
        self.tasks: trio.Nursery
        self._cuids = count(1)
        self._reload = reload
        self._started = time()
        self._reloading = trio.Lock()
        self._reloads_asked = self._reloads_begun = 0
        self._reload_error: Exception | None = None
        self._reloads = 0
        self._closed = False
        self._cache_told: tuple[Cache, int, int] | None = None
        """The cache whose hits and misses were told last, and how many that were."""
        self.tally = Finished(log)

    def next_cuid(self) -> int:
        """A number for a new client connection."""
        return next(self._cuids)

    def connect(self, listener: Listener, sock: socket.socket) -> None:
        """Serve an accepted connection."""
        kind = listener.settings.kind
        try:
            if kind in CLIENT_KINDS:
                Client(self, listener, sock)
            elif kind in MASTER_KINDS:
                Master(self, listener, sock)
            elif kind == "postlogin":
                self.tasks.start_soon(serve_postlogin, self, listener, sock)
            elif kind == "metrics":
                self.tasks.start_soon(serve_metrics, self, listener, sock)
            elif kind == "push":
                self.tasks.start_soon(serve_push, self, listener, sock)
            else:
                Control(self, listener, sock)
        except OSError as error:
            self.log.warning("connection_lost", listener=listener.name, reason=error.strerror)
            sock.close()

    # --- requests ------------------------------------------------------------

    def finished(self, request: AuthRequest, reply: Ok | Fail, started: float) -> None:
        """A login is over."""
        policy = self.core.auth.policy
        self.tally.tell(request, reply, started, policy_result=None if policy is None else _policy_result(request))
        if policy is not None and request.result is not None:
            self.tasks.start_soon(self._report, policy, request, request.result)

    async def _report(self, policy: Policy, request: AuthRequest, result: PassdbResult) -> None:
        """Tell the policy server; nobody waits for that, and nobody suffers when it fails."""
        try:
            await complete(policy.report(request, result))
        except Exception:
            self.log.error("internal_error", exc_info=True)

    def bug(self, request: AuthRequest) -> Fail:
        """What to answer when our own code failed; the traceback goes to the log."""
        self.log.error("internal_error", user=request.user, session=request.session, exc_info=True)
        return self.core.auth.temporary_failure(request)

    def timed_out(self, request: AuthRequest) -> Fail:
        """What to answer when a request took too long."""
        self.log.error(
            "auth_request_timed_out", user=request.user, session=request.session, seconds=self.request_timeout
        )
        return self.core.auth.temporary_failure(request)

    def write_all(self) -> None:
        """Write what errands that ended have left to be written."""
        while self.unwritten:
            self.unwritten.pop().flush()

    # --- control -------------------------------------------------------------

    def cache_flush(self, users: Sequence[str]) -> int:
        """Drop cached entries of *users*, of all when none is named; how many there were."""
        cache = self.core.auth.cache
        return 0 if cache is None else cache.flush(users)

    async def reload(self) -> Exception | None:
        """Swap in a freshly loaded core; when it does not load, the old one stays and the error is returned.

        The server serves on meanwhile. Those who ask while one is loading wait for the next, which is for all of them.
        """
        self._reloads_asked += 1
        asked = self._reloads_asked
        async with self._reloading:
            if self._reloads_begun < asked:
                self._reloads_begun = self._reloads_asked
                self._reload_error = await self._swap()
            return self._reload_error

    async def _swap(self) -> Exception | None:
        try:
            core = await self._load()
        except (ConfigError, ScriptError) as error:
            self.log.error("reload_failed", reason=str(error))
            return error.with_traceback(None)  # it is kept, what it came from need not be
        except Exception as error:
            self.log.error("internal_error", exc_info=True)
            return error.with_traceback(None)
        if self._closed:
            core.retire()
            return ConfigError(["the server stops"])
        old, self.core = self.core, core
        self.start_workers()
        self.failures.delay = core.auth.options.failure_delay
        old.retire()
        self._reloads += 1
        self.log.info("reloaded")
        return None

    async def _load(self) -> Core:
        """A new core, made in a thread, as a script may take its time, or block."""
        loaded: list[Core] = []
        abandoned = False

        def load() -> None:
            loaded.append(self._reload())
            if abandoned:
                retire()

        def retire() -> None:
            with suppress(IndexError):  # it has been taken, or there is none yet
                loaded.pop().retire()

        try:
            with trio.move_on_after(self.request_timeout):
                await trio.to_thread.run_sync(load, abandon_on_cancel=True)
                return loaded.pop()
        finally:
            abandoned = True
            retire()
        raise ScriptError(f"a script did not load within {self.request_timeout:g} s")

    def start_workers(self) -> None:
        """Let the core's workers, if it has any, serve."""
        pool = self.core.pool
        if pool is not None:
            pool.start(self.ready, self.write_all, self.hasher)
            self.tasks.start_soon(pool.run)

    def status(self) -> Mapping[str, object]:
        """What ``authlua status`` shows."""
        cache = self.core.auth.cache
        return {
            "pid": self.spid,
            "uptime": round(time() - self._started),
            "dialect": str(self.dialect),
            "clients": len(self.clients),
            "masters": len(self.masters),
            "requests": self.tally.requests,
            "successes": self.tally.successes,
            "failures": self.tally.requests - self.tally.successes,
            "waiting": self.core.holds,
            "hashes": self.hasher.pending,
            "workers": self.core.pool.size if self.core.pool is not None else 0,
            "reloads": self._reloads,
            **({"state": "up" if self.state.up else "down"} if self.state.shared else {}),
            **({} if cache is None else {"cache": cache.statistics()._asdict()}),
        }

    def tell_cache(self) -> None:
        """Log how the cache fares, hits and misses since this was last told."""
        cache = self.core.auth.cache
        if cache is None:
            self.log.info("auth_cache_statistics", cache="off")
            return
        now = cache.statistics()
        told = self._cache_told if self._cache_told is not None and self._cache_told[0] is cache else (cache, 0, 0)
        self._cache_told = cache, now.hits, now.misses
        counted = {**now._asdict(), "hits": now.hits - told[1], "misses": now.misses - told[2]}
        self.log.info("auth_cache_statistics", **counted)

    # --- life ----------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Nobody waits for an answer."""
        return all(master.idle for master in self.masters) and all(client.idle for client in self.clients)

    def close(self) -> None:
        """Answer what is open and end all connections; tasks that wait for something are to be cancelled next."""
        self._closed = True
        self.failures.flush()
        for client in list(self.clients):
            client.fail_open_requests()
            client.close()
        for connection in [*self.masters, *self.controls]:
            connection.close()
        self.core.retire()
        self.hasher.close()

    def end(self) -> None:
        """Give back what tasks may use to their very end, when there is none left."""
        self.waits.detach()
        self.ready.close()


def _policy_result(request: AuthRequest) -> str:
    return "refused" if request.policy_refused else "delayed" if request.policy_delay else "ok"
