"""Lua: scripts written for Dovecot, called as Dovecot calls them. The only room that knows lupa.

`load_passdb` and `load_userdb` give a script as a database. Their methods are ``async`` yet know no event loop: they
await the wishes of `authlua.wishes` alone, and only when the script does something that takes time.
"""

from authlua.lua.calls import ScriptLog, ScriptOptions
from authlua.lua.databases import LuaPassdb, LuaUserdb, load_passdb, load_userdb
from authlua.lua.detect import detect
from authlua.lua.mail import MailScript, decoded_header, load_mail_script, mail_lua_get_script, user_variables

__all__ = [
    "LuaPassdb",
    "LuaUserdb",
    "MailScript",
    "ScriptLog",
    "ScriptOptions",
    "decoded_header",
    "detect",
    "load_mail_script",
    "load_passdb",
    "load_userdb",
    "mail_lua_get_script",
    "user_variables",
]
