"""Who the dialogues are played against: a real Dovecot of each series, and authlua on sockets of its own.

All serve the same script, ``authlua/conformance/script.lua``, and are one `dialogue.Target` each.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from authlua.conformance.dialogue import NotPlayed
from authlua.conformance.raw import PATIENCE, RawConnection
from authlua.conformance.words import SCRIPT
from authlua.sasl import MECHS
from tests.reference.dovecot import Dovecot, Dovecot23, Dovecot24

LISTENERS = {
    "login": ("login", "0666"),
    "auth-login": ("login", "0600"),
    "client": ("client", "0600"),
    "master": ("master", "0600"),
    "userdb": ("userdb", "0666"),
}
"""The sockets a dialogue may open: what kind of listener each is, and its mode."""


def configuration(directory: Path, dialect: str, mechanisms: str) -> str:
    """What authlua serves the dialogues with: as Dovecot of that dialect would, sockets in *directory*.

    Raises:
        NotPlayed: authlua knows no such mech.
    """
    if unknown := set(mechanisms.upper().split()) - MECHS.keys():
        raise NotPlayed(f"authlua has no {', '.join(sorted(unknown))}")
    text = (
        f'[server]\nbase_dir = "{directory}"\ndialect = "{dialect}"\n'
        f'[log]\nlevel = "debug"\n'
        f"[auth]\nmechanisms = {mechanisms.split()}\ndebug = true\npenalty = false\n"
        'failure_delay = "500ms"\ninternal_failure_delay = "500ms"\n'
        f'[[passdb]]\nscript = "{SCRIPT}"\ndialect = "{dialect}"\nuse_worker = false\n'
        f'[[userdb]]\nscript = "{SCRIPT}"\ndialect = "{dialect}"\nuse_worker = false\n'
    )
    for path, (kind, mode) in LISTENERS.items():
        text += f'[[listener]]\nkind = "{kind}"\npath = "{path}"\nmode = "{mode}"\n'
        if dialect == "2.4" and kind in ("login", "client"):
            text += 'handshake = "late"\n'  # as Dovecot 2.4 shakes hands
    return text


class BlockingConversation:
    """A `dialogue.Conversation` on a socket. It blocks rather than waits, which is all a thread of its own needs."""

    def __init__(self, path: Path, uid: int | None) -> None:
        self._connection = RawConnection.connect(path, uid=uid)
        self.peer_pid = self._connection.peer_pid
        self.send = self._connection.send
        self.waiting = self._connection.waiting
        self.close = self._connection.close

    async def receive(self) -> bytes | None:
        return self._connection.receive()


class DovecotTarget:
    """The reference."""

    subject = "dovecot"

    def __init__(self, dialect: str, mechanisms: str) -> None:
        self.dialect = dialect
        kind = {"2.3": Dovecot23, "2.4": Dovecot24}[dialect]
        self.dovecot: Dovecot = kind(SCRIPT, auth_mechanisms=mechanisms)

    def open(self, kind: str, *, uid: int | None = None) -> BlockingConversation:
        return BlockingConversation(self.dovecot.sockets[kind], uid)

    def log(self) -> str:
        return self.dovecot.log()

    def __enter__(self) -> "DovecotTarget":
        self.dovecot.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.dovecot.__exit__(*error)


class AuthluaTarget:
    """``authlua serve`` with a configuration and sockets of its own, speaking *dialect*."""

    subject = "authlua"
    command = (sys.executable, "-m", "authlua", "serve")

    def __init__(self, dialect: str, mechanisms: str) -> None:
        self.dialect = dialect
        self.mechanisms = mechanisms

    def __enter__(self) -> "AuthluaTarget":
        self.directory = Path(tempfile.mkdtemp(prefix="authlua-dialogues-"))
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        self.directory.chmod(0o755)  # another user connects, too
        config = self.directory / "authlua.toml"
        config.write_text(configuration(self.directory, self.dialect, self.mechanisms))
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*self.command, "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        bound = time.monotonic() + PATIENCE
        for path in LISTENERS:
            while True:
                try:
                    RawConnection.connect(self.directory / path).close()
                    break
                except (FileNotFoundError, ConnectionRefusedError):
                    if self.process.poll() is not None or time.monotonic() > bound:
                        raise RuntimeError(f"authlua did not start: {self.log()}") from None
                    time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        process: subprocess.Popen[bytes] | None = getattr(self, "process", None)
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory)

    def open(self, kind: str, *, uid: int | None = None) -> BlockingConversation:
        return BlockingConversation(self.directory / kind, uid)

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")
