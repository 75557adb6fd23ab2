"""Dicts for scripts: Dovecot's drivers ``file`` and ``redis``, with its keys, so that each finds what the other wrote.

The rules are Dovecot's (``core:2.4.4:src/lib-dict/dict-redis.c``). What went wrong is part of an answer.
"""

import json
from pathlib import Path
from typing import Any

import trio

from authlua.errors import Unreachable
from authlua.services import dict_file
from authlua.services.dict_file import Change
from authlua.services.errands import wait_for
from authlua.services.redis_client import Redis, RedisError, Reply, Word
from authlua.urls import RedisUrl

UNSUPPORTED = "Unsupported operation (dict does not support this feature)"


async def submit(settings: bytes, operation: str, *arguments: Any) -> tuple[str, list[str]]:
    """What went wrong, and what was found.

    Args:
        settings: a JSON object with a ``driver`` and its settings, named as in 2.4 without the driver's prefix.
        operation: ``lookup`` (key, user), ``iterate`` (path, flags, user) or ``commit`` (user, seconds, changes).
    """
    dicts = _dicts.get(None)
    if dicts is None:
        dicts = {}
        _dicts.set(dicts)
    if settings not in dicts:
        given = json.loads(settings)
        dicts[settings] = {"file": _FileDict, "redis": _RedisDict}[given.pop("driver")](**given)
    try:
        return "", await getattr(dicts[settings], operation)(*arguments)
    except Unreachable as error:
        return str(error), []
    except ImportError:
        return 'the driver redis needs the Python package hiredis: install "authlua[redis]"', []


class _FileDict:
    """Dovecot leaves it to the path whose the keys below ``priv/`` are."""

    def __init__(self, path: str, lock_method: str = "dotlock") -> None:
        self._path = Path(path)
        self._lock_method = lock_method

    async def lookup(self, key: str, user: str) -> list[str]:
        found = await trio.to_thread.run_sync(dict_file.lookup, self._path, key)
        return [] if found is None else [found]

    async def iterate(self, path: str, flags: int, user: str) -> list[str]:
        pairs = await trio.to_thread.run_sync(dict_file.iterate, self._path, path, flags)
        return [word for pair in pairs for word in pair]

    async def commit(self, user: str, seconds: int, changes: list[Change]) -> list[str]:
        if seconds > 0:
            raise Unreachable("Expiration not supported by dict driver")
        if changes:
            await trio.to_thread.run_sync(dict_file.commit, self._path, changes, self._lock_method)
        return []


class _RedisDict:
    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 6379,
        socket_path: str = "",
        key_prefix: str = "",
        password: str = "",
        db_id: int = 0,
        expire: float = 0,
        request_timeout: float = 30.0,
    ) -> None:
        place = RedisUrl(False, "" if socket_path else host, port, socket_path, "", password, db_id)
        self._redis = Redis(place, timeout=request_timeout)
        self._prefix = key_prefix
        self._expire = round(expire)

    def _key(self, key: str, user: str) -> bytes:
        if key.startswith("shared/"):
            return _bytes(self._prefix + key[7:])
        if "/" in user:
            user = user.replace("\\", "\\\\").replace("/", "\\-")
        return _bytes(f"{self._prefix}{user}/{key[5:]}")

    async def lookup(self, key: str, user: str) -> list[str]:
        (found,) = await self._ask(("GET", self._key(key, user)))
        return [] if found is None else [found.decode("utf-8", "surrogateescape")]

    async def iterate(self, path: str, flags: int, user: str) -> list[str]:
        raise Unreachable(UNSUPPORTED)

    async def commit(self, user: str, seconds: int, changes: list[Change]) -> list[str]:
        commands: list[tuple[Word, ...]] = []
        seconds = seconds or self._expire
        for key, value in changes:
            name = self._key(key, user)
            if value is None:
                commands.append(("DEL", name))
                continue
            commands.append(("SET", name, _bytes(value)))
            if seconds > 0:
                commands.append(("EXPIRE", name, seconds))
        if commands:
            await self._ask(("MULTI",), *commands, ("EXEC",))
        return []

    async def _ask(self, *commands: tuple[Word, ...]) -> list[Reply]:
        replies: list[Reply] = await wait_for(self._redis.ask(*commands))
        results = replies[-1] if isinstance(replies[-1], list) else []
        for reply in (*replies, *results):
            if isinstance(reply, RedisError):
                raise Unreachable(f"redis: {reply}")
        return replies


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


_dicts: trio.lowlevel.RunVar[dict[bytes, _FileDict | _RedisDict] | None] = trio.lowlevel.RunVar("authlua dicts")
