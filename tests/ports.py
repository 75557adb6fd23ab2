"""Ports of 127.0.0.1 for what tests start."""

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

RANGE = range(20000, 32768)
"""Below those the system gives to whoever asks for any, so that nobody gets one by chance before its server has it."""

_claims: list[socket.socket] = []


def free_port() -> int:
    """A port that nobody has, and that no test gets again while this process lives, whichever process runs it."""
    while True:
        port = random.choice(RANGE)
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0authlua-tests-port-{port}")  # a name without a file, which goes with this process
            with socket.create_server(("127.0.0.1", port)):
                _claims.append(claim)
                return port
        except OSError:
            claim.close()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections for the length of the block: it is taken, and nobody listens there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
