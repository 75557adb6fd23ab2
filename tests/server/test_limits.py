"""What a script in the server costs the others: nothing, whatever it does."""

from pathlib import Path

import pytest
import structlog
from structlog.testing import LogCapture

from authlua.auth import new_request
from authlua.config import load
from authlua.errors import ScriptError
from authlua.lua import LuaPassdb
from authlua.passwords import encode
from authlua.protocol import Ok
from authlua.results import PassdbResult
from authlua.secret import Secret
from authlua.server import Core, complete, open_core
from tests.lua.conftest import login

LISTENER = '[[listener]]\nkind = "client"\npath = "auth"\n'

DEAR = {
    "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$c2FsdFNBTFQ$TayRv7UsPmwuZ/QnI6MIxQ": "argon2_memory = '1M'",
    "{ARGON2I}$argon2i$v=19$m=1024,t=3,p=1$c2FsdFNBTFQ$TayRv7UsPmwuZ/QnI6MIxQ": "argon2_total = '2M'",
    "{CRYPT}$y$j9T$salt$x": "crypt_memory = '8M'",
    "{CRYPT}$7$2/....3....salt$x": "crypt_total = '8K'",
    "{SHA512-CRYPT}$6$rounds=6000$salt$x": "crypt_rounds = 5999",
    "{BLF-CRYPT}$2y$05$abcdefghijklmnopqrstuufvjuf7CcaH07fRiVpDJzStoWzfjAMP6": "blf_crypt_cost = 4",
    "{PBKDF2}$1$salt$5000$" + 40 * "0": "pbkdf2_rounds = 4999",
    "{SCRAM-SHA-256}4096,QQ==," + ",".join(2 * [43 * "Q" + "="]): "scram_iterations = 4095",
    "{OTP}sha1 1024 seed 0011223344556677": "otp_sequence = 1023",
}

SCRIPT = """
function auth_passdb_lookup(req)
  if req.user == "loop" then while true do end
  elseif req.user == "eat" then local t = {} while true do t[#t + 1] = ("x"):rep(1000000) .. #t end
  elseif req.user == "exit" then os.exit(1)
  elseif req.user == "busy" then for i = 1, 1000000 do end
  end
  return dovecot.auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass" }
end
"""


@pytest.mark.parametrize("stored", DEAR)
async def test_a_hash_over_its_limit_fails_for_now_and_the_log_names_the_limit(tmp_path: Path, stored: str) -> None:
    """With that limit, and not with the default, where the password is only wrong."""
    (tmp_path / "auth.lua").write_text(f"function auth_passdb_lookup() return 1, {{ password = '{stored}' }} end")
    answers = []
    for limits in "", f"[hashes]\n{DEAR[stored]}\n":
        config = tmp_path / "authlua.toml"
        config.write_text(f'{limits}[[passdb]]\nscript = "auth.lua"\nuse_worker = false\n{LISTENER}')
        log = LogCapture()
        core = open_core(load(config), structlog.wrap_logger(structlog.ReturnLogger(), processors=[log]))
        request = new_request([("service", "imap")], id=1, mech="PLAIN")
        reply = await complete(core.auth.authenticate(request, Secret(b"\0u\0wrong"), login=False))
        core.retire()
        text = "".join(line["event"] for line in log.entries if line["log_level"] == "error")
        answers.append((dict(reply.fields).get("code"), f"hashes.{DEAR[stored].split(' ')[0]} allows" in text))
    assert answers == [(None, False), ("temp_fail", True)]


@pytest.mark.parametrize(
    ("dialect", "setting", "code"),
    [
        ("2.3", "", "OK"),
        ("2.4", "", "temp_fail"),
        ("2.4", "allow_weak_schemes = true", "OK"),
        ("2.3", "allow_weak_schemes = false", "temp_fail"),
    ],
)
async def test_a_weak_scheme_is_refused_where_2_4_does(tmp_path: Path, dialect: str, setting: str, code: str) -> None:
    """Nobody's password is wrong because of it."""
    (tmp_path / "auth.lua").write_text(
        f"function auth_passdb_lookup() return 1, {{ password = '{encode(b'secret', 'SMD5')}' }} end"
    )
    config = tmp_path / "authlua.toml"
    config.write_text(
        f'[server]\ndialect = "{dialect}"\n[auth]\ninternal_failure_delay = "0s"\n{setting}\n'
        f'[[passdb]]\nscript = "auth.lua"\nuse_worker = false\n{LISTENER}'
    )
    core = open_core(load(config), structlog.wrap_logger(structlog.ReturnLogger(), processors=[]))
    request = new_request([("service", "imap")], id=1, mech="PLAIN")
    reply = await complete(core.auth.authenticate(request, Secret(b"\0u\0secret"), login=False))
    core.retire()
    assert code == ("OK" if isinstance(reply, Ok) else dict(reply.fields)["code"])


def opened(directory: Path, use_worker: str) -> Core:
    """A core with that script."""
    (directory / "auth.lua").write_text(SCRIPT)
    (directory / "authlua.toml").write_text(
        f'[lua]\nmemory_limit = "8M"\n[[passdb]]\nscript = "auth.lua"\nuse_worker = {use_worker}\n{LISTENER}'
    )
    log = structlog.wrap_logger(structlog.ReturnLogger(), processors=[])
    return open_core(load(directory / "authlua.toml"), log)


@pytest.mark.parametrize("user", ["loop", "eat", "exit"])
async def test_a_script_in_the_server_that_goes_wild_costs_its_own_call(tmp_path: Path, user: str) -> None:
    """It fails with a text that says why, and those before and after are served."""
    core = opened(tmp_path, "false")
    (passdb,) = core._scripts
    assert isinstance(passdb, LuaPassdb)
    for _ in range(2):
        assert (await complete(passdb.lookup(login("alice")))).result is PassdbResult.OK
        with pytest.raises(ScriptError, match=r"ran for too long|not enough memory|os\.exit"):
            await complete(passdb.lookup(login(user)))
    assert (await complete(passdb.lookup(login("busy")))).result is PassdbResult.OK
    core.retire()
