"""What the core and its scripts may wish for from elsewhere, on trio: one file for each kind of server."""

from authlua.services.errands import attach, errand, fulfil, fulfil_now, wait_for
from authlua.services.imap import ImapServer, exec_server, imap_server
from authlua.services.imap_storage import ImapStorage
from authlua.services.state import State, use

__all__ = [
    "ImapServer",
    "ImapStorage",
    "State",
    "attach",
    "errand",
    "exec_server",
    "fulfil",
    "fulfil_now",
    "imap_server",
    "use",
    "wait_for",
]
