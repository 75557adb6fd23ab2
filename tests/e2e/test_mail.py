"""Mail scripts at work with a real Dovecot: sessions through the postlogin listener."""

import imaplib
import shutil
import smtplib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from authlua.mail import Mailbox, StorageError
from authlua.secret import Secret
from authlua.services import ImapStorage, imap_server
from tests.e2e import dovecot as real
from tests.e2e.dovecot import Dovecot
from tests.e2e.programs import Scene
from tests.e2e.server import serving
from tests.e2e.stack import DOMAIN, PASSWORD, Stack, running_stack
from tests.e2e.stack import SCRIPT as AUTH
from tests.mail.living import in_thread
from tests.ports import free_port

SCRIPT = """
function mail_user_created(user)
  local inbox = user:mailbox("INBOX")
  dovecot.i_info("with the rights of " .. io.open("/proc/self/status"):read("a"):match("Uid:%s+(%d+)"))
  dovecot.i_info("created " .. user.service .. " " .. user:var_expand(ADDRESS)
    .. (" %d"):format(inbox:status(dovecot.storage.STATUS_MESSAGES).messages))
  inbox:free()
  if user.username:find("^bob@") then return -1, "no mail\\ntoday" end
  if not user.username:find("^alice@") then return 0 end
  return 0, nil, { [FIELD] = VALUE .. user.home .. "/Elsewhere" }
end
function mail_user_deinit_pre(user) dovecot.i_info("before the end of " .. user.username) end
function mail_user_deinit(user) dovecot.i_info("after the end of " .. user.username) end
"""
WORDS = {"2.3": ("%{rip}", "mail", "maildir:"), "2.4": ("%{remote_ip}", "mail_path", "")}

NOTICES = """
local transaction = 0
function dovecot_lua_notify_begin_txn(user)
  transaction = transaction + 1
  return user.username .. " " .. user.service
end
function dovecot_lua_notify_event_message_new(context, event)
  local shown = {}
  for _, name in ipairs{ "name", "mailbox", "from_address", "from_display_name", "subject", "snippet", "to",
    "message_id", "date", "tz" } do shown[#shown + 1] = tostring(event[name]) end
  dovecot.i_info("notice for " .. context .. ": " .. table.concat(shown, "|"))
end
function dovecot_lua_notify_end_txn(context, success)
  dovecot.i_info(("end of transaction %d for %s: %s"):format(transaction, context, success))
end
"""

CONFIG = """
[server]
base_dir = "{directory}/authlua"
dialect = "{version}"
[[userdb]]
script = "auth.lua"
[mail]
script = "mail.lua"
location = "maildir:~/Maildir"
[[listener]]
kind = "postlogin"
path = "postlogin-imap"
[[listener]]
kind = "postlogin"
path = "postlogin-pop3"
service = "pop3"
[[listener]]
kind = "push"
address = "127.0.0.1:{port}"
"""
PUSHING = {
    "2.3": """
mail_attribute_dict = file:%h/dovecot-attributes
mail_plugins = notify push_notification
imap_metadata = yes
plugin {{
  push_notification_driver = ox:url=http://127.0.0.1:{port}/push
}}
""",
    "2.4": """
mail_attribute {{
  dict file {{
    path = %{{home}}/dovecot-attributes
  }}
}}
mail_plugins = notify push_notification
imap_metadata = yes
push_notification ox {{
  driver = ox
  ox_url = http://127.0.0.1:{port}/push
}}
""",
}
EXTRA = """
service imap {{
  executable = imap {directory}/authlua/postlogin-imap
}}
service pop3 {{
  executable = pop3 {directory}/authlua/postlogin-pop3
}}
"""


@dataclass
class Sessions:
    """A Dovecot whose sessions go through authlua."""

    version: str
    scene: Scene
    stack: Stack

    @property
    def dovecot(self) -> Dovecot:
        return self.stack.dovecot

    def home(self, user: str) -> Path:
        return self.scene.directory / "mail" / f"{user}@{DOMAIN}"


@pytest.fixture(
    scope="module",
    params=[pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)],
)
def sessions(request: pytest.FixtureRequest) -> Iterator[Sessions]:
    """Both Dovecots, with their own auth: only the sessions are authlua's."""
    version = request.param
    if reason := real.missing(version):
        pytest.skip(reason)
    with Scene.open() as scene:
        directory = scene.directory
        address, field, value = WORDS[version]
        script = f'local ADDRESS, FIELD, VALUE = "{address}", "{field}", "{value}"\n{SCRIPT}{NOTICES}'
        port = free_port()
        extra = EXTRA.format(directory=directory) + PUSHING[version].format(port=port)
        shutil.copy(AUTH, directory)
        (directory / "mail.lua").write_text(script)
        (directory / "authlua").mkdir(mode=0o755)
        config = directory / "authlua.toml"
        config.write_text(CONFIG.format(directory=directory, version=version, port=port))
        with serving(config), running_stack(version, "native", scene, extra=extra) as stack:
            yield Sessions(version, scene, stack)


def test_a_session_runs_all_hooks(sessions: Sessions) -> None:
    """The script runs before the session, which goes on with the fields it sets, and when the session has ended."""
    with imaplib.IMAP4("127.0.0.1", sessions.dovecot.imap) as client:
        client.login(f"alice@{DOMAIN}", PASSWORD)
        sessions.scene.wait_for_news("authlua.log", "created imap 127.0.0.1 0")
        assert client.select("INBOX")[0] == "OK"
        assert (sessions.home("alice") / "Elsewhere").is_dir()
        assert "before the end" not in dict(sessions.scene.news())["authlua.log"]
    sessions.scene.wait_for_news("authlua.log", f"after the end of alice@{DOMAIN}")
    assert "with the rights of 5000" in dict(sessions.scene.news())["authlua.log"]
    assert f"before the end of alice@{DOMAIN}" in dict(sessions.scene.news())["authlua.log"]


def test_a_refused_user_is_told_why(sessions: Sessions) -> None:
    """The script's text is the last that the client reads, on one line."""
    client = imaplib.IMAP4("127.0.0.1", sessions.dovecot.imap)
    with pytest.raises(imaplib.IMAP4.abort, match=r"BYE|no mail today"):
        client.login(f"bob@{DOMAIN}", PASSWORD)
    client.shutdown()
    sessions.scene.wait_for_news("authlua.log", "mail_session_refused")
    assert "the end of bob" not in dict(sessions.scene.news())["authlua.log"]


def test_a_pop3_user_is_refused_in_the_words_of_pop3(sessions: Sessions) -> None:
    """Each protocol has its own way to say no."""
    with socket.create_connection(("127.0.0.1", sessions.dovecot.pop3), timeout=30) as sock:
        stream = sock.makefile("rwb")
        stream.readline()
        stream.write(f"USER bob@{DOMAIN}\r\nPASS {PASSWORD}\r\n".encode())
        stream.flush()
        lines = stream.read().decode().splitlines()
    assert "-ERR no mail today" in lines


def test_mail_is_read_over_the_network(sessions: Sessions) -> None:
    """An IMAP server is asked as the user, over a connection that is made when it is needed."""
    with imaplib.IMAP4("127.0.0.1", sessions.dovecot.imap) as client:
        client.login(f"alice@{DOMAIN}", PASSWORD)
        client.append("INBOX", "\\Flagged", None, b"Subject: over the network\r\n\r\nhello\r\n")
    server = imap_server(
        "127.0.0.1",
        sessions.dovecot.imap,
        tls=False,
        user=f"alice@{DOMAIN}",
        master="",
        password=Secret(PASSWORD.encode()),
    )
    storage = ImapStorage(server)

    def read() -> tuple[list[int], bytes, list[str]]:
        box = Mailbox(storage, "INBOX")
        mails = list(box.mails())
        found = [mail.flags for mail in mails], box.header(mails[-1].uid), list(storage.mailboxes())
        storage.close()
        return found

    flags, header, names = in_thread(read)
    assert flags[-1] == 2
    assert b"Subject: over the network" in header
    assert names[0] == "INBOX"


def test_a_wrong_password_is_the_servers_to_explain(sessions: Sessions) -> None:
    """The error is a storage error with the server's words, and without the password."""
    server = imap_server(
        "127.0.0.1", sessions.dovecot.imap, tls=False, user=f"alice@{DOMAIN}", master="", password=Secret(b"secr3t!")
    )
    with pytest.raises(StorageError, match="Authentication failed") as caught:
        in_thread(lambda: Mailbox(ImapStorage(server), "INBOX").open())
    assert "secr3t" not in str(caught.value)


def test_no_secret_of_the_session_is_logged(sessions: Sessions) -> None:
    """The token that comes with a session's fields stays where it is."""
    with imaplib.IMAP4("127.0.0.1", sessions.dovecot.imap) as client:
        client.login(f"alice@{DOMAIN}", PASSWORD)
    sessions.scene.wait_for_news("authlua.log", "mail_session_finished")
    assert "auth_token" not in (sessions.scene.directory / "authlua.log").read_text()


MAIL = b"""\
From: =?utf-8?q?J=C3=B6rg?= <joerg@example.net>\r
To: Carol <carol@example.org>\r
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r
Date: Tue, 14 Nov 2023 22:13:20 +0100\r
Message-ID: <push@example.net>\r
\r
the first line\r
"""


def test_a_delivery_reaches_the_notification_functions(sessions: Sessions) -> None:
    """A mail comes in through LMTP, and the script hears of it as from Dovecot's own Lua driver."""
    imaplib.Commands["SETMETADATA"] = ("AUTH", "SELECTED")
    with imaplib.IMAP4("127.0.0.1", sessions.dovecot.imap) as client:
        client.login(f"certified@{DOMAIN}", PASSWORD)
        entry = "/private/vendor/vendor.dovecot/http-notify"
        status, _ = client._simple_command("SETMETADATA", '""', f'({entry} "user=certified@{DOMAIN}")')
        assert status == "OK"
    with smtplib.LMTP(str(sessions.dovecot.lmtp)) as lmtp:
        lmtp.sendmail("joerg@example.net", [f"certified@{DOMAIN}"], MAIL)
    sessions.scene.wait_for_news("authlua.log", "end of transaction 1 for certified@example.org lmtp: true")
    assert (
        "notice for certified@example.org lmtp: MessageNew|INBOX|joerg@example.net|Jörg|Grüße|the first line"
        "|Carol <carol@example.org>|<push@example.net>|1699996400.0|60.0"
    ) in dict(sessions.scene.news())["authlua.log"]
