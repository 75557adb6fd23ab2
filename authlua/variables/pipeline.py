"""The grammar of 2.4: text, and between ``%{`` and ``}`` a pipeline of filters: ``%{user | lower}``.

Rules: ``core:2.4.1:src/lib-var-expand/var-expand-lexer.l`` and ``var-expand-parser.y``; running it follows
``expansion-statement.c:var_expand_execute_stmt``. Two slips of 2.4.1 are not kept: a lone ``y`` between
variables stays (its lexer drops it), and text behind ``%{}`` is text (it crashes).
"""

import re
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from authlua.variables.comparison import signed
from authlua.variables.filters import FILTERS
from authlua.variables.state import Argument, State
from authlua.variables.template import ExpansionError, Part, Variables, literal

_LONGEST = 8192
"""Bytes of a template, from 2.4.2 on."""

_SIGNS = {
    b"}": "CCBRACE",
    b"|": "PIPE",
    b"(": "OBRACE",
    b")": "CBRACE",
    b",": "COMMA",
    b"=": "EQ",
    b"+": "PLUS",
    b"-": "MINUS",
    b"*": "STAR",
    b"/": "SLASH",
    b"%": "PERC",
}
_OPERATORS = ("PLUS", "MINUS", "STAR", "SLASH", "PERC")
"""In the order of the numbers ``calculate`` knows them by."""

_TOKEN = re.compile(rb"([A-Za-z\x80-\xff][A-Za-z0-9_/;:.\x80-\xff-]*)|([0-9]+)|(['\"])|([}|(),=+*/%-])")
_ESCAPE = re.compile(rb"x([0-9A-Fa-f]{2})|([0-9]{1,3})|([\\\"'nrt])")
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


class _Stage(NamedTuple):
    name: str
    arguments: tuple[Argument, ...]


def compile_pipelines(text: bytes) -> tuple[Sequence[Part], Sequence[str]]:
    """The parts of the template *text*, and the names of the variables it uses; raises `ExpansionError`."""
    if len(text) > _LONGEST:
        raise ExpansionError(f"Program size exceeds maximum of {_LONGEST} bytes")
    parts: list[Part] = []
    names: list[str] = []
    at = 0
    while at < len(text):
        start = text.find(b"%{", at)
        if start < 0:
            parts.append(literal(text[at:]))
            break
        if start > at and text[start - 1] == 0x25:  # %%{ stands for %{
            parts.append(literal(text[at : start - 1] + b"%{"))
            at = start + 2
            continue
        if start > at:
            parts.append(literal(text[at:start]))
        parser = _Parser(text, start + 2)
        stages = parser.pipeline()
        at = parser.at
        if stages:
            parts.append(_part(stages))
            names += _names(stages)
    return parts, names


def _names(stages: Sequence[_Stage]) -> list[str]:
    """The variables *stages* use; one that a script only computes the name of is not among them."""
    names = [] if stages[0].name in FILTERS else [stages[0].name]
    for name, arguments in stages:
        for argument in arguments:
            if argument.kind == "variable" or (argument.kind == "string" and name == "lookup"):
                names.append(argument.value.decode("utf-8", "surrogateescape"))
    return names


# --- running ---

_SIMPLE = {"lower": bytes.lower, "upper": bytes.upper}


def _part(stages: Sequence[_Stage]) -> Part:
    name = stages[0].name
    if any(stage.name not in _SIMPLE or stage.arguments for stage in stages[1:]):
        return lambda variables: _run(stages, variables)
    functions = [_SIMPLE[stage.name] for stage in stages[1:]]

    def simple(variables: Variables) -> bytes:
        try:
            text = variables.lookup(name)
        except KeyError:
            return _run(stages, variables)
        value = b"" if text is None else text.encode("utf-8", "surrogateescape")
        for function in functions:
            value = function(value)
        return value

    return simple


def _run(stages: Sequence[_Stage], variables: Variables) -> bytes:
    """Let each stage change the state; one failure may be healed by the next stage, two are an error."""
    state = State(variables)
    failure: ExpansionError | None = None
    first = True
    for name, arguments in stages:
        problem: ExpansionError | None = None
        if first:
            try:
                state.set(state.lookup(name))
            except ExpansionError as error:
                problem = error
        if not first or problem is not None:
            function = FILTERS.get(name)
            if function is None:  # those who know the variables may know more filters
                function = getattr(variables, "filters", FILTERS).get(name)
            if function is not None:
                problem = None
                try:
                    function(state, arguments)
                except ExpansionError as error:
                    state.unset()
                    if failure is not None:
                        raise failure from None
                    problem = type(error)(f"{name}: {error}")
            elif not first:
                raise ExpansionError(f"No such function '{name}'")
        first = False
        failure = problem
    if state.binary:
        return state.value.hex().encode()
    if not state.is_set:
        raise failure or ExpansionError("No value")
    return state.value


# --- parsing ---


class _Parser:
    """One pipeline, read token by token; `at` is where the rest of the template begins."""

    def __init__(self, text: bytes, at: int) -> None:
        self._text = text
        self.at = at
        self._kind = ""
        self._value = b""
        self._next()

    def _next(self) -> None:
        """Read one token; what can be none is passed over, as 2.4.1 does."""
        while self.at < len(self._text):
            found = _TOKEN.match(self._text, self.at)
            if found is None:
                self.at += 1
                continue
            self.at = found.end()
            name, number, quote, sign = found.groups()
            if name:
                self._kind, self._value = "NAME", _valid(name)
            elif number:
                self._kind, self._value = "NUMBER", number
            elif sign:
                self._kind = _SIGNS[sign]
            else:
                self._string(quote)
            return
        self._kind = "end of file"

    def _string(self, quote: bytes) -> None:
        value = b""
        plain = re.compile(rb"[^\\" + quote + rb"]*")
        while True:
            found = plain.match(self._text, self.at)
            assert found is not None  # it matches the empty string too
            value += _valid(found[0])
            self.at = found.end() + 1
            if self.at > len(self._text):
                self._kind = "end of file"
                return
            if self._text[found.end() : self.at] == quote:
                self._kind, self._value = "VALUE", value
                return
            if self.at == len(self._text):
                self._kind = "end of file"
                return
            escape = _ESCAPE.match(self._text, self.at)
            if escape is None:
                raise ExpansionError("Invalid character escape")
            self.at = escape.end()
            value += _unescaped(escape)

    def _expecting(self, expected: str) -> NoReturn:
        raise ExpansionError(f"syntax error, unexpected {self._kind}, expecting {expected}")

    def pipeline(self) -> list[_Stage]:
        """All stages up to the closing brace; none when there is nothing in between."""
        stages: list[_Stage] = []
        while True:
            if self._kind == "NAME":
                self._stage(stages)
                if self._kind not in ("PIPE", "CCBRACE"):
                    self._expecting("CCBRACE or PIPE")
            elif self._kind not in ("PIPE", "CCBRACE"):
                self._expecting("CCBRACE or PIPE or NAME")
            if self._kind == "CCBRACE":
                return stages
            self._next()

    def _stage(self, stages: list[_Stage]) -> None:
        name = self._value.decode()
        self._next()
        arguments: tuple[Argument, ...] = ()
        if self._kind == "OBRACE":
            arguments = self._arguments()
        stages.append(_Stage(name, arguments))
        if self._kind in _OPERATORS:
            operator = str(_OPERATORS.index(self._kind)).encode()
            self._next()
            if self._kind == "NAME":
                operand = Argument("variable", self._value, 1)
                self._next()
            else:
                operand = Argument("number", self._number("MINUS or NAME or NUMBER"), 1)
            stages.append(_Stage("calculate", (Argument("number", operator, 0), operand)))

    def _arguments(self) -> tuple[Argument, ...]:
        """Positional ones in order, then the named ones by name; of two namesakes the later is read first."""
        arguments: list[Argument] = []
        named: list[Argument] = []
        while True:
            self._next()
            argument = self._argument(len(arguments))
            if self._kind == "EQ" and argument.kind == "variable":
                self._next()
                key = argument.value.decode()
                key = "".join(letter.lower() if letter.isascii() else letter for letter in key)
                named.append(self._argument(-1)._replace(key=key))
            else:
                arguments.append(argument)
            if self._kind == "CBRACE":
                self._next()
                return (*arguments, *sorted(reversed(named), key=lambda argument: argument.key or ""))
            if self._kind != "COMMA":
                self._expecting("CBRACE or COMMA")

    def _argument(self, index: int) -> Argument:
        kind, value = self._kind, self._value
        if kind in ("NAME", "VALUE"):
            self._next()
            return Argument("variable" if kind == "NAME" else "string", value, index)
        return Argument("number", self._number("MINUS or NAME or VALUE or NUMBER"), index)

    def _number(self, expected: str) -> bytes:
        sign = b""
        if self._kind == "MINUS":
            sign, expected = b"-", "NUMBER"
            self._next()
        if self._kind != "NUMBER":
            self._expecting(expected)
        number = signed(sign + self._value)
        if number is None:
            raise ExpansionError("Not a number")
        self._next()
        return str(number).encode()


def _valid(text: bytes) -> bytes:
    try:
        text.decode()
    except UnicodeDecodeError:
        raise ExpansionError("Invalid UTF-8 string") from None
    return text


def _unescaped(escape: "re.Match[bytes]") -> bytes:
    hexadecimal, octal, letter = escape.groups()
    if letter:
        return _ESCAPED.get(letter, letter)
    try:
        return bytes([int(hexadecimal, 16) if hexadecimal else int(octal, 8)])
    except ValueError:
        raise ExpansionError("Invalid character escape") from None
