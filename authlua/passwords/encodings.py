"""Text, numbers, hex and base64 as Dovecot reads them: neither `binascii` nor `base64` draws the line where it does."""

from binascii import Error, a2b_base64, unhexlify

_BLANKS = b" \t\r\n"
_DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def octets(text: str) -> bytes:
    """The bytes *text* was decoded from, surrogates standing for those that were no UTF-8. Never raises."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that no decoding makes
        return text.encode("utf-8", "surrogatepass")


def number(text: bytes) -> int | None:
    """The decimal number *text* is, leading zeros and all; `None` unless it is digits only.

    Of a number nobody can mean (22 digits and more) the beginning stands for the whole.
    """
    return int(text.lstrip(b"0")[:21] or b"0") if text.isdigit() else None


def from_hex(text: bytes) -> bytes | None:
    """The bytes *text* spells in either case; `None` unless it is hex and nothing but hex."""
    try:
        return unhexlify(text)
    except Error:
        return None


def from_base64(text: bytes) -> bytes | None:
    """The bytes *text* stands for in the standard alphabet; `None` unless it is well-formed.

    Padding is required, blanks and line ends are skipped wherever they stand, and the unused bits of the last digit
    may have any value (``core:2.3.21.1:src/lib/base64.c``; asked of ``doveadm pw`` by a test).
    """
    text = text.translate(None, _BLANKS)
    digits = text.rstrip(b"=")
    if len(text) % 4 or len(text) - len(digits) > 2 or digits.translate(None, _DIGITS):
        return None
    return a2b_base64(text)


def base64_beginning(text: bytes) -> bytes:
    """What *text* stands for up to the first character that does not belong, as Dovecot takes the salt of SCRAM."""
    text = text.translate(None, _BLANKS)
    digits = text[: len(text) - len(text.lstrip(_DIGITS))]
    return a2b_base64(digits + b"A" * (-len(digits) % 4))[: len(digits) * 6 // 8]
