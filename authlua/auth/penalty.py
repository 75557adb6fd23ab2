"""The penalty: who fails again and again has to wait before being heard, by address.

Numbers are Dovecot's (``core:2.3.21.1:src/auth/auth-penalty.c``, ``src/anvil/penalty.c``).
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from socket import AF_INET6, inet_pton
from typing import Protocol

from authlua.errors import Unreachable
from authlua.request import AuthRequest
from authlua.secret import Secret, fingerprint
from authlua.wishes import Wish

WAITS = (0.0, 4.0, 8.0, 15.0, 15.0)
"""Seconds that a request waits, by the penalty of its address."""

DECAY = 15.0
"""Seconds after its last increase at which a penalty is over."""

REMEMBERED = 10
"""Wrong logins of an address that do not count again when repeated."""

MAX_ADDRESSES = 100_000

_LEVEL, _ATTEMPTS = b"authlua:penalty:", b"authlua:attempts:"
"""Keys in the shared state, in front of the network."""

_FAILED = f"""
if ARGV[2] then
  for _, attempt in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
    if attempt == ARGV[2] then return 0 end
  end
  redis.call('RPUSH', KEYS[2], ARGV[2])
  redis.call('LTRIM', KEYS[2], -{REMEMBERED}, -1)
  redis.call('EXPIRE', KEYS[2], {2 * DECAY:.0f})
end
local level = tonumber(redis.call('GET', KEYS[1]) or 0) or 0
if level < tonumber(ARGV[1]) then level = ARGV[1] end
redis.call('SET', KEYS[1], level, 'EX', {DECAY:.0f})
return 1
"""
"""`Penalty.failed` where several servers count, done in one go there; keys end by themselves."""

_MAPPED = bytes(10) + b"\xff\xff"


class _Record:
    __slots__ = ("attempts", "level", "since")

    def __init__(self) -> None:
        self.level = 0
        self.since = 0.0
        self.attempts: deque[bytes] = deque(maxlen=REMEMBERED)


class Shared(Protocol):
    """A Redis that several servers use."""

    def ask(self, *commands: Sequence[bytes | str | int]) -> Wish | None:
        """A wish for the replies to *commands*, that raises `Unreachable`; `None` while nobody would answer."""

    def tell(self, *commands: Sequence[bytes | str | int]) -> None:
        """Send *commands* and do not wait."""


class Penalty:
    """How often each address failed lately; an IPv6 network of /48 counts as one address.

    Args:
        clock: seconds from anywhere, never going back.
        shared: where other servers' failures are known too. What this server sees itself it knows in any case, and
            that is what counts while the other does not answer.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, shared: Shared | None = None) -> None:
        self._clock = clock
        self._records: dict[str | bytes, _Record] = {}
        self.shared = shared

    async def shared_level(self, ip: str) -> int:
        """The penalty of *ip* at all servers."""
        question = None if self.shared is None else self.shared.ask(("GET", _LEVEL + _key(ip)))
        if question is None:
            return self.level(ip)
        try:
            (level,) = await question
        except Unreachable:
            return self.level(ip)
        return min(int(level), len(WAITS) - 1) if level and level.isdigit() else 0

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
        if self.shared is not None:
            counted = min(level + 1, len(WAITS) - 1)
            keys = (_LEVEL + _key(ip), _ATTEMPTS + _key(ip))
            self.shared.tell(("EVAL", _FAILED, 2, *keys, counted, *_few_bits(request)))
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
        if self.shared is not None:
            self.shared.tell(("DEL", _LEVEL + _key(ip), _ATTEMPTS + _key(ip)))
        if self._records:
            self._records.pop(_network(ip), None)

    def _is_over(self, record: _Record, now: float) -> bool:
        return now - record.since >= 2 * DECAY or len(self._records) >= MAX_ADDRESSES

    def __len__(self) -> int:
        return len(self._records)


def _key(ip: str) -> bytes:
    network = _network(ip)
    return network.encode() if isinstance(network, str) else network.hex(":", 2).encode()


def _few_bits(request: AuthRequest) -> list[str]:
    """What tells the password and user of *request* from others, mostly; empty when there is no password.

    Twelve bits, as of what the policy server is told: who reads them learns next to nothing of what people type.
    """
    if request.password is None:
        return []
    attempt = f"{request.user}\0".encode("utf-8", "surrogateescape") + request.password.reveal()
    return [hashlib.sha256(attempt).hexdigest()[:3]]


@lru_cache(maxsize=4096)
def _network(ip: str) -> str | bytes:
    if ":" not in ip:
        return ip
    address = inet_pton(AF_INET6, ip)
    # an IPv4 address in IPv6 dress is one address, not a part of a network that all of them share
    return ".".join(map(str, address[12:])) if address.startswith(_MAPPED) else address[:6]
