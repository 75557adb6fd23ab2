"""A real Dovecot with a mail store for each user that a test makes up, and the ways into it."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from authlua.services import ImapStorage, exec_server
from tests.mail.recorded import build
from tests.reference.dovecot import Dovecot, Dovecot23

T = TypeVar("T")
NOBODY = 65534

EXTRA = """
mail_location = maildir:~/Maildir
mail_attribute_dict = file:%h/dovecot-attributes
imap_metadata = yes
first_valid_uid = 1
namespace inbox {
  inbox = yes
  separator = /
  mailbox AutoBox {
    auto = create
  }
  mailbox Trash {
    special_use = \\Trash
  }
}
"""
DATABASES = """
passdb {{
  driver = static
  args = nopassword
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home={homes}/%u
}}
"""


class Store:
    """The homes of the users, and a Dovecot that serves them."""

    def __init__(self, homes: Path, dovecot: Dovecot) -> None:
        self.homes = homes
        self.dovecot = dovecot

    def fill(self, user: str, spec: dict[str, Any] | None = None) -> Path:
        """The home of *user*, with the recorded mail store or one of that form."""
        home = self.homes / user
        build(home, spec)
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(home)], check=True)
        return home

    def imap(self, user: str) -> ImapStorage:
        """The user's mail through Dovecot's imap on pipes."""
        command = self.dovecot.command("doveadm", "exec", "imap", "-u", user, "-o", "imap_metadata=yes")
        return ImapStorage(exec_server(["sh", "-c", 'exec "$@" 2>/dev/null', "sh", *command]))

    def said(self, *arguments: str) -> str:
        """What a doveadm command prints."""
        command = self.dovecot.command("doveadm", *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    def doveadm(self, *arguments: str) -> list[dict[str, str]]:
        """The rows that a doveadm command prints."""
        head, *rows = [line.split("\t") for line in self.said("-f", "tab", *arguments).splitlines()] or [[]]
        return [dict(zip(head, row, strict=True)) for row in rows]


@contextmanager
def serving(directory: Path) -> Iterator[Store]:
    """A Dovecot 2.3 for the length of the block."""
    homes = directory / "homes"
    homes.mkdir()
    for parent in (directory, homes):
        parent.chmod(0o755)
    with Dovecot23("", databases=DATABASES.format(homes=homes), extra=EXTRA) as dovecot:
        yield Store(homes, dovecot)


def in_thread(function: Callable[[], T]) -> T:
    """What *function* returns in a thread of trio, as a script's storage wants it."""

    async def main() -> T:
        return await trio.to_thread.run_sync(function)

    return trio.run(main)
