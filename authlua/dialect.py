"""Which Dovecot is spoken.

Each room that knows a difference keeps it in one table of its own, keyed by this value;
elsewhere the code does not know the year.
"""

from enum import StrEnum


class Dialect(StrEnum):
    """A behaviour family of Dovecot releases."""

    V2_3 = "2.3"
    V2_4_0 = "2.4.0"
    """2.4.0 alone; as a server it speaks like 2.4, its Lua scripts may still return strings."""
    V2_4 = "2.4"
    """2.4.1 and later."""
