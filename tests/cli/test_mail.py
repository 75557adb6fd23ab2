"""``authlua mail run``: what it prints, how it ends, and that it goes through all users."""

import json
from pathlib import Path
from typing import Any

import pytest

from authlua.cli import main
from authlua.cli.progress import line
from tests.mail.recorded import build

SCRIPT = """
function mail_user_created(user)
  local box = user:mailbox("INBOX")
  local status = box:status(dovecot.storage.STATUS_UNSEEN)
  dovecot.i_info(("%s has %d mails, %d unseen"):format(user.username, status.messages, status.unseen))
  box:free()
  if user.username == "mallory" then return -1, "go away" end
  return 0
end
function mail_user_deinit(user)
  if user.username == "eve" then error("never mind") end
end
"""
USERDB = """
local users = { alice = true, eve = true, mallory = true }
function auth_userdb_lookup(req)
  if not users[req.user] then return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, "" end
  return dovecot.auth.USERDB_RESULT_OK, { uid = 1000, gid = 1000, home = "HOME" }
end
function auth_userdb_iterate() return { "alice", "eve", "mallory" } end
"""
CONFIG = """
[[userdb]]
script = "userdb.lua"
[mail]
script = "mail.lua"
[[listener]]
kind = "userdb"
path = "auth-userdb"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A configuration with three users, who share one Maildir."""
    build(tmp_path)
    (tmp_path / "mail.lua").write_text(SCRIPT)
    (tmp_path / "userdb.lua").write_text(USERDB.replace("HOME", str(tmp_path)))
    (tmp_path / "authlua.toml").write_text(CONFIG)
    return tmp_path


def test_one_user_needs_no_configuration(place: Path, capfd: Any, monkeypatch: Any) -> None:
    """A script and a directory are enough to try what a script does."""
    monkeypatch.delenv("AUTHLUA_CONFIG", raising=False)
    code = main(
        ["mail", "run", "--user", "alice", "--script", str(place / "mail.lua"), "--maildir", str(place / "%n/Maildir")]
    )
    assert (code, capfd.readouterr().out) == (0, "alice has 0 mails, 0 unseen\n")


def test_the_userdb_says_where_the_mail_is(place: Path, capfd: Any) -> None:
    """With a configuration the home is looked up, and the script is the configured one."""
    code = main(["mail", "run", "-c", str(place / "authlua.toml"), "--user", "alice"])
    assert (code, capfd.readouterr().out) == (0, "alice has 10 mails, 4 unseen\n")


@pytest.mark.parametrize(
    ("user", "code", "said"),
    [
        ("mallory", 75, "mallory: REFUSED: go away"),
        ("eve", 75, "eve: FAILED"),
        ("bob", 67, "bob: USER_UNKNOWN"),
    ],
)
def test_what_went_wrong_is_told(place: Path, capfd: Any, user: str, code: int, said: str) -> None:
    """A refusal, a failed hook and an unknown user differ in text or exit code."""
    assert main(["mail", "run", "-c", str(place / "authlua.toml"), "--user", user]) == code
    assert said in capfd.readouterr().err.splitlines()


def test_all_users_are_run_and_counted(place: Path, capfd: Any) -> None:
    """Each user is one JSON object a line, whatever became of it."""
    assert main(["mail", "run", "-c", str(place / "authlua.toml"), "--all", "--json", "--jobs", "2"]) == 75
    out, err = capfd.readouterr()
    rows = {row["user"]: row for row in map(json.loads, out.splitlines())}
    assert {user: row["result"] for user, row in rows.items()} == {"alice": "OK", "eve": "FAILED", "mallory": "REFUSED"}
    assert rows["alice"]["log"] == [{"level": "info", "text": "alice has 10 mails, 4 unseen"}]
    assert err.splitlines() == ["3 users, 2 failed"]


def test_a_missing_script_is_a_wrong_configuration(place: Path, capfd: Any) -> None:
    """What is missing is said, and where it may be given."""
    (place / "authlua.toml").write_text(CONFIG.replace('script = "mail.lua"', ""))
    assert main(["mail", "run", "-c", str(place / "authlua.toml"), "--user", "alice"]) == 78
    assert "mail.script: missing" in capfd.readouterr().err


def test_progress_is_a_bar_when_the_end_is_known() -> None:
    """A third of the way is a third of the bar."""
    assert line(10, 30, 1, 5.0) == "[" + "#" * 10 + "." * 20 + "] 10/30, 1 failed, 5/s"
    assert line(10, None, 0, 5.0) == "10, 0 failed, 5/s"
