"""The filters ``encrypt`` and ``decrypt``: ``IV$DATA$`` with a key in hex, ``s=SALT,r=ROUNDS$DATA$`` with a passphrase.

``core:2.4.1:src/lib-var-expand-crypt/var-expand-crypt.c``; bad hex is refused as in 2.4.4.
"""

import hashlib
from typing import NamedTuple

from authlua.variables.cipher import Cipher
from authlua.variables.comparison import signed
from authlua.variables.digests import from_hex
from authlua.variables.state import Arguments, State, named, shown
from authlua.variables.template import ExpansionError, QuotingError


class _Secrets(NamedTuple):
    """What a cipher needs, and how the parameters were given."""

    cipher: Cipher
    key: bytes
    iv: bytes
    data: bytes
    prefix: bytes
    """What goes in front of the first ``$``."""
    raw: bool


def _parameters(state: State, arguments: Arguments, *, inverse: bool) -> _Secrets:
    algorithm, digest, rounds, raw = "AES-256-CBC", "sha256", 10000, False
    key: bytes | None = None
    iv: bytes | None = None
    salt: bytes | None = None
    for name, argument in named(arguments, ("algorithm", "iv", "key", "raw", "salt", "hash", "rounds")):
        match name:
            case "algorithm":
                algorithm = shown(state.string(argument))
            case "iv":
                iv = _from_hex(state.string(argument), "iv")
            case "key":
                key = state.string(argument)
                if not key:
                    raise ExpansionError("Empty encryption key")
            case "raw":
                raw = state.boolean(argument)
            case "salt":
                salt = state.string(argument)
                if iv is not None:
                    raise ExpansionError("Cannot use both salt and iv")
            case "hash":
                digest = shown(state.string(argument))
            case "rounds":
                rounds = state.number(argument)
                if rounds < 1:
                    raise ExpansionError("rounds must be positive integer")
    if key is None:
        raise ExpansionError("Encryption key missing")
    data = state.take("decrypt" if inverse else "encrypt")
    if inverse and not raw:
        parts = data.partition(b"\0")[0].split(b"$")
        if len(parts) != 3 or parts[2]:
            raise ExpansionError("Invalid input format")
        if iv is not None:
            raise ExpansionError("Cannot have iv in parameter and input")
        if parts[0][:1] in (b"s", b"r"):
            for parameter in parts[0].split(b","):
                name, value = shown(parameter[:2]), parameter[2:]
                if name == "s=":
                    salt = value
                elif name == "r=" and (signed(value) or 0) > 0:
                    rounds = int(value)
                else:
                    raise ExpansionError("Invalid input")
        else:
            iv = _from_hex(parts[0], "iv")
        data = _from_hex(parts[1], "input")
    elif raw and iv is None and salt is None:
        raise ExpansionError("In raw format, salt or IV must be given")
    cipher = Cipher(algorithm)
    if iv is not None:
        return _Secrets(cipher, _from_hex(key, "key"), iv, data, iv.hex().encode(), raw)
    if salt is None:
        import secrets

        salt = secrets.token_urlsafe(6).encode()
    try:
        made = hashlib.pbkdf2_hmac(digest, key, salt, rounds, cipher.key_length + cipher.iv_length)
    except (ValueError, OverflowError):
        raise QuotingError(f"Invalid digest {digest}") from None
    prefix = b"s=%s,r=%d" % (salt, rounds)
    return _Secrets(cipher, made[: cipher.key_length], made[cipher.key_length :], data, prefix, raw)


def _from_hex(text: bytes, what: str) -> bytes:
    value, complete = from_hex(text)
    if not complete:
        raise ExpansionError(f"Invalid {what}")
    return value


def encrypt(state: State, arguments: Arguments) -> None:
    secrets = _parameters(state, arguments, inverse=False)
    secrets.cipher.check(secrets.key, secrets.iv)
    result = secrets.cipher.encrypt(secrets.key, secrets.iv, secrets.data)
    if secrets.raw:
        state.set_binary(result)
    else:
        state.replace(secrets.prefix + b"$" + result.hex().encode() + b"$")


def decrypt(state: State, arguments: Arguments) -> None:
    secrets = _parameters(state, arguments, inverse=True)
    secrets.cipher.check(secrets.key, secrets.iv)
    result = secrets.cipher.decrypt(secrets.key, secrets.iv, secrets.data)
    if b"\0" in result:
        state.set_binary(result)
    else:
        state.set(result)
