"""A real Dovecot of our own to ask: own config, own base_dir, own processes, no ports; the machine's is never touched.

    with Dovecot23(Path("auth.lua"), auth_failure_delay="1s") as dovecot:
        connection = RawConnection.connect(dovecot.sockets["login"])

2.3 is the Debian 12 package. 2.4 is that of Debian 13, or a directory made by ``bootstrap-2.4`` (then root is needed
for chroot). A path means the same file inside and outside of that directory, so callers need not know where it runs.
As root the processes run as dovecot and dovenull, else all of them as the caller.
"""

import functools
import getpass
import grp
import os
import shutil
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from authlua.conformance.raw import PATIENCE, RawConnection

REPOSITORY = Path(__file__).resolve().parents[2]
BOOTSTRAPPED = REPOSITORY / ".cache" / "dovecot-2.4"
LUA_PLUGIN = "usr/lib/dovecot/modules/auth/libauthdb_lua.so"

# Without this a failure slows down later requests from the same address, even those of no address at all.
NO_PENALTY = """
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
"""


class Dovecot(ABC):
    """A running Dovecot for the length of a ``with`` block. Use one of the two classes below."""

    series: ClassVar[str]
    """``2.3`` or ``2.4``."""
    install: ClassVar[str]
    """The command that installs it."""

    def __init__(
        self, script: Path | str, *, databases: str | None = None, extra: str = "", **settings: str | int
    ) -> None:
        """*script* is a Lua file, or Lua itself when it is a ``str``; passdb and userdb both are that script.

        Args:
            databases: passdb and userdb blocks instead of these two; ``{directory}/auth.lua`` is where *script* is.
            extra: more configuration, put last. ``{directory}`` in it is this Dovecot's directory.
            settings: plain settings such as ``auth_failure_delay="1s"``.
        """
        self._script = script
        self._databases = self._lua_databases() if databases is None else databases
        self._extra = extra
        self.files: Mapping[str, str] = {}
        """Name → text; what is here before it starts is put into its directory, with ``{directory}`` replaced too."""
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.root = installed_root(self.series)
        """The directory this Dovecot sees as ``/``; None when there is none (see `why_not`)."""

    # -- what the two differ in

    @classmethod
    @abstractmethod
    def _header(cls) -> str:
        """How its configuration begins."""

    @classmethod
    @abstractmethod
    def _lua_databases(cls) -> str:
        """The script as passdb and userdb."""

    # -- life

    def __enter__(self) -> "Dovecot":
        if self.root is None:
            raise RuntimeError(why_not(self.series))
        self.directory = Path(tempfile.mkdtemp(prefix="authlua-dovecot-"))
        self._place = self.directory
        if self.root != Path("/"):
            self._place = self.root / self.directory.relative_to("/")
            self._place.mkdir(parents=True)
            self.directory.rmdir()
            self.directory.symlink_to(self._place)  # also keeps the paths of sockets short
        try:
            self._place.chmod(0o755)
            self.base_dir = self.directory / "run"
            self.log_path = self.directory / "dovecot.log"
            script = self._script if isinstance(self._script, str) else self._script.read_text()
            (self.directory / "auth.lua").write_text(script)
            for name, text in self.files.items():
                path = self.directory / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text.replace("{directory}", str(self.directory)))
            self.config = self.directory / "dovecot.conf"
            self.config.write_text(self._configuration())
            self.sockets = {
                "login": self.base_dir / "login/login",
                "client": self.base_dir / "auth-client",
                "auth-login": self.base_dir / "auth-login",
                "master": self.base_dir / "auth-master",
                "userdb": self.base_dir / "auth-userdb",
                "token-login": self.base_dir / "token-login/tokenlogin",
            }
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self.directory.is_symlink():
            self.directory.unlink()
        shutil.rmtree(self._place)

    def _configuration(self) -> str:
        settings = {
            "base_dir": self.base_dir,
            "log_path": self.log_path,
            "state_dir": self.directory / "state",
            "auth_mechanisms": "plain login",
            "auth_debug": "yes",
            "ssl": "no",
        }
        if os.geteuid() != 0:
            user, group = getpass.getuser(), grp.getgrgid(os.getegid()).gr_name
            settings |= {"default_internal_user": user, "default_internal_group": group, "default_login_user": user}
        settings |= self._settings
        rootless = "" if os.geteuid() == 0 else "service anvil {\n  chroot =\n}\nservice stats {\n  chroot =\n}\n"
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        text = self._header() + lines + rootless + NO_PENALTY + self._databases + self._extra
        return text.replace("{directory}", str(self.directory))

    def _start(self) -> None:
        self.base_dir.mkdir(mode=0o755)
        (self.directory / "state").mkdir()
        output = self.directory / "output"
        with output.open("wb") as stream:
            self._process = subprocess.Popen(
                self.command("dovecot", "-F"), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )
        bound = time.monotonic() + PATIENCE
        while True:
            try:
                # The master accepts before its auth process is there; a script that cannot load shows in the log.
                RawConnection.connect(self.sockets["master"]).close()
                return
            except (FileNotFoundError, ConnectionRefusedError):
                if self._process.poll() is not None or time.monotonic() > bound:
                    raise RuntimeError(f"Dovecot did not start: {output.read_text()}{self.log()}") from None
                time.sleep(0.02)

    def stop(self) -> str:
        """End it, if it still runs; all of its log."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()  # its children see the master's pipe close and leave
                self._process.wait()
        return self.log()

    # -- use

    def command(self, program: str, *arguments: str) -> list[str]:
        """The command line that runs *program* of this Dovecot with this configuration."""
        program_line = [program, "-c", str(self.config), *arguments]
        return program_line if self.root == Path("/") else ["chroot", str(self.root), *program_line]

    def run(self, program: str, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
        """Run *program* (``doveadm``, …) of this Dovecot to its end; *options* go to `subprocess.run`."""
        options = {"capture_output": True, "text": True, "timeout": 60, **options}
        return subprocess.run(self.command(program, *arguments), **options)

    def log(self) -> str:
        """The log so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_for_log(self, text: str, *, since: int = 0) -> str:
        """The log from its character *since* on, as soon as it holds *text* (another process writes it).

        Raises:
            AssertionError: it did not come.
        """
        bound = time.monotonic() + PATIENCE
        while text not in (log := self.log()[since:]):
            assert time.monotonic() < bound, f"{text!r} did not come into the log:\n{log}"
            time.sleep(0.02)
        return log


class Dovecot23(Dovecot):
    series = "2.3"
    install = "apt-get install dovecot-core dovecot-auth-lua   (Debian 12)"

    @classmethod
    def _header(cls) -> str:
        return "protocols =\n"

    @classmethod
    def _lua_databases(cls) -> str:
        block = "{\n  driver = lua\n  args = file={directory}/auth.lua blocking=no\n}\n"
        return f"passdb {block}userdb {block}"


class Dovecot24(Dovecot):
    series = "2.4"
    install = (
        "tests/reference/bootstrap-2.4   (as root; or, on Debian 13, apt-get install dovecot-core dovecot-auth-lua)"
    )

    @classmethod
    def _header(cls) -> str:
        return "dovecot_config_version = 2.4.1\ndovecot_storage_version = 2.4.0\nprotocols =\n"

    @classmethod
    def _lua_databases(cls) -> str:
        return "".join(
            f"{db} lua {{\n  lua_file = {{directory}}/auth.lua\n  {db}_use_worker = no\n}}\n"
            for db in ("passdb", "userdb")
        )


@functools.cache
def installed_root(series: str) -> Path | None:
    """The directory that a Dovecot of *series*, with Lua, sees as ``/``: the machine's own or the bootstrapped one."""
    binary = shutil.which("dovecot", path=os.defpath + ":/usr/sbin:/usr/local/sbin")
    if binary and Path("/", LUA_PLUGIN).exists():
        version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
        if version.startswith(series):
            return Path("/")
    if series == "2.4" and os.geteuid() == 0 and (BOOTSTRAPPED / LUA_PLUGIN).exists():
        return BOOTSTRAPPED
    return None


def why_not(series: str) -> str | None:
    """Why no Dovecot of *series* can be run here and what would change that; None when it can."""
    if installed_root(series) is not None:
        return None
    if series == "2.4" and os.geteuid() != 0 and BOOTSTRAPPED.exists():
        return f"Dovecot 2.4 is in {BOOTSTRAPPED.relative_to(REPOSITORY)}, but only root can run it there"
    kind = {"2.3": Dovecot23, "2.4": Dovecot24}[series]
    return f"no Dovecot {series} with Lua here: {kind.install}"
