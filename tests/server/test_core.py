"""From a configuration to its scripts."""

from pathlib import Path
from typing import Any

import pytest
import structlog

from authlua.auth import new_request
from authlua.config import load
from authlua.dialect import Dialect
from authlua.errors import ConfigError
from authlua.logs import ABOUT
from authlua.server import open_core
from authlua.server.core import request_log
from tests.auth.fakes import run


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


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 61 + "..."),
        ("ü" * 32, "ü" * 32),
        ("ü" * 33, "ü" * 30 + "..."),
        ("x" * 62 + "ü", "x" * 62 + "ü"),
        ("x" * 60 + "üyyy", "x" * 60 + "..."),
        ("\udcff" * 70, "..."),
    ],
)
def test_a_long_name_is_cut_in_front_of_a_line(user: str, shown: str) -> None:
    """As both Dovecots do: at most 64 bytes, whole letters."""
    entries: list[Any] = []

    def keep(logger: Any, method: str, entry: Any) -> Any:
        entries.append(entry)
        raise structlog.DropEvent

    write = request_log(structlog.wrap_logger(None, processors=[keep]), Dialect.V2_3)
    request = new_request([("service", "imap")], id=1, mech="PLAIN")
    request.user, request.log_name = user, "lua"
    write("info", "text", request, {})
    assert entries[0][ABOUT] == f"lua({shown}): "


@pytest.mark.parametrize(("name", "shown"), [("", "lua"), ("name = 'first'", "first")])
def test_a_database_is_called_by_its_name_or_its_driver(tmp_path: Path, name: str, shown: str) -> None:
    """In front of what its script says."""
    (tmp_path / "auth.lua").write_text("function auth_passdb_lookup(req) req:log_error('said') return 1, {} end")
    (tmp_path / "authlua.toml").write_text(
        f"[[passdb]]\nscript = 'auth.lua'\nuse_worker = false\n{name}\n[[userdb]]\ndriver = 'passwd'\n"
    )
    entries: list[Any] = []

    def keep(logger: Any, method: str, entry: Any) -> Any:
        entries.append(entry)
        raise structlog.DropEvent

    core = open_core(load(tmp_path / "authlua.toml"), structlog.wrap_logger(None, processors=[keep]))
    run(core.auth.lookup_passdb(new_request([("service", "imap")], id=1), "t"))
    core.retire()
    assert [entry[ABOUT] for entry in entries if entry["event"] == "db-lua: said"] == [f"{shown}(t): "]
