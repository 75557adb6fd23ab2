"""``python -m bench.mail``: a report over many mailboxes, by ``authlua mail run --all`` and ``doveadm mailbox status``.

Both read the same Maildirs; doveadm first makes its indexes, so it is measured with and without them.
Prints one line for each: seconds, processor seconds, peak memory. Needs root and Dovecot 2.3.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.reference.dovecot import Dovecot23, why_not

ROOT = Path(__file__).parents[1]
NOBODY = 65534

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


def measured(name: str, command: list[str], expected: int) -> None:
    """Run *command*, which prints a line for each mailbox."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        assert process.stdout is not None
        lines = sum(1 for _ in process.stdout)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    took = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    note = "" if lines >= expected else f"  ONLY {lines} LINES"
    print(f"{name:32} {took:7.1f} s {processor:7.1f} s {usage.ru_maxrss / 1024:7.0f} MB{note}", flush=True)


def main() -> int:
    """Build the store and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.mail", description=__doc__)
    parser.add_argument("--users", type=int, default=10_000, help="each with one mailbox (10000)")
    parser.add_argument("--mails", type=int, default=5, help="in each mailbox (5)")
    options = parser.parse_args()
    if os.geteuid() != 0 or why_not("2.3"):
        print(f"skipped: {why_not('2.3') or 'needs root'}")
        return 0
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        fill(directory, options.users, options.mails)
        authlua = [sys.executable, "-m", "authlua", "mail", "run", "-c", str(directory / "authlua.toml"), "--all"]
        measured("authlua mail run --all", authlua, options.users)
        with Dovecot23("", databases=DATABASES.format(directory=directory), extra=EXTRA) as dovecot:
            status = dovecot.command("doveadm", "mailbox", "status", "-A", "messages unseen", "INBOX")
            measured("doveadm, making its indexes", status, options.users)
            measured("doveadm, with its indexes", status, options.users)
        measured("authlua mail run --all, again", authlua, options.users)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
