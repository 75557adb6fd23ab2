"""What scripts get from this package: `TABLE` and `GREETINGS`, named in its pyproject.toml."""

import ipaddress
import socket
from pathlib import Path
from typing import Any

from authlua.lua import Refusal
from authlua.wishes import Compute, Sleep


def shout(text: str) -> str:
    """A plain function: values in, a value out."""
    return text.upper()


def split(address: str) -> tuple[str, str]:
    """A tuple is several results."""
    local, _, domain = address.partition("@")
    return local, domain


def network(address: str) -> str:
    """`Refusal` is an error that the script can catch."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError as error:
        raise Refusal(f"network: {error}") from error
    return "loopback" if parsed.is_loopback else "private" if parsed.is_private else "public"


def count(words: dict[int, str]) -> dict[str, Any]:
    """Tables come as dicts and go as tables."""
    return {"words": list(words.values()), "characters": sum(map(len, words.values()))}


async def resolve(host: str) -> str:
    """A function that waits: the thread does, and neither the server nor the worker."""
    found: str = await Compute(socket.gethostbyname, host)
    return found


async def pause(seconds: float) -> None:
    """Waiting itself."""
    await Sleep(seconds)


def broken() -> None:
    """A bug: the script's call fails temporarily, and the traceback is in the log."""
    raise RuntimeError("a bug of the package")


TABLE = {
    "version": "1.0",
    "limits": {"most": 3, "names": ["a", "b"]},
    "shout": shout,
    "split": split,
    "network": network,
    "count": count,
    "resolve": resolve,
    "pause": pause,
    "broken": broken,
}

GREETINGS = Path(__file__).with_name("greetings.lua")
