"""``authlua import-dovecot``: what it writes where, and how it ends."""

import io
import sys

import pytest

from authlua.cli import EX_CONFIG, main
from authlua.config import load

CONF = """# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf
auth_mechanisms = plain login
mail_location = maildir:~/Maildir
passdb {
  args = password=secret
  driver = static
}
"""


@pytest.fixture
def conf(tmp_path):
    """A file with the above."""
    path = tmp_path / "printed"
    path.write_text(CONF)
    return path


def test_the_file_is_a_configuration(conf, tmp_path, capsys):
    """It loads; as it may hold passwords, it is for its owner only."""
    made = tmp_path / "authlua.toml"
    assert main(["import-dovecot", str(conf), "-o", str(made)]) == 0
    settings = load(made)
    assert settings.auth.mechanisms == ("PLAIN", "LOGIN")
    assert settings.passdbs[0].fields == (("password", "secret"),)
    assert made.stat().st_mode & 0o777 == 0o600
    assert capsys.readouterr() == ("", "not of auth, stays in Dovecot: mail_location\n")


def test_a_file_that_is_there_stays(conf, tmp_path, capsys):
    """It may be the work of an afternoon."""
    made = tmp_path / "authlua.toml"
    made.write_text("mine")
    assert main(["import-dovecot", str(conf), "-o", str(made)]) == EX_CONFIG
    assert made.read_text() == "mine"
    assert capsys.readouterr().err == f"authlua import-dovecot: {made}: File exists\n"


def test_without_a_name_it_goes_to_standard_output(capsys, monkeypatch):
    """And comes from standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CONF.encode())))
    assert main(["import-dovecot", "-"]) == 0
    assert '[[passdb]]\ndriver = "static"\nfields = { password = "secret" }\n' in capsys.readouterr().out


def test_what_is_left_is_named_and_changes_the_exit_code(conf, capsys):
    """The file comes all the same."""
    conf.write_text(CONF + "auth_stats = yes\n")
    assert main(["import-dovecot", str(conf)]) == 1
    said = capsys.readouterr()
    assert f"not carried over: {conf}:8: auth_stats: a [[listener]] of kind metrics has such numbers\n" in said.err
    assert "# NOT CARRIED OVER, line 8: auth_stats: a [[listener]] of kind metrics" in said.out


@pytest.mark.parametrize(
    "content", [b"garbage\n", b"\xff\n", CONF.replace("secret", "#hidden_use-P_to_show#").encode(), b""]
)
def test_what_cannot_be_read_is_one_clear_line_each(conf, content, capsys):
    """Nothing is written then."""
    conf.write_bytes(content)
    assert main(["import-dovecot", str(conf)]) == EX_CONFIG
    said = capsys.readouterr()
    assert said.out == ""
    assert all(line.startswith(f"authlua import-dovecot: {conf}: ") for line in said.err.splitlines())


def test_a_file_that_is_not_there(tmp_path, capsys):
    """Says so."""
    assert main(["import-dovecot", str(tmp_path / "nosuch")]) == EX_CONFIG
    assert capsys.readouterr().err == f"authlua import-dovecot: {tmp_path / 'nosuch'}: No such file or directory\n"
