"""The Python side of ``http.lua``: options, URLs, and the wish for an answer."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from authlua.lua.api import settings
from authlua.lua.calls import Calls, Refusal
from authlua.lua.conversion import c_string, lua_string, text
from authlua.urls import parse_url
from authlua.wishes import Service

# -- options ------------------------------------------------------------------------------------------------------

_SECONDS, _MILLISECONDS, _NUMBER, _SWITCH, _NOT, _TEXT, _TIME, _SIZE, _EVENT = range(9)

_2_3: Mapping[str, tuple[str, int]] = {
    "user_agent": ("user_agent", _TEXT),
    "rawlog_dir": ("rawlog_dir", _TEXT),
    "max_idle_time_msecs": ("max_idle_time", _MILLISECONDS),
    "no_auto_redirect": ("auto_redirect", _NOT),
    "no_auto_retry": ("auto_retry", _NOT),
    "max_redirects": ("request_max_redirects", _NUMBER),
    "max_attempts": ("request_max_attempts", _NUMBER),
    "max_connect_attempts": ("max_connect_attempts", _NUMBER),
    "connect_backoff_time_msecs": ("connect_backoff_time", _MILLISECONDS),
    "connect_backoff_max_time_msecs": ("connect_backoff_max_time", _MILLISECONDS),
    "request_absolute_timeout_msecs": ("request_absolute_timeout", _MILLISECONDS),
    "request_timeout_msecs": ("request_timeout", _MILLISECONDS),
    "connect_timeout_msecs": ("connect_timeout", _MILLISECONDS),
    "soft_connect_timeout_msecs": ("soft_connect_timeout", _MILLISECONDS),
    "max_auto_retry_delay_secs": ("max_auto_retry_delay", _SECONDS),
    "debug": ("", _SWITCH),
    "proxy_url": ("proxy_url", _TEXT),
    "event_parent": ("", _EVENT),
}
"""2.3's option → the service's, and what it takes; those with an empty name are ``http.lua``'s business."""

_2_4: Mapping[str, int] = {
    **dict.fromkeys(("auto_redirect", "auto_retry", "proxy_ssl_tunnel"), _SWITCH),
    **dict.fromkeys(
        (
            "request_max_redirects",
            "request_max_attempts",
            "read_request_max_attempts",
            "write_request_max_attempts",
            "delete_request_max_attempts",
            "max_connect_attempts",
            "max_parallel_connections",
            "max_pipelined_requests",
            "response_hdr_max_fields",
        ),
        _NUMBER,
    ),
    **dict.fromkeys(
        (
            "max_idle_time",
            "connect_backoff_time",
            "connect_backoff_max_time",
            "request_absolute_timeout",
            "request_timeout",
            "read_request_timeout",
            "write_request_timeout",
            "delete_request_timeout",
            "connect_timeout",
            "soft_connect_timeout",
            "max_auto_retry_delay",
            "dns_client_timeout",
            "dns_ttl",
        ),
        _TIME,
    ),
    **dict.fromkeys(
        ("response_hdr_max_size", "response_hdr_max_field_size", "socket_send_buffer_size", "socket_recv_buffer_size"),
        _SIZE,
    ),
    **dict.fromkeys(
        (
            "user_agent",
            "rawlog_dir",
            "proxy_url",
            "proxy_socket_path",
            "proxy_username",
            "proxy_password",
            "dns_client_socket_path",
            "ssl_client_ca_file",
            "ssl_client_ca_dir",
            "ssl_client_cert_file",
            "ssl_client_key_file",
            "ssl_client_key_password",
            "ssl_cipher_list",
            "ssl_cipher_suites",
            "ssl_curve_list",
            "ssl_min_protocol",
            "ssl_options",
            "ssl_crypto_device",
            "ssl_peer_certificate_fingerprint_hash",
        ),
        _TEXT,
    ),
    "ssl_client_require_valid_cert": _SWITCH,
    "event_parent": _EVENT,
}

_WITHOUT_EFFECT = {
    "max_pipelined_requests",
    "ssl_crypto_device",
    "ssl_peer_certificate_fingerprint_hash",
}
"""Taken, and nothing here depends on them; docs/differences.md says so."""

_DEFAULTS_2_4 = {
    "response_hdr_max_size": 200 << 10,
    "response_hdr_max_field_size": 8 << 10,
    "response_hdr_max_fields": 50,
}
"""What 2.3 has no option for, and no limit (``core:2.4.4:src/lib-http/http-client-settings.c``)."""


def _options_2_3(given: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Raises `Refusal` with 2.3's text. Names it does not know do not count."""
    options: dict[str, Any] = {}
    for name, (option, kind) in _2_3.items():
        if name not in given:
            continue
        lua_type, value = given[name]
        if kind == _TEXT:
            if lua_type != "string":
                raise Refusal(f"Invalid HTTP client setting: {name}: string expected")
            value = text(value)
        elif kind in (_SWITCH, _NOT):
            if lua_type != "boolean":
                raise Refusal(f"Invalid HTTP client setting: {name}: boolean expected")
            value = value is (kind == _SWITCH)
        elif kind == _EVENT:
            if lua_type != "table":
                raise Refusal(f"Bad argument #-1, expected struct event got {lua_type}")
        else:
            if lua_type != "number" or value != value or value % 1 or not 0 <= value < settings.UNSIGNED:
                raise Refusal(f"Invalid HTTP client setting: {name}: non-negative number expected")
            value = value / 1000 if kind == _MILLISECONDS else int(value)
        if option:
            options[option] = value
    if "proxy_url" in options:
        try:
            parse_url(options["proxy_url"])
        except ValueError as error:
            raise Refusal(f"Invalid HTTP client setting: proxy_url is invalid: {error}") from error
    return options


def _options_2_4(given: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Raises `Refusal` with 2.4's text."""
    options: dict[str, Any] = {**_DEFAULTS_2_4}
    for name, (lua_type, value) in given.items():
        kind = _2_4.get(name)
        if kind is None:
            raise Refusal(f"Invalid HTTP client setting: {name} is unknown setting")
        if kind == _EVENT:
            continue
        if lua_type not in ("string", "number", "boolean"):
            raise Refusal(f"Invalid HTTP client setting: {name}: string expected")  # 2.4.1 crashes
        said = text(value) if lua_type == "string" else ("no", "yes")[value] if lua_type == "boolean" else str(value)
        try:
            read = _READ[kind](said)
        except ValueError as error:
            setting = name if name.startswith(("ssl_", "dns_client_")) else f"http_client_{name}"
            raise Refusal(
                "Invalid HTTP client setting: http_client settings: Failed to parse configuration: "
                f"Failed to override configuration from hardcoded: Invalid {setting}={said}: {error}"
            ) from error
        if name not in _WITHOUT_EFFECT:
            options[name] = read
        if not read and name in ("request_timeout", "max_parallel_connections", "max_pipelined_requests"):
            setting = f"{name}_msecs" if kind == _TIME else name
            raise Refusal(
                "Invalid HTTP client setting: http_client settings: "
                f"Invalid settings: http_client_{setting} must not be 0"
            )
    if options.get("proxy_url"):
        try:
            if parse_url(options["proxy_url"]).userinfo is not None:
                raise ValueError("HTTP URL does not allow `userinfo@' part")
        except ValueError as error:
            raise Refusal(
                "Invalid HTTP client setting: http_client settings: "
                f"Invalid settings: Invalid http_client_proxy_url: {error}"
            ) from error
    return options


_READ: Mapping[int, Callable[[str], Any]] = {
    _TEXT: str,
    _SWITCH: settings.read_switch,
    _NUMBER: settings.read_number,
    _TIME: settings.read_time,
    _SIZE: settings.read_size,
}


# -- what Lua calls -----------------------------------------------------------------------------------------------


def callbacks(calls: Calls) -> Mapping[str, Callable[..., Any]]:
    """What ``http.lua`` finds in its ``host``."""
    read = _options_2_4 if calls.rules.is_2_4 else _options_2_3

    def http_client(*triples: Any) -> bytes:
        given = {
            text(name): (kind.decode(), value)
            for name, kind, value in zip(triples[::3], triples[1::3], triples[2::3], strict=True)
        }
        return json.dumps(read(given), sort_keys=True).encode()

    def http_url(url: bytes) -> bool:
        try:
            parse_url(text(url))
        except ValueError as error:
            problem = str(error)
            if not calls.rules.is_2_4:
                problem = re.sub("(invalid character) .*", r"\1", problem)
            raise Refusal(f"Failed to parse url {text(url)}: {problem}") from error
        return True

    def http_submit_now(call: int | None, *arguments: Any) -> tuple[Any, ...]:
        if calls.options.now is None:
            raise Refusal("http is not available here")
        return _told(calls, call, calls.options.now(_service(*arguments)))

    return {"http_client": http_client, "http_url": http_url, "http_submit_now": http_submit_now}


async def http_submit(calls: Calls, call: int, *arguments: Any) -> tuple[Any, ...]:
    """Fulfil the wish of a ``request:submit``."""
    return _told(calls, call, await _service(*arguments))


def _service(
    options: bytes, method: bytes, url: bytes, payload: bytes | None, expect: bool, headers: bytes, *number: int
) -> Service:
    payload = None if payload is None else c_string(payload)
    return Service("http", (options, c_string(method), lua_string(text(url)), payload, expect, headers, *number))


def _told(calls: Calls, call: int | None, answer: tuple[Any, ...]) -> tuple[Any, ...]:
    *told, problem, notes = answer
    if problem:
        request = None if call is None else calls.requests.get(call)
        calls.log("error", f"http: {problem}", request, {})
    if notes:
        told.append(calls.table([_lua_note(calls, *note) for note in notes]))
    return tuple(told)


def _lua_note(calls: Calls, level: str, message: str, name: str, fields: tuple[str | int, ...]) -> Any:
    words = [level, message, name, *fields]
    return calls.table([lua_string(word) if isinstance(word, str) else word for word in words])
