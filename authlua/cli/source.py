"""Where a command's settings come from: ``-c FILE``, or ``--script LUA`` and all defaults."""

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
    base_dir = getattr(args, "base_dir", None) or os.environ.get("RUNTIME_DIRECTORY") or "run"
    return embedded(script, base_dir)
