"""Where the wire differs between Dovecot releases."""

from typing import NamedTuple

from authlua.dialect import Dialect


class Wire(NamedTuple):
    """One release family's habits on the wire."""

    client_minor: int
    """Announced on client and login sockets."""
    master_minor: int
    """Announced on master and userdb sockets."""
    strict_master_version: bool
    """A master's VERSION line must hold exactly two numbers."""
    out_of_band: bool
    """``CONT`` without data is looked at, ``#`` is an answer, and minor 3 clients may add fields."""
    extra_words: bool
    """What follows the number of ``CPID`` and ``CANCEL`` is passed over."""
    empty_is_none: bool
    """A master's word with only an empty field behind it has no field at all."""
    short_cookie_fails: bool
    """A cookie of less than 32 digits is answered FAIL instead of ending the connection."""
    empty_user_tab: bool
    """A ``USER`` reply without fields ends in a TAB."""
    token_flags: str
    """What follows the mech on a token socket's MECH line."""


WIRE = {
    Dialect.V2_3: Wire(2, 1, False, False, False, True, True, True, ""),
    Dialect.V2_4_0: Wire(3, 3, True, True, True, False, False, False, "\tprivate"),
    Dialect.V2_4: Wire(3, 3, True, True, True, False, False, False, "\tprivate"),
}
