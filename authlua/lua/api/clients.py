"""The Python side of ``dict.lua``, ``dns.lua`` and ``doveadm.lua``: settings, and the wishes for answers.

These are objects that Dovecot's C code gives to scripts other than those of passdb and userdb (lua-api.md section 8).
Their methods and texts are Dovecot's; how a script gets one, ``dovecot.dict{…}`` and so on, is ours, with the names of
2.4's settings.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from authlua.lua.api.settings import read_number, read_switch, read_time
from authlua.lua.calls import Calls, Refusal
from authlua.lua.conversion import lua_string, text
from authlua.wishes import Service

# -- settings


def _read_port(said: str) -> int:
    number = read_number(said)
    if not 0 < number < 65536:
        raise ValueError(f"Invalid port number {said}")
    return number


def _one_of(*words: str) -> Callable[[str], str]:
    def read(said: str) -> str:
        if said not in words:
            raise ValueError(f"expected one of {', '.join(words)}")
        return said

    return read


_TABLES: Mapping[str, Mapping[str, Callable[[str], Any]]] = {
    "dict file": {"path": str, "lock_method": _one_of("dotlock", "fcntl", "flock")},
    "dict redis": {
        "host": str,
        "port": _read_port,
        "socket_path": str,
        "key_prefix": str,
        "password": str,
        "db_id": read_number,
        "expire": read_time,
        "request_timeout": read_time,
    },
    "dns": {"timeout": read_time},
    "doveadm": {
        "socket_path": str,
        "host": str,
        "port": _read_port,
        "username": str,
        "password": str,
        "ssl": _one_of("no", "yes", "starttls"),
        "ssl_client_ca_file": str,
        "ssl_client_require_valid_cert": read_switch,
        "timeout": read_time,
    },
}
"""What each object may be told, and how that is read."""


def _settings(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a *kind* of object; raises `Refusal`."""
    known = _TABLES[kind]
    read = {}
    for name, value in given.items():
        if name not in known:
            raise Refusal(f"Invalid {kind} setting: {name} is unknown setting")
        if isinstance(value, bool):
            value = ("no", "yes")[value]
        elif isinstance(value, bytes):
            value = text(value)
        elif not isinstance(value, str | int | float):
            raise Refusal(f"Invalid {kind} setting: {name}: string expected")
        try:
            read[name] = known[name](str(value))
        except ValueError as error:
            raise Refusal(f"Invalid {kind} setting: {name}={value}: {error}") from error
    return read


def _dict_settings(given: dict[str, Any]) -> dict[str, Any]:
    driver = given.pop("driver", b"")
    driver = text(driver) if isinstance(driver, bytes) else str(driver)
    if driver not in ("file", "redis"):
        raise Refusal(f"Unknown dict module: {driver}" if driver else "dict_driver is required")
    settings = _settings(f"dict {driver}", given)
    if driver == "file" and not settings.get("path"):
        raise Refusal("dict file: dict_file_path is required")
    return {"driver": driver, **settings}


def _dict_uri(uri: str) -> dict[str, Any]:
    """2.3's way to name a dict: ``file:PATH[:lock=METHOD]``, ``redis:NAME=VALUE:…``."""
    driver, colon, rest = uri.partition(":")
    if not colon:
        raise Refusal(f"Dictionary URI is missing ':': {uri}")
    if driver == "file":
        path, _, parameter = rest.partition(":")
        lock = parameter.removeprefix("lock=")
        if parameter and (lock == parameter or lock not in ("fcntl", "flock")):
            raise Refusal(f"dict file: Invalid parameter: {parameter}")
        return _dict_settings({"driver": "file", "path": path, **({"lock_method": lock} if lock else {})})
    if driver != "redis":
        raise Refusal(f"Unknown dict module: {driver}")
    names = {"path": "socket_path", "host": "host", "port": "port", "prefix": "key_prefix", "password": "password"}
    units = {"db": ("db_id", ""), "expire_secs": ("expire", " secs"), "timeout_msecs": ("request_timeout", " msecs")}
    given: dict[str, Any] = {"driver": "redis"}
    for word in rest.split(":"):
        name, equals, value = word.partition("=")
        setting, unit = units.get(name, (names.get(name), ""))
        if not equals or setting is None:
            raise Refusal(f"dict redis: Unknown parameter: {word}")
        given[setting] = value + unit
    return _dict_settings(given)


def _doveadm_settings(given: dict[str, Any]) -> dict[str, Any]:
    settings = _settings("doveadm", given)
    if not settings.get("socket_path") and not (settings.get("host") and settings.get("port")):
        raise Refusal("Invalid doveadm setting: expected a socket_path, or a host and a port")
    return settings


_MAKERS: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "dict": _dict_settings,
    "dns_client": lambda given: _settings("dns", given),
    "doveadm_client": _doveadm_settings,
}


# -- questions and answers


def _dict_question(settings: bytes, operation: bytes, *arguments: Any) -> Service:
    words = [text(one) if isinstance(one, bytes) else one for one in arguments]
    if operation == b"commit":
        user, seconds, *changes = words
        pairs = [
            (key, None if value is False else value) for key, value in zip(changes[::2], changes[1::2], strict=True)
        ]
        words = [user, seconds, pairs]
    return Service("dict", (settings, operation.decode(), *words))


def _dict_answer(calls: Calls, answer: tuple[str, list[str]]) -> tuple[Any, ...]:
    """`True` and a table of what was found, or `False` and the problem."""
    problem, found = answer
    return (False, lua_string(problem)) if problem else (True, calls.table([lua_string(word) for word in found]))


def _dns_question(settings: bytes, host: bytes) -> Service:
    return Service("dns", (text(host), json.loads(settings).get("timeout", 10.0)))


def _dns_answer(calls: Calls, answer: tuple[str, int, list[str]]) -> tuple[Any, ...]:
    """A table, or nil, the problem and its code."""
    problem, code, addresses = answer
    return (None, lua_string(problem), code) if problem else (calls.table([one.encode() for one in addresses]),)


def _doveadm_question(settings: bytes, proxy_ttl: int, count: int, *words: bytes) -> Service:
    said = [text(word) for word in words]
    return Service("doveadm", (settings, said[:count], proxy_ttl, said[count:]))


def _doveadm_answer(calls: Calls, answer: tuple[int, str]) -> tuple[Any, ...]:
    code, problem = answer
    return code, lua_string(problem) if code else None


_KINDS: Mapping[str, tuple[Callable[..., Service], Callable[..., tuple[Any, ...]]]] = {
    "dict": (_dict_question, _dict_answer),
    "dns": (_dns_question, _dns_answer),
    "doveadm": (_doveadm_question, _doveadm_answer),
    "sleep": (lambda seconds: Service("sleep", (float(seconds),)), lambda calls, answer: ()),
}
"""For each kind of wish: what is asked, and what the script gets to hear."""


def _wish(kind: str) -> Callable[..., Awaitable[tuple[Any, ...]]]:
    question, told = _KINDS[kind]

    async def fulfil(calls: Calls, call: int, *arguments: Any) -> tuple[Any, ...]:
        return told(calls, await question(*arguments))

    return fulfil


WISHES = {kind.encode(): _wish(kind) for kind in _KINDS}


def callbacks(calls: Calls) -> Mapping[str, Callable[..., Any]]:
    """What the Lua files find in their ``host``."""

    def client(kind: bytes, *pairs: Any) -> bytes:
        given = dict(zip(map(text, pairs[::2]), pairs[1::2], strict=True))
        return json.dumps(_MAKERS[kind.decode()](given), sort_keys=True).encode()

    def now(kind: bytes, *arguments: Any) -> tuple[Any, ...]:
        if calls.options.now is None:
            raise Refusal(f"{kind.decode()} is not available here")
        question, told = _KINDS[kind.decode()]
        return (True, *told(calls, calls.options.now(question(*arguments))))

    return {
        "client": client,
        "client_now": now,
        "dict_uri": lambda uri: json.dumps(_dict_uri(text(uri)), sort_keys=True).encode(),
    }
