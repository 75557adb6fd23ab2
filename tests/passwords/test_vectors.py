"""What ``doveadm pw`` said of 600 good and 140 bad stored passwords, authlua says too.

``tests/vectors/password-schemes.json`` tells in itself how it was recorded.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from authlua.dialect import Dialect
from authlua.passwords import MalformedHash, UnknownScheme, verify

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "password-schemes.json").read_text())
NO_PREFIX = "Missing {scheme} prefix from hash"

Verdict = tuple[str, str | None]


def judge(password: str, stored: str, user: str, dialect: Dialect = Dialect.V2_3) -> Verdict:
    """Our verdict in the words of the vectors."""
    try:
        fits = verify(password.encode(), stored, user=user, default_scheme="", dialect=dialect)
    except MalformedHash as error:
        return f"{error.stage}_error", error.reason
    except UnknownScheme as error:
        # without a default scheme, a value without prefix has the empty one
        return ("decode_error", "Unknown scheme") if error.scheme or "{}" in stored else ("other", NO_PREFIX)
    return ("match", None) if fits else ("mismatch", "Password mismatch")


def is_huge(case: dict[str, Any]) -> bool:
    return "$m=1048576," in case["hash"]


def check_case(case: dict[str, Any]) -> None:
    for expected in case["checks"]:
        got = judge(expected["password"], case["hash"], case.get("user", ""))
        assert (expected["verdict"], expected.get("message")) == got, expected
    for expected in case.get("checks_2.4.1_differing", ()):
        got = judge(expected["password"], case["hash"], case.get("user", ""), Dialect.V2_4)
        assert (expected["verdict"], expected.get("message")) == got, expected


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in VECTORS["cases"] if not is_huge(case)])
def test_a_stored_password_gets_the_recorded_verdict(case: dict[str, Any]) -> None:
    """Each right and each wrong password is judged as Dovecot judged it, to the text of the error."""
    check_case(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in VECTORS["cases"] if is_huge(case)])
def test_a_hash_of_a_gibibyte_is_still_within_the_limits(case: dict[str, Any]) -> None:
    """What ``doveadm pw -r 4`` makes can be verified with the default limits."""
    check_case(case)


@pytest.mark.parametrize("entry", [pytest.param(entry, id=repr(entry["hash"])) for entry in VECTORS["malformed"]])
def test_a_malformed_value_gets_the_recorded_error(entry: dict[str, Any]) -> None:
    """What is broken is called broken in Dovecot's words; what only never matches is a mismatch."""
    expected = entry["result"]
    got = judge(entry["password"], entry["hash"], entry.get("user", ""))
    assert (expected["verdict"], expected.get("message")) == got


def test_the_vectors_are_all_there() -> None:
    """Nobody cut the file the tests above live on."""
    assert (len(VECTORS["cases"]), len(VECTORS["malformed"])) == (600, 140)
