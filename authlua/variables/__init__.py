"""Dovecot's ``var_expand``: ``%u`` and ``%{user}`` in a template become what a request knows, in both grammars.

Compile once, expand often; neither step does any I/O::

    template = compile_template("%Lu", Dialect.V2_3)
    template.expand(request_variables(request, Dialect.V2_3))

`template` says what a template is and what it is given. `percent` holds the grammar of 2.3; `pipeline` that of
2.4, with its `state`, `filters`, `decisions`, `times` and `encryption`; `digests`, `cipher`, `comparison` and `regexp`
serve both. Only `sources` knows the auth request.
"""

from authlua.variables.compiler import compile_template
from authlua.variables.sources import request_variables
from authlua.variables.state import Arguments, Filter, State, each, some_arguments
from authlua.variables.template import ExpansionError, Template, Variables

__all__ = [
    "Arguments",
    "ExpansionError",
    "Filter",
    "State",
    "Template",
    "Variables",
    "compile_template",
    "each",
    "request_variables",
    "some_arguments",
]
