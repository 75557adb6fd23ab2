"""What the core and its scripts may wish for from elsewhere, on trio: one file for each kind of server."""

from authlua.services.errands import fulfil, fulfil_now
from authlua.services.imap import ImapServer, ImapStorage, exec_server, imap_server

__all__ = ["ImapServer", "ImapStorage", "exec_server", "fulfil", "fulfil_now", "imap_server"]
