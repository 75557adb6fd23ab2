"""The server: trio, sockets, signals. Parses no line and judges no result."""

from authlua.server.core import Core, open_core
from authlua.server.dovecot import serve_dovecot
from authlua.server.driving import Done, begin, complete, finish
from authlua.server.mail import MailScripts, script_log
from authlua.server.running import serve

__all__ = [
    "Core",
    "Done",
    "MailScripts",
    "begin",
    "complete",
    "finish",
    "open_core",
    "script_log",
    "serve",
    "serve_dovecot",
]
