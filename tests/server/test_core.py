"""From a configuration to its scripts."""

from pathlib import Path
from typing import Any

import pytest
import structlog

from authlua.config import load
from authlua.errors import ConfigError
from authlua.server import open_core


@pytest.mark.parametrize(("share", "inits"), [("true", 1), ("false", 3)])
def test_a_script_is_loaded_for_each_database_or_once_for_all(tmp_path: Path, share: str, inits: int) -> None:
    """As the configuration says; in the end script_deinit is called as often."""
    (tmp_path / "auth.lua").write_text(
        "function script_init() dovecot.i_warning('init') return 0 end\n"
        "function script_deinit() dovecot.i_warning('deinit') end\n"
    )
    section = f"script = 'auth.lua'\nshare = {share}\n"
    (tmp_path / "authlua.toml").write_text(f"[[passdb]]\n{section}[[passdb]]\n{section}[[userdb]]\n{section}")
    entries: list[Any] = []

    def keep(logger: Any, method: str, entry: Any) -> Any:
        entries.append(entry["event"])
        raise structlog.DropEvent

    core = open_core(load(tmp_path / "authlua.toml"), structlog.wrap_logger(None, processors=[keep]))
    assert entries == ["init"] * inits
    core.retire()
    assert entries == ["init"] * inits + ["deinit"] * inits


def test_otp_is_not_offered_when_no_script_stores(tmp_path: Path) -> None:
    """As Dovecot does not start then either; what was loaded is closed again."""
    (tmp_path / "auth.lua").write_text("function auth_passdb_lookup() return 1, {} end")
    (tmp_path / "authlua.toml").write_text(
        "[auth]\nmechanisms = ['otp']\n[[passdb]]\nscript = 'auth.lua'\n[[userdb]]\ndriver = 'passwd'\n"
    )
    with pytest.raises(ConfigError, match="otp needs a script with a function auth_passdb_set_credentials"):
        open_core(load(tmp_path / "authlua.toml"), structlog.wrap_logger(None, processors=[]))
