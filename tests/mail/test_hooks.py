"""When hooks are looked for, what is collected after them, and what the fields of a userdb make of the user."""

from pathlib import Path

import pytest

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua import ScriptOptions, load_mail_script
from authlua.mail import Maildir, user_from_fields
from tests.mail.recorded import alice


def session(tmp_path: Path, source: str) -> list[str]:
    """The log of a whole session under a script."""
    script = tmp_path / "script.lua"
    script.write_text(source)
    log: list[str] = []
    loaded = load_mail_script(
        script,
        alice(tmp_path),
        Maildir(tmp_path / "Maildir"),
        log=lambda level, text, request, fields: log.append(text),
        dialect=Dialect.V2_3,
    )
    assert loaded.created() is None
    loaded.deinit()
    loaded.close()
    return log


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("mail_user_deinit = function() dovecot.i_info('late') end", ["pre", "late"]),
        ("mail_user_deinit_pre = nil", ["deinit"]),
        ("mail_user_deinit_pre = 'no function'", ["deinit"]),
        ("mail_user_deinit_pre = function() mail_user_deinit = nil end", []),
    ],
)
def test_hooks_are_looked_up_when_they_are_due(tmp_path: Path, body: str, expected: list[str]) -> None:
    """One hook may define, replace or remove the next."""
    log = session(
        tmp_path,
        "function mail_user_deinit_pre() dovecot.i_info('pre') end\n"
        "function mail_user_deinit() dovecot.i_info('deinit') end\n"
        f"function mail_user_created() {body} end",
    )
    assert log == expected


def test_all_that_can_be_is_collected_after_a_hook(tmp_path: Path) -> None:
    """What the hook left behind is gone when the next begins, unless the hook ended in an error."""
    log = session(
        tmp_path,
        "left = setmetatable({}, { __mode = 'v' })\n"
        "local function remains() dovecot.i_info(tostring(left[1] ~= nil)) end\n"
        "function mail_user_created() left[1] = {} end\n"
        "function mail_user_deinit_pre() remains() left[1] = { {}, 'not empty' } end\n"
        "function mail_user_deinit() remains() end\n",
    )
    assert log == ["false", "false"]


def test_an_object_is_a_copy_whose_methods_know_better(tmp_path: Path) -> None:
    """A script may write into its fields; that changes nothing but the table, and the next hook gets a new one."""
    log = session(
        tmp_path,
        "function mail_user_created(user)\n"
        "  user.username, user.more = 'mallory', 1\n"
        "  dovecot.i_info(user.username .. ' ' .. tostring(user) .. ' ' .. user:var_expand('%u'))\n"
        "end\n"
        "function mail_user_deinit(user) dovecot.i_info(user.username .. ' ' .. tostring(user.more)) end",
    )
    assert log == ["mallory alice@example.org alice@example.org", "alice@example.org nil"]


@pytest.mark.parametrize("value", ["y", "yes", "Y", "1", "10", "n", "no", "", "0", "true", "2"])
@pytest.mark.parametrize("field", ["admin", "anonymous"])
def test_a_flag_of_the_userdb_begins_like_yes(field: str, value: str) -> None:
    """With y, Y or 1."""
    user = user_from_fields("alice", {field: value}, service="imap", session_id="s", now=1)
    assert getattr(user, field) == (value[:1] in ("y", "Y", "1"))


def test_what_the_userdb_says_of_a_user_is_kept() -> None:
    """Home, ids and who logged in; what is no number counts as none."""
    fields = {"home": "/srv/alice", "uid": "5000", "gid": "mail", "auth_user": "boss", "master_user": "boss"}
    user = user_from_fields("alice", fields, service="pop3", session_id="s", now=7, gid=8, remote_ip="192.0.2.7")
    assert (user.home, user.uid, user.gid, user.service) == ("/srv/alice", 5000, 8, "pop3")
    assert (user.auth_user, user.master_user, user.session_create_time) == ("boss", "boss", 7)
    assert (user.remote_ip, user.fields) == ("192.0.2.7", fields)


@pytest.mark.parametrize(("loading", "ends"), [(1, True), (0, False)])
def test_a_hook_may_run_long_where_its_process_can_be_ended(tmp_path: Path, loading: int, ends: bool) -> None:
    """Elsewhere it is cut off like a script that loops while it loads."""
    script = tmp_path / "script.lua"
    script.write_text("function mail_user_created() for i = 1, 4000000 do local _ = i % 7 end return -1, 'done' end")
    loaded = load_mail_script(
        script,
        alice(tmp_path),
        Maildir(tmp_path),
        log=lambda *_: None,
        dialect=Dialect.V2_3,
        options=ScriptOptions(loading=loading),
    )
    if ends:
        with pytest.raises(ScriptError, match="ran for too long"):
            loaded.created()
    else:
        assert loaded.created() == "done"
    loaded.close()
