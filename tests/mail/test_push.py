"""Push notifications: the event table is that of Dovecot's own driver, and so is what is called."""

import json
from pathlib import Path
from typing import Any

import pytest

from authlua.dialect import Dialect
from authlua.lua import load_mail_script
from authlua.mail import Mailbox, Maildir
from authlua.protocol import Push
from authlua.server.push_event import event_of
from tests.mail.recorded import VECTORS, alice, build

RECORDED = json.loads((VECTORS / "push" / "push.json").read_text())["observed"]["2.3.19.1"]["results"]
APPENDED = [result["values"][0][1] for result in RECORDED if result.get("case", "").startswith("event message_append")]


def plain(value: Any) -> Any:
    """A recorded value as Python's."""
    kind, payload = value
    if kind == "float":
        return float(payload)
    return [plain(one) for one in payload] if kind == "array" else [] if payload == {} else payload


HEADERS = {
    0: {
        "From": "=?utf-8?q?J=C3=B6rg?= <joerg@example.net>",
        "To": "Alice A <alice@example.org>",
        "Subject": "=?utf-8?q?Gr=C3=BC=C3=9Fe?=",
        "Date": "Tue, 14 Nov 2023 22:13:20 +0100",
        "Message-ID": "<p1@example.net>",
    },
    1: {},
    2: {
        "From": "Sender <sender@example.net>",
        "To": "alice@example.org",
        "Subject": "answered",
        "Date": "Tue, 14 Nov 2023 22:13:20 +0000",
        "Message-ID": "<1700000540.M3P1.host@example.net>",
    },
}
"""What the appended mails held."""


@pytest.mark.parametrize("number", HEADERS)
def test_the_event_is_the_one_of_dovecots_driver(number: int, tmp_path: Path) -> None:
    """Of what is in the mail, each field has the recorded value."""
    recorded = {name: plain(value) for name, value in APPENDED[number].items()}
    headers = HEADERS[number]
    letters = "".join(letter for letter, flag in (("R", "\\Answered"), ("S", "\\Seen")) if flag in recorded["flags"])
    mail = {"uid": 50, "flags": letters + "a" * bool(recorded["keywords"]), "base": "1.x", "date": 1, "body": "x\n"}
    box = {"dir": "", "uidvalidity": 7, "uidnext": 51, "guid": "1" * 32, "keywords": ["Work"]}
    root = build(tmp_path, {"mailboxes": [{**box, "messages": [{**mail, "headers": headers}]}]})
    push = Push(
        "alice", "messageAppend", "INBOX", 7, 50, headers.get("From", ""), headers.get("Subject"), recorded["snippet"]
    )
    event = event_of(Mailbox(Maildir(root), "INBOX"), push)
    apart = {"uid": 50.0, "uid_validity": 7.0, "mailbox": "INBOX"}
    assert event == recorded | apart


def test_what_only_the_mail_tells_is_left_out_without_it(tmp_path: Path) -> None:
    """Nothing is made up."""
    push = Push("alice", "messageNew", "INBOX", 7, 999, "Jo <jo@example.net>", None, "hi")
    event = event_of(Mailbox(Maildir(build(tmp_path)), "INBOX"), push)
    assert event.keys() == {
        *("name", "mailbox", "uid", "uid_validity", "snippet", "from", "from_address", "from_display_name"),
    }


def notified(tmp_path: Path, source: str) -> list[str]:
    """The log of a script to which one mail is announced."""
    script = tmp_path / "push.lua"
    script.write_text(source)
    log: list[str] = []
    loaded = load_mail_script(
        script,
        alice(tmp_path),
        Maildir(build(tmp_path)),
        log=lambda level, text, request, fields: log.append(text.partition("\n")[0]),
        dialect=Dialect.V2_3,
    )
    loaded.notify("message_new", {"name": "MessageNew", "uid": 3.0, "flags": ["\\Seen"]})
    loaded.close()
    return log


EVENT = "function dovecot_lua_notify_event_message_new(c, e) dovecot.i_info(c .. e.name .. e.flags[1] .. e.uid) end\n"
BEGIN = 'function dovecot_lua_notify_begin_txn(user) return user.username .. " " end\n'
END = "function dovecot_lua_notify_end_txn(c, ok) dovecot.i_info(c .. tostring(ok)) end\n"
MISSING = "push-notification-lua: Missing function dovecot_lua_notify_"


@pytest.mark.parametrize(
    ("source", "log"),
    [
        (BEGIN + EVENT + END, ["alice@example.org MessageNew\\Seen3.0", "alice@example.org true"]),
        (BEGIN + END, []),
        (EVENT + END, [MISSING + "begin_txn"]),
        (BEGIN + EVENT, ["alice@example.org MessageNew\\Seen3.0", MISSING + "end_txn"]),
        (BEGIN + EVENT.replace("message_new", "message_read") + END, ["alice@example.org true"]),
        (
            BEGIN + "function dovecot_lua_notify_event_message_new() error('no', 0) end\n" + END,
            ["alice@example.org true", "push-notification-lua: no"],
        ),
    ],
    ids=["all", "no event function", "no begin", "no end", "another event", "an error"],
)
def test_a_transaction_calls_what_dovecot_calls(source: str, log: list[str], tmp_path: Path) -> None:
    """Begin, event, end; an error is logged and the rest goes on."""
    assert notified(tmp_path, source) == log
