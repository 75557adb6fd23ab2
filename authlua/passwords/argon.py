"""ARGON2I and ARGON2ID, as libsodium accepts and makes them."""

import re

from authlua.passwords.encodings import base64_beginning
from authlua.passwords.scheme import Limits, Make, MalformedHash, Scheme, check_cost

_NUMBER = rb"(0|[1-9][0-9]{0,9})"
_STRING = rb"\$argon2(id?)\$v=19\$m=%b,t=%b,p=%b\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)" % (_NUMBER, _NUMBER, _NUMBER)
_LEAST_SALT, _LEAST_HASH = 8, 16
_NO_MEMORY = "Memory allocation error"


def check(password: bytes, raw: bytes, user: str, limits: Limits) -> bool:
    """Both kinds fit under either name, and a string that is none is a mismatch, never an error.

    Source: libsodium's ``crypto_pwhash_str_verify``, which Dovecot calls; asked of ``doveadm pw`` by a test.
    """
    found = re.fullmatch(_STRING, raw)
    if found is None:
        return False
    if max(int(found[2]), int(found[3]), int(found[4])) >> 32:
        return False
    memory, passes = int(found[2]) * 1024, int(found[3])
    check_cost("an Argon2 memory in bytes", memory, limits.argon2_memory, "argon2_memory")
    check_cost("an Argon2 memory times passes", memory * passes, limits.argon2_total, "argon2_total")
    if len(base64_beginning(found[5])) < _LEAST_SALT or len(base64_beginning(found[6])) < _LEAST_HASH:
        return False
    from argon2.exceptions import InvalidHash, VerificationError, VerifyMismatchError
    from argon2.low_level import Type, verify_secret

    try:
        return verify_secret(raw, password, Type.ID if found[1] == b"id" else Type.I)
    except VerifyMismatchError:
        return False
    except (VerificationError, InvalidHash) as error:
        if str(error) == _NO_MEMORY:  # says nothing about the password
            raise MalformedHash(f"Argon2 failed: {_NO_MEMORY}") from None
        return False


def _make(kind: str, costs: dict[int, int], least: int, default: int) -> Make:
    """*costs*: from so many rounds on, so many MiB."""

    def make(password: bytes, user: str, rounds: int) -> bytes:
        if kind == "I" and 0 < rounds < least:
            raise ValueError(f"ARGON2I takes {least} rounds or more")
        from os import urandom

        from argon2.low_level import Type, hash_secret

        memory = next(mebibytes for start, mebibytes in costs.items() if rounds >= start)
        passes = max(rounds, least) if rounds else default
        return hash_secret(
            password,
            urandom(16),
            time_cost=passes,
            memory_cost=memory * 1024,
            parallelism=1,
            hash_len=32,
            type=Type[kind],
        )

    return make


_argon2id = _make("ID", {4: 1024, 3: 256, 0: 64}, 3, 3)

SCHEMES = (
    Scheme("ARGON2I", _make("I", {8: 512, 6: 128, 0: 32}, 3, 4), check, slow=True),
    Scheme("ARGON2ID", _argon2id, check, slow=True),
)
SCHEMES_2_4: tuple[Scheme, ...] = (Scheme("ARGON2", _argon2id, check, slow=True, alias_of="ARGON2ID"),)
