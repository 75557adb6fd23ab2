"""Lua: scripts written for Dovecot, called as Dovecot calls them. The only room that knows lupa.

Python extensions find Dovecot's own interface to Lua: `script_create_file`, `script_init`, `pcall`, `push_event` and
what stands beside them in `authlua.lua.script`.
`load_passdb` and `load_userdb` give a script as a database. Their methods are ``async`` yet know no event loop: they
await the wishes of `authlua.wishes` alone, and only when the script does something that takes time.
Mail scripts (`load_mail_script` and what belongs to it) are loaded when they are asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from authlua.lua.api.request import judge_password
from authlua.lua.calls import Refusal, ScriptLog, ScriptOptions
from authlua.lua.databases import LuaPassdb, LuaUserdb, load_passdb, load_userdb
from authlua.lua.detect import detect
from authlua.lua.script import (
    Event,
    Script,
    Scripts,
    pcall,
    push_event,
    register_dovecot,
    script_create_file,
    script_create_stream,
    script_create_string,
    script_has_function,
    script_init,
    script_ref,
    script_unref,
)

if TYPE_CHECKING:
    from authlua.lua.mail import (
        MailScript,
        decoded_header,
        load_mail_script,
        mail_lua_get_script,
        prepare_mail_scripts,
        push_mail,
        push_mail_user,
        push_mailbox,
        register_mail_storage,
        user_variables,
    )
    from authlua.lua.prompt import Prompt

__all__ = [
    "Event",
    "LuaPassdb",
    "LuaUserdb",
    "MailScript",
    "Prompt",
    "Refusal",
    "Script",
    "ScriptLog",
    "ScriptOptions",
    "Scripts",
    "decoded_header",
    "detect",
    "judge_password",
    "load_mail_script",
    "load_passdb",
    "load_userdb",
    "mail_lua_get_script",
    "pcall",
    "prepare_mail_scripts",
    "push_event",
    "push_mail",
    "push_mail_user",
    "push_mailbox",
    "register_dovecot",
    "register_mail_storage",
    "script_create_file",
    "script_create_stream",
    "script_create_string",
    "script_has_function",
    "script_init",
    "script_ref",
    "script_unref",
    "user_variables",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'prompt' if name == 'Prompt' else 'mail'}"), name)
