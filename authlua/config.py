"""The configuration: TOML text in, one frozen `Settings` out.

The dataclasses below are the one table of keys: each names its kind, its default and what a reload does to it.
Reading goes defaults → file → validation, and every problem is found before anything is reported, as one
`ConfigError`. `toml_text` prints the effective result in the same words.

Key names in ``[auth]``, ``[[passdb]]`` and ``[[userdb]]`` are Dovecot's, without ``auth_``, ``passdb_``, ``userdb_``
(``core:2.3.21.1:src/auth/auth-settings.c``); defaults are Dovecot's too. Nothing described here is opened here.
"""

# ruff: noqa: RUF009 (key() is how a dataclass field is made here)

import dataclasses
import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from authlua.dialect import Dialect
from authlua.errors import ConfigError
from authlua.urls import parse_redis_url, parse_url

# --- kinds of values ---------------------------------------------------------------------------------------------


class Context(NamedTuple):
    """What reading a value may depend on."""

    directory: Path
    """Where relative paths of the file start."""
    dialect: Dialect
    """Whose template language the file uses."""
    mechanisms: Collection[str]
    """The SASL mechanisms there are, in upper case."""


class Kind(NamedTuple):
    """One kind of value: its name in the manual, how TOML becomes the value, and how it is written back.

    *read* raises `ValueError` with what was expected.
    """

    name: str
    read: Callable[[Any, Context], Any]
    show: Callable[[Any], object] = lambda value: value


def _is(kind: type, expected: str) -> Callable[[Any, Context], Any]:
    def read(value: Any, context: Context) -> Any:
        if type(value) is not kind:
            raise ValueError(expected)
        return value

    return read


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def _read_duration(value: Any, context: Context) -> float:
    if type(value) in (int, float) and 0 <= value < float("inf"):
        return float(value)
    if type(value) is str and (match := re.fullmatch(r"(\d+(?:\.\d+)?) *(ms|s|m|h|d)", value)):
        return float(match[1]) * _UNITS[match[2]]
    raise ValueError('expected a time such as "500ms", "2s", "5m" or "1h", or a number of seconds')


def _show_duration(seconds: float) -> str:
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:.0f}{unit}"
    return f"{seconds * 1000:.0f}ms" if seconds else "0s"


def _read_size(value: Any, context: Context) -> int:
    if type(value) is int and value >= 0:
        return value
    if type(value) is str and (match := re.fullmatch(r"(\d+) *([KMGT]?)B?", value, re.IGNORECASE)):
        return int(match[1]) * _SIZES[match[2].upper()]
    raise ValueError('expected a size such as "64M" or "1G", or a number of bytes')


def _show_size(size: int) -> object:
    for unit in ("T", "G", "M", "K"):
        if size and size % _SIZES[unit] == 0:
            return f"{size // _SIZES[unit]}{unit}"
    return size


def _read_mode(value: Any, context: Context) -> int:
    if type(value) is str and re.fullmatch(r"0?[0-7]{3}", value):
        return int(value, 8)
    raise ValueError('expected an octal file mode as text, such as "0660"')


def _read_path(value: Any, context: Context) -> Path:
    if type(value) is not str or not value or "\0" in value:
        raise ValueError("expected a path")
    return context.directory / value


def _read_location(value: Any, context: Context) -> str:
    template = _read_template(value, context)
    if not template.startswith(("maildir:", "imap://", "imaps://", "exec:")):
        raise ValueError('expected "maildir:PATH", "imap://HOST", "imaps://HOST" or "exec:COMMAND"')
    return template


def _read_attribute_dict(value: Any, context: Context) -> str:
    template = _read_template(value, context)
    if template and not template.startswith("file:"):
        raise ValueError('expected "file:PATH", or an empty text')
    return template


def _read_key_dict(value: Any, context: Context) -> str:
    """Dovecot's dict of keys, or a JWK Set; a relative path starts beside the file."""
    if type(value) is str and not value:
        return ""
    for kind in ("fs:posix:prefix=", "jwks:"):
        if type(value) is str and value.startswith(kind) and value != kind and "\0" not in value:
            path = value.removeprefix(kind)
            return kind + (path if path.startswith("/") else f"{context.directory}/{path}")
    raise ValueError('expected "fs:posix:prefix=DIRECTORY/" or "jwks:FILE"')


def _read_words(value: Any, context: Context) -> tuple[str, ...]:
    if type(value) is not list or not all(type(word) is str and word for word in value):
        raise ValueError('expected a list of words such as ["a", "b"]')
    return tuple(value)


def _read_paths(value: Any, context: Context) -> tuple[str, ...]:
    return tuple(str(context.directory / word) for word in _read_words(value, context))


def _read_mechanisms(value: Any, context: Context) -> tuple[str, ...]:
    known = ", ".join(name.lower() for name in context.mechanisms)
    if type(value) is not list or not all(type(name) is str and name.upper() in context.mechanisms for name in value):
        raise ValueError(f"expected a list of mechanisms out of {known}")
    if not value:
        raise ValueError(f"expected at least one mechanism out of {known}")
    return tuple(dict.fromkeys(name.upper() for name in value))


def _read_filter(value: Any, context: Context) -> tuple[str, ...]:
    known = [*context.mechanisms, "NONE", "LOOKUP"]
    if type(value) is not list or not all(type(name) is str and name.upper() in known for name in value):
        raise ValueError(f"expected a list of mechanisms out of {', '.join(known).lower()}")
    return tuple(name.upper() for name in value)


def _read_template(value: Any, context: Context) -> str:
    from authlua.variables import ExpansionError, compile_template

    if type(value) is not str:
        raise ValueError(f"expected a template of Dovecot {context.dialect}")
    try:
        compile_template(value, context.dialect)
    except ExpansionError as error:
        raise ValueError(f"expected a template of Dovecot {context.dialect} ({error})") from error
    return value


def _read_hash(value: Any, context: Context) -> str:
    hashes = "md5, sha1, sha224, sha256, sha384, sha512, sha3-256, sha3-512"
    if value not in hashes.split(", "):
        raise ValueError(f"expected one of {hashes}")
    return str(value)


def _read_file(value: Any, context: Context) -> str:
    path = Path(_read_template(value, context))
    if path.is_absolute() or not value:
        return str(path) if value else ""
    directory = str(context.directory)
    return f"{directory.replace('%', '%%') if context.dialect is Dialect.V2_3 else directory}/{value}"


def _read_fields(value: Any, context: Context) -> tuple[tuple[str, str], ...]:
    if type(value) is not dict or not all(type(field) in (str, int) for field in value.values()):
        raise ValueError('expected a table of fields such as { uid = 5000, "home:protected" = "/srv/mail/%u" }')
    return tuple((name, _read_template(str(field), context)) for name, field in value.items())


def _read_settings(value: Any, context: Context) -> Mapping[str, str]:
    if type(value) is not dict or not all(type(v) is str for v in value.values()):
        raise ValueError('expected a table of texts such as { url = "http://localhost/" }')
    return value


def _read_translation(value: Any, context: Context) -> str:
    if type(value) is not str or len(value.encode()) % 2:
        raise ValueError("expected pairs of bytes, each the one to change and what it becomes")
    return value


def _read_verbose_passwords(value: Any, context: Context) -> str:
    if type(value) is not str or not re.fullmatch(r"no|(?:yes|plain|sha1)(?::[1-9]\d*)?", value):
        raise ValueError("expected no, plain or sha1, the last two also with a length such as sha1:6")
    return value.replace("yes", "plain")


def _read_verbose(value: Any, context: Context) -> bool | None:
    if value == "default":
        return None
    if type(value) is not bool:
        raise ValueError('expected "default", true or false')
    return value


def _read_redis(value: Any, context: Context) -> str:
    if type(value) is not str:
        raise ValueError("expected the URL of a Redis")
    if value:
        parse_redis_url(value)
    return value


def _read_address(value: Any, context: Context) -> str:
    if type(value) is str and (match := re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):(\d+)", value)):
        port = int(match[1])
        if 0 < port < 65536:
            return value
    raise ValueError('expected an address and a port such as "127.0.0.1:12345" or "[::1]:12345"')


TEXT = Kind("text", _is(str, "expected a text"))
SWITCH = Kind("true or false", _is(bool, "expected true or false"))
DURATION = Kind("time", _read_duration, _show_duration)
SIZE = Kind("size", _read_size, _show_size)
MODE = Kind("octal mode", _read_mode, lambda mode: f"{mode:04o}")
PATH = Kind("path", _read_path, str)
PATHS = Kind("list of paths", _read_paths, list)
WORDS = Kind("list of words", _read_words, list)
MECHANISMS = Kind("list of mechanisms", _read_mechanisms, lambda names: [name.lower() for name in names])
FILTER = Kind("list of mechanisms", _read_filter, lambda names: [name.lower() for name in names])
TEMPLATE = Kind("template", _read_template)
LOCATION = Kind("template", _read_location)
ATTRIBUTE_DICT = Kind("template", _read_attribute_dict)
HASH = Kind("name of a hash", _read_hash)
KEY_DICT = Kind("place of keys", _read_key_dict)
FILE = Kind("path template", _read_file)
FIELDS = Kind(
    "table of templates",
    _read_fields,
    lambda fields: {name: "<hidden>" if name.startswith("pass") else value for name, value in fields},
)
ATTRIBUTES = Kind("table of templates", _read_fields, dict)
# a script's own settings may be anything, connection strings included, so their values are never shown
SETTINGS = Kind("table of texts", _read_settings, lambda settings: dict.fromkeys(settings, "<hidden>"))
SECRET = Kind("text", _is(str, "expected a text"), lambda secret: secret and "<hidden>")
TRANSLATION = Kind("text", _read_translation)
REDIS = Kind("URL of a Redis", _read_redis, lambda url: url and "<hidden>")
VERBOSE = Kind("default, true or false", _read_verbose, lambda value: "default" if value is None else value)
VERBOSE_PASSWORDS = Kind("no, plain or sha1, with an optional :length", _read_verbose_passwords)
ADDRESS = Kind("address", _read_address)


def number(low: int = 0, high: int | None = None) -> Kind:
    """A whole number from *low* up to *high*, or to any."""
    expected = f"expected a whole number from {low} " + ("on" if high is None else f"to {high}")

    def read(value: Any, context: Context) -> int:
        if type(value) is not int or value < low or (high is not None and value > high):
            raise ValueError(expected)
        return value

    return Kind("number", read)


NUMBER = number()
UID = number(0, (1 << 32) - 2)

_HIDDEN = (SETTINGS, SECRET, FIELDS, REDIS)
"""Kinds whose values may be secret: they are in no repr and in no error message."""


def one_of(*choices: str) -> Kind:
    """One word of *choices*."""

    def read(value: Any, context: Context) -> str:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return str(value)

    return Kind(", ".join(choices), read)


def words_of(*choices: str) -> Kind:
    """A list of some of *choices*."""

    def read(value: Any, context: Context) -> tuple[str, ...]:
        if type(value) is not list or not all(word in choices for word in value):
            raise ValueError(f"expected a list of words out of {', '.join(choices)}")
        return tuple(dict.fromkeys(value))

    return Kind("list of words", read, list)


def _dialect(*others: str) -> Kind:
    words = one_of(*others, *Dialect)

    def read(value: Any, context: Context) -> str:
        word: str = words.read(value, context)
        return word if word in others else Dialect(word)

    return Kind(words.name, read, str)


# --- the table of keys -------------------------------------------------------------------------------------------

REQUIRED: Any = object()

TWINS = ("socket", "ssl", "luasql", "DBI", "redis")
"""The families of blocking Lua modules that have twins which do not block."""


class Key(NamedTuple):
    """What the table says of one key."""

    kind: Kind
    default: Any
    """As the value, not as TOML; `REQUIRED` when there is none."""
    since_2_4: Any
    """The default when the server speaks a 2.4 dialect."""
    reload: bool
    """A reload brings a changed value into effect; otherwise only a restart does."""
    later: str
    """Not empty: what this key waits for; until then only its default is accepted."""
    alias: str
    """Another spelling that is accepted."""


def key(
    kind: Kind, default: Any = REQUIRED, *, since_2_4: Any = None, reload: bool = True, later: str = "", alias: str = ""
) -> Any:
    """A dataclass field that carries its line of the table."""
    entry = Key(kind, default, default if since_2_4 is None else since_2_4, reload, later, alias)
    hidden = kind in _HIDDEN
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata={"key": entry}, repr=not hidden)
    return dataclasses.field(
        default=dataclasses.MISSING if default is REQUIRED else default, metadata={"key": entry}, repr=not hidden
    )


def keys(section: type) -> dict[str, Key]:
    """The lines of the table for one section, in order."""
    return {field.name: field.metadata["key"] for field in dataclasses.fields(section)}


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """``[server]``"""

    base_dir: Path = key(PATH, Path("/run/authlua"), reload=False)
    user: str = key(TEXT, "", reload=False)
    request_timeout: float = key(DURATION, 150.0, reload=False)
    """Seconds."""
    dialect: Dialect = key(_dialect(), Dialect.V2_3, reload=False)
    """Which Dovecot the server speaks as."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """``[log]``"""

    format: str = key(one_of("auto", "text", "json", "logfmt", "journal"), "auto", reload=False)
    level: str = key(one_of("debug", "info", "warning", "error"), "info", reload=False)


@dataclass(frozen=True, slots=True)
class LuaSettings:
    """``[lua]``"""

    version: str = key(one_of("5.1", "5.2", "5.3", "5.4", "5.5", "luajit"), "5.4")
    path: tuple[str, ...] = key(PATHS, ())
    cpath: tuple[str, ...] = key(PATHS, ())
    worker_max: int = key(number(1), 30)
    memory_limit: int = key(SIZE, 64 << 20)
    """Bytes."""
    timeout: float = key(DURATION, 60.0)
    """Seconds."""
    twins: tuple[str, ...] = key(words_of(*TWINS), TWINS)
    watch: bool = key(SWITCH, False)


@dataclass(frozen=True, slots=True)
class StateSettings:
    """``[state]``: what several servers remember together."""

    url: str = key(REDIS, "", reload=False)
    """Empty: each server remembers alone."""
    timeout: float = key(DURATION, 1.0, reload=False)
    """Seconds until a silent Redis counts as down."""


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """``[auth]``: Dovecot's ``auth_*`` settings."""

    mechanisms: tuple[str, ...] = key(MECHANISMS, ("PLAIN", "LOGIN"))
    realms: tuple[str, ...] = key(WORDS, ())
    default_realm: str = key(TEXT, "", alias="default_domain")
    username_chars: str = key(TEXT, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@")
    username_translation: str = key(TRANSLATION, "")
    username_format: str = key(TEMPLATE, "%Lu", since_2_4="%{user | lower}")
    master_user_separator: str = key(TEXT, "")
    anonymous_username: str = key(TEXT, "anonymous")
    openid_configuration_url: str = key(TEXT, "")
    gssapi_hostname: str = key(TEXT, "")
    krb5_keytab: str = key(TEXT, "")
    use_winbind: bool = key(SWITCH, False)
    winbind_helper_path: str = key(TEXT, "/usr/bin/ntlm_auth")
    failure_delay: float = key(DURATION, 2.0)
    internal_failure_delay: float = key(DURATION, 2.0)
    penalty: bool = key(SWITCH, True)
    """Addresses whose logins fail wait longer and longer before they are heard."""
    allow_weak_schemes: bool = key(SWITCH, True, since_2_4=False)
    ssl_require_client_cert: bool = key(SWITCH, False)
    ssl_username_from_cert: bool = key(SWITCH, False)
    proxy_self: tuple[str, ...] = key(WORDS, ())
    first_valid_uid: int = key(UID, 500)
    last_valid_uid: int = key(UID, 0)
    """0: there is no last one."""
    verbose: bool = key(SWITCH, False)
    verbose_passwords: str = key(VERBOSE_PASSWORDS, "no")
    debug: bool = key(SWITCH, False)
    cache_size: int = key(SIZE, 0)
    cache_ttl: float = key(DURATION, 3600.0)
    cache_negative_ttl: float = key(DURATION, 3600.0)
    cache_verify_password_with_worker: bool = key(SWITCH, False)
    policy_server_url: str = key(SECRET, "")
    policy_server_api_header: str = key(SECRET, "")
    policy_server_timeout: float = key(DURATION, 2.0)
    policy_hash_mech: str = key(HASH, "sha256")
    policy_hash_nonce: str = key(SECRET, "")
    policy_hash_truncate: int = key(number(0, 512), 12)
    policy_request_attributes: tuple[tuple[str, str], ...] = key(
        ATTRIBUTES,
        (
            ("login", "%{requested_username}"),
            ("pwhash", "%{hashed_password}"),
            ("remote", "%{rip}"),
            ("device_id", "%{client_id}"),
            ("protocol", "%s"),
            ("session_id", "%{session}"),
        ),
        since_2_4=(
            ("login", "%{requested_username}"),
            ("pwhash", "%{hashed_password}"),
            ("remote", "%{remote_ip}"),
            ("device_id", "%{client_id}"),
            ("protocol", "%{protocol}"),
            ("session_id", "%{session}"),
            ("fail_type", "%{fail_type}"),
        ),
    )
    policy_reject_on_fail: bool = key(SWITCH, False)
    policy_check_before_auth: bool = key(SWITCH, True)
    policy_check_after_auth: bool = key(SWITCH, True)
    policy_report_after_auth: bool = key(SWITCH, True)
    policy_log_only: bool = key(SWITCH, False)


_RULES = one_of("return", "return-ok", "return-fail", "continue", "continue-ok", "continue-fail")._replace(name="rule")


@dataclass(frozen=True, slots=True)
class PassdbSettings:
    """One ``[[passdb]]``."""

    script: Path | None = key(PATH, None)
    name: str = key(TEXT, "")
    """Empty: like its driver."""
    driver: str = key(one_of("lua", "static", "passwd-file", "passwd", "pam", "imap", "oauth2"), "lua")
    dialect: Dialect | str = key(_dialect("auto"), "auto")
    """Which Dovecot's Lua the script expects; ``auto`` reads it off the script."""
    use_worker: bool = key(SWITCH, True, alias="blocking")
    share: bool = key(SWITCH, False)
    """All that say so and name the same script have one Lua state."""
    cache_key: str = key(TEMPLATE, "%u", since_2_4="")
    scheme: str = key(TEXT, "")
    """Empty: the driver's own, see `default_scheme`."""
    file: str = key(FILE, "")
    username_format: str = key(TEMPLATE, "%u", since_2_4="%{user}")
    fields: tuple[tuple[str, str], ...] = key(FIELDS, ())
    service: str = key(TEMPLATE, "dovecot")
    host: str = key(TEMPLATE, "")
    port: int = key(number(0, 65535), 0)
    username: str = key(TEMPLATE, "%u", since_2_4="%{user}")
    ssl: str = key(one_of("no", "imaps", "starttls"), "no")
    tokeninfo_url: str = key(SECRET, "")
    introspection_url: str = key(SECRET, "")
    introspection_mode: str = key(one_of("auth", "get", "post", "local"), "auth")
    force_introspection: bool = key(SWITCH, False)
    grant_url: str = key(SECRET, "")
    use_grant_password: bool = key(SWITCH, False, since_2_4=True)
    username_attribute: str = key(TEXT, "email")
    username_validation_format: str = key(TEMPLATE, "%Lu", since_2_4="%{user}")
    active_attribute: str = key(TEXT, "active", since_2_4="")
    active_value: str = key(TEXT, "true", since_2_4="")
    scope: tuple[str, ...] = key(WORDS, ())
    issuers: tuple[str, ...] = key(WORDS, ())
    client_id: str = key(TEXT, "")
    client_secret: str = key(SECRET, "")
    send_auth_headers: bool = key(SWITCH, False)
    local_validation_key_dict: str = key(KEY_DICT, "")
    token_expire_grace: float = key(DURATION, 0.0, since_2_4=60.0)
    timeout: float = key(DURATION, 60.0)
    ssl_client_ca_file: str = key(TEXT, "")
    ssl_client_ca_dir: str = key(TEXT, "")
    ssl_client_cert_file: str = key(TEXT, "")
    ssl_client_key_file: str = key(TEXT, "")
    ssl_client_require_valid_cert: bool = key(SWITCH, True)
    settings: Mapping[str, str] = key(SETTINGS, {})
    result_success: str = key(_RULES, "return-ok")
    result_failure: str = key(_RULES, "continue")
    result_internalfail: str = key(_RULES, "continue")
    skip: str = key(one_of("never", "authenticated", "unauthenticated"), "never")
    master: bool = key(SWITCH, False)
    deny: bool = key(SWITCH, False)
    mechanisms: tuple[str, ...] = key(FILTER, ())
    username_filter: tuple[str, ...] = key(WORDS, ())
    default_fields: tuple[tuple[str, str], ...] = key(FIELDS, ())
    override_fields: tuple[tuple[str, str], ...] = key(FIELDS, ())
    auth_verbose: bool | None = key(VERBOSE, None)
    """`None`: as ``auth.verbose`` says."""


@dataclass(frozen=True, slots=True)
class UserdbSettings:
    """One ``[[userdb]]``."""

    script: Path | None = key(PATH, None)
    name: str = key(TEXT, "")
    driver: str = key(one_of("lua", "static", "passwd-file", "passwd", "prefetch"), "lua")
    dialect: Dialect | str = key(_dialect("auto"), "auto")
    use_worker: bool = key(SWITCH, True, alias="blocking")
    share: bool = key(SWITCH, False)
    """All that say so and name the same script have one Lua state."""
    cache_key: str = key(TEMPLATE, "%u", since_2_4="")
    file: str = key(FILE, "")
    username_format: str = key(TEMPLATE, "%u", since_2_4="%{user}")
    fields: tuple[tuple[str, str], ...] = key(FIELDS, ())
    allow_all_users: bool = key(SWITCH, False)
    settings: Mapping[str, str] = key(SETTINGS, {})
    result_success: str = key(_RULES, "return-ok")
    result_failure: str = key(_RULES, "continue")
    result_internalfail: str = key(_RULES, "continue")
    skip: str = key(one_of("never", "found", "notfound"), "never")
    default_fields: tuple[tuple[str, str], ...] = key(FIELDS, ())
    override_fields: tuple[tuple[str, str], ...] = key(FIELDS, ())
    auth_verbose: bool | None = key(VERBOSE, None)


@dataclass(frozen=True, slots=True)
class HashSettings:
    """``[hashes]``: the most that verifying a stored password may cost, as in `authlua.passwords.Limits`."""

    argon2_memory: int = key(SIZE, 1 << 30)
    argon2_total: int = key(SIZE, 64 << 30)
    crypt_memory: int = key(SIZE, 1 << 30)
    crypt_total: int = key(SIZE, 64 << 30)
    crypt_rounds: int = key(NUMBER, 10_000_000)
    blf_crypt_cost: int = key(NUMBER, 20)
    pbkdf2_rounds: int = key(NUMBER, 10_000_000)
    scram_iterations: int = key(NUMBER, 10_000_000)
    otp_sequence: int = key(NUMBER, 100_000)


@dataclass(frozen=True, slots=True)
class MailSettings:
    """``[mail]``: the script that sees the users' mail, and where that is."""

    script: Path | None = key(PATH, None)
    """`None`: there is no such script."""
    dialect: Dialect | str = key(_dialect("auto"), "auto")
    """Which Dovecot's Lua the script expects; ``auto``: the server's."""
    settings: Mapping[str, str] = key(SETTINGS, {})
    location: str = key(LOCATION, "maildir:~/Maildir")
    separator: str = key(one_of("/", "."), "/")
    attribute_dict: str = key(ATTRIBUTE_DICT, "")
    uid: str = key(TEXT, "")
    """Name or number of the system user who reads a Maildir when the userdb names none; empty: nobody does."""
    gid: str = key(TEXT, "")
    imap_password: str = key(SECRET, "")
    """Of the master user that a location names."""


DRIVER_KEYS: Mapping[str, Collection[str]] = {
    "script": ("lua",),
    "dialect": ("lua",),
    "use_worker": ("lua",),
    "share": ("lua",),
    "settings": ("lua",),
    "cache_key": ("lua", "passwd", "pam"),
    "file": ("passwd-file",),
    "username_format": ("passwd-file",),
    "fields": ("static", "oauth2"),
    "allow_all_users": ("static",),
    "service": ("pam",),
    **dict.fromkeys(("host", "port", "username", "ssl"), ("imap",)),
    **dict.fromkeys(
        (
            "tokeninfo_url",
            "introspection_url",
            "introspection_mode",
            "force_introspection",
            "grant_url",
            "use_grant_password",
            "username_attribute",
            "username_validation_format",
            "active_attribute",
            "active_value",
            "scope",
            "issuers",
            "client_id",
            "client_secret",
            "send_auth_headers",
            "local_validation_key_dict",
            "token_expire_grace",
            "timeout",
            "ssl_client_cert_file",
            "ssl_client_key_file",
        ),
        ("oauth2",),
    ),
    **dict.fromkeys(("ssl_client_ca_file", "ssl_client_ca_dir", "ssl_client_require_valid_cert"), ("imap", "oauth2")),
}
"""The drivers that a key of a passdb or userdb is for; all others are for every driver."""


KEEPS_PASSWORDS = "auth_passdb_set_credentials"
"""The function of a script that can store passwords."""


def filtered_mechanisms(names: Sequence[str], dialect: Dialect) -> Sequence[str]:
    """*names* with ``LOOKUP`` for lookups without a mech, which 2.3 calls ``NONE``.

    That name alone means no request at all (``core:2.3.21.1:src/auth/passdb.c:passdb_preinit``).
    """
    return (*names, "LOOKUP") if dialect is Dialect.V2_3 and "NONE" in names and len(names) > 1 else names


def default_scheme(settings: PassdbSettings, dialect: Dialect) -> str:
    """The scheme of passwords without one: as configured, else CRYPT in files, as it was before there were others."""
    if settings.scheme:
        return settings.scheme
    return "CRYPT" if settings.driver == "passwd-file" and dialect is not Dialect.V2_4_0 else "PLAIN"


DRIVER_NEEDS: Mapping[str, str] = {"lua": "script", "passwd-file": "file", "imap": "host"}
"""The key that a driver cannot do without."""

TELLS_NO_PASSWORDS = {"pam", "imap", "oauth2"}
"""Drivers that judge passwords and know none, nor who there is."""

MODES = {
    "client": 0o600,
    "login": 0o666,
    "login-master": 0o600,
    "master": 0o600,
    "userdb": 0o666,
    "token-login": 0o666,
    "control": 0o600,
    "metrics": 0o600,
    "postlogin": 0o600,
    "push": 0o600,
}
"""The modes Dovecot gives its own sockets (``core:2.3.21.1:src/auth/auth-settings.c``), by listener kind."""


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """One ``[[listener]]``: a unix socket (*path*) or a TCP port (*address*), never both."""

    kind: str = key(one_of(*MODES), reload=False)
    name: str = key(TEXT, "", reload=False)
    """The socket's name for systemd; empty: its kind."""
    path: Path | None = key(Kind("path", _read_path, str), None, reload=False)
    address: str | None = key(ADDRESS, None, reload=False)
    mode: int | None = key(MODE, None, reload=False)
    """`None` only with *address*; a path has its kind's mode of `MODES` when none is given."""
    user: str = key(TEXT, "", reload=False)
    group: str = key(TEXT, "", reload=False)
    handshake: str = key(one_of("early", "late"), "early", reload=False)
    tempfail: str = key(one_of("reply", "close"), "reply", reload=False)
    service: str = key(TEXT, "imap", reload=False)
    """Whose sessions come to a postlogin listener; they do not say it themselves."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration, as it is in effect."""

    path: Path | None
    """The file it came from; `None` for the embedded default."""
    server: ServerSettings
    log: LogSettings
    lua: LuaSettings
    state: StateSettings
    auth: AuthSettings
    passdbs: tuple[PassdbSettings, ...]
    userdbs: tuple[UserdbSettings, ...]
    hashes: HashSettings
    mail: MailSettings
    listeners: tuple[ListenerSettings, ...]


SECTIONS: Mapping[str, type] = {
    "server": ServerSettings,
    "log": LogSettings,
    "lua": LuaSettings,
    "state": StateSettings,
    "auth": AuthSettings,
    "passdb": PassdbSettings,
    "userdb": UserdbSettings,
    "hashes": HashSettings,
    "mail": MailSettings,
    "listener": ListenerSettings,
}
"""Every section of the file, in the order in which it is shown."""

_ARRAYS = ("passdb", "userdb", "listener")

DEFAULT_LISTENERS: Sequence[Mapping[str, str]] = (
    {"kind": "login", "path": "login"},
    {"kind": "client", "path": "auth-client"},
    {"kind": "login", "name": "auth-login", "path": "auth-login", "mode": "0600"},
    {"kind": "userdb", "path": "auth-userdb"},
    {"kind": "master", "path": "auth-master"},
    {"kind": "control", "path": "control"},
)
"""What is served when the file names no listener: Dovecot's own sockets (all but token-login), and ours for control."""


# --- reading -----------------------------------------------------------------------------------------------------


def load(path: Path | str) -> Settings:
    """The settings of the TOML file at *path*; `ConfigError` lists all that is wrong with it."""
    path = Path(path)
    try:
        data = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        hint = "; TOML has true and false, and texts in quotes" if "Invalid value" in str(error) else ""
        raise ConfigError([f"{path}: not a TOML file: {error}{hint}"]) from error
    return _settings(data, path, path.absolute().parent)


def without_file() -> Settings:
    """The settings in effect with neither file nor script: all defaults, no database, no listener."""
    return _settings({"listener": []}, None, Path.cwd())


def embedded(script: Path | str, base_dir: Path | str) -> Settings:
    """The settings in effect without a file: *script* is passdb and userdb, the default sockets are in *base_dir*."""
    data = {
        "server": {"base_dir": str(base_dir)},
        "passdb": [{"script": str(script)}],
        "userdb": [{"script": str(script)}],
    }
    return _settings(data, None, Path.cwd())


T = TypeVar("T")


class _Reader:
    """Turns tables into sections and collects what is wrong on the way."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.problems: list[str] = []

    def section(self, section: type[T], where: str, table: object) -> T:
        """*table* as *section*; a key with a problem keeps its default, so that reading goes on."""
        if not isinstance(table, dict):
            self.problems.append(f"{where}: expected a table of keys, got {table!r}")
            table = {}
        entries = keys(section)
        spellings = {spelling: name for name, entry in entries.items() for spelling in (name, entry.alias) if spelling}
        new_defaults = self.context.dialect is not Dialect.V2_3
        values = {name: entry.since_2_4 if new_defaults else entry.default for name, entry in entries.items()}
        seen: dict[str, str] = {}
        for spelling, value in table.items():
            name = spellings.get(spelling)
            if name is None:
                self.problems.append(f"{where}.{spelling}: unknown key{_elsewhere(spelling, spellings)}")
            elif name in seen:
                self.problems.append(f"{where}.{spelling}: another name of {seen[name]}, give one of the two")
            else:
                seen[name] = spelling
                self._read(f"{where}.{spelling}", entries[name], value, values, name)
        for name, value in values.items():
            if value is REQUIRED:
                if name not in seen:
                    self.problems.append(f"{where}.{name}: missing, and it has no default")
                values[name] = None
        return section(**values)

    def _read(self, where: str, entry: Key, value: object, values: dict[str, Any], name: str) -> None:
        try:
            read = entry.kind.read(value, self.context)
        except ValueError as error:
            got = "" if entry.kind in _HIDDEN else f", got {as_toml(value)}"
            self.problems.append(f"{where}: {error}{got}")
            return
        if entry.later and read != values[name]:
            accepted = as_toml(entry.kind.show(values[name]))
            self.problems.append(f"{where}: {entry.later} is not available yet, only {accepted} is accepted")
        else:
            values[name] = read


def _settings(data: Mapping[str, Any], path: Path | None, directory: Path) -> Settings:
    from authlua.sasl import MECHS

    server = data.get("server", {})
    try:
        dialect = Dialect(server["dialect"])
    except (KeyError, TypeError, ValueError):  # TypeError: not a table; both are told below
        dialect = Dialect.V2_3
    reader = _Reader(Context(directory, dialect, tuple(MECHS)))
    for name in data:
        if name not in SECTIONS:
            reader.problems.append(f"{name}: unknown section{_did_you_mean(name, SECTIONS)}")

    def tables(name: str, section: type[T], default: Sequence[Mapping[str, str]] = ()) -> tuple[T, ...]:
        found = data.get(name, default)
        if not isinstance(found, list | tuple):
            reader.problems.append(f"{name}: expected [[{name}]] in double brackets, one for each {name}")
            return ()
        return tuple(reader.section(section, _numbered(name, i, len(found)), t) for i, t in enumerate(found))

    settings = Settings(
        path,
        reader.section(ServerSettings, "server", server),
        reader.section(LogSettings, "log", data.get("log", {})),
        reader.section(LuaSettings, "lua", data.get("lua", {})),
        reader.section(StateSettings, "state", data.get("state", {})),
        reader.section(AuthSettings, "auth", data.get("auth", {})),
        tables("passdb", PassdbSettings),
        tables("userdb", UserdbSettings),
        reader.section(HashSettings, "hashes", data.get("hashes", {})),
        reader.section(MailSettings, "mail", data.get("mail", {})),
        (),
    )
    reader.context = reader.context._replace(directory=settings.server.base_dir)
    listeners = tuple(
        dataclasses.replace(listener, mode=MODES.get(listener.kind))
        if listener.path and listener.mode is None
        else listener
        for listener in tables("listener", ListenerSettings, DEFAULT_LISTENERS)
    )
    settings = dataclasses.replace(settings, listeners=listeners)
    problems = reader.problems + _cross_check(settings, reader.problems)
    if problems:
        raise ConfigError([f"{path or 'embedded default'}: {problem}" for problem in problems])
    return settings


def _numbered(name: str, index: int, count: int) -> str:
    return name if count == 1 else f"{name}[{index + 1}]"


_CALLED_OTHERWISE = {
    "worker_max_count": "lua.worker_max",
    "stats": "a [[listener]] of kind metrics",
    "debug_passwords": "verbose_passwords",
    "pass": 'result_success = "continue"',
    "args": "the driver's own keys, or `authlua import-dovecot`",
    "mechanisms_filter": "mechanisms",
    "default_password_scheme": "scheme",
    "passwd_file_path": "file",
    "lua_file": "script",
    "lua_settings": "settings",
}
"""Words of Dovecot for what has another name or place here."""


def _elsewhere(word: str, known: Collection[str]) -> str:
    """A hint for a key that is not *known* where it stands: what it is called, or where it belongs."""
    if word in _CALLED_OTHERWISE:
        return f", did you mean {_CALLED_OTHERWISE[word]}?"
    for name, section in SECTIONS.items():
        if word in keys(section) and name not in _ARRAYS:
            return f", it belongs into [{name}]"
    for prefix in ("auth_", "passdb_", "userdb_"):
        if word.removeprefix(prefix) in known:
            return f", did you mean {word.removeprefix(prefix)}?"
    return _did_you_mean(word, known)


def _did_you_mean(word: str, known: Collection[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word, known, 1)
    return f", did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


# --- what one key alone cannot tell ------------------------------------------------------------------------------


def _cross_check(settings: Settings, told: Sequence[str]) -> list[str]:
    """Problems between keys that were not *told* already.

    The rules for chains are those of ``core:2.3.21.1:src/auth/auth.c:auth_preinit``.
    """
    return [
        *_check_drivers(settings, told),
        *_check_sharing(settings),
        *_check_chain(settings.passdbs),
        *_check_mechanisms(settings),
        *_check_listeners(settings, told),
        *_check_names(settings),
        *_check_policy(settings.auth),
        *_check_state(settings.state),
        *_check_oauth2(settings.passdbs),
    ]


def _check_drivers(settings: Settings, told: Sequence[str]) -> list[str]:
    """Each driver has the keys it needs and no others."""
    problems = []
    defaults = {"passdb": keys(PassdbSettings), "userdb": keys(UserdbSettings)}
    sections: list[tuple[str, Sequence[PassdbSettings | UserdbSettings]]]
    sections = [("passdb", settings.passdbs), ("userdb", settings.userdbs)]
    for section, databases in sections:
        for index, database in enumerate(databases):
            where = _numbered(section, index, len(databases))
            needed = DRIVER_NEEDS.get(database.driver)
            if needed and not getattr(database, needed) and not any(p.startswith(f"{where}.") for p in told):
                problems.append(f"{where}.{needed}: missing, and driver {database.driver} cannot do without it")
            for name, drivers in DRIVER_KEYS.items():
                entry = defaults[section].get(name)
                if entry is None or database.driver in drivers:
                    continue
                if getattr(database, name) not in (entry.default, entry.since_2_4):
                    problems.append(f"{where}.{name}: not for driver {database.driver}, only for {', '.join(drivers)}")
            if database.script is not None and not database.script.is_file():
                problems.append(f"{where}.script: no such file: {database.script}")
    if settings.mail.script is not None and not settings.mail.script.is_file():
        problems.append(f"mail.script: no such file: {settings.mail.script}")
    return problems


_SHARED = ("dialect", "use_worker", "settings", "auth_verbose")
"""What a Lua state has for all who share it."""


def _check_sharing(settings: Settings) -> list[str]:
    """Those that share a script want the same of it."""
    problems = []
    first: dict[Path, tuple[str, PassdbSettings | UserdbSettings]] = {}
    sections: list[tuple[str, Sequence[PassdbSettings | UserdbSettings]]]
    sections = [("passdb", settings.passdbs), ("userdb", settings.userdbs)]
    for section, databases in sections:
        for index, database in enumerate(databases):
            if not database.share or database.script is None:
                continue
            where = _numbered(section, index, len(databases))
            other, shared = first.setdefault(database.script, (where, database))
            problems += [
                f"{where}.{name}: must be that of {other}, which shares {database.script.name}"
                for name in _SHARED
                if getattr(database, name) != getattr(shared, name)
            ]
    return problems


def _check_chain(passdbs: Sequence[PassdbSettings]) -> list[str]:
    problems = []
    for index, passdb in enumerate(passdbs):
        where = _numbered("passdb", index, len(passdbs))
        if passdb.master and passdb.deny:
            problems.append(f"{where}: master and deny exclude each other")
    normal = [passdb for passdb in passdbs if not passdb.master]
    masters = [passdb for passdb in passdbs if passdb.master]
    if normal and normal[-1].result_success == "continue":
        problems.append('passdb.result_success: the last passdb cannot be "continue": nothing would decide the login')
    if not normal and any(passdb.result_success == "continue" for passdb in masters):
        problems.append('passdb.result_success: a master passdb with "continue" needs a passdb that is not master')
    return problems


def _check_mechanisms(settings: Settings) -> list[str]:
    """Mechanisms that no login could succeed with."""
    from importlib.util import find_spec

    from authlua.sasl import MECHS

    problems = []
    passdbs = [passdb for passdb in settings.passdbs if not passdb.master]
    for name in settings.auth.mechanisms:
        where = f"auth.mechanisms: {name.lower()}"
        if name.endswith("-PLUS") and settings.server.dialect is Dialect.V2_3:
            problems.append(f'{where} needs server.dialect = "2.4"')
        elif name.endswith("-PLUS") and not any(listener.handshake == "late" for listener in settings.listeners):
            problems.append(f'{where} is offered only by a [[listener]] with handshake = "late"')
        elif name == "EXTERNAL" and not settings.auth.ssl_username_from_cert:
            problems.append(f"{where} needs auth.ssl_username_from_cert = true")
        elif name == "NTLM" and not settings.auth.use_winbind:
            problems.append(f"{where} needs auth.use_winbind = true")
        elif name in ("NTLM", "GSS-SPNEGO") and settings.auth.use_winbind:
            if not Path(settings.auth.winbind_helper_path).is_file():
                problems.append(f"{where} needs Samba's helper, and {settings.auth.winbind_helper_path} is missing")
        elif name in ("GSSAPI", "GSS-SPNEGO"):
            if not find_spec("gssapi"):
                problems.append(f'{where} needs the Python package gssapi: install "authlua[gssapi]"')
        elif name == "OTP":
            if not any(one.driver == "lua" for one in passdbs):
                problems.append(f"{where} needs a passdb that stores passwords: a script with {KEEPS_PASSWORDS}")
        elif name == "ANONYMOUS":
            if not settings.auth.anonymous_username:
                problems.append(f"{where} needs an auth.anonymous_username")
        elif passdbs:
            drivers = {one.driver for one in passdbs if not one.mechanisms or name in one.mechanisms}
            if not drivers:
                problems.append(f"{where} is left out by the mechanisms of every [[passdb]]")
            elif drivers <= TELLS_NO_PASSWORDS and MECHS[name].looks_up:
                problems.append(
                    f"{where} needs stored passwords, and the driver {' or '.join(sorted(drivers))} has none"
                )
    return problems


def _check_listeners(settings: Settings, told: Sequence[str]) -> list[str]:
    problems = []
    taken: dict[object, str] = {}
    for index, listener in enumerate(settings.listeners):
        where = _numbered("listener", index, len(settings.listeners))
        place = listener.path or listener.address
        if any(problem.startswith(f"{where}.") for problem in told):
            continue
        if (listener.path is None) == (listener.address is None):
            problems.append(f"{where}: needs a path or an address, one of the two")
        elif place in taken:
            problems.append(f"{where}: {place} is already {taken[place]}")
        taken[place] = where
        if listener.kind in ("control", "postlogin") and listener.address is not None:
            problems.append(f"{where}.address: {listener.kind} is for a unix socket only, give a path")
        if listener.kind in ("postlogin", "push") and settings.mail.script is None:
            problems.append(f"{where}: kind {listener.kind} needs a mail.script")
        if listener.path is None and (listener.mode is not None or listener.user or listener.group):
            problems.append(f"{where}: mode, user and group belong to a path, not to an address")
        if listener.kind in ("client", "login") and not any(not passdb.master for passdb in settings.passdbs):
            problems.append(f"{where}: kind {listener.kind} needs a [[passdb]] that is not master")
        if listener.kind in ("master", "login-master", "userdb", "push") and not settings.userdbs:
            problems.append(f"{where}: kind {listener.kind} needs a [[userdb]]")
    return problems


def _check_policy(auth: AuthSettings) -> list[str]:
    problems = []
    if auth.policy_server_url:
        try:
            parse_url(auth.policy_server_url)
        except ValueError as error:
            problems.append(f"auth.policy_server_url: expected a web address ({error})")
        if not auth.policy_server_api_header.isprintable():
            problems.append("auth.policy_server_api_header: expected one line")
        if not auth.policy_hash_nonce:
            problems.append("auth.policy_hash_nonce: a policy server needs one, a random text that stays secret")
    return problems


def _check_state(state: StateSettings) -> list[str]:
    from importlib.util import find_spec

    if state.url and not find_spec("hiredis"):
        return ['state.url: needs the Python package hiredis: install "authlua[redis]"']
    return []


def _check_oauth2(passdbs: Sequence[PassdbSettings]) -> list[str]:
    """What ``core:2.4.1:src/auth/db-oauth2.c:auth_oauth2_settings_check`` and its like in 2.3 look at."""
    from importlib.util import find_spec

    problems = []
    for index, one in enumerate(passdbs):
        where = _numbered("passdb", index, len(passdbs))
        if one.driver != "oauth2":
            continue
        for name in ("tokeninfo_url", "introspection_url", "grant_url"):
            try:
                if url := getattr(one, name):
                    parse_url(url)
            except ValueError as error:
                problems.append(f"{where}.{name}: expected a web address ({error})")
        is_local = one.introspection_mode == "local"
        if is_local != bool(one.local_validation_key_dict):
            problems.append(f'{where}: introspection_mode = "local" and local_validation_key_dict need each other')
        if is_local and not find_spec("jwt"):
            problems.append(f'{where}: local validation needs the Python package pyjwt: install "authlua[oauth2]"')
        if not (is_local or one.tokeninfo_url or one.introspection_url or one.grant_url):
            urls = "a tokeninfo_url, an introspection_url, a grant_url or a local_validation_key_dict"
            problems.append(f"{where}: driver oauth2 needs {urls}")
        if bool(one.client_id) != bool(one.client_secret):
            problems.append(f"{where}: client_id and client_secret need each other")
        if one.grant_url and not one.client_id:
            problems.append(f"{where}.grant_url: needs a client_id")
        if one.active_value and not one.active_attribute:
            problems.append(f"{where}.active_value: needs an active_attribute")
    return problems


def _check_names(settings: Settings) -> list[str]:
    """Users and groups that this machine does not know."""
    import grp
    import pwd

    by_name: Mapping[str, Callable[[str], object]] = {"uid": pwd.getpwnam, "gid": grp.getgrnam}
    wanted: list[tuple[str, str, Callable[[str], object]]] = [("server.user", settings.server.user, pwd.getpwnam)]
    if not settings.mail.uid.isdecimal():
        wanted.append(("mail.uid", settings.mail.uid, pwd.getpwnam))
    if not settings.mail.gid.isdecimal():
        wanted.append(("mail.gid", settings.mail.gid, grp.getgrnam))
    for index, listener in enumerate(settings.listeners):
        where = _numbered("listener", index, len(settings.listeners))
        wanted += [
            (f"{where}.user", listener.user, pwd.getpwnam),
            (f"{where}.group", listener.group, grp.getgrnam),
        ]
    for index, userdb in enumerate(settings.userdbs):
        where = _numbered("userdb", index, len(settings.userdbs))
        for key in ("fields", "default_fields", "override_fields"):
            for field, value in getattr(userdb, key):
                name = field.partition(":")[0]
                if name in by_name and value and "%" not in value and not value.isdecimal():
                    wanted.append((f"{where}.{key}.{name}", value, by_name[name]))
    problems = []
    for where, name, lookup in wanted:
        if name:
            try:
                lookup(name)
            except KeyError:
                problems.append(f"{where}: this machine knows no {where.rpartition('.')[2]} {name!r}")
    return problems


# --- what works, but hardly as it was meant ----------------------------------------------------------------------

_AUTHZID_MECHS = {"PLAIN", "DIGEST-MD5", "EXTERNAL", "OAUTHBEARER", "XOAUTH2", "GSSAPI", "GSS-SPNEGO"}
"""Mechanisms, beside the SCRAM ones, in which a client can name another user to become."""


def doubts(settings: Settings) -> list[str]:
    """Parts of the configuration that can never have an effect; a server runs with them, and says so."""
    found = []
    masters = [one for one in settings.passdbs if one.master]
    separator = settings.auth.master_user_separator
    named = any(name in _AUTHZID_MECHS or name.startswith("SCRAM-") for name in settings.auth.mechanisms)
    if masters and not separator and not named:
        found.append("auth.master_user_separator: without one nobody can reach the master passdbs by these mechanisms")
    if separator and not masters:
        found.append("auth.master_user_separator: there is no master passdb, so names that contain it are refused")
    if settings.auth.cache_size and not settings.auth.cache_ttl:
        found.append("auth.cache_size: nothing is cached with a cache_ttl of 0")
    if settings.auth.debug and settings.log.level != "debug":
        found.append('auth.debug: nothing of it is seen without log.level = "debug"')
    for kind, chain in (("master ", masters), ("", [one for one in settings.passdbs if not one.master])):
        # masters that go on have verified the password for the others
        going_on = not kind and any(map(_verifies, masters))
        for index, passdb in enumerate(chain):
            where = f"{kind}passdb {passdb.name or passdb.driver!r}"
            earlier = chain[:index]
            if any(_ends(one) and not one.mechanisms and not one.username_filter for one in earlier):
                found.append(f"{where} is never asked: one before it ends the chain whatever it says")
            offered = {*settings.auth.mechanisms, "LOOKUP"}
            if passdb.mechanisms and offered.isdisjoint(
                filtered_mechanisms(passdb.mechanisms, settings.server.dialect)
            ):
                found.append(f"{where} is never asked: auth.mechanisms has none of its mechanisms")
            if passdb.skip == "unauthenticated" and not going_on and not any(map(_verifies, earlier)):
                found.append(f"{where} is never asked: nothing before it verifies a password and goes on")
    for index, userdb in enumerate(settings.userdbs):
        where = f"userdb {userdb.name or userdb.driver!r}"
        if any(_ends(one) for one in settings.userdbs[:index]):
            found.append(f"{where} is never asked: one before it ends the chain whatever it says")
        if userdb.skip != "never" and index == 0:
            found.append(f"{where} is asked in spite of its skip: nothing comes before it")
        lookups = any(listener.kind in ("master", "userdb") for listener in settings.listeners)
        if userdb.driver == "prefetch" and len(settings.userdbs) == 1 and lookups:
            found.append(f"{where} cannot answer who asks without a login (LMTP, doveadm): add a userdb behind it")
        asks = userdb.driver == "static" and not userdb.allow_all_users
        if asks and all(one.driver in TELLS_NO_PASSWORDS for one in settings.passdbs if not one.master):
            found.append(f"{where} cannot learn who exists, as no passdb tells: set allow_all_users or another passdb")
    return found


def _verifies(one: PassdbSettings) -> bool:
    """Whether the chain may go on behind *one* with the password counting as right."""
    return one.result_success in ("continue", "continue-ok") or "continue-ok" in (
        one.result_failure,
        one.result_internalfail,
    )


def _ends(one: PassdbSettings | UserdbSettings) -> bool:
    """Whether nothing behind it is ever asked. A script may always say NEXT, and a deny passdb lets others through."""
    if one.driver == "lua" or one.skip != "never" or (isinstance(one, PassdbSettings) and one.deny):
        return False
    rules = one.result_success, one.result_failure, one.result_internalfail
    return not any(rule.startswith("continue") for rule in rules)


# --- what is in effect -------------------------------------------------------------------------------------------


def toml_text(settings: Settings) -> str:
    """*settings* as a TOML file with every key, values that may be secret hidden."""
    lines: list[str] = []
    for name, section in SECTIONS.items():
        array = name in _ARRAYS
        for table in getattr(settings, name + "s") if array else [getattr(settings, name)]:
            lines.append(f"[[{name}]]" if array else f"[{name}]")
            for key_name, entry in keys(section).items():
                value = getattr(table, key_name)
                if value is not None or entry.kind is VERBOSE:
                    lines.append(f"{key_name} = {as_toml(entry.kind.show(value))}")
            lines.append("")
    return "\n".join(lines)


def as_toml(value: object) -> str:
    """*value* as TOML spells it; JSON's strings, numbers and booleans happen to be TOML's."""
    import json

    if isinstance(value, dict):
        items = (f"{_toml_key(name)} = {as_toml(item)}" for name, item in value.items())
        return "{ " + ", ".join(items) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(as_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False, default=str)


def _toml_key(name: str) -> str:
    import json

    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
