"""Encryption needs a package that an installation may do without."""

import sys

import pytest

from authlua.dialect import Dialect
from authlua.variables import ExpansionError, compile_template

IV, KEY = "00" * 16, "11" * 32


class Table(dict[str, str | None]):
    """Variables from a plain table."""

    lookup = dict.__getitem__


@pytest.mark.parametrize(
    ("dialect", "text", "prefix"),
    [
        (Dialect.V2_3, f"%{{encrypt;key={KEY},iv={IV}:user}}", ""),
        (Dialect.V2_4, f"%{{user | encrypt(key='{KEY}', iv='{IV}')}}", "encrypt: "),
    ],
)
def test_without_the_package_the_error_names_it(
    dialect: Dialect, text: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The admin learns what to install."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(ExpansionError) as caught:
        compile_template(text, dialect).expand(Table(user="joe"))
    assert str(caught.value) == f"{prefix}needs the Python package cryptography, which is not installed"


def test_the_package_is_not_asked_for_before_it_is_needed() -> None:
    """Importing the room and compiling a template cost nothing of it."""
    import subprocess

    program = (
        "import sys; from authlua.variables import compile_template; from authlua.dialect import Dialect; "
        f"compile_template('%{{encrypt;key={KEY}:user}}', Dialect.V2_3); "
        "sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_two_encryptions_of_one_text_differ() -> None:
    """Each has a salt, or an IV, of its own."""
    pytest.importorskip("cryptography")
    for dialect, text in [
        (Dialect.V2_3, f"%{{encrypt;key={KEY}:user}}"),
        (Dialect.V2_4, "%{user | encrypt(key='secret', rounds=1)}"),
    ]:
        template = compile_template(text, dialect)
        assert template.expand(Table(user="joe")) != template.expand(Table(user="joe"))
