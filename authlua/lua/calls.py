"""What the callbacks of one engine share: the requests being served, the rules, the log."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from authlua.lua.conversion import text
from authlua.lua.rules import Rules
from authlua.passwords import LIMITS, Limits
from authlua.request import AuthRequest
from authlua.wishes import Service

ScriptLog = Callable[[str, str, AuthRequest | None, Mapping[str, object]], None]
"""``log(level, text, request, fields)`` with level ``debug``, ``info``, ``warning`` or ``error``.

*request* is the one the line belongs to, `None` for lines of the script as such. *fields* are what the script added
to its event; ``event_name`` is the event's name, ``log_prefix`` what a script put in place of all prefixes,
``source`` the script's file and line where it asked for that.
"""


class ScriptOptions(NamedTuple):
    """How scripts are run; the same for all scripts of a server, but for *settings* and *id*."""

    version: str = "5.4"
    """The Lua: 5.1, 5.2, 5.3, 5.4, 5.5 or luajit."""
    path: Sequence[str] = ()
    """Templates put in front of ``package.path``."""
    cpath: Sequence[str] = ()
    """Templates put in front of ``package.cpath``."""
    settings: Mapping[str, str] = {}
    """Handed to the ``script_init`` of a 2.4 script."""
    id: str = "1"
    """The database's number, ``req.id`` and ``%!``."""
    verbose: bool = False
    """Dovecot's ``auth_verbose``: ``req:log_info`` is written."""
    debug: bool = False
    """Dovecot's ``auth_debug``: debug lines are written; implies *verbose*."""
    allow_weak_schemes: bool = True
    """Dovecot 2.4's setting of this name, for ``req:password_verify`` of 2.4 scripts."""
    limits: Limits = LIMITS
    """What ``req:password_verify`` may cost."""
    budget: int = 0
    """How many instructions a call may run without waiting; 0: as many as it likes."""
    loading: int = 500_000_000
    """How many instructions may run outside of calls, as when the script loads; 0: as many as it likes."""
    memory_limit: int = 0
    """Bytes of one Lua state; 0: no limit."""
    twins: Sequence[str] = ()
    """The families of blocking modules that `require` gives as twins which do not block."""
    operations: Callable[[], Mapping[str, Callable[..., Any]]] | None = None
    """Makes, for one state, the functions that twins call; without it there are none."""
    now: Callable[[Service], Any] | None = None
    """Fulfils a wish on the spot, for calls that cannot wait where they are; without it they fail."""


DEFAULTS = ScriptOptions()


class Definition(NamedTuple):
    """A passdb or userdb of the configuration."""

    database: str
    """``passdb`` or ``userdb``; empty for scripts that are neither."""
    id: str
    """Its number."""


class Refusal(Exception):
    """A callback's no; its text becomes an error in Lua."""


def no_engine(values: Any) -> Any:
    """What makes Lua tables while no engine is open: nothing."""
    raise AssertionError("the engine is closed")


class Calls:
    """The requests an engine serves at the moment, each under the number Lua knows it by."""

    __slots__ = ("bug", "definition", "definitions", "log", "lower", "options", "requests", "rules", "script", "table")

    def __init__(self, script: str, database: str, rules: Rules, options: ScriptOptions, log: ScriptLog) -> None:
        self.script = script
        self.definition = Definition(database, options.id)
        """Whom the script was loaded for."""
        self.definitions: dict[int, Definition] = {}
        """Whom a call is for, when it is for another that shares the script."""
        self.rules = rules
        self.options = options
        self.log = log
        self.requests: dict[int, AuthRequest] = {}
        self.lower: Callable[[], None] | None = None
        """Limits the memory again that was lifted for a call."""
        self.table: Callable[[Any], Any] = no_engine
        """Makes Lua tables, while the engine is open."""
        self.bug: BaseException | None = None
        """What a callback raised without meaning to; whoever called Lua raises it again."""

    def request(self, call: int) -> AuthRequest:
        """The request of *call*, which runs."""
        request = self.requests.get(call)
        if request is None:
            raise Refusal("auth_request is used after its call has returned")
        return request

    def lowered(self) -> None:
        """A call of Lua's has its arguments: memory is limited again."""
        assert self.lower is not None, "only what was lifted is lowered"
        self.lower()

    def definition_of(self, call: int | None) -> Definition:
        """Whom *call* is for."""
        return self.definitions.get(call, self.definition) if call is not None else self.definition

    def lua_log(self, level: bytes, call: int | None, message: bytes, *event: Any) -> None:
        """Write a line for Lua; *event*: its name, replacing prefix, source, then key, kind and value of each field."""
        request = self.requests.get(call) if call is not None else None
        self.log(level.decode(), text(message), request, _event_fields(*event) if event else {})


def _event_fields(
    name: bytes | None, prefix: bytes | None, source: bytes | None, *triples: bytes | int
) -> dict[str, object]:
    fields: dict[str, object] = {}
    values = iter(triples)
    for key, kind, value in zip(values, values, values, strict=True):
        assert isinstance(key, bytes)
        fields[text(key)] = text(value) if isinstance(value, bytes) else f"{value}.0" if kind == b"t" else value
    for label, given in (("event_name", name), ("log_prefix", prefix), ("source", source)):
        if given is not None:
            fields[label] = text(given)
    return fields
