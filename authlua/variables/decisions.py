"""The filters that choose: ``if``, ``switch`` and ``regexp``.

``core:2.4.1:src/lib-var-expand/expansion-filter-if.c``, ``switch`` from 2.4.4.
"""

import re
from collections.abc import Callable
from typing import TypeVar

from authlua.variables.comparison import NUMERIC, TEXTUAL, signed
from authlua.variables.regexp import search
from authlua.variables.state import Argument, Arguments, State, each, shown, some_arguments
from authlua.variables.template import ExpansionError, QuotingError

_T = TypeVar("_T")


def _split_decision(state: State, arguments: Arguments, most: int) -> tuple[Argument | None, bytes, list[Argument]]:
    """Left-hand side (`None`: the input), comparator, and the rest of *arguments*, of which there may be *most*."""
    lhs: Argument | None = None
    op = b""
    op_place = 0 if state.is_set else 1
    for argument in each(arguments, op_place + most):
        if argument.place < op_place:
            lhs = argument
        elif argument.place == op_place:
            try:
                op = state.string(argument)
            except ExpansionError as error:
                raise type(error)(f"Comparator: {error}") from None
    return lhs, op, list(arguments[op_place + 1 :])


def _known(op: bytes) -> None:
    if op not in NUMERIC and op not in TEXTUAL:
        raise QuotingError(f"Unsupported comparator '{shown(op)}'")


def _input(state: State, op: bytes) -> Argument:
    """The input as left-hand side of *op*."""
    value = state.value.partition(b"\0")[0]
    if op not in NUMERIC:
        return Argument("string", value, 0)
    if signed(value) is None:
        raise ExpansionError("Input is not a number")
    return Argument("number", value, 0)


def _side(name: str, value: Callable[[Argument], _T], argument: Argument) -> _T:
    try:
        return value(argument)
    except ExpansionError as error:
        raise type(error)(f"{name} {error}") from None


def _compare(state: State, lhs: Argument, op: bytes, rhs: Argument) -> bool:
    if op in NUMERIC:
        number = _side("Left-hand side:", state.number, lhs)
        return NUMERIC[op](number, _side("Right-hand side:", state.number, rhs))
    left, right = _side("Left-hand side", state.string, lhs), _side("Right-hand side", state.string, rhs)
    try:
        return TEXTUAL[op](left, right)
    except ExpansionError as error:
        raise type(error)(f"regexp() failed: {error}") from None


def if_(state: State, arguments: Arguments) -> None:
    """``if([lhs,] op, rhs, true, false)``, the left-hand side only where there is no input."""
    lhs, op, rest = _split_decision(state, arguments, 4)
    if len(rest) != 3:
        raise ExpansionError("Missing parameters")
    _known(op)
    rhs, true, false = rest
    result = _compare(state, lhs or _input(state, op), op, rhs)
    state.set(_side(f"{result} branch:", state.anything, true if result else false))


def switch(state: State, arguments: Arguments) -> None:
    """``switch([lhs,] op, case, value, …[, default])``.

    ``core:2.4.4:src/lib-var-expand/expansion-filter-if.c:expansion_filter_switch``
    """
    lhs, op, rest = _split_decision(state, arguments, len(arguments))
    if len(arguments) < (1 if state.is_set else 2):
        raise ExpansionError("Missing parameters")
    if len(rest) < 2:
        raise ExpansionError("At least one condition-value pair is required")
    _known(op)
    lhs = lhs or _input(state, op)
    result = rest.pop() if len(rest) % 2 else None
    number = len(rest) // 2
    for place in range(0, len(rest), 2):
        if _compare(state, lhs, op, rest[place]):
            result, number = rest[place + 1], place // 2
            break
    if result is None:
        raise ExpansionError("No default value provided")
    state.set(_side(f"in condition #{number}:", state.anything, result))


def regexp(state: State, arguments: Arguments) -> None:
    """``regexp(pattern, replacement)``; as in 2.4.1 a match leaves the replacement and nothing else."""
    some_arguments(arguments)
    strings = [state.string(argument) for argument in each(arguments, 2)]
    if len(strings) < 2:
        raise ExpansionError("Missing replacement parameter")
    pattern, replacement = strings
    found = search(pattern, state.take_text("regexp"))
    if found is None:
        return

    def placed(reference: "re.Match[bytes]") -> bytes:
        if reference[0] == rb"\\":
            return b"\\"
        group = int(reference[1])
        value = found[group] if group <= found.re.groups else None
        if value is None:
            raise ExpansionError("Invalid capture group")
        return value

    state.replace(re.sub(rb"\\([0-9])|\\\\", placed, replacement))
