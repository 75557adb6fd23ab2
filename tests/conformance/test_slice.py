"""A slice of the generated run: the same sessions for a real Dovecot and authlua, always the same ones."""

import re

import pytest

from authlua.conformance.explore import explore
from authlua.conformance.profiles import PROFILES
from authlua.conformance.record import dialogue
from authlua.conformance.servers import Authlua
from tests.conformance.reference import crashes, reference
from tests.reference.dovecot import why_not

SESSIONS = 200
SEED = 1


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    "dialect",
    [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)],
)
def test_a_dovecot_and_authlua_answer_alike(dialect: str, profile: str):
    """No session of the slice shows a difference that is not known, and neither server crashes."""
    if reason := why_not(dialect):
        pytest.skip(reason)
    with Authlua(PROFILES[profile], dialect) as authlua, reference(PROFILES[profile], dialect) as dovecot:
        report = explore(dialect, profile, authlua.sockets, dovecot.sockets, sessions=SESSIONS, seed=SEED, workers=10)
        assert crashes(dovecot.log()) == []
        assert authlua.alive()
    shown = [f"{found.difference}\n{dialogue(found.session, found.reference)}" for found in report.found.values()]
    assert re.sub("y{100,}", "y…", "\n".join(shown)) == ""
    assert report.gone == []
    assert report.silent == []
