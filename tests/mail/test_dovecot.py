"""Maildir and IMAP say what a running Dovecot says: of the recorded store, and of made-up ones."""

from pathlib import Path
from typing import Any

import pytest

from authlua.dialect import Dialect
from authlua.mail import BoxFlag, Mailbox, Maildir, StorageError
from authlua.services import ImapStorage, exec_server
from tests.mail.living import NOBODY, Store, in_thread
from tests.mail.recorded import (
    CRASHES,
    HOOKS,
    INSTEAD,
    SESSIONS,
    VECTORS,
    Recording,
    Run,
    assert_recorded_mails,
    build,
    forgiving,
    push_recorded_mails,
    recordings,
    run,
)

pytestmark = [pytest.mark.root]

ALL = 0x26FF
DIFFERENT = {
    "mailbox": {"names Archive/2024", "names Nope/Deeper", "names INBOX/Child", "names inbox/child"},
    "metadata": {
        "mailbox key case",
        "user key case",
        "user list all private",
        "user list two",
        "INBOX list private",
    },
}
"""What IMAP does not tell: names on disk, keys by their case, and a list of all that belongs to the user."""


def recording_for(store: Store, path: Path) -> Recording:
    """What the recorded Dovecot of the same series answered; a script of one series alone is skipped."""
    found = recordings(path)
    versions = [version for version in found if version.startswith(store.dovecot.series)]
    if not versions:
        pytest.skip(f"not recorded for {store.dovecot.series}")
    return found[versions[0]]


def run_over_imap(recording: Recording, store: Store, user: str, monkeypatch: Any, **more: Any) -> Run:
    """The script on the IMAP server, from a fresh store on."""
    home = store.fill(user)
    storage = store.imap(user, metadata=more.pop("metadata", True))
    return in_thread(lambda: run(recording.script, recording.dialect, home, storage, monkeypatch, **more))


@pytest.mark.parametrize("name", SESSIONS)
def test_scripts_see_the_same_through_imap(name: str, store: Store, monkeypatch: Any) -> None:
    """A script that runs on a Maildir runs on an IMAP server, and is told the same."""
    recording = recording_for(store, VECTORS / "expected" / f"{name}.json")
    got = run_over_imap(recording, store, f"{name}@example.org", monkeypatch, metadata=name != "nometadata")
    exempt = DIFFERENT.get(name, set())
    if recording.dialect is Dialect.V2_3:  # the recorded build lacked two constants
        exempt = exempt | {"storage.keys", "storage.values", "auto_create flag", "auto_create made it permanent"}
    assert (got.failure, list(got.log)) == (None, [])
    wanted = [forgiving(result) for result in recording.results if result.get("case") not in exempt]
    assert [forgiving(result) for result in got.results if result.get("case") not in exempt] == wanted


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_end_the_same_through_imap(name: str, store: Store, monkeypatch: Any) -> None:
    """The connection is made when a hook needs it, and gone when the hook is done."""
    recording = recording_for(store, VECTORS / "expected" / "hooks" / f"{name}.json")
    got = run_over_imap(recording, store, f"hook-{name}@example.org", monkeypatch)
    assert list(got.results) == list(recording.results)
    assert (got.failure is not None) == (recording.exit != 0)


@pytest.mark.parametrize("crash", CRASHES, ids=lambda crash: Path(crash["script"]).stem)
def test_what_ends_dovecots_process_harms_nobody_through_imap(crash: Any, store: Store, monkeypatch: Any) -> None:
    """An error or no error is the same as on a Maildir."""
    script = VECTORS / crash["script"]
    recording = Recording(script, Dialect.V2_3, 0, (), ())
    got = run_over_imap(recording, store, f"crash-{script.stem}@example.org", monkeypatch)
    said = "\n".join([*got.log, got.failure or ""]).strip()
    expected = INSTEAD.get(script.stem)
    assert expected in said if expected else said == ""


def test_mail_objects_are_as_recorded_through_imap(store: Store, monkeypatch: Any) -> None:
    """Mails of a server compare and print like those of a Maildir."""
    recording = recording_for(store, VECTORS / "expected" / "mail.json")

    home = store.fill("mail@example.org")
    storage = store.imap("mail@example.org")

    def push(_: object) -> None:
        push_recorded_mails(storage)

    got = in_thread(lambda: run(recording.script, recording.dialect, home, storage, monkeypatch, push))
    assert_recorded_mails(got.results, recording)


def test_a_program_that_serves_nothing_is_told_by_its_exit_code() -> None:
    """What runs on the other end of the pipes says by its end that it cannot."""
    storage = ImapStorage(exec_server(["sh", "-c", "exit 89"]))
    with pytest.raises(StorageError, match="exit code 89"):
        in_thread(lambda: Mailbox(storage, "INBOX").open())


def test_metadata_is_dovecots_and_dovecot_reads_ours(store: Store) -> None:
    """Both write the same file, values with line breaks and control characters included."""
    user = "metadata-both@example.org"
    home = store.fill(user)
    box = Mailbox(Maildir(home / "Maildir", attributes=home / "dovecot-attributes"), "Archive")
    value = "two\nlines\tand \x01 and ü"
    box.metadata_set("/private/note", value.encode())
    assert store.said("mailbox", "metadata", "get", "-u", user, "Archive", "/private/note") == value + "\n"
    store.said("mailbox", "metadata", "set", "-u", user, "Archive", "/private/theirs", value)
    assert box.metadata_get(["/private/theirs", "/private/note"]) == [value.encode()] * 2


def test_dovecot_takes_over_a_mailbox_that_a_script_made(store: Store) -> None:
    """It is as if Dovecot had made it: same UIDVALIDITY, subscribed, its files the user's own."""
    user = "maker@example.org"
    root = store.fill(user) / "Maildir"
    flags = BoxFlag.AUTO_CREATE | BoxFlag.AUTO_SUBSCRIBE
    status = Mailbox(Maildir(root), "Made/Here", flags).status(ALL)
    (row,) = store.doveadm("mailbox", "status", "-u", user, "uidvalidity uidnext messages", "Made/Here")
    assert (int(row["uidvalidity"]), row["uidnext"], row["messages"]) == (status.uidvalidity, "1", "0")
    assert "Made/Here" in store.said("mailbox", "list", "-s", "-u", user).splitlines()
    assert {path.stat().st_uid for path in (root / ".Made.Here").rglob("*")} == {NOBODY}


def test_root_writes_through_no_link_of_a_user(tmp_path: Path) -> None:
    """Whoever owns a Maildir cannot make root change a file elsewhere."""
    root = build(tmp_path)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (root / "subscriptions.authlua").symlink_to(victim)
    (tmp_path / "dovecot-attributes").symlink_to(victim)
    Mailbox(Maildir(root), "New", BoxFlag.AUTO_CREATE | BoxFlag.AUTO_SUBSCRIBE).open()
    Mailbox(Maildir(root, attributes=tmp_path / "dovecot-attributes"), "Archive").metadata_set("/private/x", b"1")
    assert victim.read_text() == "mine"
    assert "New" in (root / "subscriptions").read_text().splitlines()
