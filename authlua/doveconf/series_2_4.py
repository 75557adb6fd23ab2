"""Dovecot 2.4's ``passdb NAME { … }``: names may be long (``passdb_pam_session``) or short, here or for all at once."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

from authlua.doveconf.drivers import Database, only_when_yes
from authlua.doveconf.parsing import Block, Setting

Flat = dict[str, Setting]
Lists = dict[str, Flat]
"""Settings that are lists of names with values, such as ``fields``."""
T = TypeVar("T")

_LISTS = ("fields", "lua_settings", "settings", "request_attributes")
_DRIVERS = ("lua", "passwd_file", "static", "pam", "imap", "oauth2", "sql", "ldap", "bsdauth", "passwd", "prefetch")

_BOTH = ("skip", "result_success", "result_failure", "result_internalfail", "auth_verbose")
_COMMON = {"passdb": (*_BOTH, "master", "deny", "username_filter"), "userdb": _BOTH}
_RENAMED = {"mechanisms_filter": "mechanisms", "default_password_scheme": "scheme"}

_OWN: Mapping[str, Mapping[str, str]] = {
    "lua": {"file": "script", "use_worker": "use_worker"},
    "passwd-file": {"path": "file", "auth_username_format": "username_format"},
    "pam": {"service_name": "service"},
    "static": {"allow_all_users": "allow_all_users"},
    "passwd": {},
    "prefetch": {},
    "imap": {
        "imapc_host": "host",
        "imapc_port": "port",
        "imapc_user": "username",
        "imapc_ssl": "ssl",
        "ssl_client_ca_file": "ssl_client_ca_file",
        "ssl_client_ca_dir": "ssl_client_ca_dir",
        "ssl_client_require_valid_cert": "ssl_client_require_valid_cert",
    },
    "oauth2": {
        "http_client_request_absolute_timeout": "timeout",
        **{
            name: name
            for name in (
                "tokeninfo_url",
                "introspection_url",
                "introspection_mode",
                "force_introspection",
                "grant_url",
                "username_attribute",
                "username_validation_format",
                "active_attribute",
                "active_value",
                "scope",
                "issuers",
                "client_id",
                "client_secret",
                "send_auth_headers",
                "token_expire_grace",
                "ssl_client_ca_file",
                "ssl_client_ca_dir",
                "ssl_client_cert_file",
                "ssl_client_key_file",
                "ssl_client_require_valid_cert",
            )
        },
    },
}
"""For each driver the names of its settings, without the driver's, and ours."""

_FOR_ALL = ("imapc_", "ssl_client_")
"""Beginnings of settings of many things; those a driver knows count for it too."""

_TOKEN_MECHS = ("oauthbearer", "xoauth2")
_KEYS = "local_validation_dict_fs_prefix"
_PASSED_OVER = ("driver", "name", "use_worker", "use_worker_with_mech", "setcred", "max_requests")
_NOT_WHEN_YES = {
    "session": "authlua only asks PAM whether the password is right, and opens no session",
    "failure_show_msg": "what PAM says of a failure is only logged",
}
_NOT_WHEN_NO = {
    "use_cache": "what is not to be cached is for the script's get_cache_key functions to say",
    "fields_import_all": "authlua sets every field that a database returns",
}


def flatten(block: Block, prefix: str) -> tuple[Flat, Lists]:
    """The settings of *block* and of the blocks in it that only group names, each with *prefix* unless it has it.

    2.4 prints ``auth_policy { server_url = … }`` for ``auth_policy_server_url``.
    """
    flat: Flat = {}
    lists: Lists = {}
    for name, setting in block.settings.items():
        flat[name if name.startswith(prefix) else prefix + name] = setting
    for inner in block.blocks:
        name = inner.name if inner.name.startswith(prefix) else prefix + inner.name
        if inner.name.endswith(_LISTS):
            lists[name] = inner.settings
        else:
            more, more_lists = flatten(inner, f"{name}_")
            flat |= more
            lists |= more_lists
    return flat, lists


def databases(root: Block) -> Iterator[Database]:
    """The passdbs and userdbs outside of other blocks, in their order."""
    others = [block for block in root.blocks if block.name in ("passdb", "userdb") and block.argument]
    for block in root.blocks:
        if block.name == "oauth2" and (offered := _token_mechs(root)):
            last = not any(other.name == "passdb" for other in others)
            yield _judge_of_tokens(block, root, offered, last=last)
    for block in others:
        yield _database(block, root)


def _token_mechs(root: Block) -> list[str]:
    return [mech for mech in root.settings.get("auth_mechanisms", Setting("", 0)).value.split() if mech in _TOKEN_MECHS]


def _judge_of_tokens(block: Block, root: Block, offered: list[str], *, last: bool) -> Database:
    """What an ``oauth2`` block does before any passdb is asked, as a passdb in front of the others.

    With the token's verdict the password counts as verified, and the others have their say on the user.
    """
    judge = Block("passdb", "oauth2", block.line, blocks=[block])
    database = _database(judge, root)
    database.settings["mechanisms"] = Setting(" ".join(offered), block.line)
    database.settings["result_failure"] = Setting("return-fail", block.line)
    database.settings["result_internalfail"] = Setting("return-fail", block.line)
    if not last:
        database.settings["result_success"] = Setting("continue", block.line)
    database.settings.pop("grant_url", None)
    return database


def _database(block: Block, root: Block) -> Database:
    kind = block.name
    driver = (block.settings.get("driver") or Setting(block.argument, block.line)).value
    database = Database(kind, driver, block.line)
    if block.argument != driver:
        database.settings["name"] = Setting(block.argument, block.line)
    groups = Block(settings=root.settings, blocks=[one for one in root.blocks if not one.argument])
    for_all, lists_for_all = flatten(groups, "")
    own, own_lists = flatten(block, "")
    settings = _about(database, for_all) | {_short(name, database): setting for name, setting in own.items()}
    lists = _about(database, lists_for_all)
    if driver == "oauth2":
        claims = {**lists_for_all.get("oauth2_fields", {}), **own_lists.pop("oauth2_fields", {})}
        database.own += claims.items()
        lists.pop("fields", None)
        lists |= {"fields": lists_for_all["passdb_fields"]} if "passdb_fields" in lists_for_all else {}
    for name, entries in own_lists.items():
        short = _short(name, database)
        lists[short] = {**lists.get(short, {}), **entries}
    if driver == "passwd-file" and "auth_username_format" in root.settings:
        settings.setdefault("auth_username_format", root.settings["auth_username_format"])
    for name, setting in settings.items():
        _take(database, name, setting)
    fields = list(lists.pop("fields", {}).items())
    if driver == "lua":
        database.before = fields  # core:2.4.1:src/auth/passdb-lua.c sets them before it calls the script
    elif driver == "static":
        database.own += fields
    else:
        database.after = fields
    for name, entries in lists.items():
        if driver == "lua" and name == "settings":
            database.script_settings = list(entries.items())
        elif entries:
            database.leave(next(iter(entries.values())), name, f"the driver {driver} of authlua has no such setting")
    return database


def _about(database: Database, settings: Mapping[str, T]) -> dict[str, T]:
    """Those of *settings*, which are for all databases, that are about *database* too, by their short names."""
    kind, driver = f"{database.kind}_", f"{_underscored(database)}_"
    others = tuple(kind + one for one in _DRIVERS if one + "_" != driver)
    known = _OWN.get(database.driver, {})
    return {
        _short(name, database): entry
        for name, entry in settings.items()
        if (name.startswith(kind) and not name.startswith(others))
        or name.startswith(driver)
        or (name.startswith(_FOR_ALL) and name in known)
    }


def _underscored(database: Database) -> str:
    return database.driver.replace("-", "_")


def _short(name: str, database: Database) -> str:
    """*name* without what only says which passdb or userdb it is about."""
    name = name.removeprefix(f"{database.kind}_")
    return name.removeprefix(f"{_underscored(database)}_")


def _take(database: Database, name: str, setting: Setting) -> None:
    ours = _OWN.get(database.driver, {})
    if name in _COMMON[database.kind]:
        database.settings[name] = setting
    elif name in _RENAMED and database.kind == "passdb":
        database.settings[_RENAMED[name]] = setting
        database.names[_RENAMED[name]] = name
    elif name in ours:
        database.settings[ours[name]] = setting
        database.names[ours[name]] = name
    elif name == _KEYS and database.driver == "oauth2":
        database.settings["local_validation_key_dict"] = Setting(f"fs:posix:prefix={setting.value}", setting.line)
    elif name == "openid_configuration_url" and database.driver == "oauth2":
        database.auth[name] = setting
    elif name == "password" and database.driver == "static":
        database.own.append(("password", setting))
    elif name in _NOT_WHEN_YES:
        only_when_yes(database, setting, name, _NOT_WHEN_YES[name])
    elif name in _NOT_WHEN_NO:
        if setting.value.lower() == "no":
            database.leave(setting, name, _NOT_WHEN_NO[name])
    elif name not in _PASSED_OVER and database.driver in _OWN:
        database.leave(setting, name, f"the driver {database.driver} of authlua has no such setting")
