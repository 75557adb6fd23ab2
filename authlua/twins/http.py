"""The common case of an HTTP request in one go: connect, send, wait for the answer.

What ``socket.http`` does step by step costs a call of Python for each step, which is more than the steps do. So a
plain request is sent and its answer awaited here; whatever is unusual about the answer is left in the socket's buffer
for the steps to find.
"""

import re
from collections.abc import Callable
from typing import Any

from authlua.twins.operations import READ, Steps, Waits, begin
from authlua.twins.sockets import TIMEOUT, Answer, Sockets, Tcp, error_text, wait

_HEAD = re.compile(rb"(HTTP/[^\n]*)\n((?:[^\r\n][^\n]*\n)*)\r?\n")
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*(\d{1,7})\r?\n(?!.*\ncontent-length:)", re.IGNORECASE | re.DOTALL)


class Http:
    """What ``socket.http`` calls."""

    def __init__(self, waits: Waits, sockets: Sockets) -> None:
        self._waits = waits
        self._sockets = sockets

    def functions(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"http_exchange": self.exchange}

    def exchange(self, host: bytes, port: bytes, timeout: float, data: bytes, wants_body: bool) -> Answer:
        """Send *data* and wait for the head of the answer.

        Results are a `Tcp`; what is wrong with the answer so far (``timeout``), or `None`; the status line and the
        lines of the fields, `None` when the steps have to find out; and the body if it is wanted and of known length,
        in which case the connection is closed. Without a connection they are `None` and why.
        """
        return begin(self._exchange(host, port, timeout, data, wants_body), self._waits)

    def _exchange(self, host: bytes, port: bytes, timeout: float, data: bytes, wants_body: bool) -> Steps:
        tcp = Tcp(0)
        tcp.set_timeout(timeout, False)
        deadline = tcp.deadline
        try:
            found = yield from self._sockets.find(host, port, 0)
        except OSError as error:
            return None, error_text(error)
        ok, *problem = yield from tcp.connect(found, deadline)
        if ok is None:
            tcp.close()
            return None, *problem
        ok, *problem = yield from tcp.send(data, 0, tcp.deadline)
        if ok is None:
            tcp.close()
            return None, problem[0]
        deadline = tcp.deadline
        if tcp.sock is not None:
            yield from wait(tcp.sock, READ, deadline)  # it cannot be there yet
        while (head := _HEAD.match(tcp.buffer)) is None:
            trouble = yield from tcp.more(deadline)
            if trouble is not None:
                return tcp, trouble if trouble == TIMEOUT else None
        status, fields, end = head[1].rstrip(b"\r"), head[2].replace(b"\r", b""), head.end()
        length = _LENGTH.search(b"\n" + head[2]) if wants_body and b"ransfer-" not in fields else None
        if length is None or not status.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
            del tcp.buffer[:end]
            return tcp, None, status, fields
        whole = end + int(length[1])
        while len(tcp.buffer) < whole:
            if (yield from tcp.more(deadline)) is not None:
                del tcp.buffer[:end]
                return tcp, None, status, fields
        body = bytes(tcp.buffer[end:whole])
        tcp.close()
        return tcp, None, status, fields, body
