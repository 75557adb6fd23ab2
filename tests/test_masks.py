"""Wildcard masks."""

import pytest

from authlua.masks import mask


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("*", "", True),
        ("*@x", "a@x", True),
        ("*@x", "a@y", False),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("a", "ab", False),
        ("a.c", "abc", False),
        ("*", "a\nb", True),
    ],
)
def test_only_star_and_question_mark_are_special(pattern: str, text: str, fits: bool) -> None:
    """And the whole text must fit."""
    assert bool(mask(pattern)(text)) is fits


def test_case_may_be_no_matter() -> None:
    """LIST ignores it."""
    assert mask("A*", ignore_case=True)("abc")
    assert not mask("A*")("abc")
