"""Where a command's settings come from: ``-c FILE``, ``--script LUA`` and all defaults, or the defaults alone."""

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from authlua.config import Settings


def load_settings(args: argparse.Namespace) -> "Settings":
    """The settings that *args* ask for; raises `ConfigError`."""
    from authlua.config import embedded, load

    script = getattr(args, "script", None)
    if script is None:
        return load(args.config)
    runtime, *_ = os.environ.get("RUNTIME_DIRECTORY", "").split(":")  # systemd names all there are
    base_dir = getattr(args, "base_dir", None) or runtime or "run"
    return embedded(script, base_dir)


def settings_or_defaults(args: argparse.Namespace) -> "Settings":
    """The settings in the configuration; the defaults, if nobody named one and none is where it is looked for."""
    from authlua.cli import default_config
    from authlua.config import load, without_file

    if args.config == default_config() and not os.path.exists(args.config):
        return without_file()
    return load(args.config)
