"""From TOML text to `Settings`: defaults, then the file, then what one key alone cannot tell."""

import dataclasses
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from authlua.config.checks import check
from authlua.config.kinds import HIDDEN, Context
from authlua.config.settings import (
    ARRAYS,
    DEFAULT_LISTENERS,
    MODES,
    REQUIRED,
    SECTIONS,
    AuthSettings,
    HashSettings,
    Key,
    ListenerSettings,
    LogSettings,
    LuaSettings,
    MailSettings,
    PassdbSettings,
    ServerSettings,
    Settings,
    StateSettings,
    UserdbSettings,
    each,
    keys,
)
from authlua.config.writing import as_toml
from authlua.dialect import Dialect
from authlua.errors import ConfigError

T = TypeVar("T")


def load(path: Path | str) -> Settings:
    """The settings of the TOML file at *path*; `ConfigError` lists all that is wrong with it."""
    path = Path(path)
    try:
        data = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        hint = "; -c FILE names another" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError([f"{path}: {error.strerror}{hint}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        hint = "; TOML has true and false, and texts in quotes" if "Invalid value" in str(error) else ""
        raise ConfigError([f"{path}: not a TOML file: {error}{hint}"]) from error
    return _settings(data, path, path.absolute().parent)


def without_file() -> Settings:
    """The settings in effect with neither file nor script: all defaults, no database, no listener."""
    return _settings({"listener": []}, None, Path.cwd())


def embedded(script: Path | str, base_dir: Path | str) -> Settings:
    """The settings in effect without a file: *script* is passdb and userdb, the default sockets are in *base_dir*."""
    data = {
        "server": {"base_dir": str(base_dir)},
        "passdb": [{"script": str(script)}],
        "userdb": [{"script": str(script)}],
    }
    return _settings(data, None, Path.cwd())


class _Reader:
    """Turns tables into sections and collects what is wrong on the way."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.problems: list[str] = []

    def section(self, section: type[T], where: str, table: object) -> T:
        """*table* as *section*; a key with a problem keeps its default, so that reading goes on."""
        if not isinstance(table, dict):
            self.problems.append(f"{where}: expected a table of keys, got {table!r}")
            table = {}
        entries = keys(section)
        spellings = {spelling: name for name, entry in entries.items() for spelling in (name, entry.alias) if spelling}
        new_defaults = self.context.dialect is not Dialect.V2_3
        values = {name: entry.since_2_4 if new_defaults else entry.default for name, entry in entries.items()}
        seen: dict[str, str] = {}
        for spelling, value in table.items():
            name = spellings.get(spelling)
            if name is None:
                self.problems.append(f"{where}.{spelling}: unknown key{_elsewhere(spelling, spellings)}")
            elif name in seen:
                self.problems.append(f"{where}.{spelling}: another name of {seen[name]}, give one of the two")
            else:
                seen[name] = spelling
                self._read(f"{where}.{spelling}", entries[name], value, values, name)
        for name, value in values.items():
            if value is REQUIRED:
                if name not in seen:
                    self.problems.append(f"{where}.{name}: missing, and it has no default")
                values[name] = None
        return section(**values)

    def _read(self, where: str, entry: Key, value: object, values: dict[str, Any], name: str) -> None:
        try:
            read = entry.kind.read(value, self.context)
        except ValueError as error:
            got = "" if entry.kind in HIDDEN else f", got {as_toml(value)}"
            self.problems.append(f"{where}: {error}{got}")
            return
        values[name] = read


def _settings(data: Mapping[str, Any], path: Path | None, directory: Path) -> Settings:
    from authlua.sasl import MECHS

    server = data.get("server", {})
    try:
        dialect = Dialect(server["dialect"])
    except (KeyError, TypeError, ValueError):  # TypeError: not a table; both are told below
        dialect = Dialect.V2_3
    reader = _Reader(Context(directory, dialect, tuple(MECHS)))
    for name in data:
        if name not in SECTIONS:
            reader.problems.append(f"{name}: unknown section{_did_you_mean(name, SECTIONS)}")

    def tables(name: str, section: type[T], default: Sequence[Mapping[str, str]] = ()) -> tuple[T, ...]:
        found = data.get(name, default)
        if not isinstance(found, list | tuple):
            reader.problems.append(f"{name}: expected [[{name}]] in double brackets, one for each {name}")
            return ()
        return tuple(reader.section(section, where, table) for where, table in each(name, found))

    settings = Settings(
        path,
        reader.section(ServerSettings, "server", server),
        reader.section(LogSettings, "log", data.get("log", {})),
        reader.section(LuaSettings, "lua", data.get("lua", {})),
        reader.section(StateSettings, "state", data.get("state", {})),
        reader.section(AuthSettings, "auth", data.get("auth", {})),
        tables("passdb", PassdbSettings),
        tables("userdb", UserdbSettings),
        reader.section(HashSettings, "hashes", data.get("hashes", {})),
        reader.section(MailSettings, "mail", data.get("mail", {})),
        (),
    )
    reader.context = reader.context._replace(directory=settings.server.base_dir)
    listeners = tuple(
        dataclasses.replace(listener, mode=MODES.get(listener.kind))
        if listener.path and listener.mode is None
        else listener
        for listener in tables("listener", ListenerSettings, DEFAULT_LISTENERS)
    )
    settings = dataclasses.replace(settings, listeners=listeners)
    problems = reader.problems + check(settings, reader.problems)
    if problems:
        raise ConfigError([f"{path or 'embedded default'}: {problem}" for problem in problems])
    return settings


_CALLED_OTHERWISE = {
    "worker_max_count": "lua.worker_max",
    "stats": "a [[listener]] of kind metrics",
    "debug_passwords": "verbose_passwords",
    "pass": 'result_success = "continue"',
    "args": "the driver's own keys, or `authlua import-dovecot`",
    "mechanisms_filter": "mechanisms",
    "default_password_scheme": "scheme",
    "passwd_file_path": "file",
    "lua_file": "script",
    "lua_settings": "settings",
}
"""Words of Dovecot for what has another name or place here."""


def _elsewhere(word: str, known: Collection[str]) -> str:
    """A hint for a key that is not *known* where it stands: what it is called, or where it belongs."""
    if word in _CALLED_OTHERWISE:
        return f", did you mean {_CALLED_OTHERWISE[word]}?"
    for name, section in SECTIONS.items():
        if word in keys(section) and name not in ARRAYS:
            return f", it belongs into [{name}]"
    for prefix in ("auth_", "passdb_", "userdb_"):
        if word.removeprefix(prefix) in known:
            return f", did you mean {word.removeprefix(prefix)}?"
    return _did_you_mean(word, known)


def _did_you_mean(word: str, known: Collection[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word, known, 1)
    return f", did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
