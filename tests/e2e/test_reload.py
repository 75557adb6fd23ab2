"""Programs come and go, and the logins go on."""

from tests.e2e import clients
from tests.e2e.stack import DOMAIN, PASSWORD, Stack


def test_a_reload_of_dovecot_changes_nothing_for_users(stack: Stack) -> None:
    """``doveadm reload`` ends Dovecot's processes, in layout M authlua too; new ones take over."""
    assert stack.dovecot.doveadm("reload").returncode == 0
    answers = [clients.imap(stack.dovecot.imap, f"alice@{DOMAIN}", PASSWORD) for _ in range(3)]
    assert answers == ["OK Logged in"] * 3
    assert stack.dovecot.doveadm("user", f"alice@{DOMAIN}").returncode == 0


def test_dovecot_starts_again_beside_a_running_authlua(stack: Stack) -> None:
    """Sockets of others in its folders do not keep Dovecot from starting, and authlua keeps its own."""
    stack.dovecot.stop()
    stack.dovecot.start()
    assert clients.imap(stack.dovecot.imap, f"alice@{DOMAIN}", PASSWORD) == "OK Logged in"
    assert stack.dovecot.doveadm("user", f"alice@{DOMAIN}").returncode == 0


def test_a_killed_auth_server_is_replaced(stack: Stack) -> None:
    """Its sockets, left behind, are no obstacle for the next one; Dovecot's programs find it."""
    stack.kill_auth()
    assert clients.imap(stack.dovecot.imap, f"alice@{DOMAIN}", PASSWORD) == "OK Logged in"
    assert stack.dovecot.doveadm("user", f"alice@{DOMAIN}").returncode == 0
