"""NTLM and GSS-SPNEGO through Samba's helper, whose part a few lines of Python play."""

import sys
from pathlib import Path
from typing import Any

import pytest

from authlua.results import PassdbResult
from authlua.sasl import MECHS, Challenge, MechInfo, Offload, Refused, SetUser, Succeeded, Terms
from authlua.secret import Secret

HELPER = """\
#!{python}
import sys

protocol = sys.argv[1].removeprefix("--helper-protocol=")
blob = {{"squid-2.5-ntlmssp": "", "gss-spnego": " bW9yZQ=="}}[protocol]
replies = {{
    "YR aGVsbG8=": "TT bW9yZQ==" + (" *" if blob else ""),
    "KK cmlnaHQ=": "AF" + blob + " DOMAIN\\\\alice",
    "KK cGxhaW4=": "AF" + (" *" if blob else "") + " alice",
    "KK d3Jvbmc=": "NA" + blob + " NT_STATUS_LOGON_FAILURE",
    "KK YnJva2Vu": "BH it is broken",
    "KK c3RyYW5nZQ==": "XX what",
    "KK bm90NjQ=": "TT !!! *",
}}
for line in sys.stdin:
    if line.strip() == "KK ZW5k":
        break
    print(replies[line.strip()], flush=True)
"""

MECH_NAMES = ("NTLM", "GSS-SPNEGO")


@pytest.fixture
def terms(tmp_path: Path) -> Terms:
    """A server with such a helper."""
    helper = tmp_path / "ntlm_auth"
    helper.write_text(HELPER.format(python=sys.executable))
    helper.chmod(0o755)
    return Terms(winbind_helper=str(helper), use_winbind=True)


def log_in(mech: MechInfo, terms: Terms, *answers: bytes, accepted: bool = True) -> tuple[Any, list[str]]:
    """The verdict, and what was said and done on the way."""
    talk = mech.start(Secret(b"hello"), terms)
    said: list[str] = []
    rest = list(answers)
    outcome: Any = None
    while True:
        try:
            wish = talk.send(outcome)
        except StopIteration as done:
            return done.value, said
        match wish:
            case Challenge(data):
                said.append(data.decode())
                outcome = Secret(rest.pop(0))
            case Offload(function, arguments):
                outcome = function(*arguments)
            case SetUser(user, _):
                said.append(user)
                outcome = user if accepted else ""


@pytest.mark.parametrize("name", MECH_NAMES)
def test_the_helper_names_the_user(terms: Terms, name: str) -> None:
    """``DOMAIN\\\\user`` becomes ``user@DOMAIN``; SPNEGO's last token goes to the client."""
    verdict, said = log_in(MECHS[name], terms, b"right")
    assert said == ["more", "alice@DOMAIN"]
    assert verdict == (PassdbResult.OK if name == "NTLM" else Succeeded(b"more"))
    assert log_in(MECHS[name], terms, b"plain") == (PassdbResult.OK, ["more", "alice"])


@pytest.mark.parametrize("name", MECH_NAMES)
def test_a_name_that_is_not_acceptable_is_refused(terms: Terms, name: str) -> None:
    """Whatever the helper thinks of it."""
    assert log_in(MECHS[name], terms, b"right", accepted=False)[0] is PassdbResult.USER_UNKNOWN


@pytest.mark.parametrize("name", MECH_NAMES)
def test_the_helper_refuses(terms: Terms, name: str) -> None:
    """Its reason is for the log."""
    assert log_in(MECHS[name], terms, b"wrong")[0] == Refused("user not authenticated: NT_STATUS_LOGON_FAILURE")


@pytest.mark.parametrize("answer", [b"broken", b"strange", b"not64", b"end"])
@pytest.mark.parametrize("name", MECH_NAMES)
def test_a_helper_that_fails_refuses_nobody(terms: Terms, name: str, answer: bytes) -> None:
    """It is a temporary failure, and an error in the log."""
    if (name, answer) == ("NTLM", b"not64"):
        pytest.skip("the same line as for GSS-SPNEGO")
    verdict, _ = log_in(MECHS[name], terms, answer)
    assert (verdict.result, verdict.level) == (PassdbResult.INTERNAL_FAILURE, "error")


def test_a_helper_that_is_missing_refuses_nobody() -> None:
    """The same."""
    verdict, _ = log_in(MECHS["NTLM"], Terms(winbind_helper="/nosuch/ntlm_auth"))
    assert verdict == Refused("/nosuch/ntlm_auth does not start", b"", PassdbResult.INTERNAL_FAILURE, "error")


def test_a_client_that_goes_away_takes_its_helper_along(terms: Terms) -> None:
    """No process is left waiting for it."""
    talk = MECHS["NTLM"].start(Secret(b"hello"), terms)
    wish = next(talk)
    assert isinstance(wish, Offload)
    helper = wish.function(*wish.args)
    talk.send(helper)
    talk.close()
    assert helper.returncode is not None
