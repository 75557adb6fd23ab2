"""Commands for Dovecot's doveadm service: its own protocol, in the version that 2.3 and 2.4 both speak.

(``core:2.4.1:src/lib-doveadm/doveadm-client.c``.) What a command prints is read and dropped, as Dovecot's client
object for scripts does it; its exit code and the error are the answer.
"""

import json
from base64 import b64encode
from collections.abc import Sequence
from typing import NamedTuple

import trio

from authlua.errors import Unreachable
from authlua.protocol import escape
from authlua.services.reasons import reason
from authlua.services.tls import trusting

VERSION = b"VERSION\tdoveadm-server\t1\t3\n"
"""The service's word for its client; 1.4 frames what is sent in another way."""

MULTIPLEX, STARTTLS, EXTRA_FIELDS = 1, 2, 3
"""The minor versions from which a server knows these."""

DISCONNECTED = 1000
"""The exit code when the service does not answer (``DOVEADM_CLIENT_EXIT_CODE_DISCONNECTED``)."""

UNKNOWN, REFERRAL = -1, 1002

EXIT_CODES = {
    "TEMPFAIL": 75,
    "USAGE": 64,
    "NOUSER": 67,
    "NOPERM": 77,
    "PROTOCOL": 76,
    "DATAERR": 65,
    "CHANGED": 2,
    "REFERRAL": REFERRAL,
    "NOTFOUND": 68,
    "EXPIRED": 1003,
}
"""The words in which the service tells how a command ended (``core:2.4.4:src/lib-doveadm/doveadm-protocol.c``)."""

CONNECT_TIMEOUT = 30.0
"""Seconds."""

MAX_LINE = 32 << 10
"""Bytes that a line of the service may have, but for what a command prints, which is not kept."""


class Options(NamedTuple):
    """Where the service is, and what it wants to hear first."""

    socket_path: str = ""
    host: str = ""
    port: int = 0
    username: str = "doveadm"
    password: str = ""
    ssl: str = "no"
    """``no``, ``yes``, ``starttls``."""
    ssl_client_ca_file: str = ""
    ssl_client_require_valid_cert: bool = True
    timeout: float = 0
    """Seconds that a command may take; 0: as long as it likes."""

    def __repr__(self) -> str:
        return f"<doveadm at {self.place}>"

    @property
    def place(self) -> str:
        """What logs call it."""
        return self.socket_path or f"{self.host}:{self.port}"


async def submit(settings: bytes, words: Sequence[str], proxy_ttl: int, forward: Sequence[str]) -> tuple[int, str]:
    """The exit code of a command, and the error.

    Args:
        settings: a JSON object with the names of `Options`.
        words: doveadm's flags, the user, the command, its arguments.
        forward: fields for a proxy, each ``key=value``.
    """
    options = Options(**json.loads(settings))
    with trio.move_on_after(options.timeout or float("inf")):
        try:
            async with _Service(options) as service:
                return await service.run(words, proxy_ttl, forward)
        except (Unreachable, OSError, trio.BrokenResourceError) as error:
            return DISCONNECTED, str(error.__cause__ or error)
    return DISCONNECTED, f"{options.place}: no answer in {options.timeout:.3f} secs"


class _Service:
    """One connection, for one command."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._stream: trio.abc.Stream
        self._data = b""
        self._minor = 0
        self._multiplexed = False
        self._packets = b""
        self._channel = self._left = 0
        """Of the packet that is coming: whose it is, and how many bytes are still to come."""

    async def __aenter__(self) -> "_Service":
        options = self._options
        with trio.move_on_after(CONNECT_TIMEOUT) as scope:
            try:
                if options.socket_path:
                    self._stream = await trio.open_unix_socket(options.socket_path)
                else:
                    self._stream = await trio.open_tcp_stream(options.host, options.port)
            except OSError as error:
                raise Unreachable(f"connect({options.place}) failed: {reason(error)}") from None
        if scope.cancelled_caught:
            raise Unreachable(f"connect({options.place}) failed: Connection timed out")
        return self

    async def __aexit__(self, *_: object) -> None:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)

    async def run(self, words: Sequence[str], proxy_ttl: int, forward: Sequence[str]) -> tuple[int, str]:
        """Say who we are, then the command; how it ended."""
        await self._enter()
        line = "\t".join(map(escape, words))
        if self._minor >= EXTRA_FIELDS:
            flags, _, rest = line.partition("\t")
            extra = "\t".join([f"proxy-ttl={proxy_ttl}", *(f"forward={escape(field)}" for field in forward)])
            line = f"{flags}x\t{escape(extra)}\t{rest}"
        await self._stream.send_all(line.encode("utf-8", "surrogateescape") + b"\n")
        await self._skip_line()  # what it printed
        reply = (await self._line()).decode("utf-8", "surrogateescape")
        if reply.startswith("+"):
            return 0, ""
        if not reply.startswith("-"):
            raise Unreachable(f"doveadm server sent broken input (expected cmd reply): {reply}")
        code, _, arguments = reply[1:].partition(" ")
        number = EXIT_CODES.get(code, UNKNOWN)
        return number, arguments if number == REFERRAL else reply[1:]

    async def _enter(self) -> None:
        """The handshake: versions, TLS, a password unless the socket lets us in."""
        options = self._options
        if options.ssl == "yes":
            await self._encrypt()
        await self._stream.send_all(VERSION)
        told = False
        while True:
            line = await self._line()
            if line.startswith(b"VERSION\t"):
                name, major, minor = [*line.split(b"\t")[1:], b"", b""][:3]
                if (name, major) != (b"doveadm-client", b"1") or not minor.isdigit():
                    raise Unreachable("doveadm server not compatible with this client (mixed old and new binaries?)")
                self._minor = int(minor)
            elif line == b"+":
                self._multiplexed = self._minor >= MULTIPLEX
                if self._multiplexed:
                    self._data = self._unpacked(self._data)
                return
            elif line == b"-" and told:
                raise Unreachable("doveadm authentication failed")
            elif line == b"-":
                if options.ssl == "starttls":
                    if self._minor < STARTTLS:
                        raise Unreachable("doveadm STARTTLS failed: Server does not support it")
                    await self._stream.send_all(b"STARTTLS\n")
                    if self._data:  # in clear: whoever is in between may have said it
                        raise Unreachable("doveadm STARTTLS failed: Server went on without TLS")
                    await self._encrypt()
                if not options.password:
                    raise Unreachable("doveadm_password not set, can't authenticate to remote server")
                secret = b64encode(f"\0{options.username}\0{options.password}".encode("utf-8", "surrogateescape"))
                await self._stream.send_all(b"PLAIN\t" + secret + b"\n")
                told = True
            else:
                raise Unreachable("doveadm server sent invalid handshake")

    async def _encrypt(self) -> None:
        options = self._options
        try:
            context = trusting(options.ssl_client_ca_file, anybody=not options.ssl_client_require_valid_cert)
        except OSError as error:
            raise Unreachable(f"Couldn't initialize SSL client: {error}") from error
        stream = trio.SSLStream(self._stream, context, server_hostname=options.host or None)
        await stream.do_handshake()
        self._stream = stream

    async def _line(self) -> bytes:
        while b"\n" not in self._data:
            if len(self._data) > MAX_LINE:
                raise Unreachable("doveadm server sent a line without end")
            self._data += await self._receive()
        line, _, self._data = self._data.partition(b"\n")
        return line

    async def _skip_line(self) -> None:
        while b"\n" not in self._data:
            self._data = await self._receive()
        _, _, self._data = self._data.partition(b"\n")

    async def _receive(self) -> bytes:
        """Some of what it says to us; perhaps nothing yet."""
        got = bytes(await self._stream.receive_some(65536))
        if not got:
            raise Unreachable(f"doveadm server {self._options.place} disconnected")
        return self._unpacked(got) if self._multiplexed else got

    def _unpacked(self, data: bytes) -> bytes:
        """Ours of *data*, which is packets: a channel, four bytes of length, what is in it. 0 is ours, L its log."""
        data = self._packets + data
        ours, at = [], 0
        while at < len(data):
            if self._left == 0:
                if len(data) < at + 5:
                    break
                self._channel, self._left = data[at], int.from_bytes(data[at + 1 : at + 5], "big")
                at += 5
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            if self._channel == 0:
                ours.append(piece)
        self._packets = data[at:]
        return b"".join(ours)
