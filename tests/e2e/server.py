"""authlua as the tests start it: by its command, with a configuration file, in a process of its own."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from authlua.config import load
from tests.e2e.programs import running

ROOT = Path(__file__).parent.parent.parent

CONFIG = """\
[server]
base_dir = "{directory}/authlua"
dialect = "{version}"
user = "nobody"
[log]
level = "debug"
[auth]
{auth}
failure_delay = "0s"
penalty = false
internal_failure_delay = "0s"
debug = true
verbose = true
{databases}
"""

DATABASES = """\
[[passdb]]
script = "auth.lua"
[[userdb]]
script = "auth.lua"
"""

PLAIN_AND_LOGIN = 'mechanisms = ["plain", "login"]'


def write_config(
    directory: Path,
    version: str,
    listeners: Sequence[dict[str, str]],
    auth: str = PLAIN_AND_LOGIN,
    databases: str = DATABASES,
) -> Path:
    """``authlua.toml`` for Dovecot *version* with *listeners*, and *auth* in its section, beside ``auth.lua``."""
    text = CONFIG.format(directory=directory, version=version, auth=auth, databases=databases)
    for listener in listeners:
        text += "[[listener]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in listener.items())
    path = directory / "authlua.toml"
    path.write_text(text)
    (directory / "authlua").mkdir(mode=0o755)
    return path


@contextlib.contextmanager
def serving(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``authlua serve`` from the moment it accepts on all its listeners."""
    ready: list[Path | int] = [
        listener.path or int((listener.address or "").rpartition(":")[2]) for listener in load(config).listeners
    ]
    command = [sys.executable, "-m", "authlua", "serve", "-c", config]
    with running(command, log=config.parent / "authlua.log", ready=ready, env={"PYTHONPATH": str(ROOT)}) as process:
        yield process


def service_wrapper(config: Path, *, outside: bool) -> Path:
    """A program for Dovecot to start as its auth service: it hands on neither PATH nor PYTHONPATH.

    *outside*: Dovecot runs in a chroot that has the machine's root at /mnt, and authlua is to be run outside of it.
    """
    wrapper = config.parent / "authlua-service"
    # the PYTHONPATH of a checkout; an installed authlua is started without any wrapper
    command = f"env PYTHONPATH={ROOT} {sys.executable} -m authlua"
    wrapper.write_text(f'#!/bin/sh\nexec {"chroot /mnt " if outside else ""}{command} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper
