"""What must not be in any log is in none, however much is logged."""

from base64 import b64encode

from tests.e2e import clients
from tests.e2e.stack import DOMAIN, PASSWORD, Stack

TYPED = "mistyped-5562"


def auth_log(stack: Stack) -> str:
    """All that authlua wrote, and what Dovecot's log service wrote for the auth service.

    Not Dovecot's other processes: submission-login of 2.3 logs what it receives, passwords and all, when debugging.
    """
    own = stack.scene.directory / "authlua.log"
    text = own.read_text(errors="replace") if own.exists() else ""
    for line in stack.dovecot.log.read_text(errors="replace").splitlines(keepends=True):
        if line.split()[2].startswith("auth"):
            text += line
    return text


def test_no_log_holds_a_password(stack: Stack) -> None:
    """Right or wrong, in the clear or as SASL sends it, of this test and all before it; debug is on."""
    user = f"alice@{DOMAIN}"
    for password in (PASSWORD, TYPED):
        for client in (clients.imap, clients.imap_login):
            client(stack.dovecot.imap, user, password)
    log = auth_log(stack)
    assert f"looking for {user}" in log, "the script's own lines are there"
    for password in (PASSWORD, TYPED):
        for secret in (password, *base64_forms(password), *base64_forms(f"\0{user}\0{password}")):
            assert secret not in log


def base64_forms(text: str) -> list[str]:
    """*text* in base64 at each of the three places it may have in a longer message, without the ends that vary."""
    return [b64encode(b"\0" * shift + text.encode()).decode()[4:-4] for shift in range(3)]
