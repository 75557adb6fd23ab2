"""Of any mailbox, a Maildir and an IMAP server say the same, and both what Dovecot's own tools say."""

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from authlua.mail import FLAG_NAMES, Mail, Mailbox, Maildir, Status, Storage, to_utf7
from tests.mail.living import NOBODY, Store, in_thread

ALL = 0x26FF
COUNTER = itertools.count()

FLAGS = st.sets(st.sampled_from("DFRSTabcd")).map(lambda letters: "".join(sorted(letters)))
MESSAGE = st.tuples(st.sampled_from(["cur", "cur", "new"]), st.booleans(), FLAGS, st.integers(0, 9), st.booleans())
PART = st.text(st.sampled_from("aB z-&+,ü中😀~%*?\"'(){}[]#$^`|"), min_size=1, max_size=6).filter(
    lambda part: part.strip(" ") == part and not part.startswith("~")
)
NAME = st.lists(PART, min_size=1, max_size=3).map("/".join).filter(lambda name: name.upper() != "INBOX")


@st.composite
def stores(draw: st.DrawFn) -> dict[str, Any]:
    """A store as ``mkmaildir.py`` builds it: mails with and without UIDs, seen and new, with keywords and without."""
    mailboxes = []
    names = ["INBOX", *draw(st.lists(NAME, max_size=2, unique_by=str.casefold))]
    for number, name in enumerate(names):
        messages, uid = [], 0
        for index, (where, known, flags, gap, sized) in enumerate(draw(st.lists(MESSAGE, max_size=7))):
            uid += 1 + gap
            headers = {"Subject": f"mail {index}", "Date": "Tue, 14 Nov 2023 22:13:20 +0000"}
            body = "hello\n" * draw(st.integers(1, 3))
            size = len("".join(f"{name}: {value}\n" for name, value in headers.items())) + 1 + len(body)
            base = f"17000{draw(st.integers(10000, 99999))}.M{index}P{number}.host"
            messages.append(
                {
                    "uid": uid if known else None,
                    "flags": flags,
                    "where": where,
                    "base": base + f",S={size}" * sized,
                    "date": 1_700_000_000 + index,
                    "headers": headers,
                    "body": body,
                }
            )
        mailboxes.append(
            {
                "dir": "" if name == "INBOX" else "." + to_utf7(name).replace("/", "."),
                "uidvalidity": 1_700_000_000 + number,
                "uidnext": uid + draw(st.integers(1, 5)),
                "guid": f"{number + 1:032x}",
                "keywords": ["Work", "$Label1", "x.y"],
                "messages": messages,
                "gone": draw(st.lists(st.integers(1, uid), max_size=2, unique=True)) if uid else [],
            }
        )
    return {"mailboxes": mailboxes, "names": names}


def with_lines_of_lost_mails(root: Path, spec: Mapping[str, Any]) -> None:
    """A ``dovecot-uidlist`` may name mails whose files are gone."""
    for box in spec["mailboxes"]:
        path = root / box["dir"] / "dovecot-uidlist"
        head, *lines = path.read_text().splitlines()
        known = {int(line.split()[0]) for line in lines}
        lines += [f"{uid} :lost.{uid}" for uid in box["gone"] if uid not in known]
        path.write_text("\n".join([head, *sorted(lines, key=lambda line: int(line.split()[0]))]) + "\n")
        os.chown(path, NOBODY, NOBODY)


Described = tuple[Status, list[Mail]]


def described(storage: Storage, name: str) -> Described:
    """All that is known of a mailbox and its mails."""
    box = Mailbox(storage, name, 1)
    found = box.status(ALL), [mail._replace(keywords=sorted(mail.keywords)) for mail in box.mails()]
    box.close()
    return found


def everything(storage: Storage, names: Sequence[str]) -> dict[str, Described]:
    """All that is known of all mailboxes."""
    found = {name: described(storage, name) for name in names}
    storage.close()
    return found


def doveadms(store: Store, user: str, spec: Mapping[str, Any]) -> dict[str, tuple[dict[str, int], list[Any]]]:
    """What doveadm says: the numbers of each mailbox, and of each mail its UID, place, flags, sizes and time."""
    rows = store.doveadm(
        "mailbox", "status", "-u", user, "messages recent uidnext uidvalidity unseen highestmodseq", "*"
    )
    status = {row.pop("mailbox"): {key: int(value) for key, value in row.items()} for row in rows}
    found = {}
    for box, name in zip(spec["mailboxes"], spec["names"], strict=True):
        fields = "uid seq flags size.physical size.virtual date.received.unixtime"
        rows = store.doveadm("fetch", "-u", user, fields, "mailbox-guid", box["guid"])
        mails = [
            (
                *(int(row[key]) for key in ("uid", "seq")),
                sorted(set(row["flags"].split()) - {"\\Recent"}),
                *(int(row[key]) for key in ("size.physical", "size.virtual", "date.received.unixtime")),
            )
            for row in rows
        ]
        found[name] = status[name], mails
    return found


def flags_of(mail: Mail) -> list[str]:
    return sorted([*(flag for bit, flag in enumerate(FLAG_NAMES) if mail.flags >> bit & 1), *mail.keywords])


def compare(
    ours: Mapping[str, Described], imap: Mapping[str, Described], doveadm: Mapping[str, Any], *, fresh: bool
) -> None:
    """Each number has the same value everywhere, but for what the backends are documented not to know."""
    for name, (numbers, rows) in doveadm.items():
        (maildir_status, maildir_mails), (imap_status, imap_mails) = ours[name], imap[name]
        unknown: dict[str, Any] = {"highest_modseq": 0, "no_modseq_tracking": False}
        if not fresh:  # only the index knows what was \\Recent before, and which keywords there once were
            unknown |= {"recent": 0, "first_recent_uid": 0, "keywords": ()}
        assert maildir_status._replace(**unknown) == imap_status._replace(**unknown)
        assert [mail._replace(size=0) for mail in maildir_mails] == [mail._replace(size=0) for mail in imap_mails]
        keys = {"messages", "uidnext", "uidvalidity", "unseen"}
        assert {key: getattr(maildir_status, key) for key in keys} == {key: numbers[key] for key in keys}
        assert imap_status.recent == numbers["recent"]
        assert imap_status.highest_modseq == numbers["highestmodseq"]
        seen = zip(maildir_mails, imap_mails, strict=True)
        assert [
            (mail.uid, mail.seq, flags_of(mail), mail.size, over_imap.size, mail.received) for mail, over_imap in seen
        ] == rows


@settings(max_examples=12, deadline=None)
@given(spec=stores())
def test_maildir_imap_and_doveadm_agree(spec: dict[str, Any], store: Store) -> None:
    """Before Dovecot has ever seen the store, and again when it has changed flags and taken mails away."""
    user = f"user{next(COUNTER)}@example.org"
    root = store.fill(user, spec) / "Maildir"
    with_lines_of_lost_mails(root, spec)
    maildir, imap = Maildir(root), store.imap(user)
    names = sorted(maildir.mailboxes())
    assert names == sorted(spec["names"])
    ours = everything(maildir, names)
    theirs = in_thread(lambda: everything(imap, names))
    compare(ours, theirs, doveadms(store, user, spec), fresh=True)
    listed = in_thread(lambda: [*imap.mailboxes()])
    assert sorted(set(listed) - {"AutoBox"}) == names

    guid = spec["mailboxes"][-1]["guid"]
    store.said("flags", "add", "-u", user, "\\Seen Later", "mailbox-guid", guid, "1:2")
    store.said("flags", "remove", "-u", user, "\\Flagged Work", "all")
    store.said("expunge", "-u", user, "mailbox-guid", guid, "2")
    ours = everything(Maildir(root), names)
    theirs = in_thread(lambda: everything(imap, names))
    compare(ours, theirs, doveadms(store, user, spec), fresh=False)


def test_a_size_in_a_name_counts(store: Store) -> None:
    """It is that of the mail; what is on disk may be compressed."""
    mail = {"uid": 1, "flags": "", "base": "1700000000.M0P0.host,S=12345,W=12399", "date": 1_700_000_000}
    box = {"dir": "", "uidvalidity": 1, "uidnext": 2, "guid": "1" * 32}
    spec = {"mailboxes": [{**box, "messages": [{**mail, "headers": {"Subject": "x"}, "body": "y\n"}]}]}
    user = "sized@example.org"
    root = store.fill(user, spec) / "Maildir"
    (row,) = store.doveadm("fetch", "-u", user, "size.physical size.virtual", "all")
    (ours,) = Mailbox(Maildir(root), "INBOX").mails()
    imap = store.imap(user)
    (theirs,) = in_thread(lambda: everything(imap, ["INBOX"])["INBOX"][1])
    assert (ours.size, theirs.size) == (int(row["size.physical"]), int(row["size.virtual"])) == (12345, 12399)
