"""Is it Dovecot's answer? Every template a real 2.3 and a real 2.4 were asked about, for two requests."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from authlua.dialect import Dialect
from authlua.fields import Fields
from authlua.request import AuthRequest
from authlua.secret import Secret
from authlua.variables import ExpansionError, compile_template, request_variables

VECTORS = Path(__file__).parent.parent / "vectors"
RECORDED = {
    dialect: json.loads((VECTORS / f"var-expand-{dialect}.json").read_text())
    for dialect in (Dialect.V2_3, Dialect.V2_4)
}
DIFFERENT = {
    Dialect.V2_3: {
        "OpenSSL has ciphers that are not offered here": ["AES-256-OFB", "AES-256-CFB"],
        "the first of several mistakes is reported, not the last": ["T;F}%{if;x;==;1;T;F}", "T;F}%{nosuch}"],
    },
    Dialect.V2_4: {
        "a lone y is text": ["}y%{"],
        "switch came with 2.4.3": ["switch"],
        "escape came later": ["escape"],
        "a later release may say where it comes from": ["dovecot:version", "dovecot:revision"],
        "of several alternatives the first that fits wins, as in PCRE": ["(a|ai|ail)", "j|jo|joe"],
        "a quantifier behind a quantifier makes it lazy, as in PCRE": ["o+?"],
    },
}
"""Where we know better, or Dovecot later did: reason, and the piece of a template that shows it."""


def request_of(recorded: dict[str, Any], name: str) -> AuthRequest:
    """The request that was sent to Dovecot when *recorded* was."""
    sent = recorded["requests"][name]
    request = AuthRequest(mech="PLAIN", params={name: sent[name] for name in sent.keys() - {"user", "password"}})
    request.user = request.original_user = request.translated_user = sent["user"]
    request.password = Secret(sent["password"].encode())
    request.passdb_fields = Fields(recorded["passdb_fields"].items())
    request.userdb_fields = Fields(recorded["userdb_fields"].items())
    return request


def differs(dialect: Dialect, case: dict[str, str]) -> bool:
    """Whether *case* is one of `DIFFERENT`."""
    pieces = [piece for pieces in DIFFERENT[dialect].values() for piece in pieces]
    return case["template"] == "y" or any(piece in case["template"] for piece in pieces)


def outcomes(dialect: Dialect, name: str, case: dict[str, str]) -> tuple[str, str]:
    """What Dovecot gave for the request *name*, and what we give, each as ``ok: …`` or ``error: …``."""
    recorded = RECORDED[dialect]
    environ = {"VAR_EXPAND": recorded["environment"]["VAR_EXPAND"]}
    variables = request_variables(request_of(recorded, name), dialect, id="1", environ=environ)
    try:
        given = "ok: " + compile_template(case["template"], dialect).expand(variables)
    except ExpansionError as error:
        given = f"error: {error}"
    (expected,) = (f"{key.removeprefix(name + '_')}: {text}" for key, text in case.items() if key.startswith(name))
    return expected, given


ALL = [(dialect, case) for dialect, recorded in RECORDED.items() for case in recorded["cases"]]


@pytest.mark.parametrize("name", ["full", "bare"])
@pytest.mark.parametrize(
    ("dialect", "case"),
    [
        pytest.param(dialect, case, id=f"{dialect}-{case['template'][:40]}")
        for dialect, case in ALL
        if not differs(dialect, case)
    ],
)
def test_a_template_gives_what_dovecot_gave(
    dialect: Dialect, case: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same text or the same error; where Dovecot crashed, an `ExpansionError` or some text."""
    if "crypt" in case["template"]:
        pytest.importorskip("cryptography")
    monkeypatch.setattr("os.geteuid", lambda: 0)  # Dovecot was asked as root
    monkeypatch.setattr("os.getegid", lambda: 0)
    expected, given = outcomes(dialect, name, case)
    assert expected in (given, "crash: ")


@pytest.mark.parametrize(
    ("dialect", "reason"), [(dialect, reason) for dialect in DIFFERENT for reason in DIFFERENT[dialect]]
)
def test_a_listed_difference_is_one(dialect: Dialect, reason: str) -> None:
    """No excuse outlives its cause."""
    pieces = DIFFERENT[dialect][reason]
    cases = [case for of, case in ALL if of == dialect and any(piece in case["template"] for piece in pieces)]
    assert any(expected != given for case in cases for expected, given in [outcomes(dialect, "full", case)])


RULES = Path(__file__).parents[2] / "docs/rules/variables.md"
ITEMS = re.findall(r"^- .*(?:\n  .*)*", RULES.read_text(), re.MULTILINE)


@pytest.mark.parametrize("item", [item for item in ITEMS if "test_golden.py" in item], ids=lambda item: item[:40])
def test_an_example_of_a_rule_was_asked_of_dovecot(item: str) -> None:
    """So there is a recorded template that would tell if the rule were broken."""
    pieces = re.findall(r"`((?:[^`/]|/(?!test_))+)`", item)
    recorded = [case["template"] for _, case in ALL]
    examples = [piece for piece in pieces if piece.startswith("%") and len(piece) > 1]
    assert [example for example in examples if not any(example in template for template in recorded)] == []
    assert examples or any(piece in template for piece in pieces for template in recorded)
