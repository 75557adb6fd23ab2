"""Whose rights a mail script has, and how its processes come, go and are shared."""

import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from authlua.config import Settings, without_file
from authlua.errors import ScriptError
from authlua.logs import open_log
from authlua.lua import ScriptOptions, mail_lua_get_script
from authlua.mail import Maildir, StorageError
from authlua.server import open_core
from authlua.server.mail import MailScripts
from authlua.server.mail_process import Rights
from authlua.server.zygote import Zygote
from tests.mail.recorded import build

ROOT = os.geteuid() == 0
MINE = Rights(os.geteuid(), os.getegid(), tuple(os.getgroups()))
USERS = {"alice": (65534, 65533), "bob": (65533, 65533)} if ROOT else {"alice": MINE[:2], "bob": MINE[:2]}

WHO = """
function mail_user_created(user)
  local status = io.open("/proc/self/status"):read("*a")
  local uids, gids, groups = status:match("Uid:(.-)Gid:(.-)FDSize:.-Groups:%s*(.-)%s*NStgid")
  dovecot.i_info(((user.username .. uids .. gids .. groups):gsub("%s+", " ")))
  dovecot.i_info("root's file: " .. tostring(io.open(SECRET)))
  local inbox = user:mailbox("INBOX")
  local ok, text = pcall(inbox.status, inbox, dovecot.storage.STATUS_MESSAGES)
  inbox:free()
  return ok and 0 or -1, text
end
"""
COUNTING = """
visits = 0
function mail_user_created(user)
  visits = visits + 1
  process = io.open("/proc/self/stat"):read("*n")
  dovecot.i_info(("%d %d"):format(visits, process))
end
"""
DEINIT = "function mail_user_deinit(user) dovecot.i_info('bye ' .. visits) end\n"


class Place:
    """Homes of users with a Maildir each, and the settings for a script that sees them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log: list[str] = []
        for name, (uid, gid) in USERS.items():
            root = build(directory / name)
            for path in [root.parent, *root.parent.rglob("*")]:
                os.chown(path, uid, gid)
            root.chmod(0o700)
        (directory / "secret").touch(mode=0o600)

    def settings(self, source: str, **mail: Any) -> Settings:
        script = self.directory / "mail.lua"
        script.write_text(f"local SECRET = '{self.directory / 'secret'}'\n{source}")
        script.chmod(0o600)
        plain = without_file()
        lua = replace(plain.lua, timeout=20.0)
        return replace(plain, mail=replace(plain.mail, script=script, **mail), lua=lua)

    def fields(self, name: str, **more: str) -> Mapping[str, str]:
        uid, gid = USERS[name]
        return {"uid": str(uid), "gid": str(gid), "home": str(self.directory / name), **more}

    @staticmethod
    def parent(pid: str) -> int:
        """Whose child the process *pid* is."""
        return int(Path(f"/proc/{pid}/status").read_text().partition("PPid:")[2].split()[0])

    def write(self, level: str, text: str, request: object, fields: object) -> None:
        self.log.append(text)


@pytest.fixture
def place() -> Iterator[Place]:
    """A directory that everybody can come to."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Place(Path(name))


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """What the processes are made from."""
    zygote = Zygote()
    yield zygote
    zygote.close()


async def begin(scripts: MailScripts, place: Place, name: str, **more: str) -> Any:
    """The process and the verdict of a session that begins."""
    user = scripts.user(name, place.fields(name, **more), service="imap")
    process = await scripts.process(user)
    return process, await process.begin(user, place.write)


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="only root can become others")
async def test_a_script_has_the_rights_of_its_user_and_no_others(place: Place, zygote: Zygote) -> None:
    """It reads the user's Maildir, and neither root's files nor, be it through a link, those of others."""
    scripts = MailScripts(place.settings(WHO), zygote)
    for name, (uid, gid) in USERS.items():
        process, verdict = await begin(scripts, place, name)
        assert verdict.refusal is None
        assert place.log == [f"{name}{f' {uid}' * 4}{f' {gid}' * 4} {gid}", "root's file: nil"]
        place.log.clear()
        scripts.give_back(process)
    new = place.directory / "bob" / "Maildir"
    new.rename(place.directory / "bob" / "Old")
    new.symlink_to(place.directory / "alice" / "Maildir")
    process, verdict = await begin(scripts, place, "bob")
    assert verdict.refusal.endswith("Permission denied")
    process.close()
    scripts.close()


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="only root can become others")
async def test_groups_and_defaults_are_looked_up(place: Place, zygote: Zygote) -> None:
    """The groups of a system user, the group of a uid, and what the settings say where the userdb is silent."""
    scripts = MailScripts(place.settings(WHO, uid="nobody", gid="nogroup"), zygote)
    assert await scripts.rights(scripts.user("x", {}, service="imap")) == (65534, 65534, (65534,))
    plain = MailScripts(place.settings(WHO), zygote)
    assert await plain.rights(plain.user("x", {"uid": "65534"}, service="imap")) == (65534, 65534, (65534,))
    found = await plain.rights(
        plain.user("x", {"uid": "65534", "gid": "8", "system_groups_user": "nobody"}, service="imap")
    )
    assert found == (65534, 8, tuple(os.getgrouplist("nobody", 8)))
    with pytest.raises(StorageError, match="names no gid for x, and the system has no user with uid 64999"):
        await plain.rights(plain.user("x", {"uid": "64999"}, service="imap"))


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="only root can become others")
@pytest.mark.parametrize("fields", [{}, {"uid": "0", "gid": "0"}])
async def test_root_reads_nobodys_mail(place: Place, zygote: Zygote, fields: dict[str, str]) -> None:
    """Without a uid, and with that of root, the user is refused."""
    scripts = MailScripts(place.settings(WHO), zygote)
    with pytest.raises(StorageError, match="names no uid but root's for alice"):
        await scripts.rights(scripts.user("alice", fields, service="imap"))


async def test_who_cannot_become_others_says_so(place: Place) -> None:
    """A server that is not root reads the mail of its own uid, and says what to do about the others."""

    class Unprivileged:
        is_root = False

    zygote: Any = Unprivileged()
    scripts = MailScripts(place.settings(WHO), zygote)
    assert await scripts.rights(scripts.user("x", {"uid": str(MINE.uid), "gid": "7"}, service="imap")) == MINE
    assert await scripts.rights(scripts.user("x", {}, service="imap")) == MINE
    with pytest.raises(StorageError, match=f"uid 64999, and authlua runs as uid {MINE.uid}.* run it as root, or as"):
        await scripts.rights(scripts.user("x", {"uid": "64999"}, service="imap"))


async def test_a_server_is_asked_with_our_own_rights(place: Place, zygote: Zygote) -> None:
    """Who logs in to an IMAP server needs no file of the user's."""
    scripts = MailScripts(place.settings(WHO, location="imap://localhost"), zygote)
    assert await scripts.rights(scripts.user("x", {"uid": "64999"}, service="imap")) == MINE


async def test_a_process_serves_one_user_after_the_other(place: Place, zygote: Zygote) -> None:
    """Each has a Lua state of their own; who has other rights, or comes while it is busy, gets another process."""
    scripts = MailScripts(place.settings(COUNTING), zygote)
    process, _ = await begin(scripts, place, "alice")
    scripts.give_back(process)
    again, _ = await begin(scripts, place, "alice")
    assert again is process
    assert place.log[0] == place.log[1]
    assert place.log[0].startswith("1 ")
    other, _ = await begin(scripts, place, "bob")
    assert other is not process
    process.close()
    scripts.give_back(other)
    scripts.close()


async def test_a_session_keeps_its_process_while_hooks_are_left(place: Place, zygote: Zygote) -> None:
    """Globals last until the end; a script without hooks for the end needs no process until then."""
    scripts = MailScripts(place.settings(COUNTING), zygote)
    process, verdict = await begin(scripts, place, "alice")
    assert not verdict.lasts
    process.close()
    scripts.close()
    scripts = MailScripts(place.settings(COUNTING + DEINIT), zygote)
    process, verdict = await begin(scripts, place, "alice")
    assert verdict.lasts
    assert await process.end(place.write)
    await process.leave(place.write)
    assert place.log[-1] == "bye 1"
    scripts.give_back(process)
    scripts.close()


async def test_an_idle_process_that_died_is_not_asked(place: Place, zygote: Zygote) -> None:
    """The kernel may end a process at any time; whoever comes next gets another."""
    scripts = MailScripts(place.settings(COUNTING), zygote)
    process, _ = await begin(scripts, place, "alice")
    os.kill(int(place.log[0].split()[1]), 9)
    scripts.give_back(process)
    await trio.lowlevel.wait_readable(process._sock)
    again, _ = await begin(scripts, place, "alice")
    assert again is not process
    assert len(place.log) == 2
    scripts.give_back(again)
    scripts.close()


async def test_what_a_process_says_is_not_believed(place: Place, zygote: Zygote) -> None:
    """Whatever comes from a process with fewer rights is an answer or the end of it."""
    for data in (b"\xff\xff\xff\xff", b"\0\0\0\3abc", b'\0\0\0\x08["what"]', b"\0\0\0\2[]", b"\0\0"):
        scripts = MailScripts(place.settings(COUNTING), zygote)
        process = await scripts.process(scripts.user("alice", place.fields("alice"), service="imap"))
        ours, theirs = socket.socketpair()
        process._sock.close()
        process._sock = trio.socket.from_stdlib_socket(ours)
        with theirs:
            theirs.sendall(data)
            theirs.shutdown(socket.SHUT_WR)
            with pytest.raises(ScriptError, match="has ended unexpectedly"):
                await process.end(place.write)
        assert not process.usable
        process.close()
        scripts.close()


async def test_a_script_that_fails_is_unloaded(place: Place, zygote: Zygote) -> None:
    """Its script_deinit is called before the failure is told, and the process is in order."""
    source = "function mail_user_created() error('no', 0) end\nfunction script_deinit() dovecot.i_info('unloaded') end"
    scripts = MailScripts(place.settings(source), zygote)
    user = scripts.user("alice", place.fields("alice"), service="imap")
    process = await scripts.process(user)
    with pytest.raises(ScriptError, match=r"mail_user_created\(user\) failed: .*: no"):
        await process.begin(user, place.write)
    assert place.log == ["unloaded"]
    assert process.usable
    process.close()
    scripts.close()


async def test_a_script_that_does_not_load_is_told_by_its_text(place: Place, zygote: Zygote) -> None:
    """The process is in order, and serves the next."""
    scripts = MailScripts(place.settings("error('no', 0)"), zygote)
    user = scripts.user("alice", place.fields("alice"), service="imap")
    process = await scripts.process(user)
    with pytest.raises(ScriptError, match=r"lua_pcall\(.*mail.lua\) failed: no"):
        await process.begin(user, place.write)
    assert process.usable
    process.close()
    scripts.close()


async def test_what_processes_are_made_from_may_die(place: Place, zygote: Zygote) -> None:
    """It is made again when it is needed."""
    scripts = MailScripts(place.settings(COUNTING), zygote)
    process, _ = await begin(scripts, place, "alice")
    os.kill(place.parent(place.log[0].split()[1]), 9)
    assert scripts._forks is not None
    await trio.lowlevel.wait_readable(scripts._forks._sock)
    other, verdict = await begin(scripts, place, "bob")
    assert verdict.refusal is None
    process.close()
    other.close()
    scripts.close()


async def test_a_script_learns_how_a_program_ended(place: Place, zygote: Zygote) -> None:
    """Nobody else takes the program's exit code away."""
    source = "function mail_user_created() dovecot.i_info(tostring(select(3, os.execute('exit 3')))) end"
    scripts = MailScripts(place.settings(source), zygote)
    process, _ = await begin(scripts, place, "alice")
    assert place.log == ["3"]
    process.close()
    scripts.close()


PROGRAM = """
import sys
soft = open("/proc/self/limits").read().partition("Max address space")[2].split()[0]
print("* PREAUTH ready", end="\\r\\n", flush=True)
for line in sys.stdin:
    tag = line.split()[0]
    print(f"{tag} NO [LIMIT] {soft}", end="\\r\\n", flush=True)
"""


async def test_a_program_that_serves_mail_may_take_what_it_likes(place: Place, zygote: Zygote) -> None:
    """The script's limit is not its limit: Dovecot's imap maps large indexes."""
    program = place.directory / "imap.py"
    program.write_text(PROGRAM)
    source = """
function mail_user_created(user)
  local _, problem = pcall(user.mailbox, user, "INBOX") -- which asks for the separator
  return -1, problem
end
"""
    location = f"exec:{sys.executable} {program}"
    scripts = MailScripts(place.settings(source, location=location), zygote)
    process, verdict = await begin(scripts, place, "alice")
    assert verdict.refusal == "unlimited"
    process.close()
    scripts.close()


async def test_only_a_process_that_can_be_ended_lets_a_hook_run_as_long_as_it_likes(place: Place) -> None:
    """The server, which loads the script once to see whether it can be, does not."""
    plan = MailScripts(place.settings(COUNTING)).plan
    user = MailScripts(place.settings(COUNTING)).user("alice", place.fields("alice"), service="imap")
    for in_process, loading in (True, 0), (False, ScriptOptions().loading):
        session = plan.load(user, Maildir(place.directory), place.write, in_process=in_process)
        script = mail_lua_get_script(user)
        assert script is not None
        assert script.calls.options.loading == loading
        session.close()


async def test_a_server_does_not_start_with_a_broken_mail_script(place: Place) -> None:
    """Neither does it reload: what is wrong shows before the first session."""
    with pytest.raises(ScriptError, match=r"mail\.lua:2: "):
        open_core(place.settings("function"), open_log("text", "error"))
