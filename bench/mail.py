"""``python -m bench.mail``: a report over many mailboxes, by ``authlua mail run --all`` and ``doveadm mailbox status``.

Both read the same Maildirs; doveadm first makes its indexes, so it is measured with and without them.
Prints one line for each run: seconds, processor seconds of all processes, and their memory as it goes on. Needs root
and Dovecot 2.3.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

from tests.reference.dovecot import Dovecot23, why_not

ROOT = Path(__file__).parents[1]
NOBODY = 65534
TICKS = os.sysconf("SC_CLK_TCK")
LOOK = 0.1
"""Seconds between two looks at the processes."""

EXTRA = """
mail_location = maildir:~/Maildir
first_valid_uid = 1
namespace inbox {
  inbox = yes
  separator = /
}
"""
DATABASES = """
passdb {{
  driver = passwd-file
  args = {directory}/users
}}
userdb {{
  driver = passwd-file
  args = {directory}/users
}}
"""
USERDB = """
function auth_userdb_lookup(req)
  return dovecot.auth.USERDB_RESULT_OK, {{ uid = 65534, gid = 65534, home = "{directory}/homes/" .. req.user }}
end
function auth_userdb_iterate()
  local users = {{}}
  for i = 1, {count} do users[i] = "u" .. i end
  return users
end
"""
REPORT = """
function mail_user_created(user)
  local inbox = user:mailbox("INBOX")
  local status = inbox:status(dovecot.storage.STATUS_UNSEEN)
  inbox:free()
  dovecot.i_info(("%s %d %d"):format(user.username, status.messages, status.unseen))
end
"""
CONFIG = """
[[userdb]]
script = "userdb.lua"
use_worker = false
[mail]
script = "report.lua"
[[listener]]
kind = "userdb"
path = "auth-userdb"
"""


def fill(directory: Path, count: int, mails: int) -> None:
    """*count* homes with *mails* mails each, half of them seen."""
    lines = []
    for number in range(1, count + 1):
        home = directory / "homes" / f"u{number}"
        for part in ("cur", "new", "tmp"):
            (home / "Maildir" / part).mkdir(parents=True)
        listed = [f"3 V1700000000 N{mails + 1} G{number:032x}"]
        for uid in range(1, mails + 1):
            base = f"17000{uid:05}.M1P{number}.host"
            flags = "S" if uid % 2 else ""
            (home / "Maildir" / "cur" / f"{base}:2,{flags}").write_text("Subject: x\n\nhello\n")
            listed.append(f"{uid} :{base}")
        (home / "Maildir" / "dovecot-uidlist").write_text("\n".join(listed) + "\n")
        lines.append(f"u{number}:{{PLAIN}}x:{NOBODY}:{NOBODY}::{home}::\n")
    (directory / "users").write_text("".join(lines))
    (directory / "report.lua").write_text(REPORT)
    (directory / "userdb.lua").write_text(USERDB.format(directory=directory, count=count))
    (directory / "authlua.toml").write_text(CONFIG)
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(directory / "homes")], check=True)


class Tree:
    """A process and all its descendants: what they use, looked at now and then."""

    def __init__(self, pid: int) -> None:
        self._session = pid
        self._seconds: dict[str, float] = {}
        self.memory: list[int] = []
        """Bytes, what is shared counted once, at each look."""
        self._over = Event()
        self._thread = Thread(target=self._watch)
        self._thread.start()

    @property
    def seconds(self) -> float:
        """Processor seconds, as far as they were seen."""
        return sum(self._seconds.values())

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(LOOK):
            total = 0
            for directory in Path("/proc").glob("[0-9]*"):
                try:
                    fields = (directory / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[3]) == self._session:
                        total += int((directory / "smaps_rollup").read_text().partition("Pss:")[2].split()[0]) << 10
                        self._seconds[directory.name] = (int(fields[11]) + int(fields[12])) / TICKS
                except (OSError, IndexError):
                    continue  # it has ended meanwhile
            if total:
                self.memory.append(total)


class Row(NamedTuple):
    """One run of a command that prints a line for each mailbox."""

    name: str
    seconds: float
    processor: float
    memory: list[int]
    rate: float


def measured(name: str, command: list[str], expected: int) -> Row:
    """Run *command* and print what it took."""
    started = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, start_new_session=True
    ) as process:
        assert process.stdout is not None
        tree = Tree(process.pid)
        lines = sum(1 for _ in process.stdout)
        process.wait()
        tree.end()
    took = time.monotonic() - started
    if lines < expected:
        raise SystemExit(f"{name}: only {lines} lines for {expected} mailboxes")
    memory = [size for size in tree.memory if size]
    row = Row(name, took, tree.seconds, memory, expected / took)
    middle = max(memory[len(memory) // 4 : len(memory) // 2], default=0)
    last = max(memory[3 * len(memory) // 4 :], default=0)
    print(
        f"{name:38} {took:6.1f} s {row.rate:7.0f}/s {row.processor:6.1f} s processor, "
        f"memory {max(memory, default=0) >> 20} MB at most; {middle >> 20} MB in the second quarter, "
        f"{last >> 20} MB in the last",
        flush=True,
    )
    return row


def main() -> int:
    """Build the store and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.mail", description=__doc__)
    parser.add_argument("--users", type=int, default=10_000, help="each with one mailbox (10000)")
    parser.add_argument("--mails", type=int, default=5, help="in each mailbox (5)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is run, by turns (3)")
    options = parser.parse_args()
    if os.geteuid() != 0 or why_not("2.3"):
        print(f"skipped: {why_not('2.3') or 'needs root'}")
        return 0
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        fill(directory, options.users, options.mails)
        authlua = [sys.executable, "-m", "authlua", "mail", "run", "-c", str(directory / "authlua.toml"), "--all"]
        with Dovecot23("", databases=DATABASES.format(directory=directory), extra=EXTRA) as dovecot:
            status = dovecot.command("doveadm", "mailbox", "status", "-A", "messages unseen", "INBOX")
            measured("authlua", authlua, options.users)
            measured("doveadm, making its indexes", status, options.users)
            ratios = []
            for _ in range(options.rounds):
                ours = measured("authlua, beside the indexes", authlua, options.users)
                theirs = measured("doveadm, with its indexes", status, options.users)
                ratios.append(ours.seconds / theirs.seconds)
            print(f"authlua takes {statistics.median(ratios):.1f} times as long as doveadm with its indexes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
