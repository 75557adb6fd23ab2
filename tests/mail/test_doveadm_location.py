"""``authlua mail run --doveadm``: Dovecot's own imap is started for the user, without any password."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from authlua.cli import main
from tests.mail.living import Store

REPORT = """
function mail_user_created(user)
  local inbox = user:mailbox("INBOX")
  local status = inbox:status(dovecot.storage.STATUS_UNSEEN, dovecot.storage.STATUS_HIGHESTMODSEQ)
  local uids = {}
  for mail in inbox:mails{ unseen = true, headers = { "Subject" } } do
    uids[#uids + 1] = ("%d %s"):format(mail.uid, mail.headers.Subject)
  end
  inbox:free()
  user:metadata_set("/private/seen", "by authlua")
  local numbers = ("%d %d %d: "):format(status.messages, status.unseen, status.highest_modseq)
  dovecot.i_info(numbers .. table.concat(uids, ", "))
  dovecot.i_info(user:metadata_get("/private/seen"))
end
"""


def test_the_mail_is_asked_for_through_doveadm(store: Store, tmp_path: Path, monkeypatch: Any, capfd: Any) -> None:
    """Numbers, mails and metadata are the server's; who has no mail there fails, in its words."""
    store.fill("doveadm@example.org")
    script = tmp_path / "report.lua"
    script.write_text(REPORT)
    doveadm = tmp_path / "bin" / "doveadm"
    doveadm.parent.mkdir()
    program, *rest = store.dovecot.command("doveadm")
    command = shlex.join([shutil.which(program) or program, *rest])
    doveadm.write_text(f'#!/bin/sh\nexec {command} "$@" 2>/dev/null\n')
    doveadm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{doveadm.parent}:/usr/bin:/bin:/usr/sbin:/sbin")
    monkeypatch.setenv("AUTHLUA_CONFIG", str(tmp_path / "none.toml"))
    run = ["mail", "run", "--script", str(script), "--doveadm", "--json"]
    assert main([*run, "--user", "doveadm@example.org"]) == 0
    (row,) = map(json.loads, capfd.readouterr().out.splitlines())
    texts = [line["text"] for line in row["log"]]
    numbers, _, uids = texts[0].partition(": ")
    assert numbers.split()[:2] == ["10", "4"]
    assert int(numbers.split()[2]) > 1
    assert uids.startswith("7 unseen, ")
    assert texts[1] == "by authlua"
    assert main([*run, "--user", "nobody-knows"]) == 75
    (row,) = map(json.loads, capfd.readouterr().out.splitlines())
    assert "INBOX" in row["reason"]
    key = "/private/vendor/vendor.dovecot/pvt/server/seen"
    assert store.said("mailbox", "metadata", "get", "-u", "doveadm@example.org", "INBOX", key) == "by authlua\n"
