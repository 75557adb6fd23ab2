"""What a site's chain decides, as a user at a mail program sees it: proxying, master users, tokens, an outage."""

import base64
import imaplib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio

from authlua.auth import new_request
from authlua.databases import ImapOptions, ImapPassdb
from authlua.dialect import Dialect
from authlua.results import PassdbReply, PassdbResult
from authlua.secret import Secret
from authlua.server.driving import complete
from tests.e2e import clients, dovecot
from tests.e2e.clients import _imap_word
from tests.e2e.programs import PATIENCE, Scene
from tests.e2e.stack import DOMAIN, PASSWORD, Stack, running_stack
from tests.e2e.test_login import FAILED, TEMPORARY, without_host_and_time
from tests.ports import free_port

SECRET = b"a secret of no less than thirty-two bytes"
ADMIN_PASSWORD = "keys-to-all-8842"
ALICE, BOB = f"alice@{DOMAIN}", f"bob@{DOMAIN}"
LOGGED_IN = "OK Logged in"

AUTH = """\
mechanisms = ["plain", "login", "xoauth2"]
master_user_separator = "*"
cache_size = "1M"
cache_ttl = "1ms"
cache_negative_ttl = "1ms"
"""

DATABASES = """\
[[passdb]]
driver = "oauth2"
mechanisms = ["xoauth2"]
introspection_mode = "local"
use_grant_password = false
local_validation_key_dict = "fs:posix:prefix=keys/"
issuers = ["e2e"]
[[passdb]]
driver = "passwd-file"
file = "masters"
master = true
[[passdb]]
script = "decisions.lua"
cache_key = "{key}"
[[userdb]]
script = "decisions.lua"
"""

EXTRA = """
auth_mechanisms = plain login xoauth2
auth_master_user_separator = *
service imap-login {{
  inet_listener front {{
    port = {front}
  }}
}}
"""

NATIVE = {
    "2.3": """
passdb {{
  driver = oauth2
  mechanisms = xoauth2
  args = {directory}/oauth2.conf
}}
passdb {{
  driver = passwd-file
  args = {directory}/masters
  master = yes
}}
passdb {{
  driver = lua
  args = file={directory}/decisions.lua blocking=no
}}
userdb {{
  driver = lua
  args = file={directory}/decisions.lua blocking=no
}}
""",
    "2.4": """
oauth2 {{
  introspection_mode = local
  issuers {{
    e2e = yes
  }}
  oauth2_local_validation {{
    dict fs {{
      fs posix {{
        prefix = {directory}/keys/
      }}
    }}
  }}
}}
passdb passwd-file {{
  passwd_file_path = {directory}/masters
  master = yes
}}
passdb lua {{
  lua_file = {directory}/decisions.lua
  use_worker = no
}}
userdb lua {{
  lua_file = {directory}/decisions.lua
  use_worker = no
}}
""",
}

OAUTH2_CONF = """
introspection_mode = local
local_validation_key_dict = fs:posix:prefix={directory}/keys/
issuers = e2e
"""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((version, layout), id=f"{version}-{layout}", marks=mark)
        for version, mark in {"2.3": pytest.mark.dovecot, "2.4": pytest.mark.dovecot24}.items()
        for layout in ("native", "E")
    ],
)
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A Dovecot with two IMAP ports, of which the one in front leads to the other."""
    version, layout = request.param
    if reason := dovecot.missing(version):
        pytest.skip(reason)
    with Scene.open() as scene:
        directory = scene.directory
        (directory / "decisions.lua").write_text((Path(__file__).parent / "decisions.lua").read_text())
        (directory / "masters").write_text(f"admin:{{PLAIN}}{ADMIN_PASSWORD}\n")
        key = directory / "keys/default/HS256/default"
        key.parent.mkdir(parents=True)
        key.write_text(base64.b64encode(SECRET).decode())
        (directory / "oauth2.conf").write_text(OAUTH2_CONF.format(directory=directory))
        front = free_port()
        (directory / "front-port").write_text(str(front))
        with running_stack(
            version,
            layout,
            scene,
            extra=EXTRA.format(front=front),
            auth=AUTH,
            databases=DATABASES.format(key="%u%{lport}" if version == "2.3" else ""),
            native=NATIVE[version].format(directory=directory),
        ) as stack:
            (directory / "back-port").write_text(str(stack.dovecot.imap))
            yield stack


def front_port(stack: Stack) -> int:
    return int((stack.scene.directory / "front-port").read_text())


@contextmanager
def logged_in(port: int, user: str, password: str) -> Iterator[imaplib.IMAP4]:
    with imaplib.IMAP4("127.0.0.1", port, timeout=PATIENCE) as client:
        client.login(user, password)
        yield client


# --- proxying ----------------------------------------------------------------


def test_a_login_in_front_is_proxied_where_the_passdb_says(stack: Stack) -> None:
    """With the password the user has typed; the mail is that of the server behind."""
    folder = f"proxied-{stack.layout}"
    with logged_in(front_port(stack), BOB, PASSWORD) as bob:
        assert bob.create(folder)[0] == "OK"
    stack.scene.wait_for_news("dovecot.log", "roxying to")
    with logged_in(stack.dovecot.imap, BOB, PASSWORD) as bob:
        assert bob.list(pattern=folder)[1] != [None]


def test_a_proxied_login_can_have_another_name_behind(stack: Stack) -> None:
    """``destuser``."""
    folder = f"renamed-{stack.layout}"
    with logged_in(front_port(stack), f"front@{DOMAIN}", PASSWORD) as front:
        assert front.create(folder)[0] == "OK"
    with logged_in(stack.dovecot.imap, ALICE, PASSWORD) as alice:
        assert alice.list(pattern=folder)[1] != [None]


def test_a_wrong_password_is_not_proxied(stack: Stack) -> None:
    """It is refused in front."""
    assert clients.imap(front_port(stack), BOB, "wrong") == FAILED[0]


# --- master users ------------------------------------------------------------


def test_a_master_reads_another_users_mail(stack: Stack) -> None:
    """By a separator in the name, or by naming the user as the authorization identity."""
    folder = f"masters-{stack.layout}"
    with logged_in(stack.dovecot.imap, f"{ALICE}*admin", ADMIN_PASSWORD) as admin:
        assert admin.create(folder)[0] == "OK"
    with logged_in(stack.dovecot.imap, ALICE, PASSWORD) as alice:
        assert alice.list(pattern=folder)[1] != [None]
    assert clients.imap_plain(stack.dovecot.imap, "admin", ADMIN_PASSWORD, authzid=ALICE) == LOGGED_IN


@pytest.mark.parametrize(
    ("user", "password"),
    [
        (f"{ALICE}*admin", "wrong"),
        (f"{ALICE}*admin", PASSWORD),
        (f"{ALICE}*bob@{DOMAIN}", PASSWORD),
        ("admin", ADMIN_PASSWORD),
        (ALICE, ADMIN_PASSWORD),
    ],
)
def test_only_a_master_is_one(stack: Stack, user: str, password: str) -> None:
    """And a master is no user."""
    assert clients.imap(stack.dovecot.imap, user, password) == FAILED[0]


# --- tokens ------------------------------------------------------------------


def xoauth2(port: int, user: str, token: str) -> str:
    """The last word to a token."""
    message = f"user={user}\1auth=Bearer {token}\1\1".encode()
    answers = iter((message, b""))
    with imaplib.IMAP4("127.0.0.1", port, timeout=PATIENCE) as client:
        return _imap_word(lambda: client.authenticate("XOAUTH2", lambda challenge: next(answers)))


def token(**claims: Any) -> str:
    body = {"iss": "e2e", "sub": "1", "exp": int(time.time()) + 600, "email": ALICE, **claims}
    return jwt.encode(body, SECRET, "HS256")


def test_a_signed_token_lets_its_user_in(stack: Stack) -> None:
    """Nobody is asked about it."""
    assert xoauth2(stack.dovecot.imap, ALICE, token()) == LOGGED_IN


@pytest.mark.parametrize(
    "bad",
    [
        {"email": BOB},
        {"exp": -600},
        {"iss": "somebody"},
        {"nbf": 600},
    ],
    ids=["another's", "expired", "another issuer", "too early"],
)
def test_a_token_that_is_no_good_lets_nobody_in(stack: Stack, bad: dict[str, Any]) -> None:
    """However well it is signed. Times are seconds from now."""
    now = int(time.time())
    claims = {name: now + value if isinstance(value, int) else value for name, value in bad.items()}
    assert xoauth2(stack.dovecot.imap, ALICE, token(**claims)) == FAILED[0]


def test_a_token_that_somebody_else_has_signed_lets_nobody_in(stack: Stack) -> None:
    """Nor one that nobody has."""
    header, body, signature = token().split(".")
    forged = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).decode().rstrip("=")
    for one in (f"{header}.{body}.{signature[::-1]}", f"{forged}.{body}.", "hello"):
        assert xoauth2(stack.dovecot.imap, ALICE, one) == FAILED[0]


# --- an outage ---------------------------------------------------------------


def test_in_an_outage_the_last_known_passwords_are_good(stack: Stack) -> None:
    """Another one may be new or wrong, so it fails for now, as does whom nobody remembers; afterwards all is well."""
    if stack.layout == "native":
        pytest.skip("Dovecot's cache counts in seconds; tests/differential/test_cache.py waits for it")
    desk = f"desk@{DOMAIN}"
    outage = stack.scene.directory / "outage"
    port = stack.dovecot.imap
    assert clients.imap(port, ALICE, PASSWORD) == LOGGED_IN
    outage.touch()
    try:
        assert clients.imap(port, ALICE, PASSWORD) == LOGGED_IN
        assert without_host_and_time(clients.imap(port, ALICE, "wrong")) == TEMPORARY[0]
        assert clients.imap(port, ALICE, PASSWORD) == LOGGED_IN
        assert without_host_and_time(clients.imap(port, desk, PASSWORD)) == TEMPORARY[0]
    finally:
        outage.unlink()
    stack.scene.wait_for_news("authlua.log", "Falling back to expired data from cache")
    assert clients.imap(port, desk, PASSWORD) == LOGGED_IN
    assert clients.imap(port, ALICE, "wrong") == FAILED[0]


# --- another server's decision -----------------------------------------------


def test_a_passdb_that_asks_dovecots_imap_understands_its_answers(stack: Stack) -> None:
    """The driver ``imap``, with a real server to ask."""
    options = ImapOptions("127.0.0.1", "%u", stack.dovecot.imap)
    passdb = ImapPassdb(options, dialect=Dialect.V2_3, id=1)

    def verdict(user: str, password: str) -> PassdbResult:
        request = new_request([("service", "imap")], id=1, mech="PLAIN")
        request.user = f"{user}@{DOMAIN}"
        reply: PassdbReply = trio.run(complete, passdb.verify_plain(request, Secret(password.encode())))
        return reply.result

    assert verdict("alice", PASSWORD) is PassdbResult.OK
    assert verdict("alice", "wrong") is PassdbResult.PASSWORD_MISMATCH
    assert verdict("nobody", PASSWORD) is PassdbResult.PASSWORD_MISMATCH
    outage = stack.scene.directory / "outage"
    outage.touch()
    try:
        assert verdict("stranger", PASSWORD) is PassdbResult.INTERNAL_FAILURE
    finally:
        outage.unlink()
