"""The penalty: who fails again and again has to wait before being heard, by address.

Numbers are Dovecot's (``core:2.3.21.1:src/auth/auth-penalty.c``, ``src/anvil/penalty.c``).
"""

import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from socket import AF_INET6, inet_pton

from authlua.request import AuthRequest
from authlua.secret import Secret, fingerprint

WAITS = (0.0, 4.0, 8.0, 15.0, 15.0)
"""Seconds that a request waits, by the penalty of its address."""

DECAY = 15.0
"""Seconds after its last increase at which a penalty is over."""

REMEMBERED = 10
"""Wrong logins of an address that do not count again when repeated."""

MAX_ADDRESSES = 100_000

_MAPPED = bytes(10) + b"\xff\xff"


class _Record:
    __slots__ = ("attempts", "level", "since")

    def __init__(self) -> None:
        self.level = 0
        self.since = 0.0
        self.attempts: deque[bytes] = deque(maxlen=REMEMBERED)


class Penalty:
    """How often each address failed lately; an IPv6 network of /48 counts as one address.

    Args:
        clock: seconds from anywhere, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: dict[str | bytes, _Record] = {}

    def level(self, ip: str) -> int:
        """The penalty of *ip*: an index into `WAITS`."""
        if not self._records:
            return 0
        record = self._records.get(_network(ip))
        return 0 if record is None or self._clock() - record.since >= DECAY else record.level

    def failed(self, ip: str, level: int, request: AuthRequest) -> None:
        """*request*, which came when the penalty was *level*, was refused.

        Who mistypes, or whose program keeps trying the same wrong password, is not guessing: a repeated pair of user
        and password adds nothing.
        """
        now = self._clock()
        network = _network(ip)
        record = self._records.pop(network, None)
        if record is None:
            record = _Record()
            while self._records and self._is_over(next(iter(self._records.values())), now):
                del self._records[next(iter(self._records))]
        elif now - record.since >= DECAY:
            record.level = 0
        self._records[network] = record
        if request.password is not None:
            attempt = fingerprint(
                Secret(f"{request.user}\0".encode("utf-8", "surrogateescape") + request.password.reveal())
            )
            if attempt in record.attempts:
                return
            record.attempts.append(attempt)
        record.level = max(record.level, min(level + 1, len(WAITS) - 1))
        record.since = now

    def succeeded(self, ip: str) -> None:
        """Somebody logged in from *ip*."""
        if self._records:
            self._records.pop(_network(ip), None)

    def _is_over(self, record: _Record, now: float) -> bool:
        return now - record.since >= 2 * DECAY or len(self._records) >= MAX_ADDRESSES

    def __len__(self) -> int:
        return len(self._records)


@lru_cache(maxsize=4096)
def _network(ip: str) -> str | bytes:
    if ":" not in ip:
        return ip
    address = inet_pton(AF_INET6, ip)
    # an IPv4 address in IPv6 dress is one address, not a part of a network that all of them share
    return ".".join(map(str, address[12:])) if address.startswith(_MAPPED) else address[:6]
