"""Password schemes: ``{SCHEME}data`` parsed, verified and made, in every scheme Dovecot 2.3 and 2.4 know.

One module per family of schemes, each with its ``SCHEMES``; `authlua.passwords.stored` puts them together.
Libraries that compute (bcrypt, Argon2, crypt(3)) are loaded when the first hash needs them.
"""

from authlua.passwords.scheme import LIMITS, Limits, MalformedHash, SchemeMismatch, UnknownScheme
from authlua.passwords.stored import credentials, encode, is_slow, schemes, split_scheme, verify

__all__ = [
    "LIMITS",
    "Limits",
    "MalformedHash",
    "SchemeMismatch",
    "UnknownScheme",
    "credentials",
    "encode",
    "is_slow",
    "schemes",
    "split_scheme",
    "verify",
]
