"""POSIX regular expressions on Python's engine; what libc says of each is in the recorded 2.4 vectors."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authlua.variables import ExpansionError
from authlua.variables.regexp import search


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (b"[[:alpha:]_]+", b"1ab_2", b"ab_"),
        (b"[^[:space:]]+$", b"a bc", b"bc"),
        (b"[]-]+", b"a]-b", b"]-"),
        (b"[a\\]+", b"\\a", b"\\a"),
        (b"[\\d]+", b"a12", b"12"),
        (b"[a-c-]+", b"b-d", b"b-"),
        (b"[+--]+", b"a+,-b", b"+,-"),
        (b"[[]", b"[", b"["),
        (b"a{2}b{1,}c{,1}", b"aabbc", b"aabbc"),
        (b"(a|b)\\1", b"abb", b"bb"),
        (b"(a)(b)(c)(d)(e)(f)(g)(h)(i)\\90", b"abcdefghii0", b"abcdefghii0"),
        (b"a.c", b"a\nc", b"a\nc"),
        (b"c$", b"abc\n", None),
        (b"^b", b"a\nb", None),
        (b"a)", b"a)", b"a)"),
        (b"(?:a|b)+?c", b"abc", b"abc"),
        (b"(?i)ABC", b"abc", b"abc"),
        (b"\\bfoo\\>", b"a foo.", b"foo"),
        (b"\\.\\*\\-\\ \\#", b".*- #", b".*- #"),
        (b"a#b c", b"a#b c", b"a#b c"),
        ("ä+".encode(), "xää".encode(), "ä".encode()),
    ],
)
def test_a_pattern_matches(pattern: bytes, text: bytes, expected: bytes | None) -> None:
    """Extended POSIX syntax, and of PCRE what POSIX has no use for."""
    found = search(pattern, text)
    assert expected == (found and found[0])


@pytest.mark.parametrize(
    "pattern",
    [b"[[.ab.]]", b"(?", b"(?<", b"(?P<x>", b"a(?i)b", b"(?<=a+)b", b"[b-[:alpha:]]"],
)
def test_what_is_no_pattern_is_an_expansion_error(pattern: bytes) -> None:
    """Whoever finds it, the translation or Python."""
    with pytest.raises(ExpansionError):
        search(pattern, b"x")


@given(st.text("ab()[]{}|^$.*+?\\-,:=1290d<'ä", max_size=12))
def test_any_pattern_is_one_or_an_expansion_error(pattern: str) -> None:
    """Python's own errors stay inside."""
    with suppress(ExpansionError):
        search(pattern.encode(), b"ab")


@given(st.binary(max_size=20))
def test_escaped_text_matches_itself(text: bytes) -> None:
    """A backslash takes the meaning from every special byte."""
    pattern = b"".join(b"\\" + bytes([byte]) if byte in b"\\.[](){}|^$*+?" else bytes([byte]) for byte in text)
    found = search(b"^" + pattern + b"$", text)
    assert found is not None
