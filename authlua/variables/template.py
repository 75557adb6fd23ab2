"""What a compiled template is, and what it asks of those who expand it.

Inside, values are bytes: widths count bytes, hashes hash them, and a name that is no valid UTF-8 passes
through whole. Text goes in and comes out as everywhere in authlua, undecodable bytes as surrogates.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol


class ExpansionError(ValueError):
    """A template cannot be compiled or expanded; the text is Dovecot's, less ``var_expand(…) failed: ``."""


class QuotingError(ExpansionError):
    """An `ExpansionError` whose text quotes a value, so that it must not leave a template with secrets."""


class Variables(Protocol):
    """Where a template finds its values."""

    def lookup(self, name: str, /) -> str | None:
        """The value of the variable *name* (a long name, or ``prefix:field``); `None` when it is unset.

        Raises `KeyError` when there is no such variable or prefix, `ExpansionError` when a prefix has no
        such field and says so.
        """


Part = Callable[[Variables], bytes]


def literal(text: bytes) -> Part:
    """The part that is always *text*."""
    return lambda variables: text


def is_secret(name: str) -> bool:
    """Whether the variable *name* holds something that no error text may quote."""
    return name in ("password", "token") or name.startswith(("passdb:pass", "passdb:token"))


class Template:
    """A compiled template: immutable, cheap to expand, shared by all who compile the same text."""

    __slots__ = ("_parts", "_secret", "text", "variables")

    def __init__(self, text: str, parts: Sequence[Part], variables: Iterable[str]) -> None:
        self.text = text
        self.variables = tuple(dict.fromkeys(variables))
        """Long names of all variables used, ``prefix:field`` included, each once, in order of appearance."""
        self._parts = tuple(parts)
        self._secret = any(is_secret(name) for name in self.variables)

    def expand(self, variables: Variables, *, strict: bool = False) -> str:
        """The text with every variable in place.

        An unknown variable of the 2.3 grammar becomes ``UNSUPPORTED_VARIABLE_name``, as in a script's
        ``req:var_expand``; *strict* makes it an error, as in ``default_fields``
        (``core:2.3.21.1:src/auth/passdb-template.c:passdb_template_export``). In 2.4 it always is one.

        Raises `ExpansionError`.
        """
        if strict:
            variables = _Strict(variables)
        try:
            result = b"".join([part(variables) for part in self._parts])
        except QuotingError:
            if self._secret:
                raise ExpansionError("a value is not what is expected (hidden, it may be a password)") from None
            raise
        if b"\0" in result:  # which ends every string of Dovecot
            result = result.partition(b"\0")[0]
        return result.decode("utf-8", "surrogateescape")

    def __repr__(self) -> str:
        return f"Template({self.text!r})"


class _Strict:
    """Variables none of which may be unknown."""

    def __init__(self, variables: Variables) -> None:
        self._variables = variables

    def lookup(self, name: str) -> str | None:
        try:
            return self._variables.lookup(name)
        except KeyError:
            raise ExpansionError(f"Unknown variable '%{name.partition(':')[0]}'") from None
