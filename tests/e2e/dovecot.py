"""A whole Dovecot for the tests: IMAP, POP3, submission and LMTP, all in one directory, told where to ask for auth."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.programs import PATIENCE, running
from tests.ports import free_port

ROOT = Path(__file__).parent.parent.parent
CHROOT_2_4 = ROOT / ".cache" / "dovecot-2.4"

NATIVE = {
    "2.3": """
passdb {{
  driver = lua
  args = file={script} blocking=no
}}
userdb {{
  driver = lua
  args = file={script} blocking=no
}}
""",
    "2.4": """
passdb lua {{
  lua_file = {script}
  use_worker = no
}}
userdb lua {{
  lua_file = {script}
  use_worker = no
}}
""",
}
"""Dovecot's own auth with the script, for the answers to compare with."""

HEAD = {
    "2.3": """
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
protocols = imap pop3 submission lmtp
""",
    "2.4": """
dovecot_config_version = 2.4.1
dovecot_storage_version = 2.4.1
auth_allow_cleartext = yes
auth_internal_failure_delay = 0
mail_driver = maildir
mail_path = ~/Maildir
protocols = imap pop3 submission lmtp
""",
}

# Penalties by address are off: all these logins come from one address.
# default_process_limit and the like stay as they are; the tests want Dovecot as people run it.
COMMON = """
base_dir = {directory}/dovecot
state_dir = {directory}/state
log_path = {directory}/dovecot.log
log_timestamp = "%Y-%m-%d %H:%M:%S.%{{usecs}} "
listen = 127.0.0.1
ssl = no
hostname = e2e.example.org
auth_mechanisms = plain login
auth_failure_delay = 0
auth_debug = yes
auth_verbose = yes
submission_relay_host = 127.0.0.1
submission_relay_port = {relay}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service submission-login {{
  inet_listener submission {{
    port = {submission}
  }}
  inet_listener submissions {{
    port = 0
  }}
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0666
  }}
}}
"""


@dataclass
class Dovecot:
    """One Dovecot of *version* ("2.3" or "2.4"), whose configuration ends in *auth*, the part under test, and *extra*.

    *sockets* are those that ``doveadm auth`` is pointed at with ``-a`` and ``-m`` where they are not at Dovecot's
    own places: ``client``, ``login``, ``master``.
    """

    version: str
    directory: Path
    relay: int
    auth: str = ""
    extra: str = ""
    sockets: dict[str, Path] = field(default_factory=dict)
    imap: int = field(default_factory=free_port)
    pop3: int = field(default_factory=free_port)
    submission: int = field(default_factory=free_port)
    life: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def base_dir(self) -> Path:
        return self.directory / "dovecot"

    @property
    def log(self) -> Path:
        return self.directory / "dovecot.log"

    @property
    def lmtp(self) -> Path:
        return self.base_dir / "lmtp"

    @property
    def config(self) -> Path:
        return self.directory / "dovecot.conf"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Dovecot from the moment it listens until its master is gone."""
        common = COMMON.format(
            directory=self.directory, relay=self.relay, imap=self.imap, pop3=self.pop3, submission=self.submission
        )
        self.config.write_text(HEAD[self.version].lstrip() + common + self.auth + self.extra)
        mail = self.directory / "mail"
        mail.mkdir(exist_ok=True)
        os.chown(mail, 5000, 5000)
        self.start()
        try:
            yield
        finally:
            self.stop()

    def start(self) -> None:
        """Start Dovecot, and wait until it listens."""
        command = self.command("dovecot", "-F", "-c", str(self.config))
        ready = (self.imap, self.pop3, self.submission, self.lmtp)
        self.life.enter_context(running(command, log=self.directory / "dovecot.out", ready=ready))

    def stop(self) -> None:
        """End Dovecot, and wait until its master is gone."""
        self.life.close()

    def doveadm(self, *arguments: str, uid: int = 0) -> subprocess.CompletedProcess[str]:
        """Run doveadm with this Dovecot's configuration, as the system user *uid* in the group of the same number."""
        become = [] if uid == 0 else ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        return subprocess.run(
            self.command(*become, "doveadm", "-c", str(self.config), *arguments),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )

    def pid_of(self, service: str) -> int:
        """The process of a *service* that has one."""
        status = self.doveadm("-f", "tab", "process", "status", service)
        (line,) = status.stdout.splitlines()[1:]
        return int(line.split("\t")[1])

    def command(self, *command: str) -> list[str]:
        """How to start *command* where this version is.

        2.4 lives in a chroot that is not ours to change. So it runs in a mount namespace of its own, where the
        work directory has its place inside the chroot too, and the machine's root is at /mnt for layout M.
        """
        if self.version == "2.3":
            return [*command]
        inside = CHROOT_2_4 / self.directory.relative_to("/")
        script = (
            f"mkdir -p {inside} && mount --bind {self.directory} {inside} && mount --rbind / {CHROOT_2_4}/mnt "
            f'&& exec chroot {CHROOT_2_4} "$@"'
        )
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *command]


def missing(version: str) -> str | None:
    """Why Dovecot of *version* cannot be run here, and what to do about it; `None` when it can."""
    if os.geteuid() != 0:
        return "Dovecot's login processes change their user and root: these tests run as root only"
    if version == "2.4":
        if not (CHROOT_2_4 / "usr/sbin/dovecot").exists():
            return "Dovecot 2.4 is missing: tests/reference/bootstrap-2.4"
        return None
    if shutil.which("dovecot") is not None:
        installed = subprocess.run(["dovecot", "--version"], capture_output=True, text=True, check=True).stdout
        if not installed.startswith("2.3."):
            return f"the Dovecot of this machine is no 2.3, but {installed.strip()}"
    libexec = Path("/usr/lib/dovecot")
    programs = {
        "dovecot-imapd": libexec / "imap",
        "dovecot-pop3d": libexec / "pop3",
        "dovecot-lmtpd": libexec / "lmtp",
        "dovecot-submissiond": libexec / "submission",
        "dovecot-auth-lua": libexec / "modules/auth/libauthdb_lua.so",
    }
    packages = [package for package, program in programs.items() if not program.exists()]
    if packages or shutil.which("dovecot") is None:
        return f"missing: {' '.join(packages) or 'dovecot-core'}; tests/e2e/install-clients installs all of them"
    return None
