"""Tab escaping: any bytes survive a field."""

from hypothesis import given
from hypothesis import strategies as st

from authlua.protocol import escape, unescape

any_text = st.binary().map(lambda data: data.decode("utf-8", "surrogateescape"))


@given(any_text)
def test_what_was_escaped_comes_back(text: str) -> None:
    """Escaping loses nothing."""
    assert unescape(escape(text)) == text


@given(any_text)
def test_an_escaped_field_cannot_end_its_line_or_field(text: str) -> None:
    """No NUL, TAB, CR or LF is left."""
    assert not set(escape(text)) & set("\0\t\r\n")


def test_each_special_byte_has_its_letter() -> None:
    """The letters are Dovecot's."""
    assert escape("\0\x01\t\r\n") == "\x010\x011\x01t\x01r\x01n"


def test_other_bytes_pass_raw() -> None:
    """Spaces, equals signs and UTF-8 are not touched."""
    assert escape("a = ü\udcff") == "a = ü\udcff"


def test_an_unknown_letter_stands_for_itself() -> None:
    """As Dovecot reads it."""
    assert unescape("a\x01xb") == "axb"


def test_a_lone_escape_byte_at_the_end_is_dropped() -> None:
    """As Dovecot reads it."""
    assert unescape("a\x01") == "a"
