"""`Settings` as TOML text."""

import json
import re

from authlua.config.kinds import VERBOSE
from authlua.config.settings import ARRAYS, SECTIONS, Settings, keys


def toml_text(settings: Settings) -> str:
    """*settings* as a TOML file with every key, values that may be secret hidden."""
    lines: list[str] = []
    for name, section in SECTIONS.items():
        array = name in ARRAYS
        for table in getattr(settings, name + "s") if array else [getattr(settings, name)]:
            lines.append(f"[[{name}]]" if array else f"[{name}]")
            for key_name, entry in keys(section).items():
                value = getattr(table, key_name)
                if value is not None or entry.kind is VERBOSE:
                    lines.append(f"{key_name} = {as_toml(entry.kind.show(value))}")
            lines.append("")
    return "\n".join(lines)


def as_toml(value: object) -> str:
    """*value* as TOML spells it; JSON's strings, numbers and booleans happen to be TOML's."""
    if isinstance(value, dict):
        items = (f"{_toml_key(name)} = {as_toml(item)}" for name, item in value.items())
        return "{ " + ", ".join(items) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(as_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False, default=str)


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
