"""What the core and its scripts may wish for from elsewhere, on trio: one file for each kind of server."""

from authlua.services.errands import fulfil, fulfil_now
from authlua.services.imap import ImapServer, ImapStorage, exec_server, imap_server
from authlua.services.web import close_http, http

__all__ = ["ImapServer", "ImapStorage", "close_http", "exec_server", "fulfil", "fulfil_now", "http", "imap_server"]
