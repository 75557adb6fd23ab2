"""The assembly: settings in, a running server out. Here `authlua.auth` meets `authlua.lua`."""

import os
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

import trio

from authlua.auth import RULES, Auth, AuthOptions, PassdbEntry, UserdbEntry
from authlua.config import PassdbSettings, Settings, UserdbSettings
from authlua.dialect import Dialect
from authlua.errors import ConfigError, ScriptError
from authlua.lua import LuaPassdb, LuaUserdb, ScriptOptions, load_passdb, load_userdb
from authlua.protocol import Advertised, Fail, Ok
from authlua.request import AuthRequest
from authlua.secret import Secret
from authlua.server.clients import Client
from authlua.server.control import Control
from authlua.server.listeners import CLIENT_KINDS, MASTER_KINDS, Listener
from authlua.server.masters import Master
from authlua.server.ready import Ready
from authlua.server.waiting import Expiry, FailureQueue
from authlua.variables import Template, compile_template

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

TOKEN_SECRET_FILE = "auth-token-secret.dat"
TOKEN_SECRET_SIZE = 32


class Core:
    """One loaded configuration: the decisions and the scripts they ask.

    Requests that wait hold it (`holds`, `release`), so that a reload can retire it and its scripts end only when
    the last of them is done.
    """

    def __init__(self, auth: Auth, scripts: Sequence[LuaPassdb | LuaUserdb]) -> None:
        self.auth = auth
        self.advertised = [Advertised(mech.name, mech.flags, mech.allow_nul) for mech in auth.mechs]
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
        for script in self._scripts:
            script.close()


def open_core(settings: Settings, log: "FilteringBoundLogger", *, token_secret: Secret | None = None) -> Core:
    """Load all scripts and put the chains together.

    Raises:
        ScriptError: a script does not load; those that did are closed again.
    """
    scripts: list[LuaPassdb | LuaUserdb] = []
    write = request_log(log)
    dialect = settings.server.dialect
    try:
        # Dovecot numbers the masters' passdbs after the others (core:2.3.21.1:src/auth/auth.c:auth_preinit)
        ordered = sorted(settings.passdbs, key=lambda one: one.master)
        passdbs = [_passdb(settings, one, id, scripts, write) for id, one in enumerate(ordered, 1)]
        userdbs = [_userdb(settings, one, id, scripts, write) for id, one in enumerate(settings.userdbs, 1)]
    except BaseException:
        for script in scripts:
            script.close()
        raise
    auth = settings.auth
    options = AuthOptions(
        dialect=dialect,
        mechanisms=auth.mechanisms,
        username_chars=auth.username_chars,
        username_translation=auth.username_translation,
        username_format=auth.username_format,
        default_realm=auth.default_realm,
        master_user_separator=auth.master_user_separator,
        anonymous_username=auth.anonymous_username,
        failure_delay=auth.failure_delay,
        internal_failure_delay=auth.internal_failure_delay,
        allow_weak_schemes=auth.allow_weak_schemes,
        ssl_require_client_cert=auth.ssl_require_client_cert,
        ssl_username_from_cert=auth.ssl_username_from_cert,
        proxy_self=auth.proxy_self,
        verbose=auth.verbose,
        verbose_passwords=auth.verbose_passwords,
        debug=auth.debug,
    )
    return Core(Auth(options, passdbs=passdbs, userdbs=userdbs, log=write, token_secret=token_secret), scripts)


def _script_options(settings: Settings, one: PassdbSettings | UserdbSettings, id: int) -> ScriptOptions:
    return ScriptOptions(
        version=settings.lua.version,
        path=settings.lua.path,
        cpath=settings.lua.cpath,
        settings=one.settings,
        id=str(id),
        verbose=settings.auth.verbose if one.auth_verbose is None else one.auth_verbose,
        debug=settings.auth.debug,
        allow_weak_schemes=settings.auth.allow_weak_schemes,
    )


def _passdb(
    settings: Settings, one: PassdbSettings, id: int, scripts: list[LuaPassdb | LuaUserdb], write: "Any"
) -> PassdbEntry:
    server = settings.server.dialect
    passdb = load_passdb(
        one.script,
        dialect=one.dialect if isinstance(one.dialect, Dialect) else None,
        server_dialect=server,
        options=_script_options(settings, one, id),
        log=write,
    )
    scripts.append(passdb)
    return PassdbEntry(
        passdb=passdb,
        id=id,
        name=one.name,
        result_success=RULES[one.result_success],
        result_failure=RULES[one.result_failure],
        result_internalfail=RULES[one.result_internalfail],
        skip=one.skip,
        master=one.master,
        deny=one.deny,
        mechanisms=one.mechanisms,
        username_filter=one.username_filter,
        default_scheme=one.scheme,
        default_fields=_templates(one.default_fields, server),
        override_fields=_templates(one.override_fields, server),
        verbose=one.auth_verbose,
    )


def _userdb(
    settings: Settings, one: UserdbSettings, id: int, scripts: list[LuaPassdb | LuaUserdb], write: "Any"
) -> UserdbEntry:
    server = settings.server.dialect
    userdb = load_userdb(
        one.script,
        dialect=one.dialect if isinstance(one.dialect, Dialect) else None,
        server_dialect=server,
        options=_script_options(settings, one, id),
        log=write,
    )
    scripts.append(userdb)
    return UserdbEntry(
        userdb=userdb,
        id=id,
        name=one.name,
        result_success=RULES[one.result_success],
        result_failure=RULES[one.result_failure],
        result_internalfail=RULES[one.result_internalfail],
        skip=one.skip,
        default_fields=_templates(one.default_fields, server),
        override_fields=_templates(one.override_fields, server),
        verbose=one.auth_verbose,
    )


def _templates(fields: Iterable[tuple[str, str | None]], dialect: Dialect) -> Sequence[tuple[str, Template]]:
    return [(name, compile_template(value or "", dialect)) for name, value in fields]


def request_log(log: "FilteringBoundLogger") -> Callable[[str, str, AuthRequest | None, Mapping[str, object]], None]:
    """The sink for lines of scripts and chains, each bound to the request it is about."""
    write = {"debug": log.debug, "info": log.info, "warning": log.warning, "error": log.error}

    def line(level: str, text: str, request: AuthRequest | None, fields: Mapping[str, object]) -> None:
        if request is None:
            write[level](text, **fields)
        else:
            known = {"user": request.user, "rip": request.rip, "session": request.session, "service": request.service}
            write[level](text, **{**known, **fields})

    return line


def load_token_secret(base_dir: os.PathLike[str], log: "FilteringBoundLogger") -> Secret | None:
    """The secret that signs auth tokens, kept in a file of *base_dir* over restarts; `None` if that cannot be."""
    path = os.path.join(base_dir, TOKEN_SECRET_FILE)
    try:
        os.makedirs(base_dir, mode=0o755, exist_ok=True)
        try:
            with open(path, "rb") as file:
                data = file.read()
            if len(data) == TOKEN_SECRET_SIZE:
                return Secret(data)
        except FileNotFoundError:
            pass
        data = secrets.token_bytes(TOKEN_SECRET_SIZE)
        temporary = f"{path}.{os.getpid()}"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        os.rename(temporary, path)
    except OSError as error:
        log.warning("no_auth_tokens", reason=f"{path}: {error.strerror}")
        return None
    return Secret(data)


class App:
    """The running server: its connections, and what they share."""

    def __init__(self, settings: Settings, core: Core, log: "FilteringBoundLogger", reload: Callable[[], Core]) -> None:
        self.dialect = settings.server.dialect
        self.request_timeout = settings.server.request_timeout
        self.core = core
        self.log = log
        self.spid = os.getpid()
        self.ready = Ready()
        self.failures = FailureQueue(settings.auth.failure_delay)
        self.expiry = Expiry(self.request_timeout)
        self.clients: set[Client] = set()
        self.masters: set[Master] = set()
        self.controls: set[Control] = set()
        self.logins: dict[int, Client] = {}
        self.tasks: trio.Nursery
        self._cuids = count(1)
        self._reload = reload
        self._started = time()
        self._requests = self._successes = self._reloads = 0

    def next_cuid(self) -> int:
        """A number for a new client connection."""
        return next(self._cuids)

    def connect(self, listener: Listener, sock: socket.socket) -> None:
        """Serve an accepted connection."""
        kind = listener.settings.kind
        try:
            if kind in CLIENT_KINDS:
                Client(self, listener, sock)
            elif kind in MASTER_KINDS:
                Master(self, listener, sock)
            else:
                Control(self, listener, sock)
        except OSError as error:
            self.log.warning("connection_lost", listener=listener.name, reason=error.strerror)
            sock.close()

    # --- requests ------------------------------------------------------------

    def finished(self, request: AuthRequest, reply: Ok | Fail, started: float) -> None:
        """The one line that every login gets."""
        self._requests += 1
        if isinstance(reply, Ok):
            self._successes += 1
            success, code, reason = "yes", None, request.passdb_fields.get("reason")
        else:
            fields = dict(reply.fields)
            success, code, reason = "no", fields.get("code"), fields.get("reason")
        self.log.info(
            "auth_request_finished",
            success=success,
            user=request.user,
            original_user=request.original_user if request.original_user != request.user else None,
            mech=request.mech,
            service=request.service,
            rip=request.rip,
            session=request.session,
            code=code,
            reason=reason,
            duration=round((perf_counter() - started) * 1e6),
        )

    def bug(self, request: AuthRequest) -> Fail:
        """What to answer when our own code failed; the traceback goes to the log."""
        self.log.error("internal_error", user=request.user, session=request.session, exc_info=True)
        return self.core.auth.temporary_failure(request)

    def timed_out(self, request: AuthRequest) -> Fail:
        """What to answer when a request took too long."""
        self.log.error(
            "auth_request_timed_out", user=request.user, session=request.session, seconds=self.request_timeout
        )
        return self.core.auth.temporary_failure(request)

    # --- control -------------------------------------------------------------

    def cache_flush(self, users: Sequence[str]) -> int:
        """Drop cached entries of *users*, of all when none is named; there is no cache yet, so none is ever dropped."""
        return 0

    def request_reload(self, done: Callable[[str | None], None]) -> None:
        """Load configuration and scripts anew; *done* hears what went wrong, or `None`."""
        error = self.reload()
        done(error)

    def reload(self) -> str | None:
        """Swap in a freshly loaded core; when it does not load, the old one stays and the reason is returned."""
        try:
            core = self._reload()
        except (ConfigError, ScriptError) as error:
            self.log.error("reload_failed", reason=str(error))
            return str(error)
        old, self.core = self.core, core
        self.failures.delay = core.auth.options.failure_delay
        old.retire()
        self._reloads += 1
        self.log.info("reloaded")
        return None

    def status(self) -> Mapping[str, object]:
        """What ``authlua status`` shows."""
        return {
            "pid": self.spid,
            "uptime": round(time() - self._started),
            "dialect": str(self.dialect),
            "clients": len(self.clients),
            "masters": len(self.masters),
            "requests": self._requests,
            "successes": self._successes,
            "failures": self._requests - self._successes,
            "waiting": self.core.holds,
            "reloads": self._reloads,
        }

    # --- life ----------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Nobody waits for an answer."""
        return all(master.idle for master in self.masters) and all(client.idle for client in self.clients)

    def close(self) -> None:
        """Answer what is open and end all connections."""
        self.failures.flush()
        for client in list(self.clients):
            client.fail_open_requests()
            client.close()
        for connection in [*self.masters, *self.controls]:
            connection.close()
        self.core.retire()
        self.ready.close()
