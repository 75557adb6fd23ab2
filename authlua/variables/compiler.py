"""From a template's text to a `Template`: one cache in front of two grammars."""

from functools import lru_cache

from authlua.dialect import Dialect
from authlua.variables.percent import compile_percent
from authlua.variables.pipeline import compile_pipelines
from authlua.variables.template import ExpansionError, Template

_GRAMMARS = {
    Dialect.V2_3: compile_percent,
    Dialect.V2_4_0: compile_pipelines,
    Dialect.V2_4: compile_pipelines,
}


@lru_cache(maxsize=1024)
def compile_template(text: str, dialect: Dialect) -> Template:
    """Compile *text* by the grammar of *dialect*; the same text gives the same `Template`.

    Raises `ExpansionError` for what is no template: in 2.4 any syntax error, in 2.3, where every text is a
    template, only nesting without end.
    """
    try:
        encoded = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ExpansionError("Invalid UTF-8 string") from None
    parts, names = _GRAMMARS[dialect](encoded)
    return Template(text, parts, names)
