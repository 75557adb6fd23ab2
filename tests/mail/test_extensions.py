"""What Python extensions do with scripts that see mail: Dovecot's own functions, without the ``dlua_`` in front."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua import (
    Script,
    load_mail_script,
    mail_lua_get_script,
    pcall,
    push_mail,
    push_mail_user,
    push_mailbox,
    register_dovecot,
    register_mail_storage,
    script_create_file,
    script_create_string,
    script_init,
    script_unref,
)
from authlua.mail import Mailbox, Maildir
from tests.mail.recorded import alice, build

SOURCE = """
function shown(...)
  local texts = {}
  for i, one in ipairs{...} do texts[i] = tostring(one) end
  return table.concat(texts, " ")
end
function unseen(user)
  local box = user:mailbox("INBOX")
  local status = box:status(dovecot.storage.STATUS_UNSEEN)
  box:free()
  return status.unseen
end
function same(a, b) return a == b, a.mailbox == b.mailbox end
function let_go(box) box:free() end
"""


@pytest.fixture
def script() -> Iterator[Script]:
    """A script of an extension's own."""
    script = script_create_string(SOURCE, log=lambda *_: None, dialect=Dialect.V2_4)
    register_dovecot(script)
    register_mail_storage(script)
    script_init(script)
    yield script
    script_unref(script)


@pytest.fixture
def storage(tmp_path: Path) -> Maildir:
    """The recorded store."""
    return Maildir(build(tmp_path))


def test_a_script_gets_users_mailboxes_and_mails(script: Script, storage: Maildir, tmp_path: Path) -> None:
    """They are what the hooks of a mail script get: they print, compare and answer like them."""
    user = push_mail_user(script, alice(tmp_path), storage)
    box = Mailbox(storage, "inbox")
    mails = list(box.mails())
    pushed = [push_mail(script, box, mail) for mail in (mails[0], mails[0], mails[1])]
    shown = pcall(script, "shown", user, push_mailbox(script, box), pushed[0])
    assert shown == ("alice@example.org INBOX <INBOX:UID 3>",)
    assert pcall(script, "unseen", user) == (4,)
    assert pcall(script, "same", pushed[0], pushed[1]) == (True, True)
    assert pcall(script, "same", pushed[0], pushed[2]) == (False, True)


def test_what_a_script_frees_is_closed(script: Script, storage: Maildir) -> None:
    """The mailbox that was pushed is the one that the script has let go of."""
    box = Mailbox(storage, "INBOX")
    box.open()
    pcall(script, "let_go", push_mailbox(script, box))
    assert not box.is_open


def test_an_auth_script_may_see_mail_too(tmp_path: Path) -> None:
    """It keeps what it has: the constants of auth, beside those of mail."""
    path = tmp_path / "auth.lua"
    path.write_text(
        "local ok = dovecot.auth.PASSDB_RESULT_OK\n"
        "function both() return ok, dovecot.storage.STATUS_MESSAGES, dovecot.storage.MAILBOX_FLAG_AUTO_CREATE end"
    )
    script = script_create_file(path, log=lambda *_: None, dialect=Dialect.V2_3, database="passdb")
    register_dovecot(script)
    register_mail_storage(script)
    register_mail_storage(script)
    script_init(script)
    assert pcall(script, "both") == (1, 1, 4096)
    script_unref(script)


def test_without_the_registration_nothing_can_be_pushed(storage: Maildir) -> None:
    """It is the extension's mistake, and is told by the function's name."""
    script = script_create_string("", log=lambda *_: None, dialect=Dialect.V2_4)
    with pytest.raises(ValueError, match="register_mail_storage"):
        push_mailbox(script, Mailbox(storage, "INBOX"))
    script_unref(script)


def test_the_script_of_a_session_is_found_while_it_lasts(storage: Maildir, tmp_path: Path) -> None:
    """An extension may call more functions of it, with objects of its own."""
    path = tmp_path / "mail.lua"
    path.write_text(
        "local seen\nfunction mail_user_created(user) seen = user.username end\nfunction who() return seen end"
    )
    user = alice(tmp_path)
    assert mail_lua_get_script(user) is None
    session = load_mail_script(path, user, storage, log=lambda *_: None, dialect=Dialect.V2_4)
    session.created()
    script = mail_lua_get_script(user)
    assert script is not None
    assert pcall(script, "who") == ("alice@example.org",)
    with pytest.raises(ScriptError, match="'missing' is not a function"):
        pcall(script, "missing", push_mail_user(script, user, storage))
    session.close()
    assert mail_lua_get_script(user) is None


def test_a_script_that_is_let_go_leaves_nothing(storage: Maildir, tmp_path: Path) -> None:
    """Its Lua state goes at once, with all that it holds: a report over all users makes one for each."""
    path = tmp_path / "mail.lua"
    path.write_text("function mail_user_created(user) mine = user end\nfunction keep(box) kept = box end")
    session = load_mail_script(path, alice(tmp_path), storage, log=lambda *_: None, dialect=Dialect.V2_4)
    session.created()
    script = mail_lua_get_script(alice(tmp_path))
    assert script is not None
    box = Mailbox(storage, "INBOX")
    held = weakref.ref(box)
    pcall(script, "keep", push_mailbox(script, box))
    del box
    assert held() is not None
    gc.disable()
    try:
        session.close()
        del session, script
        assert held() is None
    finally:
        gc.enable()
