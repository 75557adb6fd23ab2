"""conf/examples/app-passwords.lua does what it says, in a server whose scripts run in workers."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from authlua import onetime
from authlua.cli import EX_NOPERM, main
from authlua.conformance.raw import PATIENCE
from authlua.passwords import encode

EXAMPLES = Path(__file__).parent.parent / "conf" / "examples"
SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
WEBMAIL = ("-x", "rip=127.0.0.1")

Login = Callable[..., str]
"""``login(password, *flags)``: ``OK``, or the reply's code, empty when there is none."""


@pytest.fixture(params=["2.3", "2.4"])
def mail(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A running server: its directory, and the socket to log in at."""
    shutil.copy(EXAMPLES / "app-passwords.lua", tmp_path / "auth.lua")
    (tmp_path / "people").write_text("")
    (tmp_path / "app-passwords").write_text("")
    config = tmp_path / "authlua.toml"
    config.write_text(
        f'[server]\nbase_dir = "run"\ndialect = "{request.param}"\n'
        '[auth]\nfailure_delay = "0s"\ninternal_failure_delay = "0s"\npenalty = false\n'
        f'[[passdb]]\nscript = "auth.lua"\ndialect = "{request.param}"\n[[userdb]]\nscript = "auth.lua"\n'
    )
    command = [sys.executable, "-m", "authlua", "serve", "-c", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if " ready" in line:
                break
        yield tmp_path, tmp_path / "run" / "auth-client"
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


@pytest.fixture
def login(mail: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> Login:
    """Logs alice in, and says what came of it."""

    def login(password: str, *flags: str) -> str:
        main(["test-auth", "alice", password, "--socket", str(mail[1]), "--json", *flags])
        reply = json.loads(capsys.readouterr().out)
        return "OK" if reply["result"] == "OK" else reply["code"] or ""

    return login


def test_a_person_needs_a_code_that_is_good_once(mail: tuple[Path, Path], login: Login) -> None:
    """At webmail, and with the right password; a wrong one uses up no code."""
    directory, _ = mail
    codes = onetime.make_recovery_codes(2)
    stored = [onetime.hash_recovery_code(code) for code in codes]
    (directory / "people").write_text(f"alice;{encode(b'wonderland', 'SSHA512')};{SECRET};{','.join(stored)}\nbob;;;\n")
    now = int(time.time()) // 30
    shown = [onetime.codes(SECRET).at(step) for step in (now, now + 1)]
    assert login("wonderland", *WEBMAIL) == ""
    assert login("looking-glass" + shown[0], *WEBMAIL) == ""
    assert login("wonderland" + shown[0], "-x", "rip=192.0.2.1") == ""
    assert login("wonderland" + shown[0], *WEBMAIL) == "OK"
    assert login("wonderland" + shown[0], *WEBMAIL) == ""
    assert login("wonderland" + shown[1], *WEBMAIL) == "OK"
    assert login("wonderland " + codes[1].upper(), *WEBMAIL) == "OK"
    assert login("wonderland " + codes[1], *WEBMAIL) == ""
    assert (directory / "people").read_text().splitlines()[0].endswith(f"{SECRET};{stored[0]},")
    assert login("wonderland " + codes[0], *WEBMAIL) == "OK"
    assert (directory / "people").read_text().splitlines()[1] == "bob;;;"


def test_an_app_password_is_good_for_what_it_is_for(mail: tuple[Path, Path], login: Login) -> None:
    """Its services, its networks, until its last day."""
    directory, _ = mail
    (directory / "people").write_text(f"alice;{encode(b'wonderland', 'SSHA512')};{SECRET};\n")
    lines = [
        ("phone", "imap,smtp", "*", "*"),
        ("desk", "*", "192.0.2.0/24,2001:db8::/32", "2999-12-31"),
        ("sold", "*", "*", "2020-01-01"),
    ]
    (directory / "app-passwords").write_text(
        "".join(
            f"alice;{services};{nets};{day};{encode(name.encode(), 'SSHA512')};{name}\n"
            for name, services, nets, day in lines
        )
        + f"bob;*;*;*;{encode(b'other', 'SSHA512')};of bob\n"
    )
    assert login("phone", "--service", "imap", "-x", "rip=198.51.100.1") == "OK"
    assert login("phone", "--service", "pop3", "-x", "rip=198.51.100.1") == ""
    assert login("desk", "--service", "pop3", "-x", "rip=192.0.2.9") == "OK"
    assert login("desk", "--service", "pop3", "-x", "rip=2001:db8::9") == "OK"
    assert login("desk", "--service", "pop3", "-x", "rip=192.0.3.9") == ""
    assert login("sold", "--service", "imap", "-x", "rip=192.0.2.9") == ""
    assert login("other", "--service", "imap", "-x", "rip=192.0.2.9") == ""
    assert login("wonderland", "--service", "imap", "-x", "rip=192.0.2.9") == ""


def test_files_that_cannot_be_read_turn_nobody_away(mail: tuple[Path, Path], login: Login) -> None:
    """They are a temporary failure."""
    directory, _ = mail
    (directory / "people").unlink()
    assert login("wonderland", *WEBMAIL) == "temp_fail"


def test_what_a_new_user_needs(capsys: pytest.CaptureFixture[str]) -> None:
    """enrol.lua prints a URI, codes, and what to store, that belong together."""
    command = ["test-lookup", "alice", "--userdb", "--json", "--script", str(EXAMPLES / "enrol.lua")]
    assert main(command) == 0
    fields = json.loads(capsys.readouterr().out)["userdb"]["fields"]
    secret, _, hashes = fields["line"].partition(";")
    assert f"secret={secret}&" in fields["uri"]
    found = [onetime.find_recovery_code(fields[f"code{number}"], hashes.split(",")) for number in range(1, 9)]
    assert found == list(range(8))


def test_one_time_passwords_are_used_up(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """one-time-passwords.lua stores what is left after each login, down to the last but one."""
    shutil.copy(EXAMPLES / "one-time-passwords.lua", tmp_path / "auth.lua")
    users = tmp_path / "otp-users"
    config = tmp_path / "authlua.toml"
    config.write_text(
        '[auth]\nmechanisms = ["otp"]\nfailure_delay = "0s"\n'
        '[[passdb]]\nscript = "auth.lua"\n[[userdb]]\nscript = "auth.lua"\n'
    )
    users.write_text(f"bob {{OTP}}x\nalice {otp_entry(4)}\n")
    ask = ["test-auth", "-c", str(config), "--mech", "OTP", "alice"]
    assert main([*ask, "wrong"]) == EX_NOPERM
    assert [main([*ask, "This is a test."]) for _ in range(4)] == [0, 0, 0, EX_NOPERM]
    assert users.read_text() == f"bob {{OTP}}x\nalice {otp_entry(1)}\n"
    assert "sequence number < 1" in capfd.readouterr().err


def otp_entry(sequence: int) -> str:
    """What is stored at that place of a chain, by RFC 2289 with MD5."""
    value = b"ke1234This is a test."
    for _ in range(sequence + 1):
        digest = hashlib.md5(value).digest()
        value = bytes(a ^ b for a, b in zip(digest[:8], digest[8:], strict=True))
    return f"{{OTP}}md5 {sequence} ke1234 {value.hex()}"
