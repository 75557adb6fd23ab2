"""The small passdbs and userdbs that sites put beside a script: fixed fields, a passwd file, the system's users, PAM.

Each is a passdb or a userdb as `authlua.auth` wants it. What blocks is wished for, never done.
"""

from authlua.databases.pam import PamPassdb
from authlua.databases.passwd import PasswdPassdb, PasswdUserdb
from authlua.databases.passwd_file import PasswdFilePassdb, PasswdFileUserdb
from authlua.databases.prefetch import PrefetchUserdb
from authlua.databases.static import StaticPassdb, StaticUserdb

__all__ = [
    "PamPassdb",
    "PasswdFilePassdb",
    "PasswdFileUserdb",
    "PasswdPassdb",
    "PasswdUserdb",
    "PrefetchUserdb",
    "StaticPassdb",
    "StaticUserdb",
]
