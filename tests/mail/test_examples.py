"""The scripts in conf/mail do what their first lines say."""

from dataclasses import replace
from pathlib import Path

import pytest

from authlua.dialect import Dialect
from authlua.lua import load_mail_script
from authlua.mail import Maildir, UserMetadata
from tests.mail.recorded import alice, build

EXAMPLES = Path(__file__).parents[2] / "conf" / "mail"


def ran(home: Path, name: str, fields: dict[str, str] | None = None) -> tuple[str | None, list[str]]:
    """The refusal and the log of one session under the example *name*."""
    log: list[str] = []
    script = load_mail_script(
        EXAMPLES / f"{name}.lua",
        replace(alice(home), fields=fields or {}),
        Maildir(home / "Maildir", attributes=home / "dovecot-attributes"),
        log=lambda level, text, request, fields: log.append(f"{level}: {text}"),
        dialect=Dialect.V2_3,
    )
    refusal = script.created()
    script.deinit()
    script.close()
    return refusal, log


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of a user with ten mails."""
    build(tmp_path)
    return tmp_path


def metadata(home: Path) -> UserMetadata:
    return UserMetadata(Maildir(home / "Maildir", attributes=home / "dovecot-attributes"))


def test_a_full_mailbox_is_warned_of_until_it_is_emptied(home: Path) -> None:
    """The notice is there while it is true, and then it is gone."""
    key = "/private/vendor/example.org/notice"
    refusal, log = ran(home, "over-quota", {"mail_limit": "1000"})
    assert refusal is None
    assert log[0].startswith("warning: alice@example.org: ")
    assert b"of your mail space is used" in (metadata(home).metadata_get([key])[0] or b"")
    assert ran(home, "over-quota", {"mail_limit": "1000000"}) == (None, [])
    assert metadata(home).metadata_get([key]) == [None]


def test_who_has_no_limit_is_not_warned(home: Path) -> None:
    """Without the userdb field nothing is looked at."""
    assert ran(home, "over-quota") == (None, [])


def test_the_report_is_a_line_for_each_user(home: Path) -> None:
    """User, mails, unseen mails, days."""
    _, (line,) = ran(home, "unseen-report")
    assert line.split()[:4] == ["info:", "alice@example.org", "10", "4"]
    assert line.split()[4].isdecimal()


def test_a_message_keeps_its_user_out(home: Path) -> None:
    """Without one the login is noted, with one it is refused in its words."""
    assert ran(home, "login-message") == (None, [])
    assert (metadata(home).metadata_get(["/private/vendor/example.org/last-login"])[0] or b"").endswith(b"Z")
    metadata(home).metadata_set("/private/vendor/example.org/closed", b"Please call")
    assert ran(home, "login-message") == ("Please call", [])
