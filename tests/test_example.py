"""conf/example.lua does what it says: under authlua, and unchanged under Dovecot 2.3 and 2.4."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.reference.dovecot import Dovecot23, Dovecot24, why_not

CONF = Path(__file__).parent.parent / "conf"

Ask = Callable[..., subprocess.CompletedProcess[str]]
"""``("login", user, password)``, ``("user", name)`` or ``("list",)`` put to a server; exit codes are doveadm's."""

DOVEADM = {"login": ["auth", "test"], "user": ["user"], "list": ["user", "*"]}
AUTHLUA = {"login": ["test-auth"], "user": ["test-lookup"], "list": ["list-users"]}

OK, NO_USER, DENIED, TEMPORARY = 0, 67, 77, 75


@pytest.fixture(
    params=[
        "authlua",
        pytest.param(Dovecot23, marks=pytest.mark.dovecot, id="dovecot-2.3"),
        pytest.param(Dovecot24, marks=pytest.mark.dovecot24, id="dovecot-2.4"),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Ask, Path]]:
    """A way to ask, and the directory of the script."""
    if request.param == "authlua":
        shutil.copy(CONF / "example.lua", tmp_path)
        shutil.copy(CONF / "users.passwd", tmp_path)

        def ask(what: str, *words: str) -> subprocess.CompletedProcess[str]:
            command, script = AUTHLUA[what], str(tmp_path / "example.lua")
            return run([sys.executable, "-m", "authlua", *command, "--script", script, *words])

        yield ask, tmp_path
        return
    if reason := why_not(request.param.series):
        pytest.skip(reason)
    with request.param(CONF / "example.lua", auth_failure_delay="0") as dovecot:
        shutil.copy(CONF / "users.passwd", dovecot.directory)
        yield lambda what, *words: run(dovecot.command("doveadm", *DOVEADM[what], *words)), dovecot.directory


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run *command* to its end, which is its own affair."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_example_decides_as_its_file_says(place: tuple[Ask, Path]):
    """Each outcome an admin may try: right, wrong, locked out, unknown, an address that is allowed or not."""
    ask, _ = place
    assert ask("login", "alice", "wonderland").returncode == OK
    assert ask("login", "alice", "wrong").returncode == DENIED
    assert ask("login", "carol", "closed").returncode == DENIED
    assert ask("login", "nobody", "x").returncode == DENIED
    assert ask("login", "-x", "rip=127.0.0.1", "bob@example.org", "builder").returncode == OK
    assert ask("login", "-x", "rip=192.0.2.1", "bob@example.org", "builder").returncode == DENIED


def test_the_example_tells_where_mail_lives(place: tuple[Ask, Path]):
    """uid, gid and home for a user, and that there is no such user."""
    ask, _ = place
    found = ask("user", "alice")
    assert found.returncode == OK
    for value in ("5000", "/srv/mail/alice"):
        assert value in found.stdout
    assert ask("user", "nobody").returncode == NO_USER


def test_the_example_lists_its_users(place: tuple[Ask, Path]):
    """A name a line, whatever the order."""
    ask, _ = place
    assert sorted(ask("list").stdout.split()) == ["alice", "bob@example.org", "carol"]


def test_the_example_cannot_read_its_file(place: tuple[Ask, Path]):
    """A file that is missing for a moment makes nobody unknown: mail waits instead of bouncing."""
    ask, directory = place
    (directory / "users.passwd").unlink()
    assert ask("user", "alice").returncode == TEMPORARY
    login = ask("login", "alice", "wonderland")
    assert login.returncode == TEMPORARY or "code=temp_fail" in login.stdout  # so says the doveadm of 2.3


def test_the_example_sees_a_change_at_once(place: tuple[Ask, Path]):
    """Lines may lack their end, have fields of userdb, and come between two lookups."""
    ask, directory = place
    (directory / "users.passwd").write_text("# none\n\ndave:{PLAIN}new:5001:5001::/home/d::nodelay=y userdb_note=a:b=c")
    assert ask("login", "dave", "new").returncode == OK
    assert ask("login", "alice", "wonderland").returncode == DENIED
    assert "a:b=c" in ask("user", "dave").stdout
