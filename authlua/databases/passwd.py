"""``passwd``: the users that the system knows, through ``getpwnam(3)``."""

import pwd
from collections.abc import Iterable

from authlua.databases.compared import Compared
from authlua.errors import ScriptError
from authlua.listing import WholeListing
from authlua.request import AuthRequest
from authlua.results import PassdbReply, PassdbResult, UserdbReply, UserdbResult
from authlua.wishes import Compute


async def _entry(request: AuthRequest) -> pwd.struct_passwd | None:
    try:
        found: pwd.struct_passwd = await Compute(pwd.getpwnam, request.user or "")
    except (KeyError, ValueError, UnicodeEncodeError):
        return None
    except OSError as error:
        raise ScriptError(f"getpwnam() failed: {error.strerror}") from None
    return found


class PasswdPassdb(Compared):
    """Password hashes of the system, where it still shows them; with shadow passwords use PAM."""

    async def lookup(self, request: AuthRequest) -> PassdbReply:
        """The user's hash; a locked account, or one whose hash is elsewhere, is unknown."""
        entry = await _entry(request)
        if entry is None or entry.pw_passwd[:1] in ("", "x", "*", "!"):
            return PassdbReply(PassdbResult.USER_UNKNOWN)
        return PassdbReply(PassdbResult.OK, [("password", entry.pw_passwd), ("user", entry.pw_name)])


class PasswdUserdb:
    """Home, uid and gid of the system's users.

    Args:
        first_uid, last_uid: only users with these uids and those between are listed; a last one of 0 is none.
    """

    def __init__(self, first_uid: int = 0, last_uid: int = 0) -> None:
        self._first_uid = first_uid
        self._last_uid = last_uid

    async def lookup(self, request: AuthRequest) -> UserdbReply:
        """As ``core:2.3.21.1:src/auth/userdb-passwd.c`` names them."""
        entry = await _entry(request)
        if entry is None:
            return UserdbReply(UserdbResult.USER_UNKNOWN)
        return UserdbReply(
            UserdbResult.OK,
            [
                ("user", entry.pw_name),
                ("system_groups_user", entry.pw_name),
                ("uid", str(entry.pw_uid)),
                ("gid", str(entry.pw_gid)),
                ("home", entry.pw_dir),
            ],
        )

    def iterate(self) -> WholeListing:
        """The names the system lists, as far as they are not its own (``…/userdb-passwd.c:passwd_iterate_want_pw``)."""
        return WholeListing(self._names)

    async def _names(self) -> Iterable[str]:
        entries: list[pwd.struct_passwd] = await Compute(pwd.getpwall)
        first, last = self._first_uid, self._last_uid
        return [entry.pw_name for entry in entries if first <= entry.pw_uid and (not last or entry.pw_uid <= last)]
