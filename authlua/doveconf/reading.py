"""From the text to a `Site`: the settings named ``auth_…``, and in what order all is read."""

from collections.abc import Collection, Iterator
from pathlib import Path

from authlua.config import AuthSettings, keys
from authlua.dialect import Dialect
from authlua.doveconf import series_2_3, series_2_4
from authlua.doveconf.drivers import Database, translate
from authlua.doveconf.listeners import read_services
from authlua.doveconf.parsing import Block, Setting, Version, is_hidden, parse, version_of
from authlua.doveconf.site import Left, Site, Table, is_yes, refuse_hidden
from authlua.errors import ConfigError

_RENAMED = {
    "default_domain": "default_realm",
    "policy_server_timeout_msecs": "policy_server_timeout",
    "policy_http_client_request_absolute_timeout": "policy_server_timeout",
}
_WITHOUT_AUTH = ("first_valid_uid", "last_valid_uid")
"""Settings of more than auth that matter here as well."""

_OF_OTHERS = ("auth_socket_path", "auth_allow_cleartext")
"""They say how Dovecot's other processes use an auth server, and stay in its configuration."""

_NEVER = {
    "debug_passwords": "authlua logs no password that is right, not even for debugging; debug is on instead",
    "stats": "a [[listener]] of kind metrics has such numbers",
}
"""Switches that there are not."""

_FILTERS = ("protocol", "local", "remote", "local_name", "mailbox", "namespace")
_NEEDS_A_PASSDB = "authlua has one set of passdbs, userdbs and settings for all"


def _read_file(path: str) -> str:
    return Path(path).read_text("utf-8", "replace")


def read_site(text: str, dialect: Dialect | None = None, *, read_file: series_2_3.ReadFile = _read_file) -> Site:
    """What of *text*, which ``doveconf -n`` printed, authlua has too.

    Args:
        dialect: which grammar it is in; `None` reads that off the text.
        read_file: reads the files that 2.3 has for a passdb oauth2.

    Raises:
        ConfigError: it is no such text, it does not tell its version, or what is needed of it is hidden.
    """
    from authlua.sasl import MECHS

    root = parse(text)
    version = Version(str(dialect), dialect, 0) if dialect else version_of(text, root)
    if version is None:
        raise ConfigError(
            ["expected what `doveconf -n` prints: neither its first line nor a passdb tells which Dovecot"]
        )
    site = Site(version, tuple(MECHS))
    auth, attributes = _auth_settings(root, version.dialect)
    if version.dialect is Dialect.V2_3:
        databases = list(series_2_3.databases(root, read_file))
    else:
        databases = list(series_2_4.databases(root))
    _refuse_hidden(auth, databases)
    _read_auth(auth, attributes, site)
    for database in databases:
        if database.driver in ("lua", "passwd-file") and database.kind == "passdb":
            _say_scheme(database, root, version)
        tables = site.passdbs if database.kind == "passdb" else site.userdbs
        tables.append(translate(database, site))
    if site.passdbs and not site.userdbs:
        site.userdbs.append(Table("userdb", keys={"driver": "static"}, remarks=["as Dovecot without any userdb"]))
    read_services(root, site)
    site.server.left += _in_filters(root)
    site.elsewhere = list(dict.fromkeys(_elsewhere(root)))
    return site


def _auth_settings(root: Block, dialect: Dialect) -> tuple[dict[str, Setting], dict[str, Setting]]:
    """All settings of auth that are in no passdb or userdb, by their whole names; and the policy's attributes."""
    flat = dict(root.settings)
    attributes: dict[str, Setting] = {}
    for block in root.blocks:
        if block.name.startswith("auth_"):
            more, lists = series_2_4.flatten(block, f"{block.name}_")
            flat |= more
            attributes |= lists.get("auth_policy_request_attributes", {})
    if dialect is Dialect.V2_3 and "auth_policy_request_attributes" in flat:
        attributes = dict(series_2_3.template_fields(flat["auth_policy_request_attributes"]))
    ours = {name: setting for name, setting in flat.items() if name.startswith("auth_") or name in _WITHOUT_AUTH}
    return {name: setting for name, setting in ours.items() if name not in _OF_OTHERS}, attributes


def _refuse_hidden(auth: dict[str, Setting], databases: list[Database]) -> None:
    names = [(setting.line, name) for name, setting in auth.items() if is_hidden(setting.value)]
    refuse_hidden([*names, *(hidden for database in databases for hidden in database.hidden())])


def _read_auth(settings: dict[str, Setting], attributes: dict[str, Setting], site: Site) -> None:
    known = keys(AuthSettings)
    site.auth.keys["mechanisms"] = ["plain"]  # Dovecot's default, which is not ours
    for name, setting in settings.items():
        key = name.removeprefix("auth_")
        key = _RENAMED.get(key, key)
        if name == "auth_policy_server_timeout_msecs":
            setting = Setting(f"{setting.value} ms", setting.line)
        if key == "mechanisms":
            if setting.value:
                site.put_mechanisms(site.auth, setting, name)
        elif key == "policy_request_attributes" or (key not in known and key.startswith("policy_http_client_")):
            pass  # a table, below; and how connections are kept, which is not for the admin to say here
        elif key == "worker_max_count":
            site.put(site.lua, "worker_max", setting, name)
        elif key in _NEVER:
            if is_yes(setting.value):
                site.auth.left.append(Left(setting.line, name, _NEVER[key]))
                if key == "debug_passwords":
                    site.auth.keys["debug"] = True
        elif key in known:
            site.put(site.auth, key, setting, name)
        else:
            site.auth.left.append(Left(setting.line, name, "authlua has no such setting"))
    if attributes:
        site.put_fields(
            site.auth, "policy_request_attributes", list(attributes.items()), "auth_policy_request_attributes"
        )
    if site.auth.keys.get("debug") is True:
        site.log.keys["level"] = "debug"


def _say_scheme(database: Database, root: Block, version: Version) -> None:
    """What a password without a scheme is: in 2.4 that depends on which release the configuration was written for."""
    if version.dialect is Dialect.V2_3:
        return
    written_for = root.settings.get("dovecot_config_version", Setting(version.text, 0)).value.split(".")
    new = len(written_for) > 2 and written_for[2].isdecimal() and int(written_for[2]) >= 3
    database.settings.setdefault("scheme", Setting("CRYPT" if new else "PLAIN", database.line))


def _in_filters(root: Block) -> Iterator[Left]:
    """What is said of authentication for some connections only, unless it is what is said for all."""
    for block in root.blocks:
        if block.name not in _FILTERS:
            continue
        where = f"{block.name} {block.argument}".rstrip()
        for name, setting in block.settings.items():
            if name.startswith("auth_") and name not in _OF_OTHERS:
                for_all = root.settings.get(name)
                if for_all is None or for_all.value != setting.value:
                    yield Left(setting.line, f"{where}: {name}", _NEEDS_A_PASSDB)
        for inner in block.blocks:
            if inner.name in ("passdb", "userdb") or inner.name.startswith(("auth_", "oauth2")):
                yield Left(inner.line, f"{where}: {inner.name} {inner.argument}".rstrip(), _NEEDS_A_PASSDB)


def _elsewhere(root: Block) -> Collection[str]:
    """Names of what is not of auth."""
    of_auth = ("auth_", "passdb", "userdb")
    settings = [name for name in root.settings if not name.startswith(of_auth) or name in _OF_OTHERS]
    ours = (*_WITHOUT_AUTH, "dovecot_config_version", "dovecot_storage_version", "base_dir", "oauth2")
    blocks = []
    for block in root.blocks:
        if block.name == "service" and block.argument in ("auth", "auth-worker", "anvil"):
            continue
        if not block.name.startswith(of_auth):
            inside = [*block.settings, *(inner.name for inner in block.blocks)]
            if block.name not in _FILTERS or not all(name.startswith(of_auth) for name in inside):
                blocks.append(f"{block.name} {block.argument}".rstrip())
    return [name for name in [*settings, *blocks] if name not in ours]
