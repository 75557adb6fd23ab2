"""What the recorded 2.4.1 cannot tell: filters of later releases, and what it crashes on or never ends."""

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authlua.dialect import Dialect
from authlua.variables import ExpansionError, compile_template


class Table(dict[str, str | None]):
    """Variables from a plain table."""

    lookup = dict.__getitem__


VALUES = Table({"user": "joe", "port": "143", "home": None, "unix": "1749379200.123456789"})


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


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is that of Newfoundland."""
    monkeypatch.setenv("TZ", "NST3:30NDT,M3.2.0,M11.1.0")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%{unix | epoch}", "1749379200"),
        ("%{unix | epoch('s')}", "1749379200"),
        ("%{unix | epoch('ms')}", "1749379200123"),
        ("%{unix | epoch(unit='us')}", "1749379200123456"),
        ("%{unix | epoch('ns')}", "1749379200123456789"),
        ("%{literal('5.0000000019') | epoch('ns')}", "5000000001"),
        ("%{literal('5.') | epoch('ms')}", "5000"),
        ("%{literal('5.5') | epoch('ms')}", "5500"),
        ("%{literal('-5.5') | epoch('ms')}", "-4500"),
        ("%{literal('9223372036854775807') | epoch}", "9223372036854775807"),
        ("%{literal('1749379200') | from_epoch}", "1749379200.000000000"),
        ("%{literal('1500') | from_epoch('ms')}", "1.500000000"),
        ("%{literal('-1500') | from_epoch(unit='ms')}", "-1.500000000"),
        ("%{literal('1500') | from_epoch('us')}", "0.001500000"),
        ("%{unix | epoch('ns') | from_epoch('ns')}", "1749379200.123456789"),
        ("%{unix | date('%Y-%m-%d %H:%M:%S')}", "2025-06-08 10:40:00"),
        ("%{unix | date('%H:%M', 'local')}", "08:10"),
        ("%{unix | date(tz='gmt', format='%H:%M')}", "10:40"),
        ("%{unix | date('')}", ""),
        ("%{unix | date(user)}", "joe"),
        ("%{unix | date('\\xff%Y')}", "\udcff2025"),
        ("%{literal('-1') | date('%Y')}", "1969"),
        ("%{unix | iso8601}", "2025-06-08T10:40:00Z"),
        ("%{unix | iso8601('utc')}", "2025-06-08T10:40:00Z"),
        ("%{unix | iso8601(tz='gmt')}", "2025-06-08T10:40:00Z"),
        ("%{unix | iso8601('local')}", "2025-06-08T08:10:00-02:30"),
        ("%{literal('0') | iso8601('local')}", "1969-12-31T20:30:00-03:30"),
        ("%{unix | md5 | epoch}", ""),
    ],
)
def test_times_are_converted(text: str, expected: str, far_away: None) -> None:
    """Filters that are newer than all releases, as their source has them."""
    assert expand(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%{unix | epoch('h')}", "epoch: Unsupported unit 'h' for 'epoch'"),
        ("%{unix | epoch('s', 's')}", "epoch: Too many positional parameters"),
        ("%{unix | epoch(zz='s')}", "epoch: Unsupported key 'zz'"),
        ("%{unix | epoch(1)}", "epoch: 1 is not a string"),
        ("%{user | epoch}", "epoch: Invalid timestamp 'joe'"),
        ("%{literal('1.x') | epoch}", "epoch: Invalid timestamp '1.x'"),
        ("%{literal('9223372036854775808') | epoch}", "epoch: Invalid timestamp '9223372036854775808'"),
        (
            "%{literal('9223372036854775807') | epoch('ns')}",
            "epoch: Timestamp '9223372036854775807' out of range for unit 'ns'",
        ),
        ("%{epoch}", "epoch: No value to convert to epoch"),
        ("%{unix | from_epoch}", "from_epoch: Invalid timestamp '1749379200.123456789'"),
        ("%{port | from_epoch('h')}", "from_epoch: Unsupported unit 'h' for 'from_epoch'"),
        ("%{from_epoch}", "from_epoch: No value to convert from epoch"),
        ("%{unix | date}", "date: Missing date format"),
        ("%{unix | date(tz='utc')}", "date: Missing date format"),
        ("%{unix | date('%Y', 'mars')}", "date: Unsupported timezone 'mars' for 'date'"),
        ("%{unix | date('%Y', 'utc', 'x')}", "date: Too many positional parameters"),
        ("%{user | date('%Y', 'mars')}", "date: Invalid timestamp 'joe'"),
        ("%{literal('99999999999999999') | date('%Y')}", "date: Timestamp '99999999999999999' out of range"),
        ("%{date('%Y')}", "date: No value to format as date"),
        ("%{unix | iso8601('mars')}", "iso8601: Unsupported timezone 'mars' for 'iso8601'"),
        ("%{iso8601}", "iso8601: No value to format as ISO 8601"),
        ("%{user | escape}", "escape: No escape function available"),
        ("%{user | escape('x')}", "escape: Too many positional parameters"),
        ("%{escape}", "escape: No value to escape"),
    ],
)
def test_times_that_are_none_are_refused(text: str, expected: str) -> None:
    """In the words of their source; where that ends its process, in our own."""
    with pytest.raises(ExpansionError) as caught:
        expand(text)
    assert str(caught.value) == expected


def test_a_variable_goes_before_a_filter_of_its_name() -> None:
    """But only in front; behind it there are filters."""
    template = compile_template("%{upper}/%{user | upper}/%{literal('x')}", Dialect.V2_4)
    assert template.expand(Table(upper="mine", user="joe")) == "mine/JOE/x"


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
