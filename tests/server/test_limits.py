"""What a script in the server costs the others: nothing, whatever it does."""

from pathlib import Path

import pytest
import structlog

from authlua.config import load
from authlua.errors import ScriptError
from authlua.lua import LuaPassdb
from authlua.results import PassdbResult
from authlua.server import Core, complete, open_core
from tests.lua.conftest import login

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


def opened(directory: Path, use_worker: str) -> Core:
    """A core with that script."""
    (directory / "auth.lua").write_text(SCRIPT)
    (directory / "authlua.toml").write_text(
        f'[lua]\nmemory_limit = "8M"\n[[passdb]]\nscript = "auth.lua"\nuse_worker = {use_worker}\n'
        '[[listener]]\nkind = "client"\npath = "auth"\n'
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
