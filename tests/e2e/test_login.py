"""People log in through Dovecot, and are told why when they cannot."""

import imaplib
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e import clients
from tests.e2e.programs import PATIENCE
from tests.e2e.stack import DOMAIN, PASSWORD, Stack

WELCOME = {
    clients.imap: "OK Logged in",
    clients.imap_plain: "OK Logged in",
    clients.imap_login: "OK Logged in",
    clients.pop3: "+OK Logged in.",
    clients.smtp_plain: "235 2.7.0 Logged in.",
    clients.smtp_login: "235 2.7.0 Logged in.",
}

FAILED = (
    "NO [AUTHENTICATIONFAILED] Authentication failed.",
    "-ERR [AUTH] Authentication failed.",
    "535 5.7.8 Authentication failed.",
)
EXPIRED = ("NO [EXPIRED] Password expired", "-ERR [AUTH] Password expired", "535 5.7.8 Password expired")
TEMPORARY = (
    "NO [UNAVAILABLE] Temporary authentication failure. [*]",
    "-ERR [SYS/TEMP] Temporary authentication failure. [*]",
    "454 4.7.0 Temporary authentication failure. [*]",
)
CLOSED = (
    "NO [CONTACTADMIN] The office is closed",
    "-ERR [AUTH] The office is closed",
    "525 5.7.13 The office is closed",
)

REFUSALS = {
    "a wrong password": ("alice", "wrong", FAILED),
    "no such user": ("nobody", PASSWORD, FAILED),
    "a disabled user": ("disabled", PASSWORD, FAILED),
    "an expired password": ("expired", PASSWORD, EXPIRED),
    "a database that is down": ("broken", PASSWORD, TEMPORARY),
    "a script that raises": ("raises", PASSWORD, TEMPORARY),
    "a user with nologin": ("closed", PASSWORD, CLOSED),
    "a wrong password, nologin or not": ("closed", "wrong", FAILED),
    "a name with a character that is not allowed": ("ali!ce", PASSWORD, FAILED),
    "an empty password": ("alice", "", FAILED),
}
"""User, password, and the last words of IMAP, POP3 and submission."""


def port_of(stack: Stack, client: object) -> int:
    """Where *client* connects to."""
    name = client.__name__.partition("_")[0]  # type: ignore[attr-defined]
    return {"imap": stack.dovecot.imap, "pop3": stack.dovecot.pop3, "smtp": stack.dovecot.submission}[name]


def without_host_and_time(text: str) -> str:
    """Dovecot puts the machine's name and the time behind a temporary failure."""
    return re.sub(r"\[[^ ]+:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]", "[*]", text)


@pytest.mark.parametrize("client", WELCOME)
def test_the_right_password_lets_in(stack: Stack, client) -> None:
    """By every protocol, and both mechs, with and without an initial response."""
    assert client(port_of(stack, client), f"alice@{DOMAIN}", PASSWORD) == WELCOME[client]


@pytest.mark.parametrize("client", [clients.imap, clients.pop3, clients.smtp_plain, clients.smtp_login])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refused_login_is_told_why(stack: Stack, refusal: str, client) -> None:
    """The user reads the same words as with Dovecot's own auth."""
    user, password, words = REFUSALS[refusal]
    answer = client(port_of(stack, client), f"{user}@{DOMAIN}", password)
    imap, pop3, smtp = words
    expected = {clients.imap: imap, clients.pop3: pop3}.get(client, smtp)
    assert without_host_and_time(answer) == expected


@pytest.mark.parametrize("client", [clients.imap_plain, clients.imap_login])
def test_a_refused_sasl_exchange_is_told_why(stack: Stack, client) -> None:
    """AUTHENTICATE ends as LOGIN does."""
    answers = [client(stack.dovecot.imap, f"{user}@{DOMAIN}", "wrong") for user in ("alice", "expired", "broken")]
    assert [without_host_and_time(answer) for answer in answers] == [FAILED[0], EXPIRED[0], TEMPORARY[0]]


def test_another_authorization_identity_is_refused(stack: Stack) -> None:
    """Nobody logs in as somebody else without being a master user."""
    answer = clients.imap_plain(stack.dovecot.imap, f"alice@{DOMAIN}", PASSWORD, authzid=f"bob@{DOMAIN}")
    assert answer == FAILED[0]


def test_a_failing_userdb_is_an_internal_error(stack: Stack) -> None:
    """The password was right, but where the mail lives is not known now; nobody calls that a wrong password.

    Dovecot may hang up before its words have reached the user.
    """
    answer = clients.pop3(stack.dovecot.pop3, f"halfway@{DOMAIN}", PASSWORD)
    words = "-ERR [SYS/TEMP] Internal error occurred. Refer to server log for more information."
    assert answer in (words, "disconnected")
    stack.scene.wait_for_news("dovecot.log", "Internal login failure")


def test_a_name_is_lower_case_for_the_script_whatever_was_typed(stack: Stack) -> None:
    """``auth_username_format`` is %Lu by default."""
    assert clients.imap(stack.dovecot.imap, f"ALICE@{DOMAIN.upper()}", PASSWORD) == "OK Logged in"


def test_a_login_goes_on_under_the_name_the_passdb_gave(stack: Stack) -> None:
    """Mail of the alias is mail of the account behind it."""
    folder = f"seen-by-{stack.layout}"
    with imaplib.IMAP4("127.0.0.1", stack.dovecot.imap, timeout=PATIENCE) as alias:
        alias.login(f"alias@{DOMAIN}", PASSWORD)
        assert alias.create(folder)[0] == "OK"
    with imaplib.IMAP4("127.0.0.1", stack.dovecot.imap, timeout=PATIENCE) as alice:
        alice.login(f"alice@{DOMAIN}", PASSWORD)
        assert alice.list(pattern=folder)[1] != [None]


def test_in_a_crowd_each_gets_its_own_verdict(stack: Stack) -> None:
    """Logins at the same time are not mixed up."""
    crowd = [("alice", PASSWORD), ("alice", "wrong"), ("bob", PASSWORD), ("nobody", PASSWORD)] * 8
    with ThreadPoolExecutor(16) as threads:
        answers = threads.map(lambda who: clients.imap(stack.dovecot.imap, f"{who[0]}@{DOMAIN}", who[1]), crowd)
        assert list(answers) == ["OK Logged in", FAILED[0], "OK Logged in", FAILED[0]] * 8
