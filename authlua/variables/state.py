"""What a filter of 2.4 is given: the state of its pipeline, and its arguments."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from authlua.variables.comparison import signed
from authlua.variables.template import ExpansionError, QuotingError, Variables


class Argument(NamedTuple):
    """What stands in a filter's parentheses: text, a number (in digits), or the name of a variable."""

    kind: Literal["string", "number", "variable"]
    value: bytes
    place: int
    """Its position, from 0; -1 when it has a *key*."""
    key: str | None = None


Arguments = Sequence[Argument]
Filter = Callable[["State", Arguments], None]


class State:
    """The value on its way through a pipeline: unset, text, or binary, which ends up as hex digits."""

    __slots__ = ("binary", "is_set", "value", "variables")

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.value = b""
        self.is_set = False
        self.binary = False

    def set(self, value: bytes) -> None:
        """Continue with text; as with every string of Dovecot, a NUL ends it."""
        self.replace(value.partition(b"\0")[0])
        self.binary = False

    def set_binary(self, value: bytes) -> None:
        """Continue with bytes."""
        self.replace(value)
        self.binary = True

    def replace(self, value: bytes) -> None:
        """Continue with more of the same kind."""
        self.value = value
        self.is_set = True

    def unset(self) -> None:
        """Continue with nothing. What was binary stays so: at the end it is the empty text, not an error."""
        self.value = b""
        self.is_set = False

    def take(self, action: str) -> bytes:
        """The value; raises `ExpansionError` when there is none to *action*."""
        if not self.is_set:
            raise ExpansionError(f"No value to {action}")
        return self.value

    def take_text(self, action: str) -> bytes:
        """The value up to its first NUL."""
        return self.take(action).partition(b"\0")[0]

    def lookup(self, name: str) -> bytes:
        """The value of the variable *name*, empty when it is unset; raises `ExpansionError`."""
        try:
            value = self.variables.lookup(name)
        except KeyError:
            prefix, colon, _ = name.partition(":")
            raise ExpansionError(f"Unsupported prefix '{prefix}'" if colon else f"Unknown variable '{name}'") from None
        return b"" if value is None else value.encode("utf-8", "surrogateescape")

    def anything(self, argument: Argument) -> bytes:
        """The text, digits or variable's value *argument* stands for."""
        if argument.kind == "variable":
            return self.lookup(shown(argument.value))
        return argument.value

    def string(self, argument: Argument) -> bytes:
        """The text or variable's value; a number is none."""
        if argument.kind == "number":
            raise ExpansionError(f"{shown(argument.value)} is not a string")
        return self.anything(argument)

    def number(self, argument: Argument) -> int:
        """The number, or the one a variable holds; text is none, whatever it says."""
        if argument.kind == "string":
            raise ExpansionError(f"'{shown(argument.value)}' is not a number")
        value = self.anything(argument)
        number = signed(value)
        if number is None:
            raise QuotingError(f"'{shown(value)}' (in {shown(argument.value)}) is not a number")
        return number

    def boolean(self, argument: Argument) -> bool:
        """0 or 1."""
        number = self.number(argument)
        if number not in (0, 1):
            raise ExpansionError(f"'{shown(argument.value)}' is not 0 or 1")
        return number == 1


def shown(value: bytes) -> str:
    """*value* as text, for names and error texts."""
    return value.decode("utf-8", "surrogateescape")


def each(arguments: Arguments, most: int) -> Iterator[Argument]:
    """The positional *arguments*, of which there may be *most*; named ones are not understood."""
    for argument in arguments:
        if argument.key is not None:
            raise ExpansionError(f"Unsupported key '{argument.key}'")
        if argument.place >= most:
            raise ExpansionError("Too many positional parameters")
        yield argument


def named(arguments: Arguments, known: Sequence[str]) -> Iterator[tuple[str, Argument]]:
    """The named *arguments*; only *known* ones, and no positional ones."""
    for argument in arguments:
        if argument.key is None:
            raise ExpansionError("Too many positional parameters")
        if argument.key not in known:
            raise ExpansionError(f"Unsupported key '{argument.key}'")
        yield argument.key, argument


def no_arguments(arguments: Arguments) -> None:
    """Raise `ExpansionError` for any."""
    for _ in each(arguments, 0):
        pass


def some_arguments(arguments: Arguments) -> None:
    """Raise `ExpansionError` for none."""
    if not arguments:
        raise ExpansionError("Missing parameters")
