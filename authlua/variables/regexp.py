r"""POSIX extended regular expressions, as Dovecot up to 2.4.1 has them from libc, run by Python's `re`.

A pattern is translated piece by piece, over bytes. What a POSIX pattern means is kept, down to the error texts;
beyond that, what would be useless or an error there means what it means to PCRE, which Dovecot 2.4.2 went over
to: ``(?…)``, ``*?``, ``\d``. Where the two disagree, these are the limits:

* of several alternatives the first that fits wins (PCRE), not the longest (POSIX);
* a backslash in brackets is itself (POSIX) unless one of ``dDsSwW`` follows;
* ``.`` matches a line feed, ``$`` only the very end (POSIX);
* letters beyond ASCII are several bytes, as in the C locale (2.4.2 matches whole characters);
* there is no limit on time: a pattern like ``(a+)+$`` can be slow on purpose, so let no user write patterns.
"""

import re
from functools import lru_cache

from authlua.variables.template import ExpansionError, QuotingError

_CLASSES = {
    b"alnum": rb"0-9A-Za-z",
    b"alpha": rb"A-Za-z",
    b"blank": rb"\t\x20",
    b"cntrl": rb"\x00-\x1f\x7f",
    b"digit": rb"0-9",
    b"graph": rb"\x21-\x7e",
    b"lower": rb"a-z",
    b"print": rb"\x20-\x7e",
    b"punct": rb"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    b"space": rb"\t-\r\x20",
    b"upper": rb"A-Z",
    b"xdigit": rb"0-9A-Fa-f",
}
_ESCAPES = {
    **{bytes([letter]): b"\\" + bytes([letter]) for letter in b"dDsSwWbB"},
    b"<": rb"\b(?=\w)",
    b">": rb"\b(?<=\w)",
    b"`": rb"\A",
    b"'": rb"\Z",
}
_INTERVAL = re.compile(rb"\{([0-9]{0,9})(?:,([0-9]{0,9}))?\}")
_MOST = 32767  # RE_DUP_MAX


def search(pattern: bytes, text: bytes) -> "re.Match[bytes] | None":
    """The first place in *text* that matches; raises `ExpansionError` with libc's text for a bad pattern."""
    return _compile(pattern).search(text)


@lru_cache(maxsize=256)
def _compile(pattern: bytes) -> "re.Pattern[bytes]":
    try:
        return re.compile(_translate(pattern), re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        raise QuotingError(f"Invalid regular expression: {error}") from None


def _translate(pattern: bytes) -> bytes:
    done: list[bytes] = []  # finished pieces; the last one is what a quantifier applies to
    opened: list[int] = []  # where in `done` each open group began
    groups = 0
    at = 0
    atom = False  # whether there is something to quantify
    while at < len(pattern):
        byte = pattern[at : at + 1]
        at += 1
        if byte == b"\\":
            if at == len(pattern):
                raise ExpansionError("Trailing backslash")
            escaped = pattern[at : at + 1]
            at += 1
            if b"1" <= escaped <= b"9":
                if int(escaped) > groups:
                    raise ExpansionError("Invalid back reference")
                done.append(b"(?:\\" + escaped + b")")
            else:
                done.append(_ESCAPES.get(escaped) or re.escape(escaped))
            atom = True
        elif byte == b"[":
            bracket, at = _bracket(pattern, at)
            done.append(bracket)
            atom = True
        elif byte == b"(":
            opened.append(len(done))
            if pattern[at : at + 1] == b"?":
                at += 1
                done.append(b"(?")
            else:
                groups += 1
                done.append(b"(")
            atom = False
        elif byte == b")" and opened:
            start = opened.pop()
            done[start:] = [b"".join(done[start:]) + b")"]
            atom = True
        elif byte == b"|":
            done.append(b"|")
            atom = False
        elif byte == b"^":
            done.append(b"^")
            atom = False
        elif byte == b"$":
            done.append(rb"\Z")
            atom = True
        elif byte == b".":
            done.append(b".")
            atom = True
        elif byte in (b"*", b"+", b"?", b"{"):
            if byte == b"{":
                byte, at = _interval(pattern, at - 1, atom)
            if not atom:
                raise ExpansionError("Invalid preceding regular expression")
            if pattern[at : at + 1] == b"?":
                at += 1
                byte += b"?"
            done[-1] = b"(?:" + done[-1] + b")" + byte
        else:
            done.append(re.escape(byte))
            atom = True
    if opened:
        raise ExpansionError(r"Unmatched ( or \(")
    return b"".join(done)


def _interval(pattern: bytes, at: int, atom: bool) -> tuple[bytes, int]:
    """``{m,n}`` at *at*, and where it ends."""
    if not atom:
        raise ExpansionError("Invalid preceding regular expression")
    found = _INTERVAL.match(pattern, at)
    if found is None or not (found[1] or found[2]):
        unmatched = re.fullmatch(rb"\{[0-9]*,?[0-9]*", pattern[at:])
        raise ExpansionError(r"Unmatched \{" if unmatched else r"Invalid content of \{\}")
    low, high = int(found[1] or 0), int(found[2]) if found[2] else None
    if max(low, high or 0) > _MOST:
        raise ExpansionError("Regular expression too big")
    if high is not None and high < low:
        raise ExpansionError(r"Invalid content of \{\}")
    return found[0].replace(b"{,", b"{0,"), found.end()


def _bracket(pattern: bytes, at: int) -> tuple[bytes, int]:
    """The set behind a ``[``, and where it ends."""
    negated = pattern[at : at + 1] == b"^"
    at += negated
    if at == len(pattern):
        raise ExpansionError("Invalid regular expression")
    pieces: list[bytes] = []
    first = True
    while True:
        if not first and pattern[at : at + 1] == b"]":
            break
        low, at = _member(pattern, at)
        first = False
        if len(low) == 1 and pattern[at : at + 1] == b"-" and pattern[at + 1 : at + 2] not in (b"]", b""):
            high, at = _member(pattern, at + 1)
            if len(high) != 1 or high < low or (pattern[at : at + 1] == b"-" and pattern[at + 1 : at + 2] != b"]"):
                raise ExpansionError("Invalid range end")
            pieces.append(b"\\x%02x-\\x%02x" % (low[0], high[0]))
        else:
            pieces.append(b"\\x%02x" % low[0] if len(low) == 1 else low)
    return b"[" + b"^" * negated + b"".join(pieces) + b"]", at + 1


def _member(pattern: bytes, at: int) -> tuple[bytes, int]:
    """One member of a set: a byte itself, or two and more of Python's notation; and where it ends."""
    named = re.compile(rb"\[([:.=])(.*?)\1\]", re.DOTALL).match(pattern, at)
    if named is not None:
        kind, name = named[1], named[2]
        if kind == b":":
            if name not in _CLASSES:
                raise ExpansionError("Invalid character class name")
            return _CLASSES[name], named.end()
        if len(name) != 1:
            raise ExpansionError("Invalid collation character")
        return name, named.end()
    if at == len(pattern) or re.match(rb"\[[:.=]", pattern[at:]):
        raise ExpansionError("Unmatched [, [^, [:, [., or [=")
    if pattern[at : at + 1] == b"\\" and pattern[at + 1 : at + 2] in (b"d", b"D", b"s", b"S", b"w", b"W"):
        return pattern[at : at + 2], at + 2
    return pattern[at : at + 1], at + 1
