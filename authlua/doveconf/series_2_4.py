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
}
"""For each driver the names of its settings, without the driver's, and ours."""

_PASSED_OVER = ("driver", "name", "use_worker", "setcred", "max_requests")
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
    for block in root.blocks:
        if block.name in ("passdb", "userdb") and block.argument:
            yield _database(block, root)


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
    return {
        _short(name, database): entry
        for name, entry in settings.items()
        if (name.startswith(kind) and not name.startswith(others)) or name.startswith(driver)
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
    elif name == "password" and database.driver == "static":
        database.own.append(("password", setting))
    elif name in _NOT_WHEN_YES:
        only_when_yes(database, setting, name, _NOT_WHEN_YES[name])
    elif name in _NOT_WHEN_NO:
        if setting.value.lower() == "no":
            database.leave(setting, name, _NOT_WHEN_NO[name])
    elif name not in _PASSED_OVER and database.driver in _OWN:
        database.leave(setting, name, f"the driver {database.driver} of authlua has no such setting")
