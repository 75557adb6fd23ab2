"""JSON Web Tokens, judged on the spot (RFC 7519): claims in Dovecot's order and words, then the signature.

As ``core:2.3.21.1:src/lib-oauth2/oauth2-jwt.c``. Signatures are the business of the library PyJWT
(``pip install authlua[oauth2]``), which is loaded with the first keys.
"""

import base64
import binascii
import errno
import json
import os
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.protocol import escape
from authlua.wishes import Compute

if TYPE_CHECKING:
    from jwt.algorithms import Algorithm

T = TypeVar("T")

Claims = dict[str, str]
"""What a token says, as texts, under the names that `flattened` gives."""

FAMILIES = {"HS": "oct", "RS": "RSA", "PS": "RSA", "ES": "EC"}
"""The kind of key (RFC 7518 section 6) that the algorithms with this beginning take."""

_SIZES = {Dialect.V2_3: ("256", "384", "512")}
_SIZES_2_4 = ("256", "256K", "384", "512")

_AHEAD = {Dialect.V2_4: 1}
"""Seconds that the clock of a token's issuer may be ahead of ours (from 2.4.2 on)."""

MAX_FILES = 1024
"""Files kept in memory; tokens name them, and anybody may send a token."""


class TokenRefused(Exception):
    """The token is not good; the text says why, for the log."""


class Number(str):
    """A number of JSON, as it was written."""


def read_json(text: str | bytes) -> Any:
    """*text* with its numbers as they were written. Raises `ValueError`."""
    try:
        return json.loads(text, parse_int=Number, parse_float=Number, parse_constant=Number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def as_text(value: object) -> str:
    """A value of JSON that is neither object nor list."""
    if isinstance(value, str):
        return str(value)
    return "null" if value is None else "true" if value is True else "false"


class Rules(NamedTuple):
    """What a token must say beside its user."""

    issuers: Sequence[str] = ()
    """Empty: anybody's."""
    client_id: str = ""
    """One of the token's audience; empty: whoever."""
    scope: Sequence[str] = ()
    """All of these must be in the token's scope."""
    grace: float = 0
    """Seconds that a token may be used after its end."""


# --- keys --------------------------------------------------------------------


class Keys(Protocol):
    """Where public keys and shared secrets are."""

    async def find(self, azp: str, alg: str, kid: str | None) -> Any:
        """The key, ready for *alg*.

        Raises:
            TokenRefused: there is none.
            ScriptError: that cannot be known.
        """
        ...


class _Files:
    """What was made of files; made again when one has changed."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[tuple[int, int, int], Any]] = {}

    async def get(self, path: str, make: Callable[[bytes], T]) -> T | None:
        """What *make* makes of the file at *path*; `None` when there is no such file."""
        try:
            status = os.stat(path)
            version = status.st_mtime_ns, status.st_ino, status.st_size
            known = self._made.pop(path, None)
            if known is None or known[0] != version:
                known = version, make(await Compute(_read, path))
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in a name
            return None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:  # the token's doing
                return None
            raise ScriptError(f"oauth2: {path}: {error.strerror}") from None
        if len(self._made) >= MAX_FILES:
            del self._made[next(iter(self._made))]
        self._made[path] = known
        made: T = known[1]
        return made


class KeyFiles:
    """Each key in a file of its own, as Dovecot's dict driver ``fs`` has them: ``PREFIX azp / alg / kid``.

    A file holds a public key in PEM, or a secret in base64.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._files = _Files()

    async def find(self, azp: str, alg: str, kid: str | None) -> Any:
        """The key that the token's ``azp``, ``alg`` and ``kid`` name, ``default`` standing for what it leaves out."""
        name = kid or "default"
        path = f"{self._prefix}{_escaped(azp or 'default')}/{alg}/{_escaped(name)}"
        key = await self._files.get(path, lambda data: _file_key(data, alg))
        if key is None:
            raise TokenRefused(f"{alg} key '{name}' not found")
        return key


class KeySet:
    """All keys in one file: a JWK Set (RFC 7517)."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._files = _Files()

    async def find(self, azp: str, alg: str, kid: str | None) -> Any:
        """The key with the token's ``kid``; a token without one may use the only key for its algorithm."""
        found = await self._files.get(self._path, _Set)
        if found is None:
            raise ScriptError(f"oauth2: no such file: {self._path}")
        return found.find(alg, kid)


class _Set:
    def __init__(self, data: bytes) -> None:
        try:
            keys = json.loads(data)["keys"]
            self._keys: list[dict[str, Any]] = [key for key in keys if isinstance(key, dict)]
        except (KeyError, TypeError, ValueError):
            raise ScriptError("oauth2: expected a JWK Set: an object with a list of keys") from None
        self._prepared: dict[tuple[int, str], Any] = {}

    def find(self, alg: str, kid: str | None) -> Any:
        fitting = [
            index
            for index, key in enumerate(self._keys)
            if key.get("kty") == FAMILIES[alg[:2]]
            and key.get("alg", alg) == alg
            and key.get("use", "sig") == "sig"
            and kid in (None, key.get("kid"))
        ]
        if len(fitting) != 1:
            raise TokenRefused(f"{alg} key '{kid or 'default'}' not found")
        place = fitting[0], alg
        if place not in self._prepared:
            self._prepared[place] = _prepared(alg, lambda algorithm: algorithm.from_jwk(self._keys[fitting[0]]))
        return self._prepared[place]


def _file_key(data: bytes, alg: str) -> Any:
    if FAMILIES[alg[:2]] != "oct":
        return _prepared(alg, lambda algorithm: algorithm.prepare_key(data))
    try:
        secret = base64.b64decode(data)
    except binascii.Error:
        secret = b""
    if not secret:
        raise TokenRefused("Invalid base64 encoded key")
    return _prepared(alg, lambda algorithm: algorithm.prepare_key(secret))


def _prepared(alg: str, prepare: "Callable[[Algorithm], Any]") -> Any:
    import jwt

    try:
        return prepare(jwt.get_algorithm_by_name(alg))
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise TokenRefused(f"Cannot load key: {error}") from None


def _escaped(name: str) -> str:
    """*name* as one name of a file."""
    if name in (".", ".."):
        return name.replace(".", "%2e")
    return name.replace("%", "%25").replace("/", "%2f")


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


# --- tokens ------------------------------------------------------------------


class TokenJudge:
    """Reads tokens, and believes those that *keys* vouch for and *rules* let pass."""

    def __init__(self, keys: Keys, rules: Rules, dialect: Dialect) -> None:
        import jwt

        self._keys = keys
        self._rules = rules
        self._dialect = dialect
        self._ahead = _AHEAD.get(dialect, 0)
        self._signatures = jwt.PyJWS()
        self._problems = jwt.PyJWTError

    async def claims(self, token: str) -> Claims:
        """What *token* says.

        Raises:
            TokenRefused: it is not good.
            ScriptError: the keys cannot be read.
        """
        parts = token.split(".")
        if len(parts) != 3 or not token.isascii():
            raise TokenRefused("Not a JWT token")
        header, body = _object(parts[0]), _object(parts[1])
        alg, kid = _claim(header, "alg"), _claim(header, "kid")
        if alg is None:
            raise TokenRefused("Cannot find 'alg' field")
        if kid == "":
            raise TokenRefused("'kid' field is empty")
        self._check_times(body, int(time.time()))
        self._check_rules(body)
        if alg[:2] not in FAMILIES or alg[2:] not in _SIZES.get(self._dialect, _SIZES_2_4):
            raise TokenRefused(f"Unsupported algorithm '{alg.upper()}'")
        key = await self._keys.find(_claim(body, "azp") or "", alg, kid)
        try:
            self._signatures.decode(token, key, [alg])
        except self._problems as error:
            raise TokenRefused(f"Bad signature: {error}") from None
        return flattened(body)

    def _check_times(self, body: dict[str, Any], now: int) -> None:
        if _claim(body, "sub") is None:
            raise TokenRefused("Missing 'sub' field")
        exp = self._time(body, "exp")
        if exp is None:
            raise TokenRefused("Missing 'exp' field")
        nbf, iat = self._time(body, "nbf") or now, self._time(body, "iat") or now
        if nbf > now + self._ahead:
            raise TokenRefused(f"Token is not valid yet (nbf={nbf} > {now})")
        if iat > now + self._ahead:
            raise TokenRefused(f"Token is issued in future (iat={iat} > {now})")
        if exp < now - self._rules.grace:
            raise TokenRefused(f"Token has expired (exp={exp} < {now})")
        if exp < iat or exp < nbf:
            raise TokenRefused("Token time values are conflicting")

    def _check_rules(self, body: dict[str, Any]) -> None:
        rules = self._rules
        if rules.issuers:
            issuer = _claim(body, "iss")
            if issuer is None:
                raise TokenRefused("Token is missing 'iss' field")
            if issuer not in rules.issuers:
                raise TokenRefused(f"Issuer '{issuer}' is not allowed")
        if rules.client_id:
            audience = body.get("aud")
            if audience is None or isinstance(audience, dict):
                raise TokenRefused("client_id set but aud is missing")
            if rules.client_id not in (map(str, audience) if isinstance(audience, list) else [as_text(audience)]):
                raise TokenRefused("client_id not found in aud field")
        if rules.scope:
            scope = _claim(body, "scope")
            if scope is None:
                raise TokenRefused("scope set but not found in token")
            given = scope.lower().replace(",", " ").split(" ")
            if not all(wanted.lower() in given for wanted in rules.scope):
                raise TokenRefused(f"configured scope '{' '.join(rules.scope)}' missing from token scope '{scope}'")

    def _time(self, body: dict[str, Any], name: str) -> int | None:
        """Seconds since the epoch; `None` when the token does not say, and it may not say what is none."""
        value = body.get(name)
        if value is None or isinstance(value, dict | list):
            return None
        text = as_text(value)
        is_2_3 = self._dialect is Dialect.V2_3
        try:
            if text.isascii() and text.isdigit() and (is_2_3 or isinstance(value, Number)):
                seconds = int(text[:19])
            elif isinstance(value, Number):
                seconds = -1 if is_2_3 else int(float(text))
            else:
                moment = datetime.fromisoformat(text)
                seconds = -1 if moment.tzinfo is None else int(moment.timestamp())
            if seconds >= 0:
                return seconds
        except (OverflowError, ValueError):
            pass  # told below
        raise TokenRefused(f"Malformed '{name}' field")


def _object(part: str) -> dict[str, Any]:
    """The object that a part of a token is."""
    try:
        found = read_json(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (UnicodeError, ValueError):
        raise TokenRefused("Not a JWT token") from None
    if not isinstance(found, dict):
        raise TokenRefused("Not a JWT token")
    return found


def _claim(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    return None if value is None or isinstance(value, dict | list) else as_text(value)


def flattened(body: dict[str, Any]) -> Claims:
    """All that *body* says, level by level.

    What is in an object has the object's name in front, and ``_``. The values of a list stand side by side, with TABs
    between them; one of several lists inside each other is meant.
    """
    claims: Claims = {}
    level: list[tuple[str, dict[str, Any] | list[Any]]] = [("", body)]
    while level:
        name, found = level.pop(0)
        prefix = f"{name}_" if name else ""
        for key, value in found.items() if isinstance(found, dict) else ((None, one) for one in found):
            place = name if key is None else prefix + key
            if isinstance(value, dict | list):
                level.append((place, value))
                continue
            text = escape(as_text(value))
            claims[place] = f"{claims[place]}\t{text}" if key is None and place in claims else text
    return claims
