"""Dovecot 2.3's ``passdb { driver = …  args = … }``: each driver has a grammar of its own for ``args``."""

from collections.abc import Callable, Iterator

from authlua.doveconf.drivers import Database, Fields, only_when_yes, opposite
from authlua.doveconf.parsing import Block, Setting, parse
from authlua.errors import ConfigError

ReadFile = Callable[[str], str]
"""The text of the file with this path; raises `OSError`."""

_BOTH = ("name", "skip", "result_success", "result_failure", "result_internalfail", "auth_verbose")
_COMMON = {"passdb": (*_BOTH, "master", "deny", "mechanisms", "username_filter"), "userdb": _BOTH}
_IMAP = {
    "host": "host",
    "port": "port",
    "username": "username",
    "ssl": "ssl",
    "ssl_ca_file": "ssl_client_ca_file",
    "ssl_ca_dir": "ssl_client_ca_dir",
}
_OAUTH2 = {
    "username_format": "username_validation_format",
    "tls_ca_cert_file": "ssl_client_ca_file",
    "tls_ca_cert_dir": "ssl_client_ca_dir",
    "tls_cert_file": "ssl_client_cert_file",
    "tls_key_file": "ssl_client_key_file",
    **{
        name: name
        for name in (
            "tokeninfo_url",
            "introspection_url",
            "introspection_mode",
            "force_introspection",
            "grant_url",
            "use_grant_password",
            "username_attribute",
            "active_attribute",
            "active_value",
            "scope",
            "issuers",
            "client_id",
            "client_secret",
            "send_auth_headers",
            "local_validation_key_dict",
        )
    },
}
"""The names in the file that ``args`` of oauth2 names, and ours."""
_OAUTH2_PASSED_OVER = (
    "blocking",
    "debug",
    "max_idle_time_msecs",
    "max_parallel_connections",
    "max_pipelined_requests",
)
_NO_SESSION = "authlua only asks PAM whether the password is right"


def databases(root: Block, read_file: ReadFile) -> Iterator[Database]:
    """The passdbs and userdbs outside of other blocks, in their order."""
    seen: dict[tuple[str, str, str], Database] = {}
    for block in root.blocks:
        if block.name not in ("passdb", "userdb"):
            continue
        database = _database(block, read_file)
        args = block.settings.get("args", Setting("", 0)).value
        first = seen.setdefault((database.kind, database.driver, args), database)
        if first is not database and database.kind == "passdb":
            _share_filters(first, database)
        yield database


def _share_filters(first: Database, database: Database) -> None:
    """Passdbs with the same driver and arguments are one to Dovecot, with the filters of the first.

    ``core:2.3.21.1:src/auth/passdb.c:passdb_preinit``
    """
    for name in ("mechanisms", "username_filter"):
        of_first, own = first.settings.get(name), database.settings.get(name)
        if (of_first.value if of_first else "") == (own.value if own else ""):
            continue
        why = f"Dovecot ignores it, as an earlier passdb on line {first.line} has the same driver and args"
        database.leave(own or Setting("", database.line), name, f"{why}; the filter of that one counts")
        database.settings.pop(name, None)
        if of_first:
            database.settings[name] = of_first


def _database(block: Block, read_file: ReadFile) -> Database:
    settings = dict(block.settings)
    driver = settings.pop("driver", Setting("", block.line)).value
    database = Database(block.name, driver, block.line)
    args = settings.pop("args", Setting("", block.line))
    for name, setting in settings.items():
        if name in _COMMON[block.name]:
            database.settings[name] = setting
        elif name == "pass" and block.name == "passdb":
            if setting.value == "yes":
                database.settings["result_success"] = Setting("continue", setting.line)
                database.names["result_success"] = "pass"
        elif name == "default_fields":
            database.before = template_fields(setting)
        elif name == "override_fields":
            database.after = template_fields(setting)
        else:
            database.leave(setting, name, "not a setting of Dovecot 2.3 that authlua knows")
    if not database.settings.get("name", Setting("", 0)).value:
        database.settings.pop("name", None)
    if driver == "oauth2" and database.kind == "passdb":
        _oauth2(database, args, read_file)
    read = _READERS.get(driver)
    if read is not None:
        read(database, args)
    return database


def template_fields(setting: Setting) -> Fields:
    """``name=value name …``; only blanks part them (``core:2.3.21.1:src/auth/passdb-template.c``)."""
    pairs = (word.partition("=") for word in setting.value.split(" ") if word)
    return [(name, Setting(value, setting.line)) for name, _, value in pairs]


def _lua(database: Database, args: Setting) -> None:
    ours = {"file": "script", "blocking": "use_worker", "cache_key": "cache_key"}
    if database.kind == "passdb":
        ours["scheme"] = "scheme"
    for word in args.value.split(" "):
        name, _, value = word.partition("=")
        if name in ours:
            database.settings[ours[name]] = Setting(value, args.line)
            database.names[ours[name]] = f"args {name}"
        elif word:
            database.leave(args, f"args {word}", "Dovecot's driver lua knows no such argument")


def _passwd_file(database: Database, args: Setting) -> None:
    ours = ("scheme", "username_format") if database.kind == "passdb" else ("username_format",)
    rest = args.value.lstrip(" ")
    while rest.startswith(tuple(f"{name}=" for name in ours)):
        word, _, rest = rest.partition(" ")
        name, _, value = word.partition("=")
        database.settings[name] = Setting(value, args.line)
        rest = rest.lstrip(" ")
    database.settings["file"] = Setting(rest, args.line)
    database.names["file"] = "args"


def _static(database: Database, args: Setting) -> None:
    database.own = template_fields(args)
    if database.kind == "userdb":
        asked = [setting for name, setting in database.own if name == "allow_all_users"]
        database.own = [(name, setting) for name, setting in database.own if name != "allow_all_users"]
        if asked:
            database.settings["allow_all_users"] = asked[-1]


def _passwd(database: Database, args: Setting) -> None:
    """What stands in a userdb's ``args`` is set after the lookup (``core:2.3.21.1:src/auth/userdb-passwd.c``)."""
    fields = [(name, setting) for name, setting in template_fields(args) if name != "blocking"]
    if database.kind == "userdb":
        database.after = [*fields, *database.after]
    else:
        for name, setting in fields:
            database.leave(setting, f"args {name}", "Dovecot's passdb passwd knows no such argument")


def _pam(database: Database, args: Setting) -> None:
    for word in args.value.split(" "):
        name, _, value = word.partition("=")
        setting = Setting(value, args.line)
        if name == "cache_key":
            database.settings["cache_key"] = setting
        elif name == "session":
            only_when_yes(database, setting, "args session", f"{_NO_SESSION}, and opens no session")
        elif name == "-session":
            database.leave(args, "args -session", f"{_NO_SESSION}, and opens no session")
        elif name == "failure_show_msg":
            only_when_yes(database, setting, "args failure_show_msg", "what PAM says of a failure is only logged")
        elif name in ("setcred", "blocking", "max_requests") or not word:
            pass  # authlua sets credentials as PAM wants it, and asks in threads
        elif word == "*":
            database.settings["service"] = Setting("%Ls", args.line)
        else:
            database.settings["service"] = Setting(word, args.line)
            database.names["service"] = "args"


def _imap(database: Database, args: Setting) -> None:
    for word in args.value.split(" "):
        name, _, value = word.partition("=")
        setting = Setting(value, args.line)
        if name in _IMAP:
            database.settings[_IMAP[name]] = setting
            database.names[_IMAP[name]] = f"args {name}"
        elif name == "allow_invalid_cert":
            database.settings["ssl_client_require_valid_cert"] = opposite(setting)
        elif word:
            database.leave(args, f"args {name}", "the driver imap of authlua has no such setting")


def _oauth2(database: Database, args: Setting, read_file: ReadFile) -> None:
    """The settings of this driver are in a file of their own."""
    try:
        settings = parse(read_file(args.value)).settings
    except (OSError, ConfigError) as error:
        why = error.strerror if isinstance(error, OSError) else error.problems[0]
        database.leave(args, "args", f"{args.value} cannot be read ({why}), so its settings are missing here")
        return
    for name, (value, _) in settings.items():
        setting = Setting(value, args.line)
        if name in _OAUTH2:
            database.settings[_OAUTH2[name]] = setting
            database.names[_OAUTH2[name]] = f"{name} in {args.value}"
        elif name == "pass_attrs":
            database.own = template_fields(setting)
        elif name == "timeout_msecs":
            database.settings["timeout"] = Setting(f"{value} ms", args.line)
        elif name == "tls_allow_invalid_cert":
            database.settings["ssl_client_require_valid_cert"] = opposite(setting)
        elif name == "openid_configuration_url":
            database.auth[name] = setting
        elif name not in _OAUTH2_PASSED_OVER:
            database.leave(args, f"{name} in {args.value}", "the driver oauth2 of authlua has no such setting")


_READERS = {
    "imap": _imap,
    "lua": _lua,
    "passwd-file": _passwd_file,
    "static": _static,
    "passwd": _passwd,
    "pam": _pam,
}
