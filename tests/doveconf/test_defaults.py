"""The defaults of ``[auth]`` are those of a real Dovecot, and there is nothing of auth that has no place here."""

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest

from authlua.config import AuthSettings, keys, load
from authlua.dialect import Dialect
from authlua.doveconf import read_site, toml_of
from tests.reference.dovecot import installed_root, why_not

OURS = {"mechanisms", "penalty", "openid_configuration_url"}
"""Keys whose default is another on purpose, or that are no setting of Dovecot's auth."""


@pytest.mark.parametrize(
    "series",
    [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)],
)
def test_every_default_is_dovecots(series: str, tmp_path: Path) -> None:
    """`doveconf -d` prints all its settings; the file made of them says what one with nothing in it says."""
    root = installed_root(series)
    if root is None:
        pytest.skip(why_not(series) or "")
    command = ["doveconf", "-d", "-P"] if root == Path("/") else ["chroot", os.fspath(root), "doveconf", "-d", "-P"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    site = read_site(printed)
    assert site.left == []
    file = tmp_path / "authlua.toml"
    file.write_text(toml_of(site) + "\n[[passdb]]\ndriver = 'passwd'\n[[userdb]]\ndriver = 'passwd'\n")
    got = load(file).auth
    assert len(site.auth.keys) > 35
    for field in dataclasses.fields(AuthSettings):
        if field.name not in OURS:
            entry = keys(AuthSettings)[field.name]
            default = entry.default if site.dialect is Dialect.V2_3 else entry.since_2_4
            value = getattr(got, field.name)
            order = sorted if isinstance(default, tuple) else (lambda one: one)
            assert (field.name, order(default)) == (field.name, order(value))
