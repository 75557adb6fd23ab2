"""Redis: commands go out as they come, on one connection to each server, and replies come back in that order.

The bytes are hiredis's business, a kept-up binding of the reference code without any I/O; waiting is trio's. One
connection serves all who ask, so a command costs no connection and no task of its own, and those of many callers
share system calls. Commands that change what a connection means (``SUBSCRIBE``, ``WATCH``, blocking ones) are
therefore not for here; ``MULTI`` up to its ``EXEC`` is, when it is sent in one go.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import trio

from authlua.errors import Unreachable
from authlua.services.errands import wait_for
from authlua.services.reasons import reason
from authlua.urls import RedisUrl, parse_redis_url
from authlua.wishes import Errand, Outcome

if TYPE_CHECKING:
    import hiredis

TIMEOUT = 30.0
"""Seconds until a server that is silent is given up, as in Dovecot's dict-redis."""

Word = bytes | str | int
Reply = Any
"""bytes, int, `None`, a list of these, or `RedisError`."""


class RedisError(Exception):
    """Redis refused a command, in its words. It comes as a reply, for the others of its batch have theirs."""


class _Asked:
    """A batch of commands that was sent, and who is to hear of it."""

    __slots__ = ("count", "replies", "report")

    def __init__(self, count: int, report: Callable[[Outcome], None]) -> None:
        self.count = count
        self.replies: list[Reply] = []
        self.report: Callable[[Outcome], None] | None = report
        """`None` when nobody waits any more; the replies have to be counted all the same."""


class Redis:
    """A server, and the connection to it while there is one; made anew by the next command when it broke.

    Args:
        timeout: seconds without a word while replies are due, after which the connection is given up.
        batch_done: called when all replies of one read have been reported.
    """

    def __init__(
        self, server: RedisUrl, *, timeout: float = TIMEOUT, batch_done: Callable[[], None] = lambda: None
    ) -> None:
        self._server = server
        self._timeout = timeout
        self._batch_done = batch_done
        self._asked: deque[_Asked] = deque()
        self._unsent: list[bytes] = []
        self._running = False
        self._more = trio.Event()
        self._patience = trio.CancelScope()

    # -- asking

    def send(self, commands: Sequence[Sequence[Word]], report: Callable[[Outcome], None]) -> _Asked:
        """Send *commands* together; *report* hears their replies as a list, or the `Unreachable` that kept them."""
        packed = [_packed(command) for command in commands]
        asked = _Asked(len(commands), report)
        if not self._asked:
            self._patience.deadline = trio.current_time() + self._timeout
        self._asked.append(asked)
        self._unsent += packed
        if self._running:
            self._more.set()
        else:
            self._running = True
            self._patience = trio.CancelScope(deadline=trio.current_time() + self._timeout)
            trio.lowlevel.spawn_system_task(self._run)
        return asked

    def ask(self, *commands: Sequence[Word]) -> "Question":
        """A wish for the replies to *commands*, which takes no task to wait for."""
        return Question(self, commands)

    def tell(self, *commands: Sequence[Word]) -> None:
        """Send *commands* and do not wait; that they fail is for others to find out."""
        self.send(commands, lambda outcome: None)

    # -- the connection

    async def _run(self) -> None:
        """Connect, talk until it breaks, and tell all who wait why; never raises."""
        reason = "the event loop ended"
        try:
            with self._patience as patience:
                reason = await self._talk()
            if patience.cancelled_caught:
                reason = f"no answer within {self._timeout:g} s"
        finally:
            self._running = False
            self._unsent.clear()
            failure = Unreachable(f"Redis at {self._server.place}: {reason}")
            while self._asked:
                report = self._asked.popleft().report
                if report is not None:
                    report(Outcome(failure=failure))
            self._batch_done()

    async def _talk(self) -> str:
        """Why there is no connection any more."""
        import hiredis

        try:
            stream = await self._connect()
        except OSError as error:
            return f"connect failed: {reason(error)}"
        except trio.BrokenResourceError as error:
            return f"TLS failed: {reason(error)}"
        reader = hiredis.Reader()
        ended: list[str] = []
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, stream, ended, nursery.cancel_scope)
                ended.append(await self._read(stream, reader))
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True, deadline=0):
                await trio.aclose_forcefully(stream)
        return ended[0]

    async def _connect(self) -> trio.abc.Stream:
        """A connection on which nothing has been said. Raises `OSError` or, over TLS, `trio.BrokenResourceError`."""
        server = self._server
        stream: trio.abc.Stream
        if server.path:
            stream = await trio.open_unix_socket(server.path)
        else:
            stream = await trio.open_tcp_stream(server.host, server.port)
        if server.secure:
            from authlua.services.tls import trusting

            stream = trio.SSLStream(stream, trusting(), server_hostname=server.host)
            try:
                await stream.do_handshake()
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
        return stream

    def _entrance(self) -> list[tuple[str | int, ...]]:
        """What has to be said before anything else."""
        server = self._server
        commands: list[tuple[str | int, ...]] = []
        if server.user:
            commands.append(("AUTH", server.user, server.password))
        elif server.password:
            commands.append(("AUTH", server.password))
        if server.db:
            commands.append(("SELECT", server.db))
        return commands

    async def _write(self, stream: trio.abc.Stream, ended: list[str], scope: trio.CancelScope) -> None:
        entrance = b"".join(map(_packed, self._entrance()))
        self._unsent.insert(0, entrance)
        try:
            while True:
                data = b"".join(self._unsent)
                self._unsent.clear()
                self._more = trio.Event()
                if data:
                    await stream.send_all(data)
                else:
                    await self._more.wait()
        except trio.BrokenResourceError as error:
            ended.append(f"connection lost: {reason(error)}")
            scope.cancel()

    async def _read(self, stream: trio.abc.Stream, reader: "hiredis.Reader") -> str:
        """Hand out replies until there is a reason to stop."""
        import hiredis

        entering = len(self._entrance())
        while True:
            try:
                data = await stream.receive_some(65536)
                if not data:
                    return "connection lost: the server closed it"
                reader.feed(bytes(data))
                while (reply := reader.gets(False)) is not False:
                    if entering:
                        entering -= 1
                        if isinstance(reply, hiredis.ReplyError):
                            return f"not let in: {reply}"
                    elif not self._asked:
                        return "it answered what nobody asked"
                    else:
                        self._heard(reply)
            except trio.BrokenResourceError as error:
                return f"connection lost: {reason(error)}"
            except hiredis.ProtocolError as error:
                return f"it does not speak Redis: {error}"
            waiting = bool(self._asked)
            self._patience.deadline = trio.current_time() + self._timeout if waiting else float("inf")
            self._batch_done()

    def _heard(self, reply: Any) -> None:
        asked = self._asked[0]
        asked.replies.append(_plain(reply))
        if len(asked.replies) == asked.count:
            self._asked.popleft()
            if asked.report is not None:
                asked.report(Outcome(asked.replies))


def _packed(command: Sequence[Word]) -> bytes:
    import hiredis

    packed: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type]  # its stub knows tuples of one only
    return packed


def _plain(reply: Any) -> Reply:
    """*reply* without hiredis's own types."""
    if isinstance(reply, list):
        return [_plain(one) for one in reply]
    return RedisError(str(reply)) if isinstance(reply, Exception) else reply


class Question(Errand):
    """Commands on their way; ``await`` gives their replies or raises `Unreachable`."""

    __slots__ = ("_asked", "_commands", "_redis")

    def __init__(self, redis: Redis, commands: Sequence[Sequence[Word]]) -> None:
        self._redis = redis
        self._commands = commands
        self._asked: _Asked | None = None

    def start(self, report: Callable[[Outcome], None]) -> None:
        self._asked = self._redis.send(self._commands, report)

    def cancel(self) -> None:
        if self._asked is not None:
            self._asked.report = None


_servers: trio.lowlevel.RunVar[dict[str, Redis] | None] = trio.lowlevel.RunVar("authlua redis servers")


def server(url: str) -> Redis:
    """The server at *url* as scripts share it; raises `ValueError` with what is wrong with the URL."""
    servers = _servers.get(None)
    if servers is None:
        servers = {}
        _servers.set(servers)
    if url not in servers:
        servers[url] = Redis(parse_redis_url(url))
    return servers[url]


async def submit(url: str, *commands: Sequence[Word]) -> tuple[list[Reply], str]:
    """The replies to *commands*, and why there are none. What Redis refused is a tuple of its words."""
    try:
        replies = await wait_for(server(url).ask(*commands))
    except (Unreachable, ValueError) as error:
        return [], str(error)
    except ImportError:
        return [], 'Redis needs the Python package hiredis: install "authlua[redis]"'
    return [_sendable(reply) for reply in replies], ""


def _sendable(reply: Reply) -> Any:
    """*reply* as it may travel between processes."""
    if isinstance(reply, list):
        return [_sendable(one) for one in reply]
    return (str(reply),) if isinstance(reply, RedisError) else reply
