"""Scripts that store passwords: an addition of ours, without which OTP could not be offered."""

import pytest

from authlua.auth import CredentialsKeeper
from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua import LuaPassdb
from authlua.secret import Secret
from tests.lua.conftest import Bench, login, now

LOOKUP = "function auth_passdb_lookup(req) return 1, { password = STORED or '{PLAIN}none' } end\n"


def store(passdb: LuaPassdb, stored: str = "{OTP}md5 98 ke1234 9bc29b075f3322d3") -> bool:
    """What becomes of it when it is to be stored for alice."""
    assert isinstance(passdb, CredentialsKeeper)
    done: bool = now(passdb.set_credentials(login(), Secret(stored.encode())))
    return done


def test_only_a_script_with_the_function_stores(bench: Bench):
    """Which is seen when it is loaded."""
    assert not isinstance(bench.passdb(LOOKUP), CredentialsKeeper)
    assert isinstance(bench.passdb(LOOKUP + "function auth_passdb_set_credentials() end"), CredentialsKeeper)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_the_script_gets_the_request_and_what_to_store(bench: Bench, dialect: Dialect):
    """And its next lookup may return it."""
    body = "function auth_passdb_set_credentials(req, stored) STORED = stored .. ' of ' .. req.user return 1 end"
    passdb = bench.passdb(LOOKUP + body, dialect)
    assert store(passdb)
    reply = now(passdb.lookup(login()))
    assert dict(reply.fields)["password"] == "{OTP}md5 98 ke1234 9bc29b075f3322d3 of alice"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, 'the disk is full'", "failed: the disk is full"),
        ("return 0", "failed: it returned 0"),
        ("return 0, {}", "failed: it returned 0"),
        ("return", "invalid return value (expected number got nil)"),
        ("return true", "invalid return value (expected number got boolean)"),
        ("error('boom')", "auth.lua:2: boom"),
    ],
)
def test_anything_but_ok_is_an_error(bench: Bench, body: str, problem: str):
    """As the user gets in only when the used password is no longer good; what was to be stored is in no text."""
    passdb = bench.passdb(f"{LOOKUP}function auth_passdb_set_credentials(req, stored) {body} end")
    with pytest.raises(ScriptError) as caught:
        store(passdb)
    assert problem in str(caught.value)
    assert "9bc29b075f3322d3" not in str(caught.value)
