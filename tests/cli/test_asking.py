"""test-lookup, test-auth, list-users and cache-flush: asked of the script itself, of authlua, and of real Dovecots.

Everybody is asked the same script the same questions and gives the same answers.
"""

import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from authlua.cli import main
from authlua.conformance.raw import PATIENCE, RawConnection
from tests.reference.dovecot import Dovecot, Dovecot23, Dovecot24, why_not

SCRIPT = Path(__file__).parent.parent / "reference" / "auth.lua"


MECHS = ["PLAIN", "login", "cram-md5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"]


class Subject:
    """Somebody to ask: the options that lead a command there."""

    def __init__(self, sockets: dict[str, Path] | None, *, fourth: str = "tab\\x09here") -> None:
        self.sockets = sockets
        self.fourth = fourth
        """How it names the user with a TAB in the name."""

    def options(self, socket: str) -> list[str]:
        return ["--script", str(SCRIPT)] if self.sockets is None else ["--socket", str(self.sockets[socket])]


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[dict[str, Path]]:
    """A running ``authlua serve`` on sockets in *directory*."""
    config = directory / "authlua.toml"
    config.write_text(
        f"""
        [server]
        base_dir = "run"
        [auth]
        mechanisms = {[*MECHS, "OAUTHBEARER", "XOAUTH2"]}
        failure_delay = 0
        [[passdb]]
        script = "{SCRIPT}"
        [[userdb]]
        script = "{SCRIPT}"
        """
    )
    sockets = {name: directory / "run" / f"auth-{name}" for name in ("client", "master", "userdb")}
    sockets |= {name: directory / "run" / name for name in ("login", "control")}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "authlua", "serve", "-c", str(config)], stderr=log)
    try:
        wait_for(process, sockets["control"], directory / "log")
        yield sockets
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0


def wait_for(process: subprocess.Popen, path: Path, log: Path) -> None:
    """Until *path* accepts: the sockets are opened in order, so the last one tells."""
    for _ in range(int(PATIENCE / 0.05)):
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            RawConnection.connect(path).close()
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            break
    raise AssertionError(f"authlua did not start: {log.read_text()}")


@pytest.fixture(
    scope="module",
    params=[
        "script",
        "authlua",
        pytest.param(Dovecot23, marks=pytest.mark.dovecot, id="dovecot-2.3"),
        pytest.param(Dovecot24, marks=pytest.mark.dovecot24, id="dovecot-2.4"),
    ],
)
def subject(request, tmp_path_factory):
    """Each of them in turn."""
    if request.param == "script":
        yield Subject(None)
    elif request.param == "authlua":
        with serving(tmp_path_factory.mktemp("asking")) as sockets:
            yield Subject(sockets)
    else:
        kind: type[Dovecot] = request.param
        if reason := why_not(kind.series):
            pytest.skip(reason)
        tokens = " oauthbearer xoauth2" if kind is Dovecot23 else ""
        with kind(SCRIPT, auth_failure_delay="0", auth_mechanisms=" ".join(MECHS).lower() + tokens) as dovecot:
            # 2.4.1 cuts a listed name at a TAB
            yield Subject(dovecot.sockets, **({"fourth": "tab"} if kind is Dovecot24 else {}))


@pytest.fixture
def ask(subject, capfdbinary):
    """Runs a command against the subject and gives its exit code and output."""

    def run(command: str, *arguments: str, socket: str = "master") -> tuple[int, str]:
        code = main([command, *arguments, *subject.options(socket)])
        return code, capfdbinary.readouterr().out.decode("utf-8", "surrogateescape")

    return run


def test_a_user_is_found_with_all_fields(ask):
    """The shape that programs rely on."""
    code, text = ask("test-lookup", "ok@x", "--json")
    found = json.loads(text)
    assert code == 0
    assert list(found) == ["user", "passdb", "userdb"]
    assert found["user"] == found["userdb"]["user"] == "ok@x"
    assert found["passdb"]["result"] == found["userdb"]["result"] == "OK"
    assert found["userdb"]["fields"] == {"uid": "5000", "gid": "5000", "home": "/srv/mail/ok"}


def test_people_get_columns(ask):
    """Result first, then a field a line."""
    code, text = ask("test-lookup", "ok@x", "--userdb")
    first, *fields = text.splitlines()
    assert (code, first) == (0, "userdb: OK")
    assert sorted(fields) == ["  gid   5000", "  home  /srv/mail/ok", "  uid   5000"]


def test_an_unknown_user_is_67(ask):
    """In passdb and userdb."""
    assert ask("test-lookup", "nobody@x") == (67, "passdb: USER_UNKNOWN\nuserdb: USER_UNKNOWN\n")


def test_a_user_known_to_one_side_only_is_67(ask):
    """The graver result counts."""
    assert ask("test-lookup", "empty@x", "--userdb")[0] == 67
    assert ask("test-lookup", "empty@x", "--passdb")[0] == 0
    assert ask("test-lookup", "empty@x")[0] == 67


def test_a_temporary_failure_is_75(ask):
    """With its reason, where the userdb gave one."""
    assert ask("test-lookup", "tf@x", "--userdb") == (75, "userdb: INTERNAL_FAILURE (Come back later)\n")
    assert ask("test-lookup", "int@x", "--passdb")[0] == 75


def test_a_user_may_be_somebody_else(ask):
    """The passdb changed the name."""
    code, text = ask("test-lookup", "chg@x", "--passdb")
    assert (code, text.splitlines()[0]) == (0, "passdb: OK as changed@x")


def test_the_password_is_hidden_unless_wanted(ask, subject):
    """Servers never tell it; the script's own answer is hidden."""
    _, text = ask("test-lookup", "ok@x", "--passdb")
    assert ("<hidden>" in text) == (subject.sockets is None)
    _, text = ask("test-lookup", "ok@x", "--passdb", "--show-password")
    assert ("{PLAIN}pass" in text) == (subject.sockets is None)


@pytest.mark.parametrize("mech", MECHS)
def test_the_right_password_is_0(ask, mech):
    """Whatever the mech."""
    code, text = ask("test-auth", "OK@x", "pass", "--mech", mech, "--json", socket="client")
    assert code == 0
    assert json.loads(text) == {
        "user": "ok@x",
        "result": "OK",
        "code": None,
        "reason": None,
        "fields": {"original_user": "OK@x"},
    }


@pytest.mark.parametrize("mech", MECHS)
def test_the_wrong_password_is_77(ask, mech):
    """An ordinary FAIL."""
    code, text = ask("test-auth", "ok@x", "wrong", "--mech", mech, socket="client")
    assert (code, text) == (77, "FAIL\n  user  ok@x\n")


@pytest.mark.parametrize(("token", "expected"), [("pass", 0), ("wrong", 77)])
@pytest.mark.parametrize("mech", ["OAUTHBEARER", "XOAUTH2"])
def test_a_token_is_the_password(ask, request, mech, token, expected):
    """The script gets it as such, as in Dovecot 2.3; Dovecot 2.4 would ask its own oauth2 settings."""
    if "dovecot-2.4" in request.node.callspec.id:
        pytest.skip("2.4 never asks a script about tokens")
    assert ask("test-auth", "ok@x", token, "--mech", mech, socket="client")[0] == expected


def test_a_mech_without_a_client_is_refused(capsys):
    """With the names of those that have one."""
    assert main(["test-auth", "a", "pass", "--mech", "gssapi", "--socket", "nowhere"]) == 64
    assert "unknown mech GSSAPI; known are PLAIN, LOGIN, CRAM-MD5" in capsys.readouterr().err


def test_an_expired_password_has_a_code_and_a_reason(ask):
    """As programs read it."""
    code, text = ask("test-auth", "exp@x", "pass", "--json", socket="client")
    assert code == 77
    assert {"result": "FAIL", "code": "pass_expired", "reason": "Password expired"}.items() <= json.loads(text).items()


def test_a_login_that_cannot_be_decided_is_75(ask):
    """The database is down, nobody is refused."""
    code, text = ask("test-auth", "int@x", "pass", socket="client")
    assert (code, text) == (75, "FAIL\n  user  int@x\n  code  temp_fail\n")


def test_the_request_can_be_described(ask):
    """Service, addresses and anything else a client may tell; here a parameter comes back in the reply."""
    options = [
        "--service",
        "imap",
        "--rip",
        "192.0.2.1",
        "--lip",
        "192.0.2.2",
        "-x",
        "forward_fields=a=b",
        "-x",
        "secured",
    ]
    code, text = ask("test-auth", "ok@x", "pass", *options, socket="client")
    assert (code, text) == (0, "OK\n  user       ok@x\n  forward_a  b\n")


def test_a_master_user_needs_a_master_passdb(ask):
    """Without one the login fails, as any other."""
    assert ask("test-auth", "ok@x", "pass", "--master-user", "admin@x", socket="client")[0] == 77


def test_login_cannot_name_a_master_user(capsys):
    """Told before anybody is asked."""
    assert main(["test-auth", "a", "pass", "--mech", "login", "--master-user", "b", "--socket", "nowhere"]) == 64
    assert "LOGIN cannot name a master user" in capsys.readouterr().err


def test_all_users_are_listed_a_line_each(ask, subject):
    """A name with a TAB in it cannot be mistaken for two columns."""
    assert ask("list-users") == (0, f"ok@x\nother@y\nUPPER@y\n{subject.fourth}\n")


def test_a_mask_chooses_users(ask):
    """Wildcards, and case does not count; who filters does not matter."""
    assert ask("list-users", "*@Y") == (0, "other@y\nUPPER@y\n")
    assert ask("list-users", "o?@x") == (0, "ok@x\n")


def test_the_cache_is_flushed_over_a_master_socket(subject, ask):
    """How many entries there were; nobody has a cache here."""
    if subject.sockets is not None:
        assert ask("cache-flush") == ask("cache-flush", "ok@x") == (0, "0 entries flushed\n")


def test_a_script_shows_all_it_returned(tmp_path, capfd):
    """Fields for the userdb and for nobody, too, with what the script has to say beside them."""
    script = tmp_path / "auth.lua"
    script.write_text(
        """
        function auth_passdb_lookup(request)
          request:log_info("looking for " .. request.user)
          return dovecot.auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass", userdb_uid = "5", allow_nets = "local" }
        end
        """
    )
    assert main(["test-lookup", "timo", "--passdb", "--json", "--show-password", "--script", str(script)]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["passdb"]["fields"] == {"password": "{PLAIN}pass", "userdb_uid": "5", "allow_nets": "local"}
    assert "looking for timo" in err
    assert "pass" not in err.replace("passdb", "")


def test_a_script_that_does_not_parse_is_65(tmp_path, capsys):
    """Its file, its line, what Lua expected."""
    script = tmp_path / "auth.lua"
    script.write_text("function auth_passdb_lookup(\n")
    assert main(["test-lookup", "timo", "--script", str(script)]) == 65
    assert "auth.lua:2: " in capsys.readouterr().err


def test_a_list_that_breaks_off_is_75(tmp_path, capsys):
    """What was printed is not all."""
    script = tmp_path / "auth.lua"
    script.write_text("function auth_userdb_iterate() error('no database') end\n")
    assert main(["list-users", "--script", str(script)]) == 75
    assert "no database" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [("pass\n", 0, ""), ("wrong\n", 77, ""), ("", 64, "authlua test-auth: expected the password on standard input\n")],
)
def test_the_password_may_come_from_standard_input(typed, code, said):
    """Where that is no terminal: the first line of it."""
    command = [sys.executable, "-m", "authlua", "test-auth", "--script", str(SCRIPT), "ok@x"]
    done = subprocess.run(command, input=typed, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert said in done.stderr
    assert "assword:" not in done.stdout + done.stderr


def test_the_password_is_asked_for_without_echo(subject):
    """Not on the command line, where everybody could see it."""
    command = [sys.executable, "-m", "authlua", "test-auth", "ok@x", *subject.options("client")]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    try:
        seen = b""
        while b"Password: " not in seen:
            seen += os.read(terminal, 1024)
        os.write(terminal, b"pass\n")
        while True:
            with contextlib.suppress(OSError):  # the terminal ends with the process
                if more := os.read(terminal, 1024):
                    seen += more
                    continue
            break
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"OK" in seen
    assert b"pass\r\n" not in seen


def test_the_wrong_socket_is_69_and_says_so(subject, capsys):
    """A client socket knows no lookups, a master socket no logins."""
    if subject.sockets is not None:
        assert main(["test-lookup", "ok@x", *subject.options("client")]) == 69
        assert "not an auth-master" in capsys.readouterr().err
        assert main(["test-auth", "ok@x", "pass", *subject.options("master")]) == 69
        assert "without an answer" in capsys.readouterr().err
        assert main(["status", *subject.options("master")]) == 69


def test_nobody_there_is_69(tmp_path, capsys):
    """Which socket, and what the system said."""
    assert main(["list-users", "--socket", str(tmp_path / "nobody")]) == 69
    expected = f"authlua list-users: {tmp_path / 'nobody'}: No such file or directory; is the server running"
    assert capsys.readouterr().err.startswith(expected)


def test_users_are_printed_as_they_come(tmp_path: Path) -> None:
    """However many there are; who has seen enough may go."""
    script = tmp_path / "auth.lua"
    script.write_text(
        "function auth_userdb_iterate() local i = 0 return function() i = i + 1 return 'u' .. i end end\n"
    )
    command = [sys.executable, "-m", "authlua", "list-users", "--script", str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as listing:
        assert listing.stdout is not None
        assert listing.stderr is not None
        assert [listing.stdout.readline() for _ in range(5000)][-1] == "u5000\n"
        listing.stdout.close()
        assert listing.stderr.read() == ""
        assert listing.wait(60) == 0
