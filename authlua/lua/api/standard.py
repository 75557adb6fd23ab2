"""The Python side of ``standard.lua``: functions of C that Lua cannot do as exactly itself."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from authlua.lua.calls import Calls


def callbacks(calls: Calls) -> Mapping[str, Callable[..., Any]]:
    """What ``standard.lua`` finds in its ``host``."""
    return {
        "cosh": lambda x: _or_infinity(math.cosh, x, abs(x)),
        "sinh": lambda x: _or_infinity(math.sinh, x, x),
        "tanh": math.tanh,
        "frexp": math.frexp,
        "ldexp": ldexp,
    }


def ldexp(x: float, exponent: int) -> float:
    """*x* times two to the *exponent*."""
    try:
        return math.ldexp(x, exponent)
    except OverflowError:
        return math.copysign(math.inf, x)


def _or_infinity(function: Callable[[float], float], x: float, sign: float) -> float:
    """What C gives where Python raises."""
    try:
        return function(x)
    except OverflowError:
        return math.copysign(math.inf, sign)
