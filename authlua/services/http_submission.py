"""An HTTP request on its way to its answer, in a task: it is tried again, redirected and given up as Dovecot's are.

(``core:2.3.21.1:src/lib-http/http-client-request.c``; texts as seen on 2.3.19.1 and 2.4.1.)
"""

import trio

from authlua.services.http_codec import BadRequest, BadResponse, ResponseReader, encode_request
from authlua.services.http_connection import HttpConnection
from authlua.services.http_messages import (
    ABORTED,
    BAD_REDIRECT,
    BAD_RESPONSE,
    BAD_STATUS,
    LOST,
    REPEATABLE,
    TIMED_OUT,
    Answer,
    GivenUp,
    Lost,
    Note,
    Request,
    answered,
    cut_off,
    field,
    given_up,
    retry_after,
    too_slow,
)
from authlua.services.http_pool import Pool
from authlua.urls import parse_url

CONTINUE_TIMEOUT = 2.0
"""Seconds to wait for ``100 Continue`` before the payload is sent all the same."""


async def submit(pool: Pool, request: Request) -> Answer:
    """Send *request*, again if need be, to wherever it is redirected."""
    queued = trio.current_time()
    submission = Submission(pool, request, queued)
    absolute = pool.options.request_absolute_timeout
    if not absolute:
        return await submission.answer()
    with trio.move_on_at(queued + absolute):
        return await submission.answer()
    waited = trio.current_time() - queued
    reason = f"Absolute request timeout expired (Request queued {waited:.3f} secs ago)"
    return submission.ended(given_up(TIMED_OUT, reason))


class Submission:
    """One request on its way to its answer.

    Args:
        queued: when it was first wanted.
    """

    def __init__(self, pool: Pool, request: Request, queued: float) -> None:
        self._pool = pool
        self._options = pool.options
        self._request = request
        self._queued = queued
        self._sent = queued
        self._attempts = 0
        self._redirects = 0
        self._max_attempts, self._timeout = pool.patience(request.method)
        self._notes: list[Note] = []
        self._label = ""
        if request.number:
            self._label = f"[Req{request.number}: {request.method} {request.url.shown}]"
        self._asked = queued
        """When it was sent the last time."""
        self._bytes_in = self._bytes_out = 0
        self._seen = False
        """The head of the answer has been noted."""

    async def answer(self, first: Answer | Lost | None = None) -> Answer:
        """Its answer, of which *first* is what came of the first attempt if that was made elsewhere."""
        try:
            return self.ended(await self._run(first))
        except GivenUp as end:
            return self.ended(given_up(end.status, end.reason))

    def ended(self, answer: Answer) -> Answer:
        """*answer* with what is to be logged about it."""
        text = (
            "Finished"
            if answer.status < ABORTED
            else f"Error: {answer.status} {answer.reason.decode('utf-8', 'replace')}"
        )
        self._note(text, "http_request_finished", answer.status)
        return answer._replace(notes=tuple(map(tuple, self._notes))) if self._notes else answer

    def _note(self, text: str, name: str = "", status: int = 0, *, again: int = 0) -> None:
        """Note an event for those who want to know; with a *name* it tells what there is to count.

        Args:
            again: 1 when another attempt follows.
        """
        request = self._request
        if not request.number:
            return
        url = request.url
        fields: list[str | int] = ["method", request.method, "dest_host", url.host, "dest_port", url.port]
        fields += ["target", url.shown_target]
        if name:
            fields += ["status_code", status, "attempts", self._attempts - 1 + again, "redirects", self._redirects]
            fields += ["net_in_bytes", self._bytes_in, "net_out_bytes", self._bytes_out]
        self._notes.append(Note("debug", f"request {self._label}: {text}", name, tuple(fields)))

    async def _run(self, first: Answer | Lost | None) -> Answer:
        self._note("Submitted")
        while True:
            self._attempts += 1
            made, first = first, None
            try:
                answer = await self._exchange() if made is None else _unwrapped(made)
            except Lost as lost:
                if self._options.auto_retry and self._may_retry:
                    self._note_retry(LOST)
                    await self._pause()
                    continue
                raise GivenUp(LOST, f"Connection lost: {lost} ({self._statistics})") from lost
            if answer.status < 300:
                return self._told(answer)
            location = field(answer, "location")
            if self._options.auto_redirect and 300 <= answer.status < 400 and answer.status != 304 and location:
                self._redirect(answer.status, location)
                self._attempts -= 1
            elif self._options.auto_retry and self._may_retry and answer.status == 408:
                self._note_retry(answer.status)
            elif (
                self._options.auto_retry
                and self._may_retry
                and answer.status == 503
                and (delay := retry_after(answer)) > 0
                and delay <= (self._options.max_auto_retry_delay or self._timeout)
            ):
                await trio.sleep(delay)
                self._note_retry(answer.status)
            else:
                return self._told(answer)

    def _note_response(self, response: ResponseReader) -> None:
        """Note the head of *response*, once it is there."""
        if self._request.number and response.status and not self._seen:
            self._seen = True
            reason = response.reason.decode("utf-8", "replace")
            took, queued = (
                1000 * seconds for seconds in (trio.current_time() - self._asked, self._asked - self._queued)
            )
            times = f"took {took:.0f} ms + {queued:.0f} ms in queue"
            self._note(f"Got {response.status} response: {reason} ({times})")

    def _note_retry(self, status: int) -> None:
        self._note(f"Retrying (attempts={self._attempts})", "http_request_retried", status, again=1)

    @property
    def _may_retry(self) -> bool:
        return not self._max_attempts or self._attempts < self._max_attempts

    async def _pause(self) -> None:
        if not self._max_attempts:  # for ever, yet not at full speed
            await trio.sleep(self._options.connect_backoff_time)

    @property
    def _statistics(self) -> str:
        now = trio.current_time()
        return (
            f"Request queued {now - self._queued:.3f} secs ago, "
            f"{self._attempts} send attempts in {now - self._sent:.3f} secs"
        )

    def _told(self, answer: Answer) -> Answer:
        """*answer* with the number of retries in its reason, as Dovecot has it."""
        if self._attempts == 1:
            return answer
        took = trio.current_time() - self._sent
        return answer._replace(reason=answer.reason + f" ({self._attempts - 1} retries in {took:.3f} secs)".encode())

    def _redirect(self, status: int, location: str) -> None:
        try:
            url = parse_url(location)
        except ValueError as error:
            raise GivenUp(BAD_REDIRECT, f"Invalid redirect location: {error}") from error
        self._redirects += 1
        limit = self._options.request_max_redirects
        if self._redirects > limit:
            raise GivenUp(BAD_REDIRECT, f"Redirected more than {limit} times" if limit else "Redirect refused")
        self._note(f"Redirecting to {url.shown} (redirects={self._redirects})", "http_request_redirected", status)
        request = self._request._replace(url=url)
        if status == 303 and request.method not in ("GET", "HEAD"):
            request = request._replace(method="GET", payload=None)
        if (url.secure, url.host, url.port) != self._request.url[:3]:
            # what was meant for one host is not told another
            private = ("host", "authorization", "cookie")
            request = request._replace(headers=[one for one in request.headers if one[0].lower() not in private])
        self._request = request

    # -- one attempt

    async def _exchange(self) -> Answer:
        async with self._pool.turn(self._request.url):
            return await self._exchange_now()

    async def _exchange_now(self) -> Answer:
        request = self._request
        if self._attempts == 1:
            self._sent = trio.current_time()
        again = True
        while again:
            connection = await self._pool.connection(request.url, self._timeout)
            try:
                response, problem = await self._ask(connection, request)
                again = False
            except Lost:
                connection.close()
                # whether the server had seen the request is not known, so only what may be repeated is
                if not connection.used or request.method not in REPEATABLE:
                    raise
                self._note("Resubmitting request")
            except BaseException:
                connection.close()
                raise
            finally:
                self._notes += connection.problems()
        if response.reusable and not (problem or connection.owing or response.status == 408):
            self._pool.keep(request.url, connection)
        else:
            connection.close()
        return answered(response, problem)

    async def _ask(self, connection: HttpConnection, request: Request) -> tuple[ResponseReader, str]:
        """What comes back for *request*, and what is wrong with its payload."""
        expecting = request.expect and bool(request.payload)
        target = request.url.target
        if self._pool.dialer.to_proxy(request.url):
            target = request.url.origin + target
        try:
            data = encode_request(request.method, target, self._pool.headers(request, expecting=expecting))
        except BadRequest as error:
            raise GivenUp(ABORTED, f"Request cannot be sent: {error}") from error
        if request.payload and not expecting:
            data += request.payload
        response = ResponseReader(self._pool.limits, bodyless=request.method == "HEAD")
        self._asked = trio.current_time()
        self._bytes_in, self._bytes_out, self._seen = 0, len(data), False
        with trio.CancelScope(deadline=self._asked + self._timeout) as scope:
            try:
                await connection.send(data)
                self._note("Sent header")
                if expecting:
                    await self._continue(connection, response)
                elif request.payload:
                    self._note("Finished sending payload")
                return response, await self._receive(connection, response, scope)
            except BadResponse as error:
                raise GivenUp(BAD_RESPONSE, str(error)) from error
            except (OSError, trio.BrokenResourceError) as error:
                if not response.status:
                    raise Lost(f"{request.url.place}: {error.__cause__ or error}") from error
                return response, cut_off(request.url, response, str(error.__cause__ or error))
        if not response.status:
            raise GivenUp(TIMED_OUT, f"Request timed out ({self._statistics})")
        return response, too_slow(self._timeout, response)

    async def _receive(self, connection: HttpConnection, response: ResponseReader, scope: trio.CancelScope) -> str:
        """Take in the rest of *response*; what is wrong with its payload."""
        self._note_response(response)
        while not response.complete:
            data = await connection.receive()
            self._bytes_in += len(data)
            if not data:
                if response.end():
                    return ""
                if not response.status:
                    raise Lost(f"read({self._request.url.place}) failed: EOF")
                return cut_off(self._request.url, response, "EOF")
            try:
                response.feed(data)
            except BadResponse as error:
                if not response.status:
                    raise
                return cut_off(self._request.url, response, str(error))
            if response.status:
                self._note_response(response)
                scope.deadline = trio.current_time() + self._timeout
        if response.status > 599:
            raise GivenUp(BAD_RESPONSE, BAD_STATUS)
        return ""

    async def _continue(self, connection: HttpConnection, response: ResponseReader) -> None:
        """Send the payload once the server wants it, or says nothing; not when it has answered already."""
        self._note("Waiting for 100-continue")
        with trio.move_on_after(CONTINUE_TIMEOUT):
            while not (response.continued or response.status):
                data = await connection.receive()
                if not data:
                    raise Lost(f"read({self._request.url.place}) failed: EOF")
                self._bytes_in += len(data)
                response.feed(data)
        if response.status:
            connection.owing = True
            return
        if response.continued:
            self._note("Got expected 100-continue response")
        else:
            self._note("Expected 100-continue response timed out; sending payload anyway")
        payload = self._request.payload or b""
        await connection.send(payload)
        self._bytes_out += len(payload)
        self._note("Finished sending payload")


def _unwrapped(first: Answer | Lost) -> Answer:
    if isinstance(first, Lost):
        raise first
    return first
