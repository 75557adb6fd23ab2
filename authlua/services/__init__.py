"""What the core and its scripts may wish for from elsewhere, on trio: one file for each kind of server."""

from authlua.services.http import close_http, http
from authlua.services.imap import ImapServer, ImapStorage, exec_server, imap_server

__all__ = ["ImapServer", "ImapStorage", "close_http", "exec_server", "http", "imap_server"]
