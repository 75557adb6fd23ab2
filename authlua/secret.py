"""A value that cannot be printed."""

import hashlib
import hmac
import os
from typing import Final

_FINGERPRINT_KEY = os.urandom(32)


class Secret:
    """Holds a password, credential, cookie or token; shows as ``<hidden>`` wherever it is printed.

    The bytes leave only through `reveal`, so a search for that word finds every place that handles them.
    Comparison takes the same time wherever the first difference stands. As a key it stays hidden too; what is kept
    for long is kept under its `fingerprint`.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value: Final = value

    def reveal(self) -> bytes:
        """The bytes themselves."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "<hidden>"

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")


def fingerprint(secret: Secret) -> bytes:
    """What tells one secret from another within this process, and tells nobody else anything."""
    return hashlib.blake2b(secret.reveal(), key=_FINGERPRINT_KEY).digest()  # a third of the time that HMAC takes
