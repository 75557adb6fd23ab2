"""``passwd-file``: users in a text file, a line each, in the form of ``/etc/passwd``.

``user:password:uid:gid:(gecos):home:(shell):extra fields``, where fields at the end may be left out. An extra field
with ``userdb_`` in front belongs to the userdb; values are templates. A line that ends before its gid is for passdbs
only. As in ``core:2.3.21.1:src/auth/db-passwd-file.c``, without its two formats of the time before 2005.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from authlua.databases.compared import Compared
from authlua.databases.fields import compiled, expanded
from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.listing import WholeListing
from authlua.request import AuthRequest
from authlua.results import PassdbReply, PassdbResult, UserdbReply, UserdbResult
from authlua.variables import ExpansionError, Template, Variables, compile_template, request_variables
from authlua.wishes import Compute

MAX_FILES = 256
"""Files kept in memory when the path has variables."""


class User(NamedTuple):
    """A line of the file."""

    password: str
    uid: str
    gid: str
    home: str
    extra: Sequence[tuple[str, str]]
    has_mail: bool
    """The line goes on to where a userdb's part is."""

    def __repr__(self) -> str:
        return f"User(home={self.home!r})"


Users = Mapping[str, User]


def parse(text: str) -> dict[str, User]:
    """The users of a file. Empty lines and comments are passed over; of lines with one name, the first counts."""
    users: dict[str, User] = {}
    for line in text.split("\n"):
        if not line or line[0] in ":#" or line.isspace():
            continue
        parts = line.removesuffix("\r").split(":", 7)
        name, password, uid, gid, _gecos, home, _shell, extra = [*parts, *[""] * 8][:8]
        fields = [(word.partition("=")[0], word.partition("=")[2]) for word in extra.split(" ") if word]
        users.setdefault(name, User(password, uid, gid, home, fields, len(parts) > 3))
    return users


class _Outside(Exception):
    """A variable would lead the path elsewhere."""


class _InPath:
    """Variables for a path: no value spans directories."""

    def __init__(self, variables: Variables) -> None:
        self._variables = variables

    def lookup(self, name: str) -> str | None:
        value = self._variables.lookup(name)
        if value and "/" in value:
            raise _Outside
        return value


class _PasswdFile:
    """Args:
    file: the path, a template.
    username_format: what stands in the file for this user, a template.
    """

    def __init__(self, file: str, *, username_format: str, dialect: Dialect, id: int) -> None:
        self._path: Template = compile_template(file, dialect)
        self._name: Template = compile_template(username_format, dialect)
        self._dialect = dialect
        self._id = id
        self._read: dict[str, tuple[tuple[int, int, int], Users]] = {}

    async def _find(self, request: AuthRequest) -> User | None:
        """The request's user; `None` when the file, or, if its path has variables, any file, has none such.

        Raises:
            ScriptError: the file cannot be read.
        """
        variables = request_variables(request, self._dialect, id=str(self._id))
        try:
            path = self._path.expand(_InPath(variables), strict=True)
            if not _stays_inside(self._path.text, path):
                return None
            name = self._name.expand(variables, strict=True)
        except _Outside:
            return None
        except ExpansionError as error:
            raise ScriptError(f"passwd-file: {error}") from None
        return (await self._users(path)).get(name)

    async def _users(self, path: str) -> Users:
        try:
            status = os.stat(path)
        except FileNotFoundError as error:
            if self._path.variables:
                return {}
            raise ScriptError(f"passwd-file {path}: {error.strerror}") from None
        except OSError as error:
            raise ScriptError(f"passwd-file {path}: {error.strerror}") from None
        version = status.st_mtime_ns, status.st_ino, status.st_size
        known = self._read.pop(path, None)
        if known is None or known[0] != version:
            try:
                known = version, await Compute(_read, path)
            except OSError as error:
                raise ScriptError(f"passwd-file {path}: {error.strerror}") from None
            if len(self._read) >= MAX_FILES:
                del self._read[next(iter(self._read))]
        self._read[path] = known
        return known[1]

    def _extra(self, fields: Iterable[tuple[str, str]], request: AuthRequest) -> list[tuple[str, str | None]]:
        try:
            return expanded(compiled(fields, self._dialect), request, self._dialect, self._id)
        except ExpansionError as error:
            raise ScriptError(f"passwd-file: {error}") from None


class PasswdFilePassdb(_PasswdFile, Compared):
    """Passwords and fields from a file."""

    async def lookup(self, request: AuthRequest) -> PassdbReply:
        """The user's password and extra fields."""
        user = await self._find(request)
        if user is None:
            return PassdbReply(PassdbResult.USER_UNKNOWN)
        return PassdbReply(PassdbResult.OK, [("password", user.password), *self._extra(user.extra, request)])


class PasswdFileUserdb(_PasswdFile):
    """Where mail lives, from a file."""

    async def lookup(self, request: AuthRequest) -> UserdbReply:
        """The user's uid, gid and home, and the extra fields that begin with ``userdb_``.

        Raises:
            ScriptError: the file cannot be read, or it would make the user root.
        """
        user = await self._find(request)
        if user is None or not user.has_mail:
            return UserdbReply(UserdbResult.USER_UNKNOWN)
        if "0" in (user.uid, user.gid):
            raise ScriptError(f"passwd-file: user {request.user} has uid or gid 0, which is for no mail user")
        own = [("uid", user.uid), ("gid", user.gid), ("home", user.home)]
        extra = [(name[7:], value) for name, value in user.extra if name.startswith("userdb_")]
        return UserdbReply(
            UserdbResult.OK, [*((name, value) for name, value in own if value), *self._extra(extra, request)]
        )

    def iterate(self) -> WholeListing:
        """The names in the file; a `ScriptError` when there are many files, or the one cannot be read."""
        return WholeListing(self._names)

    async def _names(self) -> Iterable[str]:
        if self._path.variables:
            raise ScriptError("userdb passwd-file cannot list users when its path has variables")
        return list(await self._users(self._path.text))


def _stays_inside(template: str, path: str) -> bool:
    """Whether every part of *path* that variables of *template* had a say in is the name of something."""
    parts, written = path.split("/"), template.split("/")
    if len(parts) != len(written):
        written = [""] * len(parts)
    return all(part not in ("", ".", "..") for part, text in zip(parts[1:], written[1:], strict=True) if part != text)


def _read(path: str) -> Users:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return parse(file.read())
