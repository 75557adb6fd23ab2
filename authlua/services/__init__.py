"""What scripts may wait for, on trio: one file for each kind of server. Knows neither Lua nor logins."""

from authlua.services.imap import ImapServer, ImapStorage, exec_server, imap_server

__all__ = ["ImapServer", "ImapStorage", "exec_server", "imap_server"]
