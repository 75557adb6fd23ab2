"""The Python side of ``request.lua``: members, fields, templates, password verification."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua.calls import Calls, Refusal
from authlua.lua.conversion import c_string, lua_string, text
from authlua.passwords import Limits
from authlua.request import AuthRequest
from authlua.wishes import Hash, Unfulfilled

if TYPE_CHECKING:
    from authlua.variables import Variables

Verdict = tuple[float, str | None]


def callbacks(calls: Calls) -> Mapping[str, Callable[..., Any]]:
    """What ``request.lua`` finds in its ``host``."""
    variables = calls.rules.variables

    def member(call: int, name: bytes) -> bytes | None:
        request = calls.request(call)
        variable = variables.get(text(name))
        value = calls.definition_of(call).id if variable is None else variable(request)
        return None if value is None else lua_string(value)

    def field(call: int, database: bytes, name: bytes) -> bytes | None:
        request = calls.request(call)
        fields = request.passdb_fields if database == b"passdb" else request.userdb_fields
        wanted = text(name)
        if fields is None or wanted not in fields:
            return None
        return lua_string(fields.get(wanted) or "")

    def password_verify(call: int, stored: bytes, password: bytes) -> Any:
        from authlua.passwords import is_slow

        calls.request(call)
        return (False,) if is_slow(text(stored)) else password_verify_now(call, stored, password)

    def password_verify_now(call: int, stored: bytes, password: bytes) -> tuple[float, bytes | None]:
        return _flat(judge_password(*_question(calls, call, stored, password)))

    return {
        "member": member,
        "field": field,
        "expand_for": lambda call, template: expand(calls, call, template),
        "response_from_template": lambda call, template: _response(calls, call, text(template)),
        "password_verify": password_verify,
        "password_verify_now": password_verify_now,
    }


async def password_verify_later(calls: Calls, call: int, stored: bytes, password: bytes) -> tuple[float, bytes | None]:
    """Fulfil the wish of a ``req:password_verify`` that takes its time."""
    try:
        return _flat(await Hash(judge_password, *_question(calls, call, stored, password)))
    except Unfulfilled as error:
        return _flat((-1.0, str(error)))


WISHES: Mapping[bytes, Callable[..., Awaitable[tuple[Any, ...]]]] = {b"password_verify": password_verify_later}
"""What a call may wish for, and how its answer is come by."""


Question = tuple[bytes, str, str, str, bool, tuple[int, ...]]
"""What `judge_password` is asked, in plain values, so that a worker can have the server answer it."""


def _question(calls: Calls, call: int, stored: bytes, password: bytes) -> Question:
    user = calls.request(call).original_user or ""
    weak = calls.options.allow_weak_schemes or not calls.rules.is_2_4
    return c_string(password), text(stored), user, str(calls.rules.dialect), weak, tuple(calls.options.limits)


def _flat(verdict: Verdict) -> tuple[float, bytes | None]:
    code, why = verdict
    return code, None if why is None else lua_string(why)


def judge_password(
    password: bytes, stored: str, user: str, dialect: str, allow_weak: bool, limits: tuple[int, ...]
) -> Verdict:
    """What ``req:password_verify`` answers (``core:2.3.21.1:src/auth/db-lua.c:auth_request_lua_password_verify``)."""
    from authlua.passwords import MalformedHash, UnknownScheme, verify

    try:
        if verify(password, stored, user=user, dialect=Dialect(dialect), allow_weak=allow_weak, limits=Limits(*limits)):
            return 1.0, None
        return 0.0, "Password mismatch"
    except UnknownScheme as error:
        return 0.0, str(error)
    except MalformedHash as error:
        return -1.0, str(error)


def expand(calls: Calls, call: int | None, template: bytes) -> bytes:
    """Fill in *template* for the request of *call*; without one, only providers have values."""
    return lua_string(_expanded(calls, call, text(template)))


def _expanded(calls: Calls, call: int | None, template: str) -> str:
    from authlua.variables import ExpansionError, compile_template, request_variables

    request = AuthRequest("") if call is None else calls.request(call)
    dialect = calls.rules.dialect
    try:
        variables = request_variables(request, dialect, id=calls.definition_of(call).id)
        if call is None:
            variables = _OnlyProviders(variables)
        return compile_template(template, dialect).expand(variables)
    except ExpansionError as error:
        if call is None:
            raise Refusal(f"failed to expand '{template}': {error}") from error
        raise Refusal(f"var_expand({template}) failed: {error}") from error


def fill_in_settings(calls: Calls) -> None:
    """Fill in what the values of ``settings`` name of machine and process, as 2.4 does before it hands them over.

    Raises:
        ScriptError: one cannot be filled in; with Dovecot's words, which name it and do not quote it.
    """
    options = calls.options
    if not any("%{" in value for value in options.settings.values()):
        return
    from authlua.variables import ExpansionError, compile_template, request_variables

    dialect = calls.rules.dialect
    variables = _OnlyProviders(request_variables(AuthRequest(""), dialect, id=options.id))
    filled = {}
    for name, value in options.settings.items():
        try:
            filled[name] = compile_template(value, dialect).expand(variables)
        except ExpansionError as error:
            raise ScriptError(
                "dlua settings: Failed to parse configuration: "
                f"Failed to expand lua_settings/{name} setting variables: {error}"
            ) from error
    calls.options = options._replace(settings=filled)


class _OnlyProviders:
    """Variables without those of a request."""

    def __init__(self, variables: "Variables") -> None:
        self._variables = variables

    def lookup(self, name: str, /) -> str | None:
        if name.partition(":")[0] in ("passdb", "userdb", name):
            raise KeyError(name)
        return self._variables.lookup(name)


def _response(calls: Calls, call: int, template: str) -> tuple[bytes | bool, ...]:
    """`True`, then keys and values (``core:2.3.21.1:src/auth/db-lua.c:auth_request_template_build``)."""
    answer: list[bytes | bool] = [True]
    for word in template.split(" "):
        key, equals, value = word.partition("=")
        if not equals:
            continue
        if not key:
            raise Refusal("Field key cannot be empty in a template")
        if calls.definition_of(call).database == "userdb" and key in ("uid", "gid"):
            value = str(_number_of(key, value))
        answer += (lua_string(key), lua_string(_expanded(calls, call, value)))
    return tuple(answer)


def _number_of(key: str, name: str) -> int:
    """The uid or gid that *name* stands for."""
    if name.isdecimal():
        return int(name)
    import grp
    import pwd

    try:
        return pwd.getpwnam(name).pw_uid if key == "uid" else grp.getgrnam(name).gr_gid
    except KeyError:
        raise Refusal(f"Invalid {key.upper()} value '{name}'") from None
