"""The systemd units are well formed, agree with one another, and keep the sandbox closed."""

import configparser
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

UNITS = Path(__file__).parent.parent / "systemd"
SOCKETS = sorted(UNITS.glob("*.socket"))

analyzer = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing: apt-get install systemd"
)


def unit(path: Path) -> configparser.ConfigParser:
    """A unit file without repeated keys, key names as written."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


@analyzer
def test_systemd_understands_every_directive(tmp_path):
    """A misspelt directive is only a warning in the journal, so it is looked for here."""
    for path in [UNITS / "authlua.service", *SOCKETS]:
        text = path.read_text().replace("/usr/bin/authlua", "/bin/true")  # a program that exists
        (tmp_path / path.name).write_text(text)
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "authlua" in line]
    assert ours == []


@analyzer
def test_the_sandbox_stays_closed():
    """systemd's own measure of exposure, 0.0 to 10.0; what is left is the network and the user namespace."""
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(UNITS / "authlua.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    exposure = re.search(r"Overall exposure level for authlua.service: ([0-9.]+)", done.stdout)
    assert exposure
    assert float(exposure[1]) <= 1.5


@analyzer
def test_workers_can_be_made_to_stand_back_and_little_else():
    """Without setpriority(2) one script that computes slows the logins of all others down, and nothing says so."""
    allowed: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", (UNITS / "authlua.service").read_text(), re.MULTILINE):
        named = {call for name in line.removeprefix("~").split() for call in system_calls(name)}
        allowed = allowed - named if line.startswith("~") else allowed | named
    assert {"setpriority", "getpriority", "prlimit64", "pidfd_open", "clone3"} <= allowed
    assert allowed.isdisjoint({"setuid", "chroot", "mount", "ptrace", "bpf", "sched_setscheduler", "fchown"})


def system_calls(name: str) -> set[str]:
    """*name*, or if it is that of a group all that are in it."""
    if not name.startswith("@"):
        return {name}
    command = ["systemd-analyze", "syscall-filter", "--no-pager", name]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {call for member in re.findall(r"^    ([@\w]+)$", listed, re.MULTILINE) for call in system_calls(member)}


def test_the_service_takes_every_socket():
    """A socket that the service does not name would be opened and never answered."""
    service = unit(UNITS / "authlua.service")
    assert set(service["Service"]["Sockets"].split()) == {path.name for path in SOCKETS}
    wanted = unit(UNITS / "authlua.socket")["Unit"]["Wants"].split()
    assert {*wanted, "authlua.socket"} == {path.name for path in SOCKETS}


def test_each_socket_is_a_listener_of_the_configuration():
    """The server finds its listener by the name, and refuses to start with a socket that none has."""
    config = tomllib.loads((UNITS.parent / "conf/authlua.toml").read_text())
    base_dir = Path(config["server"]["base_dir"])
    listeners = {one.get("name") or one["kind"]: str(base_dir / one["path"]) for one in config["listener"]}
    units = [unit(path)["Socket"] for path in SOCKETS]
    sockets = {one["FileDescriptorName"]: one["ListenStream"] for one in units}
    assert len(sockets) == len(units)
    assert sockets.items() <= listeners.items()


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd is missing: apt-get install systemd")
def test_the_user_is_made_that_the_service_runs_as(tmp_path):
    """The names in sysusers.d, tmpfiles.d and the service are one name."""
    (tmp_path / "etc").mkdir()
    user = unit(UNITS / "authlua.service")["Service"]["User"]
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", str(UNITS / "sysusers.d/authlua.conf")], check=True)
    assert (tmp_path / "etc/passwd").read_text().startswith(f"{user}:")
    assert f"d /run/authlua 0755 {user} {user}\n" in (UNITS / "tmpfiles.d/authlua.conf").read_text()
