"""A real Dovecot with a mail store for each user that a test makes up, and the ways into it."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from authlua.services import ImapStorage, exec_server
from tests.mail.recorded import build
from tests.reference.dovecot import Dovecot, Dovecot23, Dovecot24

T = TypeVar("T")
NOBODY = 65534

EXTRA = {
    "2.3": """
mail_location = maildir:~/Maildir
mail_attribute_dict = file:%h/dovecot-attributes
""",
    "2.4": """
mail_driver = maildir
mail_path = ~/Maildir
mail_attribute {
  dict file {
    path = %{home}/dovecot-attributes
  }
}
""",
}
COMMON = """
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
DATABASES = {
    "2.3": """
passdb {
  driver = static
  args = nopassword
}
userdb {
  driver = static
  args = uid=65534 gid=65534 home={directory}/homes/%u
}
""",
    "2.4": """
passdb static {
  fields {
    nopassword = yes
  }
}
userdb static {
  fields {
    uid = 65534
    gid = 65534
    home = {directory}/homes/%{user}
  }
}
""",
}


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

    def imap(self, user: str, *, metadata: bool = True) -> ImapStorage:
        """The user's mail through Dovecot's imap on pipes."""
        setting = f"imap_metadata={'yes' if metadata else 'no'}"
        command = self.dovecot.command("doveadm", "exec", "imap", "-u", user, "-o", setting)
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
def serving(series: str) -> Iterator[Store]:
    """A Dovecot of *series* for the length of the block."""
    kind = {"2.3": Dovecot23, "2.4": Dovecot24}[series]
    with kind("", databases=DATABASES[series], extra=EXTRA[series] + COMMON) as dovecot:
        homes = dovecot.directory / "homes"
        homes.mkdir(mode=0o755)
        yield Store(homes, dovecot)


def in_thread(function: Callable[[], T]) -> T:
    """What *function* returns in a thread of trio, as a script's storage wants it."""

    async def main() -> T:
        return await trio.to_thread.run_sync(function)

    return trio.run(main)
