"""``authlua mail run``: what it prints, how it ends, and that it goes through all users."""

import json
import os
import tempfile
from collections.abc import Iterator
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
  return dovecot.auth.USERDB_RESULT_OK, { uid = UID, gid = GID, home = "HOME" }
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


NOBODY = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    """A configuration with three users, who share one Maildir; its owner is not root."""
    mine = os.geteuid() or NOBODY, os.getegid() or NOBODY
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        build(directory)
        for path in [directory, *directory.rglob("*")]:
            os.chown(path, *mine)
        userdb = USERDB.replace("HOME", name).replace("UID", str(mine[0])).replace("GID", str(mine[1]))
        (directory / "mail.lua").write_text(SCRIPT)
        (directory / "userdb.lua").write_text(userdb)
        (directory / "authlua.toml").write_text(CONFIG)
        yield directory


def test_one_user_needs_no_configuration(place: Path, capfd: Any, monkeypatch: Any) -> None:
    """A script and a directory are enough to try what a script does."""
    monkeypatch.setenv("AUTHLUA_CONFIG", str(place / "none.toml"))
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


LOOPING = "while true do pcall(function() while true do end end) end"
HOARDING = 'local hoard = {} while true do hoard[#hoard + 1] = ("x"):rep(1e6) .. #hoard end'


@pytest.mark.parametrize(
    ("deed", "limits", "reason"),
    [
        (LOOPING, 'timeout = "5s"', "a hook took longer than 5 s (lua.timeout)"),
        (HOARDING, 'memory_limit = "16M"', "not enough memory"),
    ],
    ids=["time", "memory"],
)
def test_a_script_that_goes_too_far_costs_only_its_own_user(
    place: Path, capfd: Any, deed: str, limits: str, reason: str
) -> None:
    """No pcall helps it; what it has said is told, and the other users have their sessions."""
    (place / "mail.lua").write_text(
        "function mail_user_created(user)\n"
        '  dovecot.i_info(user.username .. " begins")\n'
        f'  if user.username == "alice" then {deed} end\nend\n'
    )
    (place / "authlua.toml").write_text(f"{CONFIG}[lua]\n{limits}\n")
    assert main(["mail", "run", "-c", str(place / "authlua.toml"), "--all", "--json"]) == 75
    rows = {row["user"]: row for row in map(json.loads, capfd.readouterr().out.splitlines())}
    assert {user: row["reason"] for user, row in rows.items() if user != "alice"} == {"eve": None, "mallory": None}
    assert rows["alice"]["result"] == "FAILED"
    assert reason in rows["alice"]["reason"]
    assert all(row["log"] == [{"level": "info", "text": f"{user} begins"}] for user, row in rows.items())


def test_a_process_that_dies_is_told_of_and_replaced(place: Path, capfd: Any) -> None:
    """A crash costs the user whose session it was; those who came after it in the same process are run in another."""
    (place / "mail.lua").write_text(
        "function mail_user_created(user)\n"
        '  if user.username == "eve" then io.open("/proc/self/stat"):close() os.execute("kill -9 $PPID") end\nend\n'
    )
    assert main(["mail", "run", "-c", str(place / "authlua.toml"), "--all", "--jobs", "1"]) == 75
    out, err = capfd.readouterr()
    assert out == ""
    assert sorted(err.splitlines()) == [
        "3 users, 1 failed",
        "eve: FAILED: the process of the mail script has ended unexpectedly",
    ]


def test_a_missing_script_is_a_wrong_configuration(place: Path, capfd: Any) -> None:
    """What is missing is said, and where it may be given."""
    (place / "authlua.toml").write_text(CONFIG.replace('script = "mail.lua"', ""))
    assert main(["mail", "run", "-c", str(place / "authlua.toml"), "--user", "alice"]) == 78
    assert "mail.script: missing" in capfd.readouterr().err


def test_progress_is_a_bar_when_the_end_is_known() -> None:
    """A third of the way is a third of the bar."""
    assert line(10, 30, 1, 5.0) == "[" + "#" * 10 + "." * 20 + "] 10/30, 1 failed, 5/s"
    assert line(10, None, 0, 5.0) == "10, 0 failed, 5/s"
