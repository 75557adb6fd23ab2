"""A real Dovecot for the tests that ask one."""

from collections.abc import Iterator

import pytest

from tests.mail.living import Store, serving
from tests.reference.dovecot import why_not


@pytest.fixture(
    scope="package",
    params=[
        pytest.param("2.3", marks=[pytest.mark.dovecot, pytest.mark.root]),
        pytest.param("2.4", marks=[pytest.mark.dovecot24, pytest.mark.root]),
    ],
)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A Dovecot of each series, one for all tests here."""
    if reason := why_not(request.param):
        pytest.skip(reason)
    with serving(request.param) as store:
        yield store
