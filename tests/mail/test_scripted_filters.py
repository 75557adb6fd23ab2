"""Filters of templates that are functions of the user's script, or of a script that all share: as in Dovecot 2.4."""

import subprocess
from pathlib import Path

import pytest

from authlua.dialect import Dialect
from authlua.lua import load_mail_script
from authlua.mail import Maildir
from tests.mail.living import COMMON, DATABASES, EXTRA, Store
from tests.mail.recorded import alice, build
from tests.reference.dovecot import Dovecot24, why_not

TEMPLATES = [
    "%{user | lua_call('shout')}",
    "%{user | lua_call('shout', 'x')}",
    "%{user | lua_call('shout', 5)}",
    "%{user | lua_call('shout', service)}",
    "%{user | lua_call('shout', '')}",
    "%{user | lua_call('shout', x=1)}",
    "%{user | lua_call}",
    "%{user | lua_call(5)}",
    "%{user | lua_call(user)}",
    "%{user | lua_call('missing')}",
    "%{user | lua_call('nope')}",
    "%{user | lua_call('nope') | default('d')}",
    "%{user | lua_call('nope') | lua_call('nope')}",
    "%{user | lua_call('nothing')}",
    "%{user | lua_call('number')}",
    "%{user | lua_call('table')}",
    "%{user | lua_call('positive')}",
    "%{user | lua_call('a_text_for_a_status')}",
    "%{user | lua_call('no_text')}",
    "%{user | lua_call('raising')}",
    "%{user | lua_call('shout') | upper}",
    "%{user | sha1 | lua_call('shout')}",
    "%{lua_call('shout')}",
    "%{lua_call('shout', 'a')}",
    "%{nosuch | lua_call('shout')}",
    "%{userdb:none | lua_call('shout')}",
    "%{user | lua_file('LIB', 'twice', 'q')}",
    "%{user | lua_file('LIB', 'bad')}",
    "%{user | lua_file('LIB', 'missing')}",
    "%{user | lua_file('LIB', 'count')}",
    "%{user | lua_file('LIB', 'count')}",
    "%{user | lua_file('LIB')}",
    "%{user | lua_file}",
    "%{user | lua_file('/nonexistent/lib.lua', 'twice')}",
]
SHARED = """
local n = 0
function twice(a, v) return 0, tostring(a) .. v .. v end
function bad(v) return -1, "lib broken" end
function count() n = n + 1 return 0, tostring(n) end
"""
SCRIPT = """
function shout(user, ...)
  local words = { tostring(user) }
  for i = 1, select("#", ...) do words[i + 1] = type((select(i, ...))) .. " " .. tostring((select(i, ...))) end
  return 0, table.concat(words, ":")
end
function nope(user) return -1, "broken" end
function nothing(user) end
function number(user, v) return 0, 12 end
function table_(user) return 0, {} end
function positive(user, v) return 3, "x" end
function a_text_for_a_status(user) return "-1", "s" end
function no_text(user) return -1 end
function raising(user, v) error("boom", 0) end
function mail_user_created(user) return 0 end
function mail_user_deinit_pre(user)
  local out = assert(io.open("PLACE/out.txt", "w"))
  for template in io.lines("PLACE/templates.txt") do
    local ok, result = pcall(user.var_expand, user, template)
    out:write(template, " -> ", tostring(ok), " ", (tostring(result):gsub("\\nstack traceback.*", "")), "\\n")
  end
  out:close()
  return 0
end
"""


def prepared(place: Path) -> str:
    """The files at *place*; the script's text."""
    library = place / "lib.lua"
    library.write_text(SHARED)
    (place / "templates.txt").write_text("".join(f"{one}\n" for one in TEMPLATES).replace("LIB", str(library)))
    (place / "out.txt").touch(mode=0o666)
    (place / "out.txt").chmod(0o666)
    return SCRIPT.replace("PLACE", str(place))


def ours(home: Path, place: Path, dialect: Dialect = Dialect.V2_4) -> list[str]:
    """What authlua makes of the templates."""
    build(home)
    script = place / "mail.lua"
    script.write_text(prepared(place))
    session = load_mail_script(script, alice(home), Maildir(home / "Maildir"), log=lambda *_: None, dialect=dialect)
    session.created()
    assert session.deinit()
    session.close()
    return (place / "out.txt").read_text().splitlines()


@pytest.mark.dovecot24
@pytest.mark.root
def test_templates_call_lua_as_in_dovecot(tmp_path: Path) -> None:
    """Values, arguments, what counts as failure, and the words for it."""
    if reason := why_not("2.4"):
        pytest.skip(reason)
    plugin = "mail_plugins {\n  mail_lua = yes\n}\nmail_lua {\n  lua_file = {directory}/auth.lua\n}\n"
    with Dovecot24("", databases=DATABASES["2.4"], extra=EXTRA["2.4"] + COMMON + plugin) as dovecot:
        place = dovecot.directory
        (place / "homes").mkdir(mode=0o755)
        (place / "auth.lua").write_text(prepared(place))
        Store(place / "homes", dovecot).fill("alice@example.org")
        command = dovecot.command("doveadm", "mailbox", "list", "-u", "alice@example.org")
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        theirs = (place / "out.txt").read_text().replace(str(place), "@").splitlines()
    assert len(theirs) == len(TEMPLATES)
    assert theirs[1].endswith("-> true alice@example.org:string x:string alice@example.org")
    assert [line.replace(str(tmp_path), "@") for line in ours(tmp_path, tmp_path)] == theirs


def test_before_2_4_1_there_are_no_such_filters(tmp_path: Path) -> None:
    """The name is one that nobody knows."""
    lines = ours(tmp_path, tmp_path, Dialect.V2_4_0)
    assert lines[0].endswith("failed: No such function 'lua_call'")
