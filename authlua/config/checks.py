"""What one key alone cannot tell: keys that need or exclude each other, and the machine they name."""

import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from authlua.config.settings import (
    DRIVER_KEYS,
    DRIVER_NEEDS,
    KEEPS_PASSWORDS,
    TELLS_NO_PASSWORDS,
    AuthSettings,
    PassdbSettings,
    Settings,
    StateSettings,
    UserdbSettings,
    databases,
    each,
    keys,
)
from authlua.dialect import Dialect
from authlua.urls import parse_url


def check(settings: Settings, told: Sequence[str]) -> list[str]:
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
    for where, database in databases(settings):
        needed = DRIVER_NEEDS.get(database.driver)
        if needed and not getattr(database, needed) and not any(p.startswith(f"{where}.") for p in told):
            problems.append(f"{where}.{needed}: missing, and driver {database.driver} cannot do without it")
        for name, entry in keys(type(database)).items():
            drivers = DRIVER_KEYS.get(name, (database.driver,))
            if database.driver not in drivers and getattr(database, name) not in (entry.default, entry.since_2_4):
                problems.append(f"{where}.{name}: not for driver {database.driver}, only for {', '.join(drivers)}")
        problems += _check_script(f"{where}.script", database.script)
    return problems + _check_script("mail.script", settings.mail.script)


def _check_script(where: str, script: Path | None) -> list[str]:
    """It is a file, as far as can be seen without opening it."""
    if script is None:
        return []
    try:
        mode = script.stat().st_mode
    except FileNotFoundError:
        return [f"{where}: no such file: {script}"]
    except OSError as error:
        return [f"{where}: {script}: {error.strerror}"]
    return [] if stat.S_ISREG(mode) else [f"{where}: expected a file: {script}"]


_SHARED = ("dialect", "use_worker", "settings", "auth_verbose")
"""What a Lua state has for all who share it."""


def _check_sharing(settings: Settings) -> list[str]:
    """Those that share a script want the same of it."""
    problems = []
    first: dict[Path, tuple[str, PassdbSettings | UserdbSettings]] = {}
    for where, database in databases(settings):
        if not database.share or database.script is None:
            continue
        other, shared = first.setdefault(database.script, (where, database))
        problems += [
            f"{where}.{name}: must be that of {other}, which shares {database.script.name}"
            for name in _SHARED
            if getattr(database, name) != getattr(shared, name)
        ]
    return problems


def _check_chain(passdbs: Sequence[PassdbSettings]) -> list[str]:
    problems = []
    for where, passdb in each("passdb", passdbs):
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
    for where, listener in each("listener", settings.listeners):
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
    for where, one in each("passdb", passdbs):
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
    for where, listener in each("listener", settings.listeners):
        wanted += [
            (f"{where}.user", listener.user, pwd.getpwnam),
            (f"{where}.group", listener.group, grp.getgrnam),
        ]
    for where, userdb in each("userdb", settings.userdbs):
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
