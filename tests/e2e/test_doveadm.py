"""doveadm gets the answers that Dovecot's own auth gives with the same script."""

import re

import pytest

from tests.e2e.stack import DOMAIN, PASSWORD, Stack

USERS = ("alice", "nobody", "disabled", "expired", "broken", "raises", "closed", "halfway", "alias")

QUESTIONS = [
    *(f"user {user}" for user in USERS),
    *(f"auth lookup {user}" for user in USERS),
    *(f"auth test {user} {PASSWORD}" for user in USERS),
    *(f"auth login {user} {PASSWORD}" for user in USERS),
    "user *",
    "user b*",
    "user *@nowhere",
    "user -f uid alice",
    "user -x service=imap -x rip=192.0.2.1 alice",
    "user ALICE",
    "auth test alice wrong",
    "auth test -x rip=192.0.2.1 -x service=imap alice wrong",
    "auth login alice wrong",
    "auth cache flush",
    "auth cache flush alice",
]


def ask(stack: Stack, question: str) -> tuple[int, list[str], list[str]]:
    """doveadm's exit code and what it printed: sorted, as fields come in the random order of Lua tables."""
    words = question.split()
    options = []
    if words[0] == "auth" and (sockets := stack.dovecot.sockets):
        match words[1]:
            case "test":
                options = ["-a", str(sockets["client"])]
            case "login":
                options = ["-a", str(sockets["login"]), "-m", str(sockets["master"])]
            case "cache":
                options = ["-a", str(sockets["master"])]
    at = 3 if words[1] == "cache" else 2 if words[0] == "auth" else 1
    words = words[:at] + options + [full_name(word) for word in words[at:]]
    done = stack.dovecot.doveadm(*words)
    return done.returncode, plain_lines(stack, done.stdout), plain_lines(stack, done.stderr)


def full_name(word: str) -> str:
    """The users of the script are in one domain."""
    return f"{word}@{DOMAIN}" if word.lower() in USERS else word


def plain_lines(stack: Stack, text: str) -> list[str]:
    """Sorted lines, without what differs from run to run: the directory, ids and pids, and empty fields.

    An empty field is a quirk of 2.3 that authlua does not share (docs/differences.md).
    """
    text = text.replace(str(stack.scene.directory), "")
    text = re.sub(r"request \[\d+\]|client-pid=\d+|<\d+>|\d+ msecs", "#", text)
    return sorted(line.rstrip() for line in text.splitlines() if line.strip())


@pytest.mark.parametrize("question", QUESTIONS)
def test_doveadm_gets_the_answer_of_dovecots_own_auth(stack: Stack, native: Stack, question: str) -> None:
    """Exit code and every line; Dovecot asked twice shows that nothing compared here is up to chance."""
    assert ask(native, question) == ask(stack, question)


def test_doveadm_tells_the_cases_apart(stack: Stack) -> None:
    """The comparison above compares something: doveadm's exit codes are 0, 67, 75 and 77."""
    questions = {
        "user alice": 0,
        "user nobody": 67,
        "user broken": 75,
        "auth lookup alice": 0,
        "auth lookup nobody": 67,
        "auth lookup broken": 75,
        f"auth test alice {PASSWORD}": 0,
        "auth test alice wrong": 77,
        f"auth login alice {PASSWORD}": 0,
        "auth cache flush": 0,
    }
    assert questions == {question: ask(stack, question)[0] for question in questions}


def test_doveadm_lists_the_users(stack: Stack) -> None:
    """``doveadm user '*'`` iterates."""
    assert ask(stack, "user *") == (0, [f"alice@{DOMAIN}", f"bob@{DOMAIN}"], [])


def test_doveadm_works_for_all_users(stack: Stack) -> None:
    """``-A`` lists the users and looks each of them up."""
    done = stack.dovecot.doveadm("-f", "tab", "mailbox", "list", "-A", "INBOX")
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()[1:]) == [f"alice@{DOMAIN}\tINBOX", f"bob@{DOMAIN}\tINBOX"]


def test_who_runs_doveadm_as_somebody_else_sees_only_himself(stack: Stack) -> None:
    """The userdb socket is open to everybody, and tells each system user of its own mail users at most."""
    exit_codes = [stack.dovecot.doveadm("user", f"alice@{DOMAIN}", uid=uid).returncode for uid in (5000, 5001)]
    assert exit_codes == [0, 75]
