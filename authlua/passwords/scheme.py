"""What a scheme is: a record of how one kind of stored password is read, made and checked."""

from collections.abc import Callable
from typing import Literal, NamedTuple


class UnknownScheme(ValueError):
    """A stored password names a scheme, or an encoding suffix, that does not exist.

    The text is Dovecot's, with the name as it was written: ``Unknown scheme NOSUCH``.
    """

    def __init__(self, scheme: str) -> None:
        super().__init__(f"Unknown scheme {scheme}")
        self.scheme = scheme


def check_cost(what: str, cost: int, limit: int, name: str) -> None:
    """Raise `MalformedHash` when *what* would cost more than the *limit* of that name in `Limits` allows."""
    if cost > limit:
        raise MalformedHash(f"{what} of {cost} is more than the {limit} that hashes.{name} allows")


class MalformedHash(ValueError):
    """A stored password cannot be judged: it is no value of its scheme, or costs more than allowed.

    *stage* tells how far it came. ``decode``: the data is not base64, hex or of the right length, and the text is the
    whole line Dovecot logs, ``Password data is not valid for scheme SHA256: …``. ``verify``: the scheme's own code
    refused, and the text is what Dovecot logs behind ``Invalid password in passdb: ``.
    *reason* is the text without the words before it. Neither ever holds a part of the stored password.
    """

    def __init__(self, reason: str, *, undecodable: str | None = None) -> None:
        """*undecodable* is the scheme, as it was written, whose data could not be decoded."""
        prefix = "" if undecodable is None else f"Password data is not valid for scheme {undecodable}: "
        super().__init__(prefix + reason)
        self.reason = reason
        self.stage: Literal["decode", "verify"] = "verify" if undecodable is None else "decode"


class SchemeMismatch(ValueError):
    """Credentials were wanted in one scheme and are stored in another that cannot be turned into it."""

    def __init__(self, wanted: str, stored: str) -> None:
        super().__init__(f"Requested {wanted} scheme, but we have only {stored}")


class Limits(NamedTuple):
    """The most one verification may cost; a stored password that asks for more is a `MalformedHash`.

    The defaults let pass what ``doveadm pw`` and libxcrypt make at any setting that ends within about a minute.
    Texts of errors name the limit as the configuration does.
    """

    argon2_memory: int = 1 << 30
    """Bytes of ARGON2I and ARGON2ID."""
    argon2_total: int = 64 << 30
    """Those bytes times the passes over them, which is what takes the time."""
    crypt_memory: int = 1 << 30
    """Bytes of scrypt and yescrypt."""
    crypt_total: int = 64 << 30
    """Those bytes times how often they are filled."""
    crypt_rounds: int = 10_000_000
    """Of SHA256-CRYPT, SHA512-CRYPT and the older methods of crypt(3)."""
    blf_crypt_cost: int = 20
    """Of BLF-CRYPT: each one more takes twice the time."""
    pbkdf2_rounds: int = 10_000_000
    scram_iterations: int = 10_000_000
    """Of a password compared with SCRAM credentials; a SCRAM login leaves them to the client."""
    otp_sequence: int = 100_000
    """Of a password compared with an OTP chain; an OTP login takes one step of it."""


LIMITS = Limits()

Make = Callable[[bytes, str, int], bytes]
"""(password, user, rounds or 0 for the default) → the stored form, before any encoding."""

Check = Callable[[bytes, bytes, str, Limits], bool]
"""(password, decoded stored form, user, limits) → whether they fit; raises `MalformedHash`."""


class Scheme:
    """One scheme. Passwords reach it without NUL; a user name is only looked at where the scheme mixes it in."""

    __slots__ = ("alias_of", "check", "encoding", "length", "make", "name", "slow", "weak")

    def __init__(
        self,
        name: str,
        make: Make,
        check: Check | None = None,
        encoding: Literal["", "HEX", "B64"] = "",
        length: int = 0,
        *,
        slow: bool = False,
        weak: bool = False,
        alias_of: str = "",
    ) -> None:
        self.name = name
        self.make = make
        self.check = check
        """`None`: make it again and compare."""
        self.encoding = encoding
        """How the stored form is written when no suffix says otherwise; ``""`` is text."""
        self.length = length
        """Bytes of the decoded form where that is fixed, else 0."""
        self.slow = slow
        """Checking or making it takes so long that an event loop would notice."""
        self.weak = weak
        """Dovecot 2.4 refuses it unless told otherwise."""
        self.alias_of = alias_of
        """The scheme whose stored form this one shares, when they are interchangeable as credentials."""

    @property
    def family(self) -> str:
        """The same for all schemes that are aliases of one another."""
        return self.alias_of or self.name


def salt(length: int) -> bytes:
    """*length* random characters of the alphabet crypt(3) uses."""
    from os import urandom

    return bytes(ALPHABET[byte & 63] for byte in urandom(length))


ALPHABET = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""The 64 digits of crypt(3), which are not those of base64."""
