"""Mail arrives, is handed on, and is read."""

import imaplib
import poplib
import smtplib

from tests.e2e.programs import PATIENCE
from tests.e2e.stack import DOMAIN, PASSWORD, Stack


def lmtp(stack: Stack) -> smtplib.LMTP:
    """A mail server that has mail for this Dovecot."""
    client = smtplib.LMTP(str(stack.dovecot.lmtp), timeout=PATIENCE)
    client.ehlo("mx.example.net")
    client.mail("sender@example.net")
    return client


def test_mail_for_a_user_is_delivered_and_read(stack: Stack) -> None:
    """LMTP asks the userdb where to; IMAP and POP3 find it there."""
    subject = f"for bob, {stack.version} {stack.layout}"
    with lmtp(stack) as client:
        assert client.rcpt(f"bob@{DOMAIN}") == (250, b"2.1.5 OK")
        assert client.data(f"Subject: {subject}\r\n\r\nHello\r\n")[0] == 250
    with imaplib.IMAP4("127.0.0.1", stack.dovecot.imap, timeout=PATIENCE) as imap:
        imap.login(f"bob@{DOMAIN}", PASSWORD)
        imap.select()
        assert imap.search(None, "SUBJECT", f'"{subject}"')[1] == [b"1"]
    pop3 = poplib.POP3("127.0.0.1", stack.dovecot.pop3, timeout=PATIENCE)
    pop3.user(f"bob@{DOMAIN}")
    pop3.pass_(PASSWORD)
    assert f"Subject: {subject}".encode() in pop3.retr(1)[1]
    pop3.quit()


def test_an_address_detail_is_not_part_of_the_user(stack: Stack) -> None:
    """bob+lists is bob: Dovecot cuts the detail off before it asks."""
    with lmtp(stack) as client:
        assert client.rcpt(f"bob+lists@{DOMAIN}") == (250, b"2.1.5 OK")


def test_mail_for_nobody_is_refused_for_good(stack: Stack) -> None:
    """An unknown user is 550: the sender hears of it."""
    address = f"nobody@{DOMAIN}"
    with lmtp(stack) as client:
        assert client.rcpt(address) == (550, f"5.1.1 <{address}> User doesn't exist: {address}".encode())


def test_mail_is_kept_for_later_while_the_userdb_fails(stack: Stack) -> None:
    """A failure, the database's or the script's, is 451: never a bounce."""
    with lmtp(stack) as client:
        for user in (f"broken@{DOMAIN}", f"raises@{DOMAIN}"):
            assert client.rcpt(user) == (451, f"4.3.0 <{user}> Temporary internal error".encode())


def test_a_disabled_user_still_gets_mail(stack: Stack) -> None:
    """Only the passdb says disabled, and LMTP asks the userdb alone."""
    with lmtp(stack) as client:
        assert client.rcpt(f"disabled@{DOMAIN}") == (250, b"2.1.5 OK")


def test_submission_hands_on_what_a_user_sends(stack: Stack) -> None:
    """Who has logged in may send."""
    with smtplib.SMTP("127.0.0.1", stack.dovecot.submission, timeout=PATIENCE) as client:
        client.login(f"alice@{DOMAIN}", PASSWORD)
        client.sendmail(f"alice@{DOMAIN}", ["friend@example.net"], "Subject: out\r\n\r\nHello\r\n")
    assert b"Subject: out" in stack.relay.mails[-1]
