"""The one table of keys: each names its kind, its default and what a reload does to it.

Names in ``[auth]``, ``[[passdb]]`` and ``[[userdb]]`` are Dovecot's, without ``auth_``, ``passdb_``, ``userdb_``
(``core:2.3.21.1:src/auth/auth-settings.c``); defaults are Dovecot's too. Nothing described here is opened here.
"""

# ruff: noqa: RUF009 (key() is how a dataclass field is made here)

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from authlua.config.kinds import (
    ADDRESS,
    ATTRIBUTE_DICT,
    ATTRIBUTES,
    DURATION,
    FIELDS,
    FILE,
    FILTER,
    HASH,
    HIDDEN,
    KEY_DICT,
    LOCATION,
    MECHANISMS,
    MODE,
    NUMBER,
    PATH,
    PATHS,
    REDIS,
    SECRET,
    SETTINGS,
    SIZE,
    SWITCH,
    TEMPLATE,
    TEXT,
    TRANSLATION,
    UID,
    VERBOSE,
    VERBOSE_PASSWORDS,
    WORDS,
    Kind,
    dialect_or,
    number,
    one_of,
    words_of,
)
from authlua.dialect import Dialect

T = TypeVar("T")

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
    alias: str
    """Another spelling that is accepted."""


def key(kind: Kind, default: Any = REQUIRED, *, since_2_4: Any = None, reload: bool = True, alias: str = "") -> Any:
    """A dataclass field that carries its line of the table."""
    entry = Key(kind, default, default if since_2_4 is None else since_2_4, reload, alias)
    hidden = kind in HIDDEN
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
    dialect: Dialect = key(dialect_or(), Dialect.V2_3, reload=False)
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
    dialect: Dialect | str = key(dialect_or("auto"), "auto")
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
    dialect: Dialect | str = key(dialect_or("auto"), "auto")
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
    dialect: Dialect | str = key(dialect_or("auto"), "auto")
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
    path: Path | None = key(PATH, None, reload=False)
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

ARRAYS = ("passdb", "userdb", "listener")

DEFAULT_LISTENERS: Sequence[Mapping[str, str]] = (
    {"kind": "login", "path": "login"},
    {"kind": "client", "path": "auth-client"},
    {"kind": "login", "name": "auth-login", "path": "auth-login", "mode": "0600"},
    {"kind": "userdb", "path": "auth-userdb"},
    {"kind": "master", "path": "auth-master"},
    {"kind": "control", "path": "control"},
)
"""What is served when the file names no listener: Dovecot's own sockets (all but token-login), and ours for control."""


def numbered(name: str, index: int, count: int) -> str:
    """What the table *index*, from 0, of *count* tables *name* is called in messages."""
    return name if count == 1 else f"{name}[{index + 1}]"


def each(name: str, tables: Sequence[T]) -> Iterator[tuple[str, T]]:
    """*tables* of one *name*, each with what it is called in messages."""
    return ((numbered(name, index, len(tables)), table) for index, table in enumerate(tables))


def databases(settings: Settings) -> Iterator[tuple[str, PassdbSettings | UserdbSettings]]:
    """All passdbs and userdbs, each with what it is called in messages."""
    yield from each("passdb", settings.passdbs)
    yield from each("userdb", settings.userdbs)
