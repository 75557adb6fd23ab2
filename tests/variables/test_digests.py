"""Hashes against numbers of others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authlua.variables.comparison import signed, unsigned, wildcard_match
from authlua.variables.digests import first_bits, from_base64, from_hex, md4, pad, to_base64


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        (b"", "31d6cfe0d16ae931b73c59d7e0c089c0"),
        (b"a", "bde52cb31de33e46245e05fbdbd6fb24"),
        (b"abc", "a448017aaf21d8525fc10ae87aa6729d"),
        (b"message digest", "d9130a8164549fe818874806e1c7014b"),
        (b"abcdefghijklmnopqrstuvwxyz", "d79e1c308aa5bbcdeea8ed63df412da9"),
        (
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            "043f8582f241db351ce627e153e7f0e4",
        ),
        (b"1234567890" * 8, "e33b4ddc9c38f2199c3e7b164fcc0536"),
    ],
)
def test_md4_is_that_of_rfc_1320(text: bytes, digest: str) -> None:
    """The whole test suite of its appendix A.5."""
    assert digest == md4(text).hex()


@given(st.binary(max_size=20), st.integers(0, 200))
def test_first_bits_are_a_number(value: bytes, bits: int) -> None:
    """The leading bits, moved to the low end; a value with fewer stays."""
    if bits > 8 * len(value):
        assert first_bits(value, bits) == value
    else:
        whole = int.from_bytes(value, "big") >> (8 * len(value) - bits)
        assert first_bits(value, bits) == whole.to_bytes((bits + 7) // 8, "big")


@given(st.binary())
def test_base64_decodes_what_was_encoded(data: bytes) -> None:
    """Padded or not, in either alphabet."""
    for url in (False, True):
        for padded in (False, True):
            assert from_base64(to_base64(data, padded=padded, url=url), url=url) == data


@given(st.binary(), st.booleans())
def test_base64_takes_anything(data: bytes, url: bool) -> None:
    """What is no base64 ends it."""
    assert isinstance(from_base64(data, url=url), bytes)


@given(st.binary())
def test_hex_decodes_what_was_encoded(data: bytes) -> None:
    """And tells when something is left over."""
    assert from_hex(data.hex().encode()) == (data, True)
    assert from_hex(data.hex().upper().encode() + b"0") == (data, False)


@given(st.binary(max_size=9), st.integers(0, 30), st.binary(min_size=1, max_size=4), st.booleans())
def test_padding_reaches_the_width(value: bytes, width: int, filler: bytes, left: bool) -> None:
    """By whole fillers, as few as are needed."""
    padded = pad(value, width, filler, left=left)
    assert padded.endswith(value) if left else padded.startswith(value)
    assert len(padded) >= width
    assert len(padded) - len(filler) < width or padded == value


@given(st.integers())
def test_numbers_are_of_64_bits(number: int) -> None:
    """One more is none."""
    assert signed(b"%d" % number) == (number if -(1 << 63) <= number < 1 << 63 else None)
    assert unsigned(b"%d" % number, 64) == (number if 0 <= number < 1 << 64 else None)


@given(st.text("ab", max_size=8), st.text("ab*?", max_size=8))
def test_a_wildcard_mask_is_the_regular_expression_it_looks_like(value: str, mask: str) -> None:
    """``*`` is any text, ``?`` any one byte."""
    import re

    pattern = mask.replace("*", ".*").replace("?", ".")
    assert wildcard_match(value.encode(), mask.encode()) == bool(re.fullmatch(pattern, value))


def test_a_mask_of_many_stars_is_no_trap() -> None:
    """The work grows with value times mask, not beyond."""
    assert not wildcard_match(b"a" * 3000, b"*a" * 100 + b"*b")
