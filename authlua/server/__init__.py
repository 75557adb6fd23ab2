"""The server: trio, sockets, signals. Parses no line and judges no result.

What only a running server needs is loaded when it is asked for: commands that ask a script once start without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from authlua.server.core import Core, open_core
from authlua.server.driving import Done, begin, complete, finish

if TYPE_CHECKING:
    from authlua.server.dovecot import serve_dovecot
    from authlua.server.mail import MailScripts
    from authlua.server.mail_process import Rights
    from authlua.server.running import serve
    from authlua.server.zygote import Zygote

__all__ = [
    "Core",
    "Done",
    "MailScripts",
    "Rights",
    "Zygote",
    "begin",
    "complete",
    "finish",
    "open_core",
    "serve",
    "serve_dovecot",
]

_LATER = {
    "MailScripts": "mail",
    "Rights": "mail_process",
    "Zygote": "zygote",
    "serve": "running",
    "serve_dovecot": "dovecot",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
