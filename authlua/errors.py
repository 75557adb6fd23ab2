"""The errors somebody has to get up for, each named after its owner.

::

    AuthluaError
    ├── ConfigError      the admin's: the configuration cannot be used
    ├── ScriptError      the script author's: a Lua script failed or answered a wrong shape
    └── Unreachable      the operator's: a server that should answer does not

The protocol room has two more, for the two ends of a connection. A refused login is none of these:
it is a value (`authlua.results`).
"""

from collections.abc import Sequence


class AuthluaError(Exception):
    """Any error that authlua explains in one clear line."""


class ConfigError(AuthluaError):
    """The configuration cannot be used; *problems* lists all that is wrong, a line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class ScriptError(AuthluaError):
    """A Lua script does not load, raises, or returns what it must not.

    The message says what was expected and what came, with the script's own ``file:line`` where Lua knows it.
    """


class Unreachable(AuthluaError):
    """A socket or service that was to be asked does not answer."""
