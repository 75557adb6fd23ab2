"""``imap``: another IMAP server judges, by letting the user in or not (``core:2.3.21.1:src/auth/passdb-imap.c``)."""

from collections.abc import Mapping
from typing import NamedTuple

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.request import AuthRequest
from authlua.results import PassdbReply, PassdbResult
from authlua.secret import Secret
from authlua.variables import ExpansionError, Template, compile_template, request_variables
from authlua.wishes import Service

PORTS = {"imaps": 993}
"""Where each way of encryption is usually served; else 143."""

_REFUSALS: Mapping[str, PassdbResult] = {
    "": PassdbResult.PASSWORD_MISMATCH,
    "AUTHENTICATIONFAILED": PassdbResult.PASSWORD_MISMATCH,
    "AUTHORIZATIONFAILED": PassdbResult.PASSWORD_MISMATCH,
    "EXPIRED": PassdbResult.PASS_EXPIRED,
}
"""What a NO with that code (RFC 5530) says of the password; with any other it says nothing of it."""


class ImapOptions(NamedTuple):
    """How to come to the server."""

    host: str
    """A template, as *username* is."""
    username: str
    port: int = 0
    """0: the usual one."""
    ssl: str = "no"
    """``no``, ``imaps`` or ``starttls``."""
    ca_file: str = ""
    ca_dir: str = ""
    """Who vouches for the server; both empty: whom this machine trusts."""
    trusts_anybody: bool = False


class ImapPassdb:
    """Logs in elsewhere with the user's name and password; a server that cannot be asked fails the login for now."""

    verifies = True

    def __init__(self, options: ImapOptions, *, dialect: Dialect, id: int) -> None:
        self._options = options
        self._host: Template = compile_template(options.host, dialect)
        self._user: Template = compile_template(options.username, dialect)
        self._dialect = dialect
        self._id = id

    async def verify_plain(self, request: AuthRequest, password: Secret) -> PassdbReply:
        """Does the server let the user in?"""
        options = self._options
        variables = request_variables(request, self._dialect, id=str(self._id))
        try:
            host, user = self._host.expand(variables), self._user.expand(variables)
        except ExpansionError as error:
            raise ScriptError(f"imap: {error}") from None
        if b"\0" in password.reveal():
            return PassdbReply(PassdbResult.PASSWORD_MISMATCH, (), "imap: a NUL in the password")
        port = options.port or PORTS.get(options.ssl, 143)
        verdict, code, text = await Service(
            "imap_login",
            (host, port, options.ssl, options.ca_file, options.ca_dir, options.trusts_anybody, user, password),
        )
        if verdict == "OK":
            return PassdbReply(PassdbResult.OK)
        if verdict == "NO":
            result = _REFUSALS.get(code, PassdbResult.INTERNAL_FAILURE)
            return PassdbReply(result, (), f"[{code}] {text}" if code else text)
        return PassdbReply(PassdbResult.INTERNAL_FAILURE, (), text)

    async def lookup(self, request: AuthRequest) -> PassdbReply:
        """No IMAP server tells passwords."""
        return PassdbReply(PassdbResult.SCHEME_NOT_AVAILABLE, (), "passdb doesn't support credential lookups")
