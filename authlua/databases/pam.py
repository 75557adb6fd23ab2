"""``pam``: the system's own judge of passwords, through the library pamela (``pip install authlua[pam]``)."""

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.request import AuthRequest
from authlua.results import PassdbReply, PassdbResult
from authlua.secret import Secret
from authlua.variables import ExpansionError, Template, compile_template, request_variables
from authlua.wishes import Compute

USER_UNKNOWN = 10
NEW_PASSWORD_REQUIRED = 12
ACCOUNT_EXPIRED = 13
FAILURES = {1, 2, 3, 4, 5, 9, 26}
"""Numbers of ``_pam_types.h`` that mean a broken set-up: open, symbol, service, system and buffer errors, no user
database, an abort."""

_RESULTS = {
    USER_UNKNOWN: PassdbResult.USER_UNKNOWN,
    NEW_PASSWORD_REQUIRED: PassdbResult.PASS_EXPIRED,
    ACCOUNT_EXPIRED: PassdbResult.PASS_EXPIRED,
}


class PamPassdb:
    """Asks PAM, which tells nobody a stored password.

    Args:
        service: the file in ``/etc/pam.d`` that says how, a template.
    """

    verifies = True

    def __init__(self, service: str, *, dialect: Dialect, id: int) -> None:
        self._service: Template = compile_template(service, dialect)
        self._dialect = dialect
        self._id = id

    async def verify_plain(self, request: AuthRequest, password: Secret) -> PassdbReply:
        """Is this the user's password, and may the user log in with it now?"""
        try:
            service = self._service.expand(request_variables(request, self._dialect, id=str(self._id)), strict=True)
        except ExpansionError as error:
            raise ScriptError(f"pam: {error}") from None
        result, text = await Compute(_ask, request.user or "", password, service)
        return PassdbReply(result, (), text)

    async def lookup(self, request: AuthRequest) -> PassdbReply:
        """PAM cannot."""
        return PassdbReply(PassdbResult.SCHEME_NOT_AVAILABLE, (), "passdb doesn't support credential lookups")


def _ask(user: str, password: Secret, service: str) -> tuple[PassdbResult, str]:
    import pamela

    try:
        # what a NUL would cut off in C must not be a part of the password here
        if b"\0" in password.reveal() or "\0" in user:
            return PassdbResult.PASSWORD_MISMATCH, "PAM: a NUL in name or password"
        pamela.authenticate(user.encode("utf-8", "surrogateescape"), (password.reveal(),), service)
    except pamela.PAMError as error:
        if error.errno in FAILURES:
            return PassdbResult.INTERNAL_FAILURE, f"PAM: {error}"
        return _RESULTS.get(error.errno, PassdbResult.PASSWORD_MISMATCH), f"PAM: {error}"
    return PassdbResult.OK, ""
