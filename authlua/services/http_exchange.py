"""An HTTP request as an errand: on a connection that is there already, it costs a call to write and one to read.

What turns out to be more than a question and an answer goes on in a task (`http_submission`).
"""

from collections.abc import Callable

import trio

from authlua.services.errands import Attached
from authlua.services.http_codec import BadRequest, BadResponse, ResponseReader
from authlua.services.http_connection import HttpConnection
from authlua.services.http_messages import (
    ABORTED,
    BAD_RESPONSE,
    BAD_STATUS,
    REPEATABLE,
    TIMED_OUT,
    Answer,
    Lost,
    Request,
    answered,
    cut_off,
    given_up,
    too_slow,
)
from authlua.services.http_pool import Pool
from authlua.services.http_submission import Submission
from authlua.wishes import Errand, Outcome


class Exchange(Errand):
    """A request on an idle connection, up to its answer."""

    __slots__ = (
        "_connection",
        "_place",
        "_pool",
        "_queued",
        "_report",
        "_request",
        "_response",
        "_scope",
        "_timeout",
        "deadline",
    )

    def __init__(self, pool: Pool, request: Request, place: Attached) -> None:
        self._pool = pool
        self._request = request
        self._place = place
        self._response: ResponseReader
        self._report: Callable[[Outcome], None] | None = None
        self._connection: HttpConnection | None = None
        self._scope: trio.CancelScope | None = None
        self._queued = trio.current_time()
        _, self._timeout = pool.patience(request.method)
        self.deadline = 0.0

    @property
    def over(self) -> bool:
        """It does not wait on its connection any more."""
        return self._connection is None

    def start(self, report: Callable[[Outcome], None]) -> None:
        self._report = report
        request, pool = self._request, self._pool
        try:
            data = pool.head(request)
        except BadRequest as error:
            self._tell(given_up(ABORTED, f"Request cannot be sent: {error}"))
            return
        connection = pool.take(request.url)
        # only what may be repeated is sent without a look whether the server is still there
        if connection is not None:
            alive = request.method in REPEATABLE or connection.quiet
            if alive and connection.send_now(data + request.payload if request.payload else data):
                self._response = ResponseReader(pool.limits, bodyless=request.method == "HEAD")
                self._connection, connection.exchange = connection, self
                self.deadline = trio.current_time() + self._timeout
                pool.wait_for(self)
                return
            connection.close()
        self._go_on(None)

    def cancel(self) -> None:
        self._report = None
        if self._connection is not None:
            self._leave().close()
        if self._scope is not None:
            self._scope.cancel()

    def received(self, data: bytes) -> None:
        """Some of the answer, or the end of the connection."""
        response, url = self._response, self._request.url
        if not data:
            if response.end():
                self._answered("")
            elif response.status:
                self._answered(cut_off(url, response, "EOF"))
            else:
                self._lost(f"read({url.place}) failed: EOF")
            return
        try:
            response.feed(data)
        except BadResponse as error:
            if response.status:
                self._answered(cut_off(url, response, str(error)))
            else:
                self._leave().close()
                self._tell(given_up(BAD_RESPONSE, str(error)))
            return
        if response.complete:
            self._answered("")
        elif response.status:
            self.deadline = trio.current_time() + self._timeout

    def broken(self, error: OSError) -> None:
        """The connection ended in another way."""
        url = self._request.url
        if self._response.status:
            self._answered(cut_off(url, self._response, str(error)))
        else:
            self._lost(f"{url.place}: {error}")

    def timed_out(self) -> None:
        """The server has been silent for too long."""
        self._leave().close()
        now = trio.current_time()
        if self._response.status:
            self._tell(answered(self._response, too_slow(self._timeout, self._response)))
            return
        waited = f"Request queued {now - self._queued:.3f} secs ago, 1 send attempts in {now - self._queued:.3f} secs"
        self._tell(given_up(TIMED_OUT, f"Request timed out ({waited})"))

    def _leave(self) -> HttpConnection:
        connection = self._connection
        assert connection is not None, "it waits"
        self._connection = connection.exchange = None
        return connection

    def _answered(self, problem: str) -> None:
        response, connection = self._response, self._leave()
        if response.reusable and not problem and response.status != 408:
            self._pool.keep(self._request.url, connection)
        else:
            connection.close()
        if response.status > 599:
            self._tell(given_up(BAD_RESPONSE, BAD_STATUS))
            return
        answer = answered(response, problem)
        if 300 <= answer.status < 400 or answer.status in (408, 503):
            self._go_on(answer)
        else:
            self._tell(answer)

    def _lost(self, why: str) -> None:
        self._leave().close()
        self._go_on(None if self._request.method in REPEATABLE else Lost(why))

    def _tell(self, answer: Answer) -> None:
        report, self._report = self._report, None
        if report is not None:
            report(Outcome(tuple(answer)))
            self._place.batch_done()

    def _go_on(self, first: Answer | Lost | None) -> None:
        self._scope = trio.CancelScope()
        trio.lowlevel.spawn_system_task(self._in_a_task, first)

    async def _in_a_task(self, first: Answer | Lost | None) -> None:
        assert self._scope is not None, "it was made before the task"
        with self._scope:
            self._tell(await Submission(self._pool, self._request, self._queued).answer(first))
