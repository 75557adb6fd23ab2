"""Maildir and IMAP say what a running Dovecot says: of the recorded store, and of made-up ones."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authlua.dialect import Dialect
from authlua.lua import MailScript
from authlua.mail import FLAG_NAMES, BoxFlag, Mailbox, Maildir, Storage, StorageError
from authlua.services import ImapStorage, exec_server
from tests.mail.living import NOBODY, Store, in_thread, serving
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
from tests.reference.dovecot import why_not

pytestmark = [pytest.mark.root]

ALL = 0x26FF
SERIES = [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)]
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


@pytest.fixture(scope="module", params=SERIES)
def any_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A Dovecot of each series."""
    if reason := why_not(request.param):
        pytest.skip(reason)
    with serving(request.param) as store:
        yield store


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """A Dovecot 2.3."""
    with serving("2.3") as store:
        yield store


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
def test_scripts_see_the_same_through_imap(name: str, any_store: Store, monkeypatch: Any) -> None:
    """A script that runs on a Maildir runs on an IMAP server, and is told the same."""
    recording = recording_for(any_store, VECTORS / "expected" / f"{name}.json")
    got = run_over_imap(recording, any_store, f"{name}@example.org", monkeypatch, metadata=name != "nometadata")
    exempt = DIFFERENT.get(name, set())
    if recording.dialect is Dialect.V2_3:  # the recorded build lacked two constants
        exempt = exempt | {"storage.keys", "storage.values", "auto_create flag", "auto_create made it permanent"}
    assert (got.failure, list(got.log)) == (None, [])
    wanted = [forgiving(result) for result in recording.results if result.get("case") not in exempt]
    assert [forgiving(result) for result in got.results if result.get("case") not in exempt] == wanted


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_end_the_same_through_imap(name: str, any_store: Store, monkeypatch: Any) -> None:
    """The connection is made when a hook needs it, and gone when the hook is done."""
    recording = recording_for(any_store, VECTORS / "expected" / "hooks" / f"{name}.json")
    got = run_over_imap(recording, any_store, f"hook-{name}@example.org", monkeypatch)
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


def test_mail_objects_are_as_recorded_through_imap(any_store: Store, monkeypatch: Any) -> None:
    """Mails of a server compare and print like those of a Maildir."""
    recording = recording_for(any_store, VECTORS / "expected" / "mail.json")

    home = any_store.fill("mail@example.org")
    storage = any_store.imap("mail@example.org")

    def push(script: MailScript) -> None:
        push_recorded_mails(script, storage)

    got = in_thread(lambda: run(recording.script, recording.dialect, home, storage, monkeypatch, push))
    assert_recorded_mails(got.results, recording)


def test_a_program_that_serves_nothing_is_told_by_its_exit_code() -> None:
    """What runs on the other end of the pipes says by its end that it cannot."""
    storage = ImapStorage(exec_server(["sh", "-c", "exit 89"]))
    with pytest.raises(StorageError, match="exit code 89"):
        in_thread(lambda: Mailbox(storage, "INBOX").open())


# -- made-up stores

FLAGS = st.sets(st.sampled_from("DFRSTabc")).map(lambda letters: "".join(sorted(letters)))
MESSAGE = st.tuples(st.sampled_from(["cur", "cur", "new"]), st.booleans(), FLAGS, st.integers(0, 9))
NAMES = ["", ".Archive", ".Entw&APw-rfe", ".a.b"]


@st.composite
def stores(draw: st.DrawFn) -> dict[str, Any]:
    """A store as ``mkmaildir.py`` builds it: mails with and without UIDs, seen and new, with keywords."""
    mailboxes = []
    for number, directory in enumerate(draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))):
        messages, uid = [], 0
        for index, (where, known, flags, gap) in enumerate(draw(st.lists(MESSAGE, max_size=7))):
            uid += 1 + gap
            messages.append(
                {
                    "uid": uid if known else None,
                    "flags": flags,
                    "where": where,
                    "base": f"17000{draw(st.integers(10000, 99999))}.M{index}P{number}.host",
                    "date": 1_700_000_000 + index,
                    "headers": {"Subject": f"mail {index}", "Date": "Tue, 14 Nov 2023 22:13:20 +0000"},
                    "body": "hello\n" * draw(st.integers(1, 3)),
                }
            )
        mailboxes.append(
            {
                "dir": directory,
                "uidvalidity": 1_700_000_000 + number,
                "uidnext": uid + draw(st.integers(1, 5)),
                "guid": f"{number + 1:032x}",
                "keywords": ["Work", "$Label1", "x.y"],
                "messages": messages,
            }
        )
    if all(box["dir"] for box in mailboxes):
        mailboxes[0]["dir"] = ""
    return {"mailboxes": mailboxes}


def described(storage: Storage, name: str, *, sizes: bool) -> tuple[Any, Any]:
    box = Mailbox(storage, name, 1)
    status = box.status(ALL)._replace(highest_modseq=0, no_modseq_tracking=False)
    mails = [mail if sizes else mail._replace(size=0) for mail in box.mails()]
    box.close()
    return status, [mail._replace(keywords=sorted(mail.keywords)) for mail in mails]


COUNTER = itertools.count()


@settings(max_examples=10, deadline=None)
@given(spec=stores())
def test_maildir_imap_and_doveadm_agree(spec: dict[str, Any], store: Store) -> None:
    """Of any store: each number of its mailboxes, each UID, flag and keyword of its mails."""
    user = f"user{next(COUNTER)}@example.org"
    root = store.fill(user, spec) / "Maildir"
    maildir = Maildir(root)
    names = sorted(maildir.mailboxes())
    ours = {name: described(maildir, name, sizes=False) for name in names}
    imap = store.imap(user)

    def ask() -> dict[str, object]:
        answers: dict[str, object] = {name: described(imap, name, sizes=False) for name in names}
        imap.close()
        return answers

    theirs = in_thread(ask)
    assert ours == theirs
    fields = "messages recent uidnext uidvalidity unseen"
    rows = store.doveadm("mailbox", "status", "-u", user, fields, *names)
    assert {row["mailbox"]: {key: int(row[key]) for key in fields.split()} for row in rows} == {
        name: {key: getattr(status, key) for key in fields.split()} for name, (status, _) in ours.items()
    }
    for name in names:
        rows = store.doveadm("fetch", "-u", user, "uid seq flags", "mailbox", name)
        assert [
            (int(row["uid"]), int(row["seq"]), sorted(set(row["flags"].split()) - {"\\Recent"})) for row in rows
        ] == [
            (
                mail.uid,
                mail.seq,
                sorted([*(flag for bit, flag in enumerate(FLAG_NAMES) if mail.flags >> bit & 1), *mail.keywords]),
            )
            for mail in ours[name][1]
        ]


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
