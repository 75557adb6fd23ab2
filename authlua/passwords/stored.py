"""Stored passwords, ``{SCHEME.ENCODING}data``: parsed, verified, made, and handed out as credentials."""

from binascii import b2a_base64
from hmac import compare_digest
from typing import Final

from authlua.dialect import Dialect
from authlua.passwords import argon, blowfish, crypt, digests, md5_crypt, otp, pbkdf2, plain, scram
from authlua.passwords.encodings import from_base64, from_hex, octets
from authlua.passwords.scheme import LIMITS, Limits, MalformedHash, Scheme, SchemeMismatch, UnknownScheme

_SCHEMES = tuple(
    scheme
    for room in (plain, crypt, blowfish, md5_crypt, argon, pbkdf2, scram, digests, otp)
    for scheme in room.SCHEMES
)
_SUFFIXES = {"": "", ".HEX": "HEX", ".B64": "B64", ".BASE64": "B64"}
_KNOWN: Final = {
    scheme.name + suffix: (scheme, encoding)
    for scheme in _SCHEMES + argon.SCHEMES_2_4
    for suffix, encoding in _SUFFIXES.items()
}
_V2_3: Final = Dialect.V2_3
_V2_4: Final = Dialect.V2_4
_ONLY_2_4: Final = {scheme.name for scheme in argon.SCHEMES_2_4}


def schemes(dialect: Dialect = Dialect.V2_4) -> tuple[str, ...]:
    """The names of all schemes that *dialect* knows, aliases too."""
    known = _SCHEMES if dialect is _V2_3 else _SCHEMES + argon.SCHEMES_2_4
    return tuple(scheme.name for scheme in known)


def _scheme(name: str, dialect: Dialect) -> tuple[Scheme, str]:
    """The scheme that *name* means and the encoding its suffix asks for, ``""`` without one."""
    known = _KNOWN.get(name) or (_KNOWN.get(name.upper()) if name.isascii() else None)
    if known is None or (dialect is _V2_3 and known[0].name in _ONLY_2_4):
        raise UnknownScheme(name)
    return known


def _split(stored: str, default_scheme: str) -> tuple[str, str]:
    """The scheme as it is written, and the data (``core:2.3.21.1:src/auth/password-scheme.c:password_get_scheme``)."""
    if "\0" in stored:
        stored = stored.partition("\0")[0]
    if stored[:1] == "{":
        end = stored.find("}")
        if end > 0:
            return stored[1:end], stored[end + 1 :]
    elif stored[:3] == "$1$" and stored.count("$") > 2:
        return "MD5-CRYPT", "$".join(stored.split("$", 4)[:4])
    return default_scheme, stored


def _decode(scheme: Scheme, encoding: str, name: str, data: str) -> bytes:
    """The stored form behind *data* (``core:2.3.21.1:src/auth/password-scheme.c:password_decode``)."""
    how = encoding or scheme.encoding
    if not how:
        return data.encode() if data.isascii() else octets(data)
    text = octets(data)
    if scheme.length and not encoding:
        # a digest of fixed length may be written either way: as hex it has twice that length
        raw = (from_hex(text) if len(text) == 2 * scheme.length else None) or from_base64(text)
        how = "B64"
    else:
        raw = from_hex(text) if how == "HEX" else from_base64(text)
    if raw is None:
        kind = "HEX" if how == "HEX" else "base64"
        raise MalformedHash(f"Input isn't valid {kind} encoded data", undecodable=name)
    if scheme.length and len(raw) != scheme.length:
        raise MalformedHash(f"Input length isn't valid ({len(raw)} instead of {scheme.length})", undecodable=name)
    return raw


class Stored:
    """A stored password, ``{SCHEME.ENCODING}data`` or only data in the *default_scheme*, taken apart.

    A value without ``{…}`` that looks like ``$1$salt$hash`` is MD5-CRYPT, and loses what follows the next ``$``.
    Bytes that are no UTF-8 stand in *text* as surrogates. *dialect* says which schemes exist.

    Raises `UnknownScheme`.
    """

    __slots__ = ("_data", "_encoding", "_name", "_scheme")

    def __init__(self, text: str, default_scheme: str = "PLAIN", dialect: Dialect = _V2_4) -> None:
        self._name, self._data = _split(text, default_scheme)
        self._scheme, self._encoding = _scheme(self._name, dialect)

    def __repr__(self) -> str:
        return f"<Stored {self._scheme.name}>"

    @property
    def slow(self) -> bool:
        """Whether `fits` belongs off the event loop: it takes more than about a tenth of a millisecond."""
        return self._scheme.slow

    def fits(self, password: bytes, user: str, allow_weak: bool, limits: Limits) -> bool:
        """Whether *password*, up to its first NUL, is the one behind it; the rest as in `verify`."""
        scheme = self._scheme
        raw = _decode(scheme, self._encoding, self._name, self._data)
        if 0 in password:
            password = password.partition(b"\0")[0]
        if not allow_weak:
            weak = scheme.name if scheme.weak else crypt.weakness(raw) if scheme.check is crypt.check else None
            if weak:
                raise MalformedHash(f"Weak password scheme '{weak}' used and refused")
        if scheme.check is None:
            return compare_digest(scheme.make(password, user, 0), raw)
        return scheme.check(password, raw, user, limits)


def split_scheme(stored: str, default_scheme: str = "PLAIN") -> tuple[str, str, str]:
    """What *stored* says of itself: the scheme in upper case, ``""``, ``"HEX"`` or ``"B64"`` for its suffix, the data.

    A value without ``{…}`` has the *default_scheme*, unless it looks like ``$1$salt$hash``: then it is MD5-CRYPT, and
    loses what follows the next ``$``. Raises `UnknownScheme`.
    """
    name, data = _split(stored, default_scheme)
    scheme, encoding = _scheme(name, Dialect.V2_4)
    return scheme.name, encoding, data


def verify(
    password: bytes,
    stored: str,
    *,
    user: str = "",
    default_scheme: str = "PLAIN",
    allow_weak: bool = True,
    dialect: Dialect = Dialect.V2_4,
    limits: Limits = LIMITS,
) -> bool:
    """Whether *password*, up to its first NUL, is the one behind *stored*.

    *stored* is ``{SCHEME.ENCODING}data`` or only data in the *default_scheme*; bytes that are no UTF-8 stand in it as
    surrogates. *user* matters to DIGEST-MD5 alone: the name as the client gave it. Without *allow_weak* the schemes
    that Dovecot 2.4 calls weak are refused. *dialect* says which schemes exist.
    Takes up to seconds where `is_slow` says so; libraries that compute let other threads run.

    Raises `UnknownScheme`, and `MalformedHash` where *stored* is no value of its scheme, is refused as weak, or goes
    over *limits*. Nothing else, whatever it is given.
    """
    return Stored(stored, default_scheme, dialect).fits(password, user, allow_weak, limits)


def is_slow(stored: str, default_scheme: str = "PLAIN", *, wanted: str = "") -> bool:
    """Whether `verify` (or, when *wanted* is a scheme, `credentials`) belongs off the event loop.

    All that takes more than about a tenth of a millisecond is slow. An unknown scheme is not: it is refused at once.
    """
    try:
        scheme = _scheme(_split(stored, default_scheme)[0], Dialect.V2_4)[0]
        if not wanted:
            return scheme.slow
        target = _scheme(wanted, Dialect.V2_4)[0]
    except UnknownScheme:
        return False
    return target.slow and target.family != scheme.family == "PLAIN"


def encode(password: bytes, scheme: str, *, user: str = "", rounds: int | None = None) -> str:
    """*password*, up to its first NUL, as ``{SCHEME}data`` with a fresh salt; *scheme* may have an encoding suffix.

    *rounds* means what it does for ``doveadm pw -r``, and `None` or 0 its default; schemes without rounds ignore it.
    Raises `UnknownScheme`; `ValueError` for rounds the scheme does not take, or DIGEST-MD5 without *user*.
    """
    known, encoding = _scheme(scheme, Dialect.V2_4)
    if rounds is not None and not 0 <= rounds < 1 << 32:
        raise ValueError(f"Invalid number of rounds: {rounds}")
    if known.make is digests.digest_md5 and not user:
        raise ValueError(f"{known.name} needs a user name")
    raw = known.make(password.partition(b"\0")[0], user, rounds or 0)
    match encoding or known.encoding:
        case "HEX":
            raw = raw.hex().encode()
        case "B64":
            raw = b2a_base64(raw, newline=False)
    return f"{{{scheme.upper()}}}{raw.decode('utf-8', 'surrogateescape')}"


def credentials(
    stored: str,
    wanted: str,
    *,
    user: str,
    default_scheme: str = "PLAIN",
    realm: str | None = None,
    dialect: Dialect = Dialect.V2_4,
) -> bytes:
    """The stored form of *stored* in the scheme *wanted*, for a mechanism that never sees the password.

    ``""`` wants whatever there is. An alias counts as the scheme itself; of a PLAIN password, all others are made.
    *realm* is `None` when the part of *user* behind ``@`` is the realm already; otherwise a DIGEST-MD5 made here is
    for ``user@realm``, as far as *user* has an ``@`` (``core:2.3.21.1:src/auth/passdb.c:passdb_get_credentials``).

    Raises `UnknownScheme`, `MalformedHash`, and `SchemeMismatch` where only another scheme is at hand.
    """
    name, data = _split(stored, default_scheme)
    scheme, encoding = _scheme(name, dialect)
    raw = _decode(scheme, encoding, name, data)
    if not wanted:
        return raw
    target = _scheme(wanted, dialect)[0]
    if target.family == scheme.family:
        return raw
    if scheme.family != "PLAIN":
        raise SchemeMismatch(wanted, name)
    if realm is not None and "@" in user:
        user = f"{user}@{realm}"
    return target.make(raw.partition(b"\0")[0], user, 0)
