"""One loaded configuration: here `authlua.auth` meets `authlua.lua` and `authlua.databases`, without any event loop."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from authlua.auth import (
    RULES,
    Auth,
    AuthOptions,
    CacheKey,
    CredentialsKeeper,
    Event,
    Observe,
    Passdb,
    PassdbEntry,
    Penalty,
    PolicyOptions,
    Userdb,
    UserdbEntry,
    about_request,
)
from authlua.config import (
    DRIVER_KEYS,
    KEEPS_PASSWORDS,
    TELLS_NO_PASSWORDS,
    PassdbSettings,
    Settings,
    UserdbSettings,
    default_scheme,
    filtered_mechanisms,
)
from authlua.databases import (
    ImapOptions,
    ImapPassdb,
    KeyFiles,
    KeySet,
    OAuth2Options,
    OAuth2Passdb,
    PamPassdb,
    PasswdFilePassdb,
    PasswdFileUserdb,
    PasswdPassdb,
    PasswdUserdb,
    PrefetchUserdb,
    StaticPassdb,
    StaticUserdb,
)
from authlua.dialect import Dialect
from authlua.errors import ConfigError, ScriptError
from authlua.logs import ABOUT
from authlua.lua import LuaPassdb, LuaUserdb, ScriptOptions, Scripts, load_passdb, load_userdb
from authlua.passwords import Limits
from authlua.protocol import Advertised
from authlua.request import AuthRequest
from authlua.sasl import MECHS
from authlua.secret import Secret
from authlua.server.counting import Counts
from authlua.server.pool import Pool, WorkerPassdb, WorkerUserdb
from authlua.server.watching import Stamps, stamps
from authlua.server.zygote import Zygote
from authlua.services import State, fulfil_now
from authlua.twins import Waits, open_twins
from authlua.variables import ExpansionError, Template, compile_template

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from authlua.server.mail import MailScripts

Script = LuaPassdb | LuaUserdb
Write = Callable[[str, str, AuthRequest | None, Mapping[str, object]], None]


_TLS_KEYS = [name for name in DRIVER_KEYS if name.startswith("ssl_client_")]

BUDGET = 2_500_000
"""Instructions that a script in the server may run without waiting: about a hundredth of a second."""


class Lasting(NamedTuple):
    """What a server keeps over a reload; without a part of it, it does without."""

    token_secret: Secret | None = None
    """Signs auth tokens."""
    penalty: Penalty | None = None
    zygote: Zygote | None = None
    """Makes the workers for scripts with ``use_worker``; without one all scripts run here."""
    counts: Counts | None = None
    state: State | None = None
    """What it remembers together with other servers."""
    waits: Waits | None = None
    """Where scripts in the server wait for what their twins of blocking modules do; without it they block."""


class Core:
    """One loaded configuration: the decisions and the scripts they ask.

    Requests that wait hold it (`holds`, `release`), so that a reload can retire it and its scripts end only when
    the last of them is done.
    """

    def __init__(self, auth: Auth, scripts: Sequence[Script], pool: Pool | None = None) -> None:
        self.auth = auth
        self.advertised = [Advertised(mech.name, mech.flags, mech.allow_nul) for mech in auth.mechs]
        self.pool = pool
        self.mail: MailScripts | None = None
        self.stamps: Stamps = {}
        """The scripts' files as they were just before they were loaded, when they are watched."""
        self.doubts: Sequence[str] = ()
        """What is configured and cannot have an effect, as only the loaded scripts show."""
        self.holds = 0
        self._scripts = scripts
        self._retired = False

    def release(self) -> None:
        """One request that waited is done."""
        self.holds -= 1
        if self._retired and self.holds == 0:
            self._close()

    def retire(self) -> None:
        """Take no new requests; end when none is left."""
        self._retired = True
        if self.holds == 0:
            self._close()

    def _close(self) -> None:
        if self.pool is not None:
            self.pool.close()
        if self.mail is not None:
            self.mail.close()
        for script in self._scripts:
            script.close()


class _Loading(NamedTuple):
    """What belongs to a configuration that is being loaded."""

    scripts: list[Script]
    shared: Scripts
    """Those that several passdbs and userdbs may have together."""
    pool: Pool | None
    waits: Waits | None
    write: Write


def uses_workers(settings: Settings) -> bool:
    """Whether any script wants to run in workers."""
    databases: Sequence[PassdbSettings | UserdbSettings] = [*settings.passdbs, *settings.userdbs]
    return any(one.driver == "lua" and one.use_worker for one in databases)


def open_core(
    settings: Settings,
    log: "FilteringBoundLogger",
    lasting: Lasting = Lasting(),  # noqa: B008  a tuple does not change
) -> Core:
    """Load all scripts and put the chains together.

    Args:
        lasting: what the server keeps over a reload.

    Raises:
        ScriptError: a script does not load; those that did are closed again.
        ConfigError: a mechanism needs what no script has.
    """
    scripts: list[Script] = []
    dialect = settings.server.dialect
    write = request_log(log, dialect)
    databases: list[PassdbSettings | UserdbSettings] = [*settings.passdbs, *settings.userdbs]
    watched = {str(one.script) for one in [*databases, settings.mail] if one.script}
    before = stamps(watched if settings.lua.watch else ())
    pool: Pool | None = None
    zygote, waits = lasting.zygote, lasting.waits
    if zygote is not None and uses_workers(settings):
        lua = settings.lua
        pool = Pool(zygote, write, max=lua.worker_max, timeout=lua.timeout, memory_limit=lua.memory_limit)
    loading = _Loading(scripts, Scripts(), pool, waits, write)
    observe = _observer(lasting.counts, write if settings.auth.debug else None, dialect)
    if pool is not None:
        pool.observe = observe
    try:
        # Dovecot numbers the masters' passdbs after the others (core:2.3.21.1:src/auth/auth.c:auth_preinit)
        ordered = sorted(settings.passdbs, key=lambda one: one.master)
        passdbs = [_passdb(settings, one, id, loading) for id, one in enumerate(ordered, 1)]
        userdbs = [_userdb(settings, one, id, loading) for id, one in enumerate(settings.userdbs, 1)]
        if "OTP" in settings.auth.mechanisms and not any(isinstance(one.passdb, CredentialsKeeper) for one in passdbs):
            raise ConfigError([f"auth.mechanisms: otp needs a script with a function {KEEPS_PASSWORDS}"])
    except BaseException:
        for script in scripts:
            script.close()
        if pool is not None:
            pool.close()
        raise
    auth = settings.auth
    options = AuthOptions(
        dialect=dialect,
        mechanisms=auth.mechanisms,
        realms=auth.realms,
        openid_configuration_url=auth.openid_configuration_url,
        gssapi_hostname=auth.gssapi_hostname,
        krb5_keytab=auth.krb5_keytab,
        use_winbind=auth.use_winbind,
        winbind_helper_path=auth.winbind_helper_path,
        username_chars=auth.username_chars,
        username_translation=auth.username_translation,
        username_format=auth.username_format,
        default_realm=auth.default_realm,
        master_user_separator=auth.master_user_separator,
        anonymous_username=auth.anonymous_username,
        failure_delay=auth.failure_delay,
        internal_failure_delay=auth.internal_failure_delay,
        allow_weak_schemes=auth.allow_weak_schemes,
        limits=_limits(settings),
        ssl_require_client_cert=auth.ssl_require_client_cert,
        ssl_username_from_cert=auth.ssl_username_from_cert,
        proxy_self=auth.proxy_self,
        cache_size=auth.cache_size,
        cache_ttl=auth.cache_ttl,
        cache_negative_ttl=auth.cache_negative_ttl,
        cache_verify_password_with_worker=auth.cache_verify_password_with_worker,
        policy=_policy(settings) if auth.policy_server_url else None,
        verbose=auth.verbose,
        verbose_passwords=auth.verbose_passwords,
        debug=auth.debug,
    )
    decisions = Auth(
        options,
        passdbs=passdbs,
        userdbs=userdbs,
        log=write,
        token_secret=lasting.token_secret,
        penalty=lasting.penalty if auth.penalty else None,
        observe=observe,
    )
    core = Core(decisions, scripts, pool)
    core.doubts = _unserved(settings, ordered, [script for script in scripts if isinstance(script, LuaPassdb)])
    core.stamps = before
    if settings.mail.script is not None:
        from authlua.server.mail import MailScripts

        core.mail = MailScripts(settings, zygote)
        core.mail.try_to_load(log)
    return core


def _unserved(settings: Settings, passdbs: Sequence[PassdbSettings], scripts: Sequence[LuaPassdb]) -> list[str]:
    """Mechs that need a stored password where every passdb only judges passwords. *scripts* are those of *passdbs*."""
    following = iter(scripts)
    able = [
        one
        for one in passdbs
        if (next(following).looks_up if one.driver == "lua" else one.driver not in TELLS_NO_PASSWORDS)
        and not one.master
    ]
    return [
        f"auth.mechanisms: {name.lower()} needs a passdb with the function auth_passdb_lookup"
        for name in settings.auth.mechanisms
        if MECHS[name].looks_up and not any(not one.mechanisms or name in one.mechanisms for one in able)
    ]


def _policy(settings: Settings) -> PolicyOptions:
    auth = settings.auth
    return PolicyOptions(
        server_url=auth.policy_server_url,
        api_header=auth.policy_server_api_header,
        timeout=auth.policy_server_timeout,
        hash_mech=auth.policy_hash_mech,
        hash_nonce=auth.policy_hash_nonce,
        hash_truncate=auth.policy_hash_truncate,
        request_attributes=_templates(auth.policy_request_attributes, settings.server.dialect),
        reject_on_fail=auth.policy_reject_on_fail,
        check_before_auth=auth.policy_check_before_auth,
        check_after_auth=auth.policy_check_after_auth,
        report_after_auth=auth.policy_report_after_auth,
        log_only=auth.policy_log_only,
    )


def _observer(counts: Counts | None, write: Write | None, dialect: Dialect = Dialect.V2_3) -> Observe | None:
    """Counts events, and writes them into a debug log; `None` when nobody wants to know."""
    if write is None:
        return None if counts is None else counts.event

    def observe(event: Event, request: AuthRequest | None, seconds: float) -> None:
        if counts is not None:
            counts.event(event, request, seconds)
        about = {} if request is None else about_request(request, dialect)
        duration = {"duration": round(seconds * 1e6)} if event.name.endswith("_finished") else {}
        write("debug", event.name, None, {**about, **event.fields, **duration})

    return observe


def _script_options(
    settings: Settings, one: PassdbSettings | UserdbSettings, id: int, waits: Waits | None
) -> ScriptOptions:
    return ScriptOptions(
        version=settings.lua.version,
        path=settings.lua.path,
        cpath=settings.lua.cpath,
        settings=one.settings,
        id=str(id),
        verbose=settings.auth.verbose if one.auth_verbose is None else one.auth_verbose,
        debug=settings.auth.debug,
        allow_weak_schemes=settings.auth.allow_weak_schemes,
        limits=_limits(settings),
        budget=0 if one.use_worker else BUDGET,
        memory_limit=settings.lua.memory_limit,
        twins=settings.lua.twins,
        operations=partial(open_twins, waits or Waits()),
        now=fulfil_now,
    )


def _limits(settings: Settings) -> Limits:
    hashes = settings.hashes
    return Limits(*(getattr(hashes, name) for name in Limits._fields))


def _passdb(settings: Settings, one: PassdbSettings, id: int, loading: _Loading) -> PassdbEntry:
    server = settings.server.dialect
    passdb, script = _open_passdb(settings, one, id, loading)
    return PassdbEntry(
        passdb=passdb,
        id=id,
        name=one.name or one.driver,
        driver=one.driver,
        result_success=RULES[one.result_success],
        result_failure=RULES[one.result_failure],
        result_internalfail=RULES[one.result_internalfail],
        skip=one.skip,
        master=one.master,
        deny=one.deny,
        mechanisms=filtered_mechanisms(one.mechanisms, server),
        username_filter=one.username_filter,
        default_scheme=default_scheme(one, server),
        default_fields=_templates(one.default_fields, server),
        override_fields=_templates(one.override_fields, server),
        verbose=one.auth_verbose,
        cache_key=_cache_key("P", one, script, id, server),
    )


def _open_passdb(
    settings: Settings, one: PassdbSettings, id: int, loading: _Loading
) -> tuple[Passdb, LuaPassdb | None]:
    """The passdb, and the script behind it."""
    server = settings.server.dialect
    match one.driver:
        case "static":
            return StaticPassdb(one.fields, dialect=server, id=id), None
        case "passwd-file":
            return PasswdFilePassdb(one.file, username_format=one.username_format, dialect=server, id=id), None
        case "passwd":
            return PasswdPassdb(), None
        case "pam":
            return PamPassdb(one.service, dialect=server, id=id), None
        case "imap":
            return ImapPassdb(_imap(one), dialect=server, id=id), None
        case "oauth2":
            return OAuth2Passdb(_oauth2(one, server), _keys(one), dialect=server, id=id), None
    options = _script_options(settings, one, id, loading.waits)
    dialect = one.dialect if isinstance(one.dialect, Dialect) else None
    # loaded here in any case: what is wrong with it shows at start, not at the first login
    script = load_passdb(
        one.script or "",
        dialect=dialect,
        server_dialect=server,
        options=options,
        log=loading.write,
        scripts=loading.shared if one.share else None,
    )
    loading.scripts.append(script)
    if loading.pool is None or not one.use_worker:
        return script, script
    number = loading.pool.add(
        "passdb", str(one.script), script.source, str(script.dialect), str(server), _plain(options), one.share
    )
    keeps = isinstance(script, CredentialsKeeper)
    return WorkerPassdb(loading.pool, number, verifies=script.verifies, cache_key=script.cache_key, keeps=keeps), script


def _imap(one: PassdbSettings) -> ImapOptions:
    return ImapOptions(
        host=one.host,
        username=one.username,
        port=one.port,
        ssl=one.ssl,
        ca_file=one.ssl_client_ca_file,
        ca_dir=one.ssl_client_ca_dir,
        trusts_anybody=not one.ssl_client_require_valid_cert,
    )


def _oauth2(one: PassdbSettings, dialect: Dialect) -> OAuth2Options:
    same = (name for name in OAuth2Options._fields if name not in ("use_grant_password", "tls"))
    return OAuth2Options(
        **{name: getattr(one, name) for name in same},
        # 2.4 has no such setting: there a password is for a grant if there is anybody to grant it
        use_grant_password=one.use_grant_password and (dialect is Dialect.V2_3 or bool(one.grant_url)),
        tls=tuple((name, getattr(one, name)) for name in _TLS_KEYS if getattr(one, name) != ""),
    )


def _keys(one: PassdbSettings) -> KeyFiles | KeySet | None:
    """Where the keys for local validation are."""
    kind, _, place = one.local_validation_key_dict.partition(":")
    if not place:
        return None
    return KeySet(place) if kind == "jwks" else KeyFiles(place.removeprefix("posix:prefix="))


def _userdb(settings: Settings, one: UserdbSettings, id: int, loading: _Loading) -> UserdbEntry:
    server = settings.server.dialect
    userdb, script = _open_userdb(settings, one, id, loading)
    return UserdbEntry(
        userdb=userdb,
        id=id,
        name=one.name or one.driver,
        driver=one.driver,
        result_success=RULES[one.result_success],
        result_failure=RULES[one.result_failure],
        result_internalfail=RULES[one.result_internalfail],
        skip=one.skip,
        default_fields=_templates(one.default_fields, server),
        override_fields=_templates(one.override_fields, server),
        verbose=one.auth_verbose,
        cache_key=_cache_key("U", one, script, id, server),
        lists=one.driver not in ("static", "prefetch"),
        asks_passdbs=one.driver == "static" and not one.allow_all_users,
    )


def _open_userdb(
    settings: Settings, one: UserdbSettings, id: int, loading: _Loading
) -> tuple[Userdb, LuaUserdb | None]:
    """The userdb, and the script behind it."""
    server = settings.server.dialect
    match one.driver:
        case "static":
            return StaticUserdb(one.fields, dialect=server, id=id), None
        case "passwd-file":
            return PasswdFileUserdb(one.file, username_format=one.username_format, dialect=server, id=id), None
        case "passwd":
            return PasswdUserdb(settings.auth.first_valid_uid, settings.auth.last_valid_uid), None
        case "prefetch":
            return PrefetchUserdb(alone=len(settings.userdbs) == 1), None
    options = _script_options(settings, one, id, loading.waits)
    dialect = one.dialect if isinstance(one.dialect, Dialect) else None
    script = load_userdb(
        one.script or "",
        dialect=dialect,
        server_dialect=server,
        options=options,
        log=loading.write,
        scripts=loading.shared if one.share else None,
    )
    loading.scripts.append(script)
    if loading.pool is None or not one.use_worker:
        return script, script
    number = loading.pool.add(
        "userdb", str(one.script), script.source, str(script.dialect), str(server), _plain(options), one.share
    )
    return WorkerUserdb(loading.pool, number, cache_key=script.cache_key), script


def _cache_key(
    kind: str, one: PassdbSettings | UserdbSettings, script: Script | None, id: int, server: Dialect
) -> CacheKey | None:
    """A script of 2.4 knows its key itself; for others, the configuration says it.

    Each token of a user is a question of its own, or one for somebody else's would tell that the user is unknown.
    """
    tokens = "%u%w" if server is Dialect.V2_3 else "%{user}%{password}"
    if one.driver == "oauth2":
        text, dialect = tokens, server
    elif one.driver in DRIVER_KEYS["cache_key"]:
        text, dialect = one.cache_key, server
    else:
        return None
    own = None if script is None else script.cache_key
    if script is not None and own is not None:
        text, dialect = own, script.dialect
    fields = [field for _, field in _templates(one.default_fields, server)]
    try:
        return CacheKey.of_template(kind, id, compile_template(text, dialect), dialect, fields)
    except ExpansionError as error:
        database = "passdb" if kind == "P" else "userdb"
        if own is not None:
            raise ScriptError(f"{database}-lua: auth_{database}_get_cache_key() failed: {text}: {error}") from error
        raise ConfigError([f"{database}.cache_key: {error}"]) from error


def _plain(options: ScriptOptions) -> Mapping[str, object]:
    """*options* as plain values, for another process."""
    return {
        **options._asdict(),
        "path": list(options.path),
        "cpath": list(options.cpath),
        "settings": {**options.settings},
        "limits": tuple(options.limits),
        "twins": list(options.twins),
        # nothing of ours can be sent there
        "operations": None,
        "now": None,
    }


def _templates(fields: Iterable[tuple[str, str | None]], dialect: Dialect) -> Sequence[tuple[str, Template]]:
    return [(name, compile_template(value or "", dialect)) for name, value in fields]


def request_log(log: "FilteringBoundLogger", dialect: Dialect) -> Write:
    """The sink for lines of scripts and chains, each bound to the request it is about.

    People read in front of a line what Dovecot puts there.
    """
    about = _about_2_3 if dialect is Dialect.V2_3 else _about_2_4
    write = {"debug": log.debug, "info": log.info, "warning": log.warning, "error": log.error}

    def line(level: str, text: str, request: AuthRequest | None, fields: Mapping[str, object]) -> None:
        if request is None:
            write[level](text, **fields)
        else:
            known = {"user": request.user, "rip": request.rip, "session": request.session, "service": request.service}
            write[level](text, **{**known, **fields, ABOUT: about(request)})

    return line


def _about_2_3(request: AuthRequest) -> str:
    """Dovecot 2.3's prefix of a line about *request* (``core:2.3.21.1:src/auth/auth-request.c:get_log_prefix``)."""
    name = request.log_name or request.mech.lower() or "auth"
    session = f",<{request.session}>" if request.session else ""
    return f"{name}({_who(request)}{session}): "


def _about_2_4(request: AuthRequest) -> str:
    """Dovecot 2.4's."""
    session = f"<{request.session}>" if request.session else ""
    mech = request.mech.lower()
    name = request.log_name or mech
    start = f"auth({_who(request, mech)}){session}: "
    return f"{start}{name}: " if name and name != "auth" else start


def _shortened(user: str) -> str:
    """*user* in at most 64 bytes (``core:2.3.21.1:src/auth/auth-request.c:MAX_LOG_USERNAME_LEN``)."""
    if user.isascii() and len(user) <= 64:
        return user
    data = user.encode("utf-8", "surrogateescape")
    return user if len(data) <= 64 else data[:61].decode("utf-8", "ignore") + "..."


def _who(request: AuthRequest, mech: str = "") -> str:
    words = [_shortened(request.user) if request.user else "?"]
    if request.rip:
        words.append(request.rip)
    if mech:
        words.append(f"sasl:{mech}")
    if request.requested_login_user is not None:
        words.append("master")
    return ",".join(words)
