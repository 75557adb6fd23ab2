"""The grammar of 2.3: ``%u``, ``%Lu``, ``%2.256Nu``, ``%{user}``, ``%{if;…}``, ``%{sha256;rounds=3:user}``.

Every text is a template here. What cannot be made sense of shows when it is expanded: an unknown variable as
``UNSUPPORTED_VARIABLE_…`` in the text, a mistake in arguments as `ExpansionError`.
Rules: ``core:2.3.21.1:src/lib/var-expand.c:var_expand_with_funcs``, ``var-expand-if.c`` and
``src/plugins/var-expand-crypt``. Of several mistakes the first is reported, Dovecot reports the last.
"""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from authlua.variables.cipher import Cipher
from authlua.variables.comparison import NUMERIC, TEXTUAL, signed, unsigned
from authlua.variables.digests import (
    ALGORITHMS,
    first_bits,
    from_base64,
    from_hex,
    pad,
    repeat,
    str_hash,
    to_base64,
)
from authlua.variables.template import ExpansionError, Part, QuotingError, Variables, literal

SHORT_NAMES: dict[bytes, str] = {
    b"u": "user",
    b"n": "username",
    b"d": "domain",
    b"s": "service",
    b"h": "home",
    b"l": "lip",
    b"r": "rip",
    b"p": "pid",
    b"w": "password",
    b"!": "!",  # the id of the passdb or userdb has no long name
    b"m": "mech",
    b"c": "secured",
    b"a": "lport",
    b"b": "rport",
    b"k": "cert",
}
"""The one-letter variables of an auth request (``core:2.3.21.1:src/auth/auth-request-var-expand.c``)."""

_DEEPEST = 32  # templates within templates
_PKCS5 = (b"sha256", 2048, 336)  # digest, rounds, bytes of output
_SPEC = re.compile(rb"(-?)(0?)([0-9]*)(?:(\.)(0?)(-?)([0-9]*))?([LUEXRNHMDT]{0,10})")

_Modifier = Callable[[bytes], bytes]
_Arguments = list[tuple[bytes, bytes]]


class _Unknown(Exception):
    """A variable nobody knows; *text* takes its place, untouched by modifiers and widths."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.text = text


def compile_percent(text: bytes) -> tuple[Sequence[Part], Sequence[str]]:
    """The parts of the template *text*, and the names of the variables it uses."""
    names: list[str] = []
    return [_tolerant(part) for part in _parts(text, names, 0)], names


def _tolerant(part: Part) -> Part:
    def tolerant(variables: Variables) -> bytes:
        try:
            return part(variables)
        except _Unknown as unknown:
            return unknown.text

    return tolerant


def _failing(problem: str) -> Part:
    def failing(variables: Variables) -> bytes:
        raise ExpansionError(problem)

    return failing


def _parts(text: bytes, names: list[str], depth: int) -> list[Part]:
    """The parts of *text*; each raises `_Unknown` for a variable nobody knows."""
    if depth > _DEEPEST:
        raise ExpansionError("nested too deeply")
    parts: list[Part] = []
    at = 0
    while True:
        percent = text.find(b"%", at)
        if percent < 0:
            percent = len(text)
        if percent > at:
            parts.append(literal(text[at:percent]))
        spec = _SPEC.match(text, percent + 1)
        if percent == len(text) or spec is None or spec.end() == len(text):
            return parts
        at = spec.end() + 1
        if text[at - 1 : at] != b"{" or b"}" not in text[at:]:
            value = _short(text[at - 1 : at], names)
        else:
            end = _closing_brace(text, at)
            value = _long(text[at:end], names, depth)
            at = end + 1
        parts.append(_shaped(value, spec))


def _closing_brace(text: bytes, at: int) -> int:
    """Where the brace opened before *at* closes; the end of *text* when it does not."""
    depth = 1
    while at < len(text):
        if text[at] == 0x5C:
            at += 1
        elif text[at] == 0x7B:
            depth += 1
        elif text[at] == 0x7D:
            depth -= 1
            if depth == 0:
                return at
        at += 1
    return len(text)


def _short(letter: bytes, names: list[str]) -> Part:
    if letter == b"%":
        return literal(b"%")
    name = SHORT_NAMES.get(letter)
    if name is None:
        return _variable(letter.decode("utf-8", "surrogateescape"), letter)
    names.append(name)
    return _variable(name, letter)


def _variable(name: str, shown: bytes, default: bytes = b"") -> Part:
    def variable(variables: Variables) -> bytes:
        try:
            value = variables.lookup(name)
        except KeyError:
            raise _Unknown(b"UNSUPPORTED_VARIABLE_" + shown) from None
        return default if value is None else value.encode("utf-8", "surrogateescape")

    return variable


def _nothing(name: str) -> Part:
    """A variable that nobody can know, in whose place nothing is put."""

    def nothing(variables: Variables) -> bytes:
        with suppress(KeyError):
            variables.lookup(name)
        raise _Unknown(b"")

    return nothing


# --- modifiers, offset and width ---


def _shaped(value: Part, spec: "re.Match[bytes]") -> Part:
    """*value* after the modifiers, offset and width of *spec*."""
    sign, zeroes, number, dot, width_zeroes, width_sign, width_number, letters = spec.groups()
    offset, width = 0, _bounded(number)
    if dot:
        offset = -width if sign else width
        width = -_bounded(width_number) if width_sign else _bounded(width_number)
        zeroes = width_zeroes
    modifiers: list[_Modifier] = []
    for letter in letters.decode():
        if letter in "NH":  # these two use up offset and width
            modifiers.append(
                partial(_bucket, of=_first_of_md5 if letter == "N" else str_hash, modulo=width, digits=offset)
            )
            offset = width = 0
        else:
            modifiers.append(_MODIFIERS[letter])
    if offset or width:
        modifiers.append(partial(_cut, offset=offset, width=width, zeroes=bool(zeroes)))
    if not modifiers:
        return value
    if len(modifiers) == 1:
        (modify,) = modifiers
        return lambda variables: modify(value(variables))

    def shaped(variables: Variables) -> bytes:
        result = value(variables)
        for modify in modifiers:
            result = modify(result)
        return result

    return shaped


def _bounded(digits: bytes) -> int:
    return min(int(digits.lstrip(b"0")[:11] or b"0"), (1 << 31) - 1)


def _cut(value: bytes, *, offset: int, width: int, zeroes: bool) -> bytes:
    value = value[offset:]
    if width == 0:
        return value
    if zeroes:  # padding, and never shortened
        return pad(value, width, b"0", left=True)
    if width < 0 and len(value) + width < 0:
        return value
    return value[:width]


def _bucket(value: bytes, *, of: Callable[[bytes], int], modulo: int, digits: int) -> bytes:
    number = of(value)
    if modulo:
        number %= modulo % (1 << (32 if of is str_hash else 64))
    return pad(b"%x" % (number & 0xFFFFFFFF), digits, b"0", left=True)


def _first_of_md5(value: bytes) -> int:
    return int.from_bytes(ALGORITHMS[b"md5"](value)[:8], "big")


def _hex_number(value: bytes) -> bytes:
    return b"%x" % (unsigned(value, 64) or 0)


_MODIFIERS: dict[str, _Modifier] = {
    "L": bytes.lower,
    "U": bytes.upper,
    "E": lambda value: re.sub(rb"([\"'\\])", rb"\\\1", value),
    "X": _hex_number,
    "R": lambda value: value[::-1],
    "M": lambda value: ALGORITHMS[b"md5"](value).hex().encode(),
    "D": lambda value: value.replace(b".", b",dc="),
    "T": lambda value: value.rstrip(b" \t\n\v\f\r"),
}


# --- long names and functions ---


def _long(key: bytes, names: list[str], depth: int) -> Part:
    if depth > _DEEPEST:
        raise ExpansionError("nested too deeply")
    head, _, data = key.partition(b":")
    function, _, arguments = head.partition(b";")
    called = function.lower()
    if called == b"if":
        return _if(key, names, depth)
    if called in (b"encrypt", b"decrypt"):
        return _crypt(called, _split(arguments), _long(data, names, depth + 1), names, depth)
    if called == b"pkcs5" or called in ALGORITHMS:
        return _hash(function, _split(arguments), data, names, depth)
    default = b""
    if head in (b"passdb", b"userdb"):
        data, _, default = data.partition(b":")
    name = _quoted(head + b":" + data if head in (b"env", b"passdb", b"userdb") else key)
    names.append(name)
    return _variable(name, head, default)


def _split(arguments: bytes) -> _Arguments:
    """``name=value`` pairs; words without ``=`` do not count."""
    pairs = (argument.partition(b"=") for argument in arguments.split(b","))
    return [(name, value) for name, equals, value in pairs if equals]


def _tolerant_join(text: bytes, names: list[str], depth: int) -> Part:
    parts = [_tolerant(part) for part in _parts(text, names, depth + 1)]
    return lambda variables: b"".join([part(variables) for part in parts])


def _quoted(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _hash(function: bytes, arguments: _Arguments, data: bytes, names: list[str], depth: int) -> Part:
    """``%{sha256;rounds=1,salt=…,truncate=…,format=hex:variable}``, ``var-expand.c:var_expand_hash``."""
    field = _long(data, names, depth + 1)
    pkcs5 = function == b"pkcs5"
    if not pkcs5 and function not in ALGORITHMS:  # in capitals: found, and then not found
        return _nothing(_quoted(function))
    digest = ALGORITHMS[_PKCS5[0] if pkcs5 else function]
    rounds, salt = (_PKCS5[1], literal(data)) if pkcs5 else (1, literal(b""))
    bits, form = 0, b"hex"
    wrong = ""
    for name, value in arguments:
        if name == b"rounds":
            rounds = _argument(value)
            if rounds < 0:
                wrong = wrong or _bad_argument(f"'{_quoted(value)}' is not number for rounds")
            elif rounds < 1:
                wrong = wrong or _bad_argument("rounds must be at least 1")
        elif name == b"truncate":
            bits = _argument(value)
            if bits < 0:
                wrong = wrong or _bad_argument(f"'{_quoted(value)}' is not number for truncbits")
            bits = min(bits, 8 * len(digest(b"")))
        elif name == b"salt":  # the rest of the arguments is not looked at any more
            salt = _tolerant_join(value, names, depth)
            break
        elif name == b"format":
            form = value
            if form not in (b"hex", b"hexuc", b"base64"):
                wrong = wrong or _bad_argument(f"'{_quoted(value)}' is not supported format")

    def hashed(variables: Variables) -> bytes:
        value = _field(field, variables)
        if wrong:
            raise ExpansionError(wrong)
        if pkcs5:
            value = hashlib.pbkdf2_hmac("sha256", value, salt(variables), rounds, _PKCS5[2])
        else:
            value = repeat(digest, value, salt(variables), rounds)
        if bits:
            value = first_bits(value, bits)
        return to_base64(value) if form == b"base64" else value.hex().encode()

    return hashed


def _argument(value: bytes) -> int:
    number = unsigned(value, 32)
    return -1 if number is None else number


def _bad_argument(problem: str) -> str:
    return f"Cannot parse hash arguments:{problem}"


def _field(field: Part, variables: Variables) -> bytes:
    """A function's variable; when nobody knows it, nothing at all takes the function's place."""
    try:
        return field(variables)
    except _Unknown:
        raise _Unknown(b"") from None


def _if(key: bytes, names: list[str], depth: int) -> Part:
    """``%{if;lhs;op;rhs;true;false}``, ``var-expand-if.c:var_expand_if``."""
    _, semicolon, rest = key.partition(b";")
    if not semicolon:
        return _failing("if: missing parameter(s)")
    words = _if_parameters(rest)
    if len(words) == 4:
        words.append(b"")
    if len(words) != 5:
        return _failing(f"if: requires four or five parameters, got {len(words)}")
    parameters = [_parts(word, names, depth + 1) for word in words]

    def decided(variables: Variables) -> bytes:
        lhs, op, rhs, true, false = [_whole(parts, variables) for parts in parameters]
        return true if _compare(lhs, op, rhs) else false

    return decided


def _whole(parts: list[Part], variables: Variables) -> bytes:
    """One parameter; when nobody knows one of its variables, nothing takes the place of the whole ``if``."""
    values = []
    unknown = False
    for part in parts:
        try:
            values.append(part(variables))
        except _Unknown:
            unknown = True  # and look at the rest: a mistake in there counts for more
    if unknown:
        raise _Unknown(b"")
    return b"".join(values)


def _if_parameters(text: bytes) -> list[bytes]:
    """Split at ``;`` outside of ``%{…}``, up to the first such ``:``; an empty last one does not count."""
    words = [b""]
    depth = 0
    escaped = percent = False
    for byte in (text[at : at + 1] for at in range(len(text))):
        if byte == b"\\":  # even behind another: a backslash cannot be had
            escaped = True
            continue
        if escaped:
            escaped = False
        elif byte == b"%":
            percent = True
        elif percent and byte == b"{":
            depth += 1
            percent = False
        elif depth and byte == b"}":
            depth -= 1
        elif not depth and byte == b";":
            words.append(b"")
            continue
        elif not depth and byte == b":":
            break
        words[-1] += byte
    return words if words[-1] else words[:-1]


def _compare(lhs: bytes, op: bytes, rhs: bytes) -> bool:
    if op in TEXTUAL:
        try:
            return TEXTUAL[op](lhs, rhs)
        except ExpansionError as error:
            raise type(error)(f"if: regex failed: {error}") from None
    if op not in NUMERIC:
        raise QuotingError(f"if: Unsupported comparator '{_quoted(op)}'")
    left, right = signed(lhs), signed(rhs)
    if left is None:
        raise QuotingError(f"if: {_quoted(lhs)} (lhs) is not a number")
    if right is None:
        raise QuotingError(f"if: {_quoted(rhs)} (rhs) is not a number")
    return NUMERIC[op](left, right)


def _crypt(function: bytes, arguments: _Arguments, field: Part, names: list[str], depth: int) -> Part:
    """``%{encrypt;algo=AES-256-CBC,key=…,iv=…:variable}`` and its inverse: ``IV$DATA$``."""
    algorithm, form, noiv = "AES-256-CBC", b"hex", False
    key_text = iv_text = literal(b"")
    wrong = ""
    for name, value in arguments:
        if name == b"algo":
            algorithm = _quoted(value)
        elif name == b"key":
            key_text = _tolerant_join(value, names, depth)
        elif name == b"iv":
            iv_text = _tolerant_join(value, names, depth)
        elif name == b"noiv":
            noiv = value.lower() == b"yes"
        elif name == b"format":
            form = value
            if form not in (b"hex", b"base64"):
                wrong = wrong or _bad_argument(f"'{_quoted(value)}' is not supported format")
    encode = to_base64 if form == b"base64" else lambda data: data.hex().encode()
    decode = from_base64 if form == b"base64" else lambda text: from_hex(text)[0]

    def crypted(variables: Variables) -> bytes:
        value = _field(field, variables)
        if not value:
            return b""
        if wrong:
            raise ExpansionError(wrong)
        key, iv = from_hex(key_text(variables))[0], from_hex(iv_text(variables))[0]
        if function == b"decrypt" and not iv:
            if b"$" in value:
                iv_part, value = value.split(b"$")[:2]
                iv = decode(iv_part)
            if not iv:
                raise ExpansionError("decrypt: IV missing")
        cipher = Cipher(algorithm)
        iv = iv or os.urandom(cipher.iv_length)
        try:
            cipher.check(key, iv)
        except ExpansionError as error:
            raise type(error)(f"crypt: {error}") from None
        if function == b"decrypt":
            return cipher.decrypt(key, iv, decode(value)).partition(b"\0")[0]
        result = encode(cipher.encrypt(key, iv, value))
        return result if noiv else encode(iv) + b"$" + result + b"$"

    return crypted
