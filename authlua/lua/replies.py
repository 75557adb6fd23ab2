"""From what a Lua function returned to a reply, judged as Dovecot judges it, in its words.

A wrong shape is a `ScriptError` whose message is Dovecot's log line, doubled prefix included
(`core:2.3.21.1:src/auth/db-lua.c`, `passdb-lua.c`, `userdb-lua.c`).
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from authlua.errors import ScriptError
from authlua.lua.calls import Calls
from authlua.lua.conversion import text
from authlua.lua.engine import DONE, MISSING, RAISED, Step
from authlua.lua.script import raised
from authlua.request import AuthRequest
from authlua.results import PassdbReply, PassdbResult, UserdbReply, UserdbResult

Field = tuple[str, str | None]

_OK: Final = PassdbResult.OK
_PASSDB_RESULTS: Final[dict[float, PassdbResult]] = {result.value: result for result in PassdbResult}
_USERDB_RESULTS: dict[float, UserdbResult] = {result.value: result for result in UserdbResult}


_WRAP = 2**64
"""Dovecot writes integers as unsigned: -1 goes out as 18446744073709551615 (seen on 2.3.19.1 and 2.4.1)."""


class Function(NamedTuple):
    """An auth function, as its errors speak of it."""

    name: str
    label: str
    """Its name in complaints about what it returned."""
    arguments: int
    prefix: str
    """What its caller puts before every complaint."""
    table_beside_failure: str
    """What is logged for an internal failure with a table beside it; `nothing_beside_failure` without any text."""
    nothing_beside_failure: str


PASSDB_LOOKUP: Final = Function(
    name="auth_passdb_lookup",
    label="auth_passdb_lookup(req)",
    arguments=1,
    prefix="db-lua: ",
    table_beside_failure="db-lua: passb failed",  # as Dovecot spells it
    nothing_beside_failure="db-lua: passdb failed",
)
PASSWORD_VERIFY: Final = Function(
    name="auth_password_verify",
    label="auth_password_verify",
    arguments=2,
    prefix="passdb-lua: ",
    table_beside_failure="passdb-lua: passb failed",
    nothing_beside_failure="passdb-lua: passdb failed",
)
SET_CREDENTIALS: Final = Function(
    name="auth_passdb_set_credentials",
    label="auth_passdb_set_credentials",
    arguments=2,
    prefix="passdb-lua: ",
    table_beside_failure="",
    nothing_beside_failure="",
)
"""An addition of ours, and so its second result is a text or nothing in every dialect."""
USERDB_LOOKUP: Final = Function(
    name="auth_userdb_lookup",
    label="auth_userdb_lookup(req)",
    arguments=1,
    prefix="userdb-lua: ",
    table_beside_failure="userdb-lua: userdb failed",
    nothing_beside_failure="userdb-lua: userdb failed",
)


MAX_NAMES: Final = 1024
"""How many names of fields are remembered of a script."""


class Judge:
    """Makes replies of steps, for one script."""

    def __init__(self, calls: Calls) -> None:
        self._rules = calls.rules
        self._log = calls.log
        self._whole = calls.options.version not in ("5.1", "5.2", "luajit")
        self._keeps_empty = calls.rules.is_2_4
        self._names: dict[bytes, str] = {}
        """Keys of tables it returned, as text; all of them can be sent."""

    def passdb(self, function: Function, step: Step, request: AuthRequest) -> PassdbReply:
        """The reply of a passdb function."""
        if step[0] != DONE:
            raise failure(function, step)
        second = step[2]
        result = _PASSDB_RESULTS.get(step[1])
        if result is _OK and second is True:
            return PassdbReply(_OK, self._fields(step, request))
        self._check(function, result is _OK or (result is None and self._code(step[1]) == 1), step)
        if result is None:
            result = _PASSDB_RESULTS.get(self._code(step[1]))
            if result is None:
                raise ScriptError(f"{function.prefix}{_out_of_range(function, step[1])}")
            if result is _OK and second is True:
                return PassdbReply(_OK, self._fields(step, request))
        if isinstance(second, bytes):
            said = text(second)
            if self._rules.strings_set_fields and result in (PassdbResult.OK, PassdbResult.NEXT):
                return PassdbReply(result, [_with_scheme(field) for field in self._split(said, request)])
            # what a script says to any other result, Dovecot keeps to itself
            return PassdbReply(result, (), function.prefix + said if result is PassdbResult.INTERNAL_FAILURE else "")
        return PassdbReply(result, (), _no_words(function, result is PassdbResult.INTERNAL_FAILURE, second))

    def stored(self, step: Step) -> None:
        """Nothing, when the function says that it has stored what it was to; else a `ScriptError`."""
        if step[0] != DONE:
            raise failure(SET_CREDENTIALS, step)
        if self._code(step[1]) != _OK:
            why = text(step[2]) if isinstance(step[2], bytes) else f"it returned {step[1]:g}"
            raise ScriptError(f"{SET_CREDENTIALS.prefix}{SET_CREDENTIALS.name} failed: {why}")

    def userdb(self, function: Function, step: Step, request: AuthRequest) -> UserdbReply:
        """The reply of a userdb function."""
        if step[0] != DONE:
            raise failure(function, step)
        second = step[2]
        code = step[1] if step[1] in _USERDB_RESULTS else self._code(step[1])
        result = _USERDB_RESULTS.get(code)
        self._check(function, result is UserdbResult.OK, step)
        if result is None:
            raise ScriptError(f"{function.prefix}{_out_of_range(function, step[1])}")
        if result is UserdbResult.OK and second is True:
            return UserdbReply(result, self._fields(step, request))
        if isinstance(second, bytes):
            said = text(second)
            if self._rules.strings_set_fields and result is UserdbResult.OK:
                return UserdbReply(result, self._split(said, request))
            if result is UserdbResult.INTERNAL_FAILURE:
                said = function.prefix + said
            return UserdbReply(result, (), said)
        return UserdbReply(result, (), _no_words(function, result is UserdbResult.INTERNAL_FAILURE, second))

    def _check(self, function: Function, ok: bool, step: Step) -> None:
        """May the second result stand beside this code?"""
        second = step[2]
        kind = "table" if second is True else "nil" if second is None else "string" if second is not False else ""
        if kind not in (self._rules.ok if ok else self._rules.other):
            problem = self._rules.ok_problem if ok else self._rules.other_problem
            got = step[3].decode() if len(step) > 3 and kind != "table" else kind
            raise ScriptError(f"{function.prefix}db-lua: {function.label} {problem} {got})")

    def _code(self, number: float) -> int:
        """*number* as Lua's C API gives it as an integer: 0 if it is none; before 5.3 its fraction is cut off."""
        if number != number or not -(2**63) <= number < 2**63:
            return 0
        return int(number) if not self._whole or number == int(number) else 0

    def _fields(self, step: Step, request: AuthRequest) -> list[Field]:
        fields: list[Field] = []
        names = self._names
        for at in range(3, len(step), 2):
            key, value = step[at], step[at + 1]
            name = names.get(key) if isinstance(key, bytes) else None
            if name is None:
                name = self._name(key)
                if not name:
                    self._warn(_unusable(key), request)
                    continue
            if isinstance(value, bytes):
                said = text(value)
            elif isinstance(value, bool):
                said = "yes" if value else "no"
            elif isinstance(value, int | float):
                said = str(self._code(value) % _WRAP)
            else:
                self._warn(f"db-lua: '{name}' has invalid value type no value - ignoring", request)
                continue
            fields.append((name, said if said or self._keeps_empty else None))
        return fields

    def _name(self, key: Any) -> str:
        """The name of a field, empty if *key* is none that can be sent."""
        name = text(key) if isinstance(key, bytes) else ""
        if any(char in name for char in "\t\r\n"):
            return ""
        if name and len(self._names) < MAX_NAMES:  # nearly always a script returns the same fields
            self._names[key] = name
        return name

    def _split(self, said: str, request: AuthRequest) -> list[Field]:
        """The fields of a string result: words at spaces, no expansion, no escapes."""
        fields: list[Field] = []
        for word in said.split(" "):
            name, _, value = word.partition("=")
            if name and not any(char in name for char in "\t\r\n"):
                fields.append((name, value if value or self._keeps_empty else None))
            elif word:
                self._warn(_unusable(name.encode("utf-8", "surrogateescape")), request)
        return fields

    def _warn(self, problem: str, request: AuthRequest) -> None:
        self._log("warning", problem, request, {})


def failure(function: Function, step: Step) -> ScriptError:
    """The error for a call that did not return a code."""
    if step[0] == MISSING:
        return ScriptError(f"{function.prefix}'{function.name}' is not a function")
    if step[0] == RAISED:
        return ScriptError(f"{function.prefix}{raised(function.name, function.arguments, 2, step)}")
    return ScriptError(
        f"{function.prefix}db-lua: {function.label} invalid return value (expected number got {step[1].decode()})"
    )


def _out_of_range(function: Function, code: float) -> str:
    return f"db-lua: {function.label} invalid return value (expected one of the constants of dovecot.auth, got {code})"


def _unusable(key: Any) -> str:
    if type(key) is not bytes:
        return "db-lua: Field key must be a string - ignoring"
    if not text(key):
        return "db-lua: Field key cannot be empty - ignoring"
    return "db-lua: Field key cannot contain <CR>, <LF> or <TAB> - ignoring"


def _no_words(function: Function, failed: bool, second: Any) -> str:
    if not failed:
        return ""
    return function.table_beside_failure if second is True else function.nothing_beside_failure


def _with_scheme(field: Field) -> Field:
    """A password in a string result is PLAIN unless it says otherwise, whatever default the passdb has."""
    name, value = field
    if name == "password" and value and not value.startswith(("{", "$1$")):
        return name, "{PLAIN}" + value
    return field


def users(step: Step) -> tuple[bool, Sequence[str]]:
    """Whether there may be more users, and those that a script gave."""
    if step[0] == DONE:
        return step[1], [text(name) for name in step[2:]]
    if step[0] == MISSING:
        raise ScriptError(f"db-lua: '{text(step[1])}' is not a function")
    if step[0] == RAISED:
        raise ScriptError(f"db-lua: auth_userdb_iterate failed: {raised('auth_userdb_iterate', 0, 1, step)}")
    raise ScriptError(f"db-lua: {step[1].decode()}")
