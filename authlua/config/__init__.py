"""The configuration: TOML text in, one frozen `Settings` out.

Reading goes defaults → file → validation, and every problem is found before anything is reported, as one
`ConfigError`. `toml_text` prints the effective result in the same words. The table of keys is in `settings`.
"""

from authlua.config.doubts import (
    doubts,
)
from authlua.config.kinds import (
    DURATION,
    FIELDS,
    FILTER,
    LOCATION,
    MECHANISMS,
    NUMBER,
    SETTINGS,
    SIZE,
    SWITCH,
    VERBOSE,
    WORDS,
    Context,
    Kind,
)
from authlua.config.reading import (
    embedded,
    load,
    without_file,
)
from authlua.config.settings import (
    DEFAULT_LISTENERS,
    DRIVER_KEYS,
    KEEPS_PASSWORDS,
    REQUIRED,
    SECTIONS,
    TELLS_NO_PASSWORDS,
    TWINS,
    AuthSettings,
    ListenerSettings,
    PassdbSettings,
    Settings,
    UserdbSettings,
    default_scheme,
    filtered_mechanisms,
    keys,
)
from authlua.config.writing import (
    as_toml,
    toml_text,
)

__all__ = [
    "DEFAULT_LISTENERS",
    "DRIVER_KEYS",
    "DURATION",
    "FIELDS",
    "FILTER",
    "KEEPS_PASSWORDS",
    "LOCATION",
    "MECHANISMS",
    "NUMBER",
    "REQUIRED",
    "SECTIONS",
    "SETTINGS",
    "SIZE",
    "SWITCH",
    "TELLS_NO_PASSWORDS",
    "TWINS",
    "VERBOSE",
    "WORDS",
    "AuthSettings",
    "Context",
    "Kind",
    "ListenerSettings",
    "PassdbSettings",
    "Settings",
    "UserdbSettings",
    "as_toml",
    "default_scheme",
    "doubts",
    "embedded",
    "filtered_mechanisms",
    "keys",
    "load",
    "toml_text",
    "without_file",
]
