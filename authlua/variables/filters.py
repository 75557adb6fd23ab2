"""The filters of 2.4, each a function from the state so far to the next, by the name templates call it.

Behaviour and error texts are those of 2.4.1 (``core:2.4.1:src/lib-var-expand/expansion-filter.c``,
``expansion-filter-if.c``, ``src/lib-var-expand-crypt``), ``switch`` and ``safe`` those of 2.4.3. Where 2.4.1
crashes or never returns, what a later release says is said here: division of binary input by zero, an empty
separator, a truncation to more than there is, bad hex given to `decrypt`.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeVar

from authlua.variables.cipher import Cipher
from authlua.variables.comparison import NUMERIC, TEXTUAL, signed, unsigned
from authlua.variables.digests import ALGORITHMS, first_bits, from_base64, from_hex, pad, repeat, to_base64
from authlua.variables.regexp import search
from authlua.variables.template import ExpansionError, QuotingError, Variables

_T = TypeVar("_T")


class Argument(NamedTuple):
    """What stands in a filter's parentheses: text, a number (in digits), or the name of a variable."""

    kind: Literal["string", "number", "variable"]
    value: bytes
    place: int
    """Its position, from 0; -1 when it has a *key*."""
    key: str | None = None


Arguments = Sequence[Argument]
Filter = Callable[["State", Arguments], None]


class State:
    """The value on its way through a pipeline: unset, text, or binary, which ends up as hex digits."""

    __slots__ = ("binary", "is_set", "value", "variables")

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.value = b""
        self.is_set = False
        self.binary = False

    def set(self, value: bytes) -> None:
        """Continue with text; as with every string of Dovecot, a NUL ends it."""
        self.replace(value.partition(b"\0")[0])
        self.binary = False

    def set_binary(self, value: bytes) -> None:
        """Continue with bytes."""
        self.replace(value)
        self.binary = True

    def replace(self, value: bytes) -> None:
        """Continue with more of the same kind."""
        self.value = value
        self.is_set = True

    def unset(self) -> None:
        """Continue with nothing. What was binary stays so: at the end it is the empty text, not an error."""
        self.value = b""
        self.is_set = False

    def take(self, action: str) -> bytes:
        """The value; raises `ExpansionError` when there is none to *action*."""
        if not self.is_set:
            raise ExpansionError(f"No value to {action}")
        return self.value

    def take_text(self, action: str) -> bytes:
        """The value up to its first NUL."""
        return self.take(action).partition(b"\0")[0]

    def lookup(self, name: str) -> bytes:
        """The value of the variable *name*, empty when it is unset; raises `ExpansionError`."""
        try:
            value = self.variables.lookup(name)
        except KeyError:
            prefix, colon, _ = name.partition(":")
            raise ExpansionError(f"Unsupported prefix '{prefix}'" if colon else f"Unknown variable '{name}'") from None
        return b"" if value is None else value.encode("utf-8", "surrogateescape")

    def anything(self, argument: Argument) -> bytes:
        """The text, digits or variable's value *argument* stands for."""
        if argument.kind == "variable":
            return self.lookup(_text(argument.value))
        return argument.value

    def string(self, argument: Argument) -> bytes:
        """The text or variable's value; a number is none."""
        if argument.kind == "number":
            raise ExpansionError(f"{_text(argument.value)} is not a string")
        return self.anything(argument)

    def number(self, argument: Argument) -> int:
        """The number, or the one a variable holds; text is none, whatever it says."""
        if argument.kind == "string":
            raise ExpansionError(f"'{_text(argument.value)}' is not a number")
        value = self.anything(argument)
        number = signed(value)
        if number is None:
            raise QuotingError(f"'{_text(value)}' (in {_text(argument.value)}) is not a number")
        return number

    def boolean(self, argument: Argument) -> bool:
        """0 or 1."""
        number = self.number(argument)
        if number not in (0, 1):
            raise ExpansionError(f"'{_text(argument.value)}' is not 0 or 1")
        return number == 1


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _each(arguments: Arguments, most: int) -> Iterator[Argument]:
    """The positional *arguments*, of which there may be *most*; named ones are not understood."""
    for argument in arguments:
        if argument.key is not None:
            raise ExpansionError(f"Unsupported key '{argument.key}'")
        if argument.place >= most:
            raise ExpansionError("Too many positional parameters")
        yield argument


def _keys(arguments: Arguments, known: Sequence[str]) -> Iterator[tuple[str, Argument]]:
    """The named *arguments*; only *known* ones, and no positional ones."""
    for argument in arguments:
        if argument.key is None:
            raise ExpansionError("Too many positional parameters")
        if argument.key not in known:
            raise ExpansionError(f"Unsupported key '{argument.key}'")
        yield argument.key, argument


def _none(arguments: Arguments) -> None:
    for _ in _each(arguments, 0):
        pass


def _some(arguments: Arguments) -> None:
    if not arguments:
        raise ExpansionError("Missing parameters")


# --- values ---


def _lookup(state: State, arguments: Arguments) -> None:
    if not arguments:
        raise ExpansionError("Missing name to lookup")
    argument = next(_each(arguments, 1))
    state.unset()
    name = _text(state.string(argument))
    try:
        state.set(state.lookup(name))
    except ExpansionError as error:
        raise QuotingError(str(error)) from None


def _literal(state: State, arguments: Arguments) -> None:
    _some(arguments)
    state.set(state.anything(next(_each(arguments, 1))))


def _default(state: State, arguments: Arguments) -> None:
    if state.is_set and state.value:
        return
    value = b""
    if arguments:
        value = state.anything(next(_each(arguments, 1)))
        if len(arguments) > 1:
            raise ExpansionError("Too many positional parameters")
    state.set(value)


def _concat(state: State, arguments: Arguments) -> None:
    _some(arguments)
    state.replace(state.value + b"".join([state.anything(argument) for argument in _each(arguments, len(arguments))]))


def _calculate(state: State, arguments: Arguments) -> None:
    _some(arguments)
    operation, right = -1, 0
    for argument in _each(arguments, 2):
        if argument.place == 1:
            right = state.number(argument)
        elif argument.kind == "number" and 0 <= int(argument.value) <= 4:
            operation = int(argument.value)
        else:
            raise ExpansionError("Missing operator")
    value = state.take("calculate")
    if state.binary and operation == 4:
        if right <= 0:
            raise ExpansionError("Binary modulo must be positive integer")
        state.set(b"%d" % (int.from_bytes(value[-8:], "big") % right))
        return
    left = signed(value.partition(b"\0")[0])
    if left is None:
        raise ExpansionError("Input is not a number")
    if operation > 2 and right == 0:
        raise ExpansionError("Division by zero" if operation == 3 else "Modulo by zero")
    match operation:
        case 0:
            left += right
        case 1:
            left -= right
        case 2:
            left *= right
        case 3:
            left = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
        case 4:
            left = abs(left) % abs(right) * (-1 if left < 0 else 1)
    left = (left + (1 << 63)) % (1 << 64) - (1 << 63)  # 64 bits, as a processor does it
    state.replace(b"%d" % left)


# --- letters ---


def _lower(state: State, arguments: Arguments) -> None:
    _none(arguments)
    text, nul, rest = state.take("lower").partition(b"\0")
    state.replace(text.lower() + nul + rest)


def _upper(state: State, arguments: Arguments) -> None:
    _none(arguments)
    text, nul, rest = state.take("upper").partition(b"\0")
    state.replace(text.upper() + nul + rest)


def _reverse(state: State, arguments: Arguments) -> None:
    _none(arguments)
    state.replace(state.take("reverse")[::-1])


def _ldap_dn(state: State, arguments: Arguments) -> None:
    _none(arguments)
    state.replace(state.take_text("convert to ldap_dn").replace(b".", b",dc="))


def _username(state: State, arguments: Arguments) -> None:
    _none(arguments)
    state.set(state.take_text("get username from").partition(b"@")[0])


def _domain(state: State, arguments: Arguments) -> None:
    _none(arguments)
    state.set(state.take_text("get domain from").partition(b"@")[2])


def _index(state: State, arguments: Arguments) -> None:
    _some(arguments)
    separator: bytes | None = None
    index: int | None = None
    for argument in _each(arguments, 2):
        if argument.place == 0:
            separator = state.string(argument)
        else:
            index = state.number(argument)
    if separator is None:
        raise ExpansionError("Missing separator and index parameters")
    if index is None:
        raise ExpansionError("Missing index parameter")
    value = state.take_text("index")
    if not separator:
        raise ExpansionError("Empty separator")
    tokens = value.split(separator)
    if not -len(tokens) <= index < len(tokens):
        raise ExpansionError("Position out of bounds")
    state.set(tokens[index])


def _truncate(state: State, arguments: Arguments) -> None:
    _some(arguments)
    length = 0
    bits = False
    for argument in arguments:
        if argument.key == "bits":
            bits = True
        elif argument.key is not None:
            raise ExpansionError(f"Unsupported key '{argument.key}'")
        elif argument.place > 0:
            raise ExpansionError("Too many positional parameters")
        length = state.number(argument)
        if length < 0:
            raise ExpansionError("Value of out of bounds")
    value = state.take("truncate")
    state.replace(first_bits(value, length) if bits else value[:length])


def _substr(state: State, arguments: Arguments) -> None:
    _some(arguments)
    numbers = []
    for argument in arguments:
        if argument.key is not None:
            raise ExpansionError(f"Unsupported key '{argument.key}'")
        number = state.number(argument)
        if argument.place > 1:
            raise ExpansionError("Too many positional parameters")
        numbers.append(number)
    value = state.take("substring")
    size = len(value)
    offset = numbers[0]
    length = numbers[1] if len(numbers) > 1 else None
    if not -size <= offset <= size:
        raise ExpansionError("Offset out of bounds")
    if length is not None and not -size <= length <= size:
        raise ExpansionError("Length out of bounds")
    if offset < 0:
        offset += size
    end = size if length is None else size + length if length < 0 else offset + length
    if length != 0 and not offset <= end <= size:
        raise ExpansionError("Length out of bounds")
    state.replace(value[offset:end])


def _fill(state: State, arguments: Arguments, *, left: bool) -> None:
    _some(arguments)
    amount, filler = 0, b"0"
    for argument in _each(arguments, 2):
        if argument.place == 0:
            amount = state.number(argument)
            if not 1 <= amount < 1 << 31:
                raise ExpansionError("Fill length out of bounds")
        else:
            filler = state.string(argument)
    state.replace(pad(state.take("fill"), amount, filler, left=left))


def _lfill(state: State, arguments: Arguments) -> None:
    _fill(state, arguments, left=True)


def _rfill(state: State, arguments: Arguments) -> None:
    _fill(state, arguments, left=False)


def _list(state: State, arguments: Arguments) -> None:
    separator = b","
    for argument in _each(arguments, 1):
        separator = state.string(argument)
    value = state.take_text("generate list from")
    state.set(separator.join([_tab_unescaped(item).partition(b"\0")[0] for item in value.split(b"\t")]))


def _tab_unescaped(text: bytes) -> bytes:
    escapes = {b"0": b"\0", b"1": b"\1", b"t": b"\t", b"n": b"\n", b"r": b"\r"}
    return re.sub(rb"\x01(.?)", lambda found: escapes.get(found[1], found[1]), text, flags=re.DOTALL)


def _as_text(state: State, arguments: Arguments) -> None:
    """Make valid UTF-8 of it, with U+FFFD for what is none and for control characters.

    A character cut off at the end takes the one before it along, and both become an ellipsis
    (``core:2.4.1:src/lib/str-sanitize.c:str_sanitize_append_utf8``).
    """
    _none(arguments)
    value = state.take_text("text")
    pieces: list[bytes] = []
    at = 0
    while at < len(value):
        length = _utf8_length(value, at)
        if length is None:
            pieces[-1:] = ["…".encode()]
            break
        bad = length == 0 or value[at] < 0x20 or value[at] == 0x7F
        length = length or 1
        pieces.append("\ufffd".encode() if bad else value[at : at + length])
        at += length
    state.set(b"".join(pieces))


_UTF8_LEADS = ((1, 0x00, 0x80), (2, 0xC2, 0xE0), (3, 0xE0, 0xF0), (4, 0xF0, 0xF8), (5, 0xF8, 0xFC), (6, 0xFC, 0xFE))
"""Bytes of a character, and from which to which its first byte may be; the long ones only to be refused whole."""


def _utf8_length(text: bytes, at: int) -> int | None:
    """Bytes of the character at *at*; 0 when it is none, `None` when *text* ends within it."""
    length = next((length for length, low, high in _UTF8_LEADS if low <= text[at] < high), 0)
    for place in range(at + 1, at + length):
        if place == len(text):
            return None
        if text[place] & 0xC0 != 0x80:
            return 0
    try:
        text[at : at + length].decode()
    except UnicodeDecodeError:
        return 0
    return length


def _safe(state: State, arguments: Arguments) -> None:
    """Says that no escaping is needed; none is ever done to templates of auth requests. Parameters do not matter."""


# --- hashes ---


def _hash_with(state: State, name: bytes, arguments: Arguments, action: str) -> None:
    digest = ALGORITHMS.get(name)
    if digest is None:
        raise QuotingError(f"Unsupported algorithm '{_text(name)}'")
    rounds, salt = 1, b""
    for key, argument in _keys(arguments, ("rounds", "salt")):
        if key == "rounds":
            rounds = state.number(argument)
        else:
            salt = state.string(argument)
    state.set_binary(repeat(digest, state.take(action), salt, rounds))


def _hash(state: State, arguments: Arguments) -> None:
    _some(arguments)
    if arguments[0].key is not None:
        raise ExpansionError("No algorithm as first parameter")
    _hash_with(state, state.string(arguments[0]), arguments[1:], "hash")


def _named_hash(name: str) -> Filter:
    return lambda state, arguments: _hash_with(state, name.encode(), arguments, name)


# --- numbers and codes ---


def _base64(state: State, arguments: Arguments) -> None:
    padded, url = True, False
    for key, argument in _keys(arguments, ("pad", "url")):
        if key == "pad":
            padded = state.boolean(argument)
        else:
            url = state.boolean(argument)
    state.set(to_base64(state.take("base64"), padded=padded, url=url))


def _unbase64(state: State, arguments: Arguments) -> None:
    options = {"pad": 1, "url": 0}
    for key, argument in _keys(arguments, ("pad", "url")):
        options[key] = state.number(argument)
        if options[key] not in (0, 1):
            raise ExpansionError(f"Supported values for {key} are 0 or 1")
    state.set_binary(from_base64(state.take("unbase64"), url=options["url"] == 1))


def _hex(state: State, arguments: Arguments) -> None:
    width = 0
    for argument in _each(arguments, 1):
        width = state.number(argument)
    number = unsigned(state.take_text("hex"), 64)
    if number is None:
        raise ExpansionError("Input is not a number")
    digits = pad(b"%x" % number, abs(width), b"0", left=width > 0)
    state.replace(digits[-width:] if width > 0 else digits[: -width or None])


def _unhex(state: State, arguments: Arguments) -> None:
    _none(arguments)
    digits = state.take_text("unhex")
    if re.fullmatch(rb"0*[0-9A-Fa-f]{1,16}", digits) is None:
        raise ExpansionError("Input is not a hex number")
    state.set(b"%d" % int(digits, 16))


def _hexlify(state: State, arguments: Arguments) -> None:
    width = 0
    if arguments:  # more of them do not matter
        width = state.number(next(_each(arguments, 1)))
        if width < 0:
            raise ExpansionError("Width must be positive")
    digits = pad(state.take("hexlify").hex().encode(), width, b"0", left=True)
    state.set(digits[: width or None])


def _unhexlify(state: State, arguments: Arguments) -> None:
    _none(arguments)
    value, complete = from_hex(state.take("unhexlify"))
    if not complete:
        raise ExpansionError("Not a hex value")
    state.set_binary(value)


def _number_from(state: State, arguments: Arguments, order: Literal["little", "big"]) -> None:
    _none(arguments)
    value = state.take("convert to number")
    if len(value) not in (1, 2, 4, 8):
        raise ExpansionError(f"Cannot convert '{len(value)}' bytes to number")
    state.set(b"%d" % int.from_bytes(value, order))


def _lenumber(state: State, arguments: Arguments) -> None:
    _number_from(state, arguments, "little")


def _benumber(state: State, arguments: Arguments) -> None:
    _number_from(state, arguments, "big")


# --- decisions ---


def _split_decision(state: State, arguments: Arguments, most: int) -> tuple[Argument | None, bytes, list[Argument]]:
    """Left-hand side (`None`: the input), comparator, and the rest of *arguments*, of which there may be *most*."""
    lhs: Argument | None = None
    op = b""
    op_place = 0 if state.is_set else 1
    for argument in _each(arguments, op_place + most):
        if argument.place < op_place:
            lhs = argument
        elif argument.place == op_place:
            try:
                op = state.string(argument)
            except ExpansionError as error:
                raise type(error)(f"Comparator: {error}") from None
    return lhs, op, list(arguments[op_place + 1 :])


def _known(op: bytes) -> None:
    if op not in NUMERIC and op not in TEXTUAL:
        raise QuotingError(f"Unsupported comparator '{_text(op)}'")


def _input(state: State, op: bytes) -> Argument:
    """The input as left-hand side of *op*."""
    value = state.value.partition(b"\0")[0]
    if op not in NUMERIC:
        return Argument("string", value, 0)
    if signed(value) is None:
        raise ExpansionError("Input is not a number")
    return Argument("number", value, 0)


def _side(name: str, value: Callable[[Argument], _T], argument: Argument) -> _T:
    try:
        return value(argument)
    except ExpansionError as error:
        raise type(error)(f"{name} {error}") from None


def _compare(state: State, lhs: Argument, op: bytes, rhs: Argument) -> bool:
    if op in NUMERIC:
        number = _side("Left-hand side:", state.number, lhs)
        return NUMERIC[op](number, _side("Right-hand side:", state.number, rhs))
    left, right = _side("Left-hand side", state.string, lhs), _side("Right-hand side", state.string, rhs)
    try:
        return TEXTUAL[op](left, right)
    except ExpansionError as error:
        raise type(error)(f"regexp() failed: {error}") from None


def _if(state: State, arguments: Arguments) -> None:
    """``if([lhs,] op, rhs, true, false)``, the left-hand side only where there is no input."""
    lhs, op, rest = _split_decision(state, arguments, 4)
    if len(rest) != 3:
        raise ExpansionError("Missing parameters")
    _known(op)
    rhs, true, false = rest
    result = _compare(state, lhs or _input(state, op), op, rhs)
    state.set(_side(f"{result} branch:", state.anything, true if result else false))


def _switch(state: State, arguments: Arguments) -> None:
    """``switch([lhs,] op, case, value, …[, default])``.

    ``core:2.4.4:src/lib-var-expand/expansion-filter-if.c:expansion_filter_switch``
    """
    lhs, op, rest = _split_decision(state, arguments, len(arguments))
    if len(arguments) < (1 if state.is_set else 2):
        raise ExpansionError("Missing parameters")
    if len(rest) < 2:
        raise ExpansionError("At least one condition-value pair is required")
    _known(op)
    lhs = lhs or _input(state, op)
    result = rest.pop() if len(rest) % 2 else None
    number = len(rest) // 2
    for place in range(0, len(rest), 2):
        if _compare(state, lhs, op, rest[place]):
            result, number = rest[place + 1], place // 2
            break
    if result is None:
        raise ExpansionError("No default value provided")
    state.set(_side(f"in condition #{number}:", state.anything, result))


def _regexp(state: State, arguments: Arguments) -> None:
    """``regexp(pattern, replacement)``; as in 2.4.1 a match leaves the replacement and nothing else."""
    _some(arguments)
    strings = [state.string(argument) for argument in _each(arguments, 2)]
    if len(strings) < 2:
        raise ExpansionError("Missing replacement parameter")
    pattern, replacement = strings
    found = search(pattern, state.take_text("regexp"))
    if found is None:
        return

    def placed(reference: "re.Match[bytes]") -> bytes:
        if reference[0] == rb"\\":
            return b"\\"
        group = int(reference[1])
        value = found[group] if group <= found.re.groups else None
        if value is None:
            raise ExpansionError("Invalid capture group")
        return value

    state.replace(re.sub(rb"\\([0-9])|\\\\", placed, replacement))


# --- encryption ---


class _Secrets(NamedTuple):
    """What a cipher needs, and how the parameters were given."""

    cipher: Cipher
    key: bytes
    iv: bytes
    data: bytes
    prefix: bytes
    """What goes in front of the first ``$``."""
    raw: bool


def _crypt_parameters(state: State, arguments: Arguments, *, decrypt: bool) -> _Secrets:
    algorithm, digest, rounds, raw = "AES-256-CBC", "sha256", 10000, False
    key: bytes | None = None
    iv: bytes | None = None
    salt: bytes | None = None
    for name, argument in _keys(arguments, ("algorithm", "iv", "key", "raw", "salt", "hash", "rounds")):
        match name:
            case "algorithm":
                algorithm = _text(state.string(argument))
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
                digest = _text(state.string(argument))
            case "rounds":
                rounds = state.number(argument)
                if rounds < 1:
                    raise ExpansionError("rounds must be positive integer")
    if key is None:
        raise ExpansionError("Encryption key missing")
    data = state.take("decrypt" if decrypt else "encrypt")
    if decrypt and not raw:
        parts = data.partition(b"\0")[0].split(b"$")
        if len(parts) != 3 or parts[2]:
            raise ExpansionError("Invalid input format")
        if iv is not None:
            raise ExpansionError("Cannot have iv in parameter and input")
        if parts[0][:1] in (b"s", b"r"):
            for parameter in parts[0].split(b","):
                name, value = _text(parameter[:2]), parameter[2:]
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


def _encrypt(state: State, arguments: Arguments) -> None:
    secrets = _crypt_parameters(state, arguments, decrypt=False)
    secrets.cipher.check(secrets.key, secrets.iv)
    result = secrets.cipher.encrypt(secrets.key, secrets.iv, secrets.data)
    if secrets.raw:
        state.set_binary(result)
    else:
        state.replace(secrets.prefix + b"$" + result.hex().encode() + b"$")


def _decrypt(state: State, arguments: Arguments) -> None:
    secrets = _crypt_parameters(state, arguments, decrypt=True)
    secrets.cipher.check(secrets.key, secrets.iv)
    result = secrets.cipher.decrypt(secrets.key, secrets.iv, secrets.data)
    if b"\0" in result:
        state.set_binary(result)
    else:
        state.set(result)


FILTERS: dict[str, Filter] = {
    "lookup": _lookup,
    "literal": _literal,
    "calculate": _calculate,
    "concat": _concat,
    "upper": _upper,
    "lower": _lower,
    "hash": _hash,
    **{name: _named_hash(name) for name in ("md5", "sha1", "sha256", "sha384", "sha512")},
    "base64": _base64,
    "unbase64": _unbase64,
    "hex": _hex,
    "unhex": _unhex,
    "hexlify": _hexlify,
    "unhexlify": _unhexlify,
    "default": _default,
    "reverse": _reverse,
    "truncate": _truncate,
    "substr": _substr,
    "ldap_dn": _ldap_dn,
    "if": _if,
    "switch": _switch,
    "regexp": _regexp,
    "lenumber": _lenumber,
    "benumber": _benumber,
    "index": _index,
    "username": _username,
    "domain": _domain,
    "list": _list,
    "lfill": _lfill,
    "rfill": _rfill,
    "text": _as_text,
    "safe": _safe,
    "encrypt": _encrypt,
    "decrypt": _decrypt,
}
