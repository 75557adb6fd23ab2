"""authlua as a server of its own, in a process of its own, for the kit to ask."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from authlua.conformance.play import PATIENCE
from authlua.conformance.profiles import LISTENERS, Profile, configuration

COMMAND = (sys.executable, "-m", "authlua", "serve")


class Authlua:
    """``authlua serve`` with the settings of *profile*, speaking *dialect*, for the length of a ``with`` block."""

    def __init__(
        self,
        profile: Profile,
        dialect: str,
        *,
        script: str | None = None,
        command: Sequence[str] = COMMAND,
        delays: bool = False,
    ) -> None:
        self._profile = profile
        self._dialect = dialect
        self._script = script
        self._command = command
        self._delays = delays

    def __enter__(self) -> "Authlua":
        self.directory = Path(tempfile.mkdtemp(prefix="authlua-conformance-"))
        self.sockets = {kind: self.directory / path for path, kind in LISTENERS.items()}
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        self.directory.chmod(0o755)
        for name, text in self._profile.scripts().items():
            (self.directory / name).write_text(text if self._script is None else self._script)
        config = self.directory / "authlua.toml"
        config.write_text(configuration(self._profile, self._dialect, self.directory, delays=self._delays))
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*self._command, "-c", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        bound = time.monotonic() + PATIENCE
        while not all(path.exists() for path in self.sockets.values()):
            if self._process.poll() is not None or time.monotonic() > bound:
                raise RuntimeError(f"authlua did not start: {self.log()}")
            time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.directory)

    def log(self) -> str:
        """Its log so far."""
        return (self.directory / "log").read_text(errors="replace")

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process is not None and self._process.poll() is None
