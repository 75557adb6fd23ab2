"""What a Maildir tells that no recording shows."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from authlua.dialect import Dialect
from authlua.lua import load_mail_script
from authlua.mail import Mailbox, Maildir
from authlua.mail.attributes import AttributeFile
from tests.mail.recorded import alice, build


def test_a_uidlist_may_have_grown_past_its_header(tmp_path: Path) -> None:
    """Dovecot appends lines without a new header; the next UID is behind the last of them."""
    root = build(tmp_path)
    uidlist = root / ".Archive" / "dovecot-uidlist"
    uidlist.write_text(uidlist.read_text() + "70 :somewhere-else\n")
    (root / ".Archive" / "new" / "zzz").write_text("Subject: new\n\n")
    status = Mailbox(Maildir(root), "Archive").status(4)
    assert status.uidnext == 72


def test_a_mailbox_without_a_uidlist_counts_from_one(tmp_path: Path) -> None:
    """Nobody has chosen a UIDVALIDITY yet, so there is none to tell."""
    root = build(tmp_path)
    (root / ".Archive" / "dovecot-uidlist").unlink()
    box = Mailbox(Maildir(root), "Archive")
    assert [mail.uid for mail in box.mails()] == [1, 2, 3]
    assert box.status(4).uidvalidity == 0


def test_metadata_are_written_whole_however_little_goes_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system may take a part only; what was not written would be lost with the file that is replaced."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    file = AttributeFile(tmp_path / "attributes")
    file.set("guid", "/private/comment", b"a value of more than seven bytes")
    file.set("guid", "/private/other", b"another")
    assert file.get("guid", "/private/comment") == b"a value of more than seven bytes"
    assert file.get("guid", "/private/other") == b"another"


def test_a_user_without_a_maildir_has_an_empty_inbox(tmp_path: Path) -> None:
    """As in Dovecot, where everybody has an INBOX."""
    storage = Maildir(tmp_path / "nowhere")
    assert list(storage.mailboxes()) == ["INBOX"]
    assert Mailbox(storage, "inbox").status(1).messages == 0
    assert not (tmp_path / "nowhere").exists()


def test_a_field_of_the_userdb_overrides_a_plugin_setting(tmp_path: Path) -> None:
    """plugin_getenv finds both, the field first."""
    script = tmp_path / "script.lua"
    script.write_text(
        "function mail_user_created(user)\n"
        '  return -1, user:plugin_getenv("my_setting") .. " " .. user:plugin_getenv("mail_limit")\nend'
    )
    user = replace(alice(tmp_path), fields={"my_setting": "theirs", "mail_limit": "5"})
    loaded = load_mail_script(script, user, Maildir(tmp_path), log=lambda *_: None, dialect=Dialect.V2_3)
    assert loaded.created() == "theirs 5"
    loaded.close()
