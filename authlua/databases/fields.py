"""Fields whose values are templates."""

from collections.abc import Iterable, Sequence

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.request import AuthRequest
from authlua.variables import ExpansionError, Template, compile_template, request_variables

Fields = Sequence[tuple[str, Template]]


def compiled(fields: Iterable[tuple[str, str]], dialect: Dialect) -> Fields:
    """*fields* with their templates compiled; raises `ExpansionError` for what is none."""
    return [(name, compile_template(value, dialect)) for name, value in fields]


def expanded(fields: Fields, request: AuthRequest, dialect: Dialect, id: int) -> list[tuple[str, str | None]]:
    """*fields* for this request.

    Raises:
        ScriptError: a template cannot be expanded.
    """
    variables = request_variables(request, dialect, id=str(id))
    result: list[tuple[str, str | None]] = []
    for name, template in fields:
        try:
            result.append((name, template.expand(variables, strict=True)))
        except ExpansionError as error:
            raise ScriptError(f"Failed to expand {name}={template.text}: {error}") from None
    return result
