"""The connections that HTTP requests leave open for one another, and what all requests of one client have in common."""

from collections import deque
from contextlib import AbstractAsyncContextManager, nullcontext
from time import time
from typing import TYPE_CHECKING, Any

import trio

from authlua.services.errands import attached
from authlua.services.http_codec import Header, Limits, encode_headers, encode_line
from authlua.services.http_connection import Dialer, HttpConnection
from authlua.services.http_messages import IDLE_TIME, NO_CONNECTION, GivenUp, Options, Request, basic, http_date
from authlua.urls import Url

if TYPE_CHECKING:
    from authlua.services.http_exchange import Exchange

_KINDS = {"GET": "read", "HEAD": "read", "OPTIONS": "read", "DELETE": "delete"}
"""Whose limits a method has; all others write."""

LONGEST_ERRAND = 100.0
"""Seconds; who may have to wait longer for an answer does so in a task, which has a time limit of its own."""


class Pool:
    """The connections of one client, which is told *options*."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._idle: dict[tuple[bool, str, int], list[tuple[float, HttpConnection]]] = {}
        self._reaping = False
        self.limits = Limits(
            options.response_hdr_max_size, options.response_hdr_max_field_size, options.response_hdr_max_fields
        )
        """Of the heads of responses."""
        self.dialer = Dialer(options, self.limits)
        kinds = ("read", "write", "delete")
        self._patience: dict[str, tuple[int, float]] = {
            kind: (
                getattr(options, f"{kind}_request_max_attempts") or options.request_max_attempts,
                getattr(options, f"{kind}_request_timeout") or options.request_timeout,
            )
            for kind in kinds
        }
        patience = {seconds for _, seconds in self._patience.values()}
        self._simple = (
            len(patience) == 1
            and max(patience) <= LONGEST_ERRAND
            and not (self.dialer.proxied or options.request_absolute_timeout)
            and not (options.rawlog_dir or options.max_parallel_connections)
        )
        """Its requests have one time limit, and go where they say."""
        self._turns: dict[tuple[bool, str, int], trio.Semaphore] = {}
        self._waiting: deque[tuple[float, Exchange]] = deque()
        self._alarm = trio.CancelScope()
        self._usual: tuple[bool, str, int, str | None, int] | None = None
        """Where the last request without headers or payload of its own went, and in which second."""
        self._usual_headers = b""

    def patience(self, method: str) -> tuple[int, float]:
        """How often a request is sent at most, and how many seconds each time may take."""
        return self._patience[_KINDS.get(method, "write")]

    # -- connections

    def turn(self, url: Url) -> AbstractAsyncContextManager[Any]:
        """The right to have a connection to where *url* is."""
        most = self.options.max_parallel_connections
        if not most:
            return nullcontext()
        turns = self._turns.get(url[:3])
        if turns is None:
            turns = self._turns[url[:3]] = trio.Semaphore(most)
        return turns

    async def connection(self, url: Url, patience: float) -> HttpConnection:
        """An idle connection to where *url* is, or a new one."""
        while (connection := self.take(url)) is not None:
            if connection.quiet:
                connection.leave_to(None)
                return connection
            connection.close()
        attempts = max(1, self.options.max_connect_attempts)
        pause = self.options.connect_backoff_time
        while True:
            attempts -= 1
            try:
                return await self.dialer.connect(url, patience)
            except GivenUp as failure:
                if failure.status != NO_CONNECTION or attempts == 0:
                    raise
            await trio.sleep(pause)
            pause = min(pause * 2, self.options.connect_backoff_max_time)

    def has_idle(self, url: Url) -> bool:
        """Whether a request to *url* may be an `Exchange`."""
        return self._simple and not url.secure and bool(self._idle.get(url[:3]))

    def take(self, url: Url) -> HttpConnection | None:
        """The connection to where *url* is that was used last."""
        idle = self._idle.get(url[:3])
        while idle:
            _, connection = idle.pop()
            if not connection.closed:
                return connection
        return None

    def keep(self, url: Url, connection: HttpConnection) -> None:
        """Have *connection* for a later request."""
        deadline = trio.current_time() + (self.options.max_idle_time or IDLE_TIME)
        connection.used = True
        place = attached.get(None)
        connection.leave_to(place and place.watcher)
        idle = self._idle.get(url[:3])
        if idle is None:
            idle = self._idle[url[:3]] = []
        idle.append((deadline, connection))
        self._look_at(deadline)

    def wait_for(self, exchange: "Exchange") -> None:
        """See to it that *exchange* is told when its time is up."""
        waiting = self._waiting
        while waiting and waiting[0][1].over:
            waiting.popleft()
        waiting.append((exchange.deadline, exchange))
        self._look_at(exchange.deadline)

    def _look_at(self, deadline: float) -> None:
        """Look at *deadline* who has waited, or was idle, for too long."""
        if not self._reaping:
            self._reaping = True
            self._alarm = trio.CancelScope(deadline=deadline)
            trio.lowlevel.spawn_system_task(self._reap)
        elif deadline < self._alarm.deadline:
            self._alarm.deadline = deadline

    async def _reap(self) -> None:
        """End what has waited for too long; at the end of the event loop, all."""
        try:
            while self._reaping:
                with self._alarm:
                    await trio.sleep_forever()
                deadline = self._end_overdue(trio.current_time())
                self._reaping = deadline < float("inf")
                self._alarm = trio.CancelScope(deadline=deadline)
        finally:
            self._reaping = False
            for idle in self._idle.values():
                for _, connection in idle:
                    connection.end()
            self._idle.clear()

    def _end_overdue(self, now: float) -> float:
        """End what is overdue; when to look again."""
        for idle in self._idle.values():
            while idle and (idle[0][0] <= now or idle[0][1].closed):
                idle.pop(0)[1].close()
        waiting = self._waiting
        while waiting and (waiting[0][0] <= now or waiting[0][1].over):
            _, exchange = waiting.popleft()
            if exchange.over:
                continue
            if exchange.deadline > now:  # more of its answer came meanwhile
                waiting.append((exchange.deadline, exchange))
            else:
                exchange.timed_out()
        deadlines = [idle[0][0] for idle in self._idle.values() if idle]
        if waiting:
            deadlines.append(waiting[0][0])
        return min(deadlines, default=float("inf"))

    # -- what requests say

    def head(self, request: Request) -> bytes:
        """All of *request* but its payload. Raises `BadRequest`.

        Only the first line of most requests is another than that of the last.
        """
        line = encode_line(request.method, request.url.target)
        if request.payload is not None or request.headers or request.method not in ("GET", "HEAD"):
            return line + encode_headers(self.headers(request))
        url = request.url
        usual = (url.secure, url.host, url.port, url.userinfo, int(time()))
        if self._usual != usual:
            self._usual_headers = encode_headers(self.headers(request))
            self._usual = usual
        return line + self._usual_headers

    def headers(self, request: Request, *, expecting: bool = False) -> list[Header]:
        """What Dovecot sends, in its order; then what the script added."""
        url, payload = request.url, request.payload
        ours: list[Header] = [("Host", url.authority), ("Date", http_date(int(time())))]
        if url.userinfo is not None:
            ours.append(("Authorization", basic(url.userinfo)))
        to_proxy = self.dialer.to_proxy(url)
        if to_proxy:
            ours += self.dialer.proxy_headers()
        if self.options.user_agent:
            ours.append(("User-Agent", self.options.user_agent))
        if expecting:
            ours.append(("Expect", "100-continue"))
        if payload is not None or request.method in ("POST", "PUT"):
            ours.append(("Content-Length", str(len(payload or b""))))
        if not to_proxy:
            ours.append(("Connection", "Keep-Alive"))
        if not request.headers:
            return ours
        theirs = {name.lower() for name, _ in request.headers}
        return [one for one in ours if one[0].lower() not in theirs] + list(request.headers)
