"""Host names for scripts, asked of the system's resolver, or of Dovecot's ``dns-client`` service."""

import re
import socket

import trio

from authlua.protocol import escape

_LONGEST = 65536
"""Bytes that the service may say; thousands of addresses."""


async def submit(host: str, patience: float, socket_path: str = "") -> tuple[str, int, list[str]]:
    """The problem and its ``EAI_…`` code, or the addresses of *host*, of both families, in the resolver's order.

    Args:
        patience: seconds; 0: as long as the resolver takes.
        socket_path: where the ``dns-client`` service listens; empty: the system's resolver is asked.
    """
    with trio.move_on_after(patience or float("inf")):
        try:
            return await (_ask(socket_path, host) if socket_path else _look_up(host))
        except socket.gaierror as error:
            return error.strerror or "Unknown error", error.errno or socket.EAI_FAIL, []
        except (OSError, UnicodeError) as error:
            return str(error), socket.EAI_FAIL, []
    return f"Lookup timed out in {patience:.3f} secs", socket.EAI_FAIL, []


async def _look_up(host: str) -> tuple[str, int, list[str]]:
    found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    addresses = [str(address[0]).partition("%")[0] for _, _, _, _, address in found]
    return "", 0, list(dict.fromkeys(addresses))


async def _ask(path: str, host: str) -> tuple[str, int, list[str]]:
    """One question in the service's protocol (``core:2.4.4:src/lib-dns-client/dns-lookup.c``)."""
    try:
        stream = await trio.open_unix_socket(path)
    except OSError as error:
        return f"Failed to connect to {path}: {error.strerror or error}", socket.EAI_FAIL, []
    said = b""
    async with stream:
        try:
            await stream.send_all(f"VERSION\tdns-client\t1\t0\nIP\t{escape(host)}\n".encode())
            while said.count(b"\n") < 2:  # its version, and the answer
                more = await stream.receive_some()
                if not more or len(said) > _LONGEST:
                    return f"{path} disconnected", socket.EAI_FAIL, []
                said += more
        except trio.BrokenResourceError as error:
            return f"{path} disconnected: {error.__cause__}", socket.EAI_FAIL, []
    code, *words = said.decode().split("\n")[1].split("\t")
    if code == "0":
        return "", 0, words
    known = re.fullmatch("-?[0-9]{1,9}", code)
    return words[0] if words else "Unknown error", int(code) if known else socket.EAI_FAIL, []
