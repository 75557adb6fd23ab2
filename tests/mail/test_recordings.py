"""Scripts under authlua answer what they answered under real Dovecots, value for value and text for text."""

import re
from pathlib import Path
from typing import Any

import pytest

from authlua.dialect import Dialect
from authlua.lua import ScriptOptions, load_mail_script
from authlua.mail import Maildir
from tests.mail.recorded import (
    CRASHES,
    DIALECTS,
    HOOKS,
    INSTEAD,
    SESSIONS,
    VECTORS,
    Recording,
    alice,
    assert_recorded_mails,
    build,
    forgiving,
    push_recorded_mails,
    recordings,
    run,
)

UNKNOWN_TO_MAILDIR = {"auto-created special"}
"""Only Dovecot's configuration knows which mailboxes are made by themselves."""

NOT_IN_THIS_BUILD = {"storage.keys", "storage.values"}
"""The recorded 2.3 lacked two constants that its release has, so scripts must find them here."""


def cases(folder: str, names: list[str]) -> list[Any]:
    """All recordings of the files *names*."""
    return [
        pytest.param(name, recording, id=f"{name}-{version}")
        for name in names
        for version, recording in recordings(VECTORS / "expected" / folder / f"{name}.json").items()
    ]


def comparable(results: Any, leave_out: set[str]) -> list[Any]:
    return [forgiving(result) for result in results if result.get("case") not in leave_out]


@pytest.mark.parametrize(("name", "recording"), cases("", SESSIONS))
def test_a_session_answers_as_recorded(name: str, recording: Recording, tmp_path: Path, monkeypatch: Any) -> None:
    """Fields, numbers, error texts, equality, metadata and \\Recent are Dovecot's."""
    attributes = None if name == "nometadata" else tmp_path / "dovecot-attributes"
    storage = Maildir(build(tmp_path), attributes=attributes)
    got = run(recording.script, recording.dialect, tmp_path, storage, monkeypatch)
    exempt = set(UNKNOWN_TO_MAILDIR)
    if recording.dialect is Dialect.V2_3:
        exempt |= NOT_IN_THIS_BUILD | {"auto_create flag", "auto_create made it permanent"}
    assert got.failure is None
    assert comparable(got.results, exempt) == comparable(recording.results, exempt)


def spoken(log: Any) -> str:
    """Dovecot's log without what its processes put in front of each line."""
    lines = [line.replace("doveadm(alice@example.org): ", "").replace("cmd mailbox list: ", "") for line in log]
    text = "\n".join(lines).replace("\nError: stack", "\nstack").replace("\nError: \t", "\n\t")
    return text


@pytest.mark.parametrize(("name", "recording"), cases("hooks", HOOKS))
def test_a_hook_ends_as_recorded(name: str, recording: Recording, tmp_path: Path, monkeypatch: Any) -> None:
    """Which hooks run, what their results and errors mean, and what the log says of it, but for what we add to that."""
    got = run(recording.script, recording.dialect, tmp_path, Maildir(build(tmp_path)), monkeypatch)
    assert comparable(got.results, set()) == comparable(recording.results, set())
    said = [line for line in got.log if not line.startswith("Debug: ")]  # the recorded one was not in debug mode
    if got.failure is not None:
        said.append(re.sub(r" \([^()]*@SCRIPT@ [^()]*\)$", "", f"Error: {got.failure}"))
    assert "\n".join(said) == spoken(recording.log)
    assert (got.failure is not None) == (recording.exit != 0)


@pytest.mark.parametrize("crash", CRASHES, ids=lambda crash: Path(crash["script"]).stem)
def test_what_ends_dovecots_process_is_an_error_or_works(crash: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """No call of a script can do harm."""
    script = VECTORS / crash["script"]
    storage = Maildir(build(tmp_path), attributes=tmp_path / "dovecot-attributes")
    got = run(script, Dialect.V2_3, tmp_path, storage, monkeypatch)
    said = "\n".join([*got.log, got.failure or ""]).strip()
    expected = INSTEAD.get(script.stem)
    assert expected in said if expected else said == ""


def test_mail_objects_are_as_recorded(tmp_path: Path, monkeypatch: Any) -> None:
    """Mails, which no Dovecot gives to a script by itself, compare and print as its code makes them."""
    recording = recordings(VECTORS / "expected" / "mail.json")["2.3.19.1"]
    storage = Maildir(build(tmp_path))

    got = run(
        recording.script, recording.dialect, tmp_path, storage, monkeypatch, lambda _: push_recorded_mails(storage)
    )
    assert_recorded_mails(got.results, recording)


@pytest.mark.parametrize("version", ["5.1", "5.2", "5.3", "5.4", "5.5", "luajit"])
def test_every_lua_sees_the_same_mailbox(version: str, tmp_path: Path) -> None:
    """The part of the API that is written in Lua runs in all of them."""
    script = tmp_path / "script.lua"
    script.write_text("""
function mail_user_created(user)
  local box = user:mailbox("inbox")
  local status = box:status(dovecot.storage.STATUS_UNSEEN)
  local uids = {}
  for mail in box:mails{ unseen = true, headers = { "Subject" } } do
    uids[#uids + 1] = ("%d"):format(mail.uid) .. "=" .. mail.headers.Subject
  end
  local ok, problem = pcall(box.status, box)
  box:free()
  return -1, box.vname .. " " .. ("%d"):format(status.unseen) .. " " .. problem .. " " .. table.concat(uids, ",")
end""")
    loaded = load_mail_script(
        script,
        alice(tmp_path),
        Maildir(build(tmp_path)),
        log=lambda *_: None,
        dialect=DIALECTS["2.3.19.1"],
        options=ScriptOptions(version=version),
    )
    refusal = loaded.created()
    loaded.close()
    assert refusal is not None
    assert refusal.startswith("INBOX 4 ")
    assert "expecting at least 1 parameter 7=unseen,33=unseen flagged, two keywords," in refusal
