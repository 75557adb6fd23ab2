"""SASL mechanisms: one generator each, and the registry of them."""

from collections.abc import Mapping

from authlua.sasl.dovecot_token import DOVECOT_TOKEN
from authlua.sasl.login import LOGIN
from authlua.sasl.plain import PLAIN
from authlua.sasl.wishes import (
    Challenge,
    CheckToken,
    Malformed,
    Mech,
    MechInfo,
    MechWish,
    SetUser,
    Verdict,
    VerifyPlain,
)

MECHS: Mapping[str, MechInfo] = {mech.name: mech for mech in (PLAIN, LOGIN)}
"""Every mech that the configuration may choose, by its upper-case name."""

__all__ = [
    "DOVECOT_TOKEN",
    "MECHS",
    "Challenge",
    "CheckToken",
    "Malformed",
    "Mech",
    "MechInfo",
    "MechWish",
    "SetUser",
    "Verdict",
    "VerifyPlain",
]
