"""The small passdbs and userdbs that sites put beside a script: fixed fields, a passwd file, the system's users, PAM,
another IMAP server, OAuth2 tokens.

Each is a passdb or a userdb as `authlua.auth` wants it. What blocks is wished for, never done.
"""

from authlua.databases.imap import ImapOptions, ImapPassdb
from authlua.databases.oauth2 import OAuth2Options, OAuth2Passdb
from authlua.databases.pam import PamPassdb
from authlua.databases.passwd import PasswdPassdb, PasswdUserdb
from authlua.databases.passwd_file import PasswdFilePassdb, PasswdFileUserdb
from authlua.databases.prefetch import PrefetchUserdb
from authlua.databases.static import StaticPassdb, StaticUserdb
from authlua.databases.tokens import KeyFiles, KeySet

__all__ = [
    "ImapOptions",
    "ImapPassdb",
    "KeyFiles",
    "KeySet",
    "OAuth2Options",
    "OAuth2Passdb",
    "PamPassdb",
    "PasswdFilePassdb",
    "PasswdFileUserdb",
    "PasswdPassdb",
    "PasswdUserdb",
    "PrefetchUserdb",
    "StaticPassdb",
    "StaticUserdb",
]
