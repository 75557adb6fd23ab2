"""Postfix and Exim with a configuration of the test's own, each accepting SMTP on ports of 127.0.0.1."""

import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.e2e.programs import PATIENCE, running
from tests.ports import free_port

ROOT = Path(__file__).parent.parent.parent
MASTER = Path("/usr/lib/postfix/sbin/master")
EXIM = ROOT / ".cache/exim/usr/sbin/exim4"
INSTALL = "tests/e2e/install-clients installs all of them"


@contextlib.contextmanager
def postfix(directory: Path, snippets: Mapping[str, str]) -> Iterator[dict[str, int]]:
    """A Postfix with one smtpd for each of *snippets*, parts of ``main.cf`` by a name; yields their ports."""
    ports = {name: free_port() for name in snippets}
    config, queue, data = directory / "postfix", directory / "postfix-queue", directory / "postfix-data"
    for each in (config, queue, data):
        each.mkdir()
    shutil.chown(data, "postfix")
    log = directory / "postfix.log"
    main = {
        "compatibility_level": "3.6",
        "queue_directory": queue,
        "data_directory": data,
        "maillog_file": log,
        "maillog_file_prefixes": directory,
        "myhostname": "e2e.example.org",
        "inet_interfaces": "127.0.0.1",
        "inet_protocols": "ipv4",
        "alias_maps": "",
        "smtpd_client_connection_rate_limit": "0",
    }
    (config / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in main.items()))
    services = [
        "postlog unix-dgram n - n - 1 postlogd",
        "anvil unix - - n - 1 anvil",
        "rewrite unix - - n - - trivial-rewrite",
        "proxymap unix - - n - - proxymap",
    ]
    for name, text in snippets.items():
        settings = [line for line in text.splitlines() if line and not line.startswith("#")]
        # master.cf takes a setting in braces, blanks included
        options = " ".join(f"-o {{ {setting} }}" for setting in settings)
        services.append(f"127.0.0.1:{ports[name]} inet n - n - - smtpd {options}")
    (config / "master.cf").write_text("\n".join(services) + "\n")
    # makes the folders of the queue; the master itself is started directly, as "postfix start-fg" leaves it to itself
    subprocess.run(["postfix", "-c", config, "check"], check=True, timeout=PATIENCE)
    command = [MASTER, "-c", config, "-d"]
    with running(command, log=directory / "postfix.out", ready=list(ports.values())):
        yield ports


@contextlib.contextmanager
def exim(directory: Path, snippet: str) -> Iterator[int]:
    """An Exim whose configuration ends in *snippet*, with its spool in *directory*; yields its port."""
    port = free_port()
    directory.mkdir()
    spool = directory / "spool"
    spool.mkdir()
    shutil.chown(spool, "Debian-exim", "Debian-exim")
    config = directory / "exim.conf"
    config.write_text(
        f"exim_path = {EXIM}\n"
        "primary_hostname = e2e.example.org\n"
        f"spool_directory = {spool}\n"
        f"log_file_path = {spool}/%slog\n"
        "local_interfaces = 127.0.0.1\n"
        "keep_environment =\n"
        "auth_advertise_hosts = *\n"
        "tls_advertise_hosts =\n"
        f"{snippet}"
    )
    command = [EXIM, "-C", str(config), "-bdf", "-oX", f"127.0.0.1.{port}", "-oP", str(spool / "exim.pid")]
    with running(command, log=directory / "exim.out", ready=[port]):
        yield port


def missing() -> str | None:
    """Why the mail servers cannot be run here, and what to do about it; `None` when they can."""
    if os.geteuid() != 0:
        return "mail servers change their user: these tests run as root only"
    if not MASTER.exists():
        return f"missing: postfix; {INSTALL}"
    if not EXIM.exists():
        return f"missing: exim4-daemon-heavy; {INSTALL}"
    try:
        pwd.getpwnam("Debian-exim")
    except KeyError:
        return f"missing: the user Debian-exim; {INSTALL}"
    return None
