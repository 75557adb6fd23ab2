"""What a user at a mail program sees: the server's last word to a login, as one line."""

import imaplib
import poplib
import smtplib
from collections.abc import Callable
from typing import Any

from tests.e2e.programs import PATIENCE


def imap(port: int, user: str, password: str) -> str:
    """``LOGIN``; Dovecot passes it on as SASL PLAIN."""
    with imaplib.IMAP4("127.0.0.1", port, timeout=PATIENCE) as client:
        return _imap_word(lambda: client.login(user, password))


def imap_plain(port: int, user: str, password: str, *, authzid: str = "") -> str:
    """``AUTHENTICATE PLAIN``, RFC 4616."""
    message = f"{authzid}\0{user}\0{password}".encode()
    with imaplib.IMAP4("127.0.0.1", port, timeout=PATIENCE) as client:
        return _imap_word(lambda: client.authenticate("PLAIN", lambda challenge: message))


def imap_login(port: int, user: str, password: str) -> str:
    """``AUTHENTICATE LOGIN``: two questions, two answers."""
    answers = iter((user.encode(), password.encode()))
    with imaplib.IMAP4("127.0.0.1", port, timeout=PATIENCE) as client:
        return _imap_word(lambda: client.authenticate("LOGIN", lambda challenge: next(answers)))


def _imap_word(command: Callable[[], tuple[str, Any]]) -> str:
    try:
        _, (text,) = command()
    except imaplib.IMAP4.abort:
        return "disconnected"
    except imaplib.IMAP4.error as error:
        reason = error.args[0]
        return f"NO {reason.decode() if isinstance(reason, bytes) else reason}"
    return f"OK {text.decode()}"


def pop3(port: int, user: str, password: str) -> str:
    """``USER`` and ``PASS``."""
    client = poplib.POP3("127.0.0.1", port, timeout=PATIENCE)
    try:
        client.user(user)
        return client.pass_(password).decode()
    except poplib.error_proto as error:
        answer = error.args[0]
        return answer.decode() if isinstance(answer, bytes) else "disconnected"
    finally:
        client.close()


def smtp_plain(port: int, user: str, password: str) -> str:
    """``AUTH PLAIN`` with an initial response."""
    with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE) as client:
        return _smtp_word(client, "PLAIN", lambda challenge: f"\0{user}\0{password}", initial=True)


def smtp_login(port: int, user: str, password: str) -> str:
    """``AUTH LOGIN`` without an initial response: two questions, two answers."""
    answers = iter((user, password))
    with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE) as client:
        return _smtp_word(client, "LOGIN", lambda challenge: next(answers), initial=False)


def _smtp_word(client: smtplib.SMTP, mech: str, answer: Callable[[bytes], str], *, initial: bool) -> str:
    client.ehlo()
    text: bytes | str
    try:
        # asked for the initial response, smtplib gives no challenge at all
        code, text = client.auth(mech, lambda challenge=b"": answer(challenge), initial_response_ok=initial)
    except smtplib.SMTPServerDisconnected:
        return "disconnected"
    except smtplib.SMTPAuthenticationError as error:
        code, text = error.smtp_code, error.smtp_error
    return f"{code} {text.decode() if isinstance(text, bytes) else text}"
