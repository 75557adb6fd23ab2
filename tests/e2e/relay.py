"""The mail server that Dovecot's submission service hands mail on to: takes everything, delivers nothing."""

import contextlib
import socketserver
import threading
from collections.abc import Iterator


class Session(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as a submission service needs."""

    def handle(self) -> None:
        self.wfile.write(b"220 relay.example.org ESMTP\r\n")
        while line := self.rfile.readline():
            match line.strip().upper().partition(b" ")[0]:
                case b"EHLO" | b"HELO" | b"LHLO":
                    self.wfile.write(b"250 relay.example.org\r\n")
                case b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = list(iter(self.rfile.readline, b".\r\n"))
                    assert isinstance(self.server, Relay)
                    self.server.mails.append(b"".join(lines))
                    self.wfile.write(b"250 taken\r\n")
                case b"QUIT":
                    self.wfile.write(b"221 bye\r\n")
                    return
                case _:
                    self.wfile.write(b"250 fine\r\n")


class Relay(socketserver.ThreadingTCPServer):
    """Listens on a free port; `mails` holds what came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Session)
        self.mails: list[bytes] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])


@contextlib.contextmanager
def relaying() -> Iterator[Relay]:
    """A relay in a thread."""
    with Relay() as relay:
        thread = threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield relay
        finally:
            relay.shutdown()
            thread.join()
