"""What the recorded 2.4.1 cannot tell: filters of later releases, and what it crashes on or never ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authlua.dialect import Dialect
from authlua.variables import ExpansionError, compile_template


class Table(dict[str, str | None]):
    """Variables from a plain table."""

    lookup = dict.__getitem__


VALUES = Table({"user": "joe", "port": "143", "home": None})


def expand(text: str) -> str:
    return compile_template(text, Dialect.V2_4).expand(VALUES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%{user | switch('eq', 'tim', 'T', 'joe', 'J')}", "J"),
        ("%{user | switch('eq', 'tim', 'T', 'ann', 'A', 'other')}", "other"),
        ("%{user | switch('*', 'j*', 'first', 'jo*', 'second')}", "first"),
        ("%{switch(port, '<', 100, 'low', 1000, 'middle', 'high')}", "middle"),
        ("%{switch('a', 'eq', 'a', user)}", "joe"),
        ("%{user | switch('eq', 'tim', 'T') | default('rescued')}", "rescued"),
        ("%{user | switch('~', '^j', 1)}", "1"),
        ("a%{}b", "ab"),
        ("y%{user}y", "yjoey"),
        ("y", "y"),
        ("%{user | truncate(99)}", "joe"),
        ("%{user | regexp('o', '\\\\x')}", r"\x"),
        ("%{user | regexp('o', '\\\\\\\\')}", "\\"),
        ("%{user | regexp('\\\\d+|o', 'digit or o')}", "digit or o"),
        ("%{user | safe}", "joe"),
        ("%{nosuch | safe | default('x')}", "x"),
    ],
)
def test_what_later_releases_do(text: str, expected: str) -> None:
    """``switch`` and ``safe`` are of 2.4.3; the rest makes 2.4.1 crash, loop or lose text."""
    assert expand(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%{user | switch}", "switch: Missing parameters"),
        ("%{user | switch('eq')}", "switch: At least one condition-value pair is required"),
        ("%{user | switch('eq', 'a')}", "switch: At least one condition-value pair is required"),
        ("%{switch('a')}", "switch: Missing parameters"),
        ("%{user | switch('eq', 'a', 'b')}", "switch: No default value provided"),
        ("%{user | switch('==', 1, 'b')}", "switch: Input is not a number"),
        ("%{user | switch('zz', 1, 'b')}", "switch: Unsupported comparator 'zz'"),
        ("%{user | switch('eq', 'joe', nosuch)}", "switch: in condition #0: Unknown variable 'nosuch'"),
        ("%{user | switch('eq', 'x', 'y', k='z')}", "switch: Unsupported key 'k'"),
        ("%{user | index('', 0)}", "index: Empty separator"),
        ("%{user | lfill(5, '')}", "lfill: Empty filler"),
        ("%{user | rfill(5, home)}", "rfill: Empty filler"),
        ("%{safe}", "No value"),
        ("%{user | base64(pad=2)}", "base64: '2' is not 0 or 1"),
        ("%{user | regexp(nosuch, 'y')}", "regexp: Unknown variable 'nosuch'"),
        ("%{user | regexp(5, 'y')}", "regexp: 5 is not a string"),
        ("%{user | encrypt(key='zz', iv='" + "00" * 16 + "')}", "encrypt: Invalid key"),
        ("%{user | encrypt(key='zz', iv='x')}", "encrypt: Invalid iv"),
        ("%{literal('x$00$') | decrypt(key='zz')}", "decrypt: Invalid iv"),
        ("%{literal('00$x$') | decrypt(key='zz')}", "decrypt: Invalid input"),
        ("%{literal('00$00$') | decrypt(key='00', iv='00')}", "decrypt: Cannot have iv in parameter and input"),
    ],
)
def test_what_later_releases_refuse(text: str, expected: str) -> None:
    """The words of the release that first said it, or our own where none does."""
    with pytest.raises(ExpansionError) as caught:
        expand(text)
    assert expected == str(caught.value)


def test_a_modulo_of_binary_input_by_zero_is_no_crash() -> None:
    """A failure on binary input is the empty text, as with every other filter."""
    assert expand("%{user | md5 % 0}") == ""


@given(st.binary(max_size=40))
def test_what_is_encrypted_can_be_decrypted(value: bytes) -> None:
    """By whoever has the key, and the salt goes along."""
    pytest.importorskip("cryptography")
    text = value.hex() or "00"
    assert (
        expand(f"%{{literal('{text}') | unhexlify | encrypt(key='k', rounds=1) | decrypt(key='k') | hexlify}}") == text
    )


@given(st.binary(max_size=40))
def test_codes_have_inverses(value: bytes) -> None:
    """base64 and hex give back what they were given."""
    source = f"%{{literal('{value.hex()}') | unhexlify"
    for there, back in [
        ("hexlify", "unhexlify"),
        ("base64", "unbase64"),
        ("base64(url=1)", "unbase64(url=1)"),
        ("base64(pad=0)", "unbase64"),
        ("reverse", "reverse"),
    ]:
        assert expand(f"{source} | {there} | {back}}}") == value.hex()
