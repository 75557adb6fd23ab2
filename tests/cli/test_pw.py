"""``authlua pw``: its output and exit codes, as a shell sees them."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from authlua.cli import main
from authlua.passwords import schemes, verify


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Shell:
    """Runs ``authlua pw`` in this process and keeps what it said."""

    def __init__(self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capfd = capfd
        self._monkeypatch = monkeypatch

    def __call__(self, *args: str, typed: bytes = b"", terminal: bool = False) -> tuple[int, str, str]:
        stdin = Terminal() if terminal else io.TextIOWrapper(io.BytesIO(typed))
        self._monkeypatch.setattr(sys, "stdin", stdin)
        try:
            code = main(["pw", *args])
        except SystemExit as leave:
            code = int(leave.code or 0)
        return code, *self._capfd.readouterr()


@pytest.fixture
def pw(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(capfd, monkeypatch)


def test_a_hash_is_made_and_printed_alone(pw: Shell) -> None:
    """So that it can be put into a file as it is."""
    code, out, err = pw("-s", "ssha256", "-p", "secret")
    assert (code, err) == (0, "")
    assert out.startswith("{SSHA256}")
    assert verify(b"secret", out.removesuffix("\n"))


def test_the_default_scheme_is_that_of_doveadm(pw: Shell) -> None:
    """CRYPT, which is bcrypt."""
    assert pw("-p", "secret")[1].startswith("{CRYPT}$2y$05$")


def test_rounds_and_user_reach_the_scheme(pw: Shell) -> None:
    """``-r`` and ``-u``."""
    assert pw("-s", "sha512-crypt", "-r", "2000", "-p", "x")[1].startswith("{SHA512-CRYPT}$6$rounds=2000$")
    assert pw("-s", "digest-md5", "-u", "timo@example.com", "-p", "secret") == (
        0,
        "{DIGEST-MD5}c4fc21a0df764605437123c375eeca4b\n",
        "",
    )


def test_the_list_has_every_scheme(pw: Shell) -> None:
    """On one line, as doveadm prints it."""
    code, out, _ = pw("-l")
    assert (code, tuple(out.split())) == (0, schemes())
    assert out.count("\n") == 1


def test_a_fitting_password_is_verified(pw: Shell) -> None:
    """The line is doveadm's."""
    assert pw("-t", "{PLAIN}secret", "-p", "secret") == (0, "{PLAIN}secret (verified)\n", "")


def test_a_wrong_password_exits_77(pw: Shell) -> None:
    """As a failed authentication does."""
    assert pw("-t", "{PLAIN}secret", "-p", "wrong") == (77, "", "authlua pw: Password mismatch\n")


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        ("secret", "Missing {scheme} prefix from hash; -s SCHEME stands in for it"),
        ("{SHA256", "Missing {scheme} prefix from hash; -s SCHEME stands in for it"),
        ("{NOSUCH}x", "Unknown scheme NOSUCH"),
        ("{SHA}!", "Password data is not valid for scheme SHA: Input isn't valid base64 encoded data"),
        ("{SSHA}QQ==", "SSHA password is too short"),
    ],
)
def test_a_broken_hash_exits_65_and_says_why(pw: Shell, stored: str, problem: str) -> None:
    """With the words the log would have."""
    assert pw("-t", stored, "-p", "secret") == (65, "", f"authlua pw: {problem}\n")


def test_a_hash_may_cost_what_the_configuration_allows(
    pw: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So that what is verified here is verified by the server; where there is no configuration, its defaults count."""
    config = tmp_path / "authlua.toml"
    config.write_text('[hashes]\npbkdf2_rounds = 10\n[[passdb]]\ndriver = "passwd"\n[[userdb]]\ndriver = "passwd"\n')
    made = pw("-s", "PBKDF2", "-r", "11", "-p", "secret")[1].removesuffix("\n")
    test = ("-t", made, "-p", "secret")
    assert pw(*test) == (0, f"{made} (verified)\n", "")
    code, out, err = pw("-c", str(config), *test)
    assert (code, out) == (65, "")
    assert err.endswith("11 is more than the 10 that hashes.pbkdf2_rounds allows\n")
    assert pw("-c", str(config), "-V", "-s", "PBKDF2", "-r", "11", "-p", "secret")[0] == 65
    monkeypatch.setenv("AUTHLUA_CONFIG", str(config))
    assert pw(*test)[0] == 65
    config.unlink()
    assert pw(*test)[0] == 0
    assert pw("-c", str(tmp_path / "missing.toml"), *test)[0] == 78


def test_a_scheme_may_stand_in_for_the_prefix(pw: Shell) -> None:
    """For hashes as other programs store them."""
    assert pw("-s", "plain.hex", "-t", "78", "-p", "x")[0] == 0


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["-s", "nosuch", "-p", "x"], "Unknown scheme nosuch; authlua pw -l lists those there are"),
        (["-s", "digest-md5", "-p", "x"], "DIGEST-MD5 needs a user name"),
        (["-s", "argon2i", "-r", "2", "-p", "x"], "ARGON2I takes 3 rounds or more"),
        (["-r", "99999999999", "-p", "x"], "Invalid number of rounds: 99999999999"),
        (["-r", "many", "-p", "x"], "argument -r: expected a number, not 'many'; see authlua pw --help"),
        (["-r", "-1", "-p", "x"], "argument -r: expected a number, not '-1'; see authlua pw --help"),
        (["-l", "-t", "x"], "argument -t: not allowed with argument -l; see authlua pw --help"),
    ],
)
def test_wrong_usage_exits_64_in_one_line(pw: Shell, args: list[str], problem: str) -> None:
    """What was expected, what came, what to do."""
    assert pw(*args) == (64, "", f"authlua pw: {problem}\n")


def test_a_made_hash_can_be_tested_at_once(pw: Shell) -> None:
    """``-V``"""
    code, out, _ = pw("-s", "sha", "-p", "secret", "-V")
    assert (code, out) == (0, "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ= (verified)\n")


class TestStandardInput:
    """Where nobody types, the password comes in lines."""

    def test_a_new_password_is_read_twice(self, pw: Shell) -> None:
        """As it would be typed."""
        assert pw("-s", "plain.hex", typed=b"s\xe4cret \ns\xe4cret \n") == (0, "{PLAIN.HEX}73e46372657420\n", "")

    def test_two_different_ones_make_no_hash(self, pw: Shell) -> None:
        """A slip is not stored."""
        assert pw("-s", "plain", typed=b"secret\nsecrte\n") == (64, "", "authlua pw: Passwords don't match!\n")

    def test_one_to_be_tested_is_read_once(self, pw: Shell) -> None:
        """It has been typed right or it has not."""
        assert pw("-t", "{PLAIN}secret", typed=b"secret\n")[0] == 0

    def test_no_password_is_not_the_empty_one(self, pw: Shell) -> None:
        """An input that ends early makes no hash; an empty line is an empty password."""
        assert pw("-s", "plain")[::2] == (64, "authlua pw: expected the password on standard input, 2 times\n")
        assert pw("-s", "plain", typed=b"\n\n")[:2] == (0, "{PLAIN}\n")


def test_a_terminal_is_asked_without_echo(pw: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both times."""
    asked = []

    def getpass(prompt: str) -> str:
        asked.append(prompt)
        return "secret"

    monkeypatch.setattr("getpass.getpass", getpass)
    assert pw("-s", "plain", terminal=True)[:2] == (0, "{PLAIN}secret\n")
    assert asked == ["Enter new password: ", "Retype new password: "]


def test_an_end_at_the_terminal_is_no_password(pw: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-D."""

    def getpass(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", getpass)
    assert pw("-s", "plain", terminal=True) == (64, "", "authlua pw: expected a password\n")


def test_bytes_that_are_no_text_survive_the_command_line() -> None:
    """A password in Latin-1 is hashed as it is, and printed as it was, in any locale."""
    command: list[str | bytes] = [sys.executable, "-m", "authlua", "pw", "-s", "plain", "-p", b"s\xe4cret"]
    ran = subprocess.run(command, capture_output=True, env={"LC_ALL": "C"}, check=True)
    assert ran.stdout == b"{PLAIN}s\xe4cret\n"


def test_nothing_heavy_is_loaded() -> None:
    """The command starts fast."""
    script = (
        "import sys; from authlua.cli import main; main(['pw', '-s', 'ssha', '-p', 'x']);"
        "print(sorted({'trio', 'structlog', 'lupa', 'bcrypt', 'argon2', 'ctypes'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("\n[]\n")
