"""What a test of real mail needs: a Dovecot, and whoever answers its auth questions.

*native* is Dovecot's own auth with the same script: it keeps the expectations honest. The other layouts are
authlua: **E** with all its sockets outside Dovecot's folders, **B** with the login socket inside the login chroot,
**M** started by Dovecot in the place of its own auth process.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from authlua.cli.snippet import snippet
from authlua.config import load
from tests.e2e.dovecot import NATIVE, Dovecot
from tests.e2e.programs import Scene
from tests.e2e.relay import Relay, relaying
from tests.e2e.server import DATABASES, PLAIN_AND_LOGIN, service_wrapper, serving, write_config

SCRIPT = Path(__file__).parent / "auth.lua"
PASSWORD = "wonderland-7301"
DOMAIN = "example.org"


@dataclass
class Stack:
    """One running Dovecot with its auth, with all its files in *scene*."""

    version: str
    layout: str
    scene: Scene
    dovecot: Dovecot
    relay: Relay
    server: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    process: subprocess.Popen[bytes] | None = None
    """authlua, unless Dovecot started it."""

    def serve(self) -> None:
        """Start ``authlua serve``."""
        self.process = self.server.enter_context(serving(self.scene.directory / "authlua.toml"))

    def kill_auth(self) -> None:
        """End the auth process without warning, and start it again if nobody else does."""
        if self.process is None:
            os.kill(self.dovecot.pid_of("auth"), signal.SIGKILL)
        else:
            self.process.kill()
            self.server.close()
            self.serve()


@contextlib.contextmanager
def running_stack(
    version: str,
    layout: str,
    scene: Scene,
    *,
    extra: str = "",
    auth: str = PLAIN_AND_LOGIN,
    databases: str = DATABASES,
    native: str | None = None,
) -> Iterator[Stack]:
    """Dovecot *version* ("2.3", "2.4") in *layout* ("native", "E", "B", "M"), ready for mail clients.

    *extra* is added to Dovecot's configuration, *auth* to authlua's; *databases* are authlua's, *native* Dovecot's.
    """
    directory = scene.directory
    shutil.copy(SCRIPT, directory)
    with contextlib.ExitStack() as ends:
        relay = ends.enter_context(relaying())
        dovecot = Dovecot(version, directory, relay.port, extra=extra)
        stack = Stack(version, layout, scene, dovecot, relay)
        ends.callback(stack.server.close)
        client = f"dovecot-{version}"
        if layout == "native":
            dovecot.auth = native or NATIVE[version].format(script=directory / "auth.lua")
            ends.enter_context(dovecot.running())
        elif layout == "M":
            config = write_config(directory, version, [], auth, databases)
            wrapper = service_wrapper(config, outside=version == "2.4")
            dovecot.auth = snippet(client, [], layout="M", command=f"{wrapper} dovecot-service -c {config}")
            ends.enter_context(dovecot.running())
        elif layout == "E":
            base = directory / "authlua"
            dovecot.sockets = {
                "client": base / "auth-client",
                "login": base / "auth-login",
                "master": base / "auth-master",
            }
            config = write_config(directory, version, dovecot_listeners(base / "login", base, version), auth, databases)
            dovecot.auth = snippet(client, load(config).listeners)
            stack.serve()
            ends.enter_context(dovecot.running())
        else:
            # Dovecot makes login/ when it starts; the folder inside is the admin's, as in systemd/tmpfiles
            login = dovecot.base_dir / "login" / "authlua" / "login"
            config = write_config(
                directory, version, dovecot_listeners(login, dovecot.base_dir, version), auth, databases
            )
            dovecot.auth = snippet(client, load(config).listeners)
            ends.enter_context(dovecot.running())
            login.parent.mkdir(mode=0o755)
            stack.serve()
        yield stack


def dovecot_listeners(login: Path, base: Path, version: str) -> list[dict[str, str]]:
    """The sockets Dovecot's programs ask: *login*, and the others in *base* under Dovecot's own names."""
    return [
        {"kind": "login", "path": str(login), "handshake": "late" if version == "2.4" else "early"},
        {"kind": "login", "name": "auth-login", "path": str(base / "auth-login"), "mode": "0600"},
        {"kind": "client", "path": str(base / "auth-client")},
        {"kind": "userdb", "path": str(base / "auth-userdb")},
        {"kind": "master", "path": str(base / "auth-master")},
    ]
