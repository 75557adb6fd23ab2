"""Password schemes: ``{SCHEME}data`` parsed, verified and made, in every scheme Dovecot 2.3 and 2.4 know.

One module per family of schemes, each with its ``SCHEMES``; `authlua.passwords.stored` puts them together.
Libraries that compute (bcrypt, Argon2, crypt(3)) are loaded when the first hash needs them.
"""

from authlua.passwords.encodings import from_base64
from authlua.passwords.md import md5_block
from authlua.passwords.otp import OtpState, otp_state
from authlua.passwords.otp import fold as otp_fold
from authlua.passwords.scheme import LIMITS, Limits, MalformedHash, SchemeMismatch, UnknownScheme
from authlua.passwords.scram import ScramKeys, scram_keys
from authlua.passwords.stored import Stored, credentials, encode, is_slow, schemes, split_scheme, verify

__all__ = [
    "LIMITS",
    "Limits",
    "MalformedHash",
    "OtpState",
    "SchemeMismatch",
    "ScramKeys",
    "Stored",
    "UnknownScheme",
    "credentials",
    "encode",
    "from_base64",
    "is_slow",
    "md5_block",
    "otp_fold",
    "otp_state",
    "schemes",
    "scram_keys",
    "split_scheme",
    "verify",
]
