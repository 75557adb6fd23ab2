"""User names: from what the client typed to the name the databases are asked about."""

from authlua.dialect import Dialect
from authlua.request import AuthRequest
from authlua.variables import ExpansionError, Template, request_variables

MAX_KNOWN = 4096
"""Names whose normal form is remembered."""

MAX_SHOWN = 128
"""Bytes of a refused name that the log shows."""


class NameRefused(ValueError):
    """The name cannot be a user's; the message is for the log."""


class Names:
    """Dovecot's normalisation (``core:2.3.21.1:src/auth/auth-request-fields.c:auth_request_fix_username``).

    Args:
        chars: the bytes a name may consist of; empty allows all.
        translation: pairs of bytes, each first one is replaced by its second.
        format: expanded with the name so far as its user; `None` leaves the name as it is.
        default_realm: appended after an ``@`` to names without one.
        separator: parts ``target*master``; empty when master logins by name are off.
        masters: there are master passdbs.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        chars: str = "",
        translation: str = "",
        format: Template | None = None,
        default_realm: str = "",
        separator: str = "",
        masters: bool = False,
    ) -> None:
        self._dialect = dialect
        self._allowed = _bytes(chars)
        pairs = _bytes(translation)
        self._table = bytes.maketrans(pairs[::2], pairs[1::2]) if pairs else None
        self._format = format
        self._default_realm = default_realm
        self._separator = separator[:1]
        self._masters = masters
        # what becomes of a name hangs on nothing but the name, unless the format looks at more of the request
        self._known: dict[str, str] | None = {} if format is None or {"user"}.issuperset(format.variables) else None

    def set_user(self, request: AuthRequest, name: str) -> None:
        """Make *name* the request's user, and its master part, if it has one, the master.

        Raises:
            NameRefused: the request has no user now.
        """
        target: str | None = None
        if self._separator and self._separator in name:
            target, _, name = name.partition(self._separator)
        if request.original_user is None:
            request.original_user = name
        if request.cert_username:
            name = request.cert_username
        known = self._known
        user = known.get(name) if known is not None else None
        if user is None:
            request.user = None
            user = self._normalize(request, name)
            if known is not None:
                if len(known) >= MAX_KNOWN:
                    known.clear()
                known[name] = user
        request.user = user
        if request.translated_user is None:
            request.translated_user = request.user
        if target is not None:
            self.set_login_user(request, target)

    def set_login_user(self, request: AuthRequest, target: str) -> None:
        """The request's user wants to become *target*.

        Raises:
            NameRefused: there is no target, no such name, or no passdb for masters.
        """
        if not target:
            raise NameRefused("Master user login attempted to use empty login username")
        if target == request.user:
            return
        if not self._masters:
            raise NameRefused("Master user login attempted without master passdbs")
        user = request.user
        try:
            request.requested_login_user = self._normalize(request, target)
        finally:
            request.user = user

    def _normalize(self, request: AuthRequest, name: str) -> str:
        if self._default_realm and "@" not in name:
            name = f"{name}@{self._default_realm}"
        if self._table is not None:
            name = _text(_bytes(name).translate(self._table))
        if self._allowed:
            strange = _bytes(name).translate(None, self._allowed)
            if strange:
                raise NameRefused(
                    "Username character disallowed by auth_username_chars: "
                    f"0x{strange[0]:02x} (username: {_sanitized(name)})"
                )
        if self._format is not None:
            request.user = name
            try:
                name = self._format.expand(request_variables(request, self._dialect))
            except ExpansionError as error:
                raise NameRefused(f"Failed to expand username_format={self._format.text}: {error}") from None
            finally:
                request.user = None
        if not name:
            raise NameRefused("Empty username")
        return name


def _sanitized(name: str) -> str:
    """*name* for the log: ``?`` for what cannot be shown, cut off (``core:2.3.21.1:src/lib/str-sanitize.c``)."""
    shown = "".join([char if char.isprintable() else "?" for char in name])
    return shown if len(_bytes(shown)) <= MAX_SHOWN else f"{_text(_bytes(shown)[: MAX_SHOWN - 3])}..."


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
