"""The filters of 2.4, each a function from the state so far to the next, by the name templates call it.

Behaviour and error texts are those of 2.4.1 (``core:2.4.1:src/lib-var-expand/expansion-filter.c``), ``safe`` that
of 2.4.3; filters that came later are there too. Where 2.4.1 crashes or never returns, what a later release says is
said here: division of binary input by zero, an empty separator, a truncation to more than there is.
"""

import re
from typing import Literal

from authlua.variables.comparison import signed, unsigned
from authlua.variables.decisions import if_, regexp, switch
from authlua.variables.digests import ALGORITHMS, first_bits, from_base64, from_hex, pad, repeat, to_base64
from authlua.variables.encryption import decrypt, encrypt
from authlua.variables.state import Arguments, Filter, State, each, named, no_arguments, shown, some_arguments
from authlua.variables.template import ExpansionError, QuotingError
from authlua.variables.times import date, epoch, from_epoch, iso8601

# --- values ---


def _lookup(state: State, arguments: Arguments) -> None:
    if not arguments:
        raise ExpansionError("Missing name to lookup")
    argument = next(each(arguments, 1))
    state.unset()
    name = shown(state.string(argument))
    try:
        state.set(state.lookup(name))
    except ExpansionError as error:
        raise QuotingError(str(error)) from None


def _literal(state: State, arguments: Arguments) -> None:
    some_arguments(arguments)
    state.set(state.anything(next(each(arguments, 1))))


def _default(state: State, arguments: Arguments) -> None:
    if state.is_set and state.value:
        return
    value = b""
    if arguments:
        value = state.anything(next(each(arguments, 1)))
        if len(arguments) > 1:
            raise ExpansionError("Too many positional parameters")
    state.set(value)


def _concat(state: State, arguments: Arguments) -> None:
    some_arguments(arguments)
    state.replace(state.value + b"".join([state.anything(argument) for argument in each(arguments, len(arguments))]))


def _calculate(state: State, arguments: Arguments) -> None:
    some_arguments(arguments)
    operation, right = -1, 0
    for argument in each(arguments, 2):
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
    no_arguments(arguments)
    text, nul, rest = state.take("lower").partition(b"\0")
    state.replace(text.lower() + nul + rest)


def _upper(state: State, arguments: Arguments) -> None:
    no_arguments(arguments)
    text, nul, rest = state.take("upper").partition(b"\0")
    state.replace(text.upper() + nul + rest)


def _reverse(state: State, arguments: Arguments) -> None:
    no_arguments(arguments)
    state.replace(state.take("reverse")[::-1])


def _ldap_dn(state: State, arguments: Arguments) -> None:
    no_arguments(arguments)
    state.replace(state.take_text("convert to ldap_dn").replace(b".", b",dc="))


def _username(state: State, arguments: Arguments) -> None:
    no_arguments(arguments)
    state.set(state.take_text("get username from").partition(b"@")[0])


def _domain(state: State, arguments: Arguments) -> None:
    no_arguments(arguments)
    state.set(state.take_text("get domain from").partition(b"@")[2])


def _index(state: State, arguments: Arguments) -> None:
    some_arguments(arguments)
    separator: bytes | None = None
    index: int | None = None
    for argument in each(arguments, 2):
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
    some_arguments(arguments)
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
    some_arguments(arguments)
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
    some_arguments(arguments)
    amount, filler = 0, b"0"
    for argument in each(arguments, 2):
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
    for argument in each(arguments, 1):
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
    no_arguments(arguments)
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


def _escape(state: State, arguments: Arguments) -> None:
    """Of a later release, for templates of queries; those of auth requests have nothing that is to be escaped."""
    no_arguments(arguments)
    state.take("escape")
    raise ExpansionError("No escape function available")


# --- hashes ---


def _hash_with(state: State, name: bytes, arguments: Arguments, action: str) -> None:
    digest = ALGORITHMS.get(name)
    if digest is None:
        raise QuotingError(f"Unsupported algorithm '{shown(name)}'")
    rounds, salt = 1, b""
    for key, argument in named(arguments, ("rounds", "salt")):
        if key == "rounds":
            rounds = state.number(argument)
        else:
            salt = state.string(argument)
    state.set_binary(repeat(digest, state.take(action), salt, rounds))


def _hash(state: State, arguments: Arguments) -> None:
    some_arguments(arguments)
    if arguments[0].key is not None:
        raise ExpansionError("No algorithm as first parameter")
    _hash_with(state, state.string(arguments[0]), arguments[1:], "hash")


def _named_hash(name: str) -> Filter:
    return lambda state, arguments: _hash_with(state, name.encode(), arguments, name)


# --- numbers and codes ---


def _base64(state: State, arguments: Arguments) -> None:
    padded, url = True, False
    for key, argument in named(arguments, ("pad", "url")):
        if key == "pad":
            padded = state.boolean(argument)
        else:
            url = state.boolean(argument)
    state.set(to_base64(state.take("base64"), padded=padded, url=url))


def _unbase64(state: State, arguments: Arguments) -> None:
    options = {"pad": 1, "url": 0}
    for key, argument in named(arguments, ("pad", "url")):
        options[key] = state.number(argument)
        if options[key] not in (0, 1):
            raise ExpansionError(f"Supported values for {key} are 0 or 1")
    state.set_binary(from_base64(state.take("unbase64"), url=options["url"] == 1))


def _hex(state: State, arguments: Arguments) -> None:
    width = 0
    for argument in each(arguments, 1):
        width = state.number(argument)
    number = unsigned(state.take_text("hex"), 64)
    if number is None:
        raise ExpansionError("Input is not a number")
    digits = pad(b"%x" % number, abs(width), b"0", left=width > 0)
    state.replace(digits[-width:] if width > 0 else digits[: -width or None])


def _unhex(state: State, arguments: Arguments) -> None:
    no_arguments(arguments)
    digits = state.take_text("unhex")
    if re.fullmatch(rb"0*[0-9A-Fa-f]{1,16}", digits) is None:
        raise ExpansionError("Input is not a hex number")
    state.set(b"%d" % int(digits, 16))


def _hexlify(state: State, arguments: Arguments) -> None:
    width = 0
    if arguments:  # more of them do not matter
        width = state.number(next(each(arguments, 1)))
        if width < 0:
            raise ExpansionError("Width must be positive")
    digits = pad(state.take("hexlify").hex().encode(), width, b"0", left=True)
    state.set(digits[: width or None])


def _unhexlify(state: State, arguments: Arguments) -> None:
    no_arguments(arguments)
    value, complete = from_hex(state.take("unhexlify"))
    if not complete:
        raise ExpansionError("Not a hex value")
    state.set_binary(value)


def _number_from(state: State, arguments: Arguments, order: Literal["little", "big"]) -> None:
    no_arguments(arguments)
    value = state.take("convert to number")
    if len(value) not in (1, 2, 4, 8):
        raise ExpansionError(f"Cannot convert '{len(value)}' bytes to number")
    state.set(b"%d" % int.from_bytes(value, order))


def _lenumber(state: State, arguments: Arguments) -> None:
    _number_from(state, arguments, "little")


def _benumber(state: State, arguments: Arguments) -> None:
    _number_from(state, arguments, "big")


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
    "if": if_,
    "switch": switch,
    "regexp": regexp,
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
    "escape": _escape,
    "epoch": epoch,
    "from_epoch": from_epoch,
    "date": date,
    "iso8601": iso8601,
    "encrypt": encrypt,
    "decrypt": decrypt,
}
