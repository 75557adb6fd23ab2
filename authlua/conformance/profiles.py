"""The settings under which sessions are played, in Dovecot's words, and authlua's configuration for each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from authlua.conformance.words import SCRIPT


@dataclass(frozen=True)
class Database:
    """A passdb or userdb; all of them run the kit's script."""

    role: str = ""
    """What ``ROLE`` is in its script: ``1``, ``2`` or ``"master"``; empty when there is one of its kind only."""
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """One set of settings."""

    name: str
    verify: bool = False
    """The script judges passwords itself."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """``auth_*`` settings without their prefix, by their names in 2.3."""
    passdbs: tuple[Database, ...] = (Database(),)
    userdbs: tuple[Database, ...] = (Database(),)

    def scripts(self) -> Mapping[str, str]:
        """The Lua files this needs: their names, as `script_name` tells them, and texts."""
        text = SCRIPT.read_text()
        roles = {database.role for database in (*self.passdbs, *self.userdbs)}
        verify = "VERIFY = true\n" if self.verify else ""
        return {script_name(role): (f"ROLE = {role}\n" if role else "") + verify + text for role in roles}


def script_name(role: str) -> str:
    """The file for databases of *role*."""
    return f"conformance{role.strip(chr(34))}.lua"


_ANY_NAME = {"username_chars": "", "username_format": "", "master_user_separator": "*"}
_MASTER = '"master"'

PROFILES = {
    profile.name: profile
    for profile in (
        Profile("plain"),
        Profile("verify", verify=True, settings={"default_realm": "realm.example", "username_translation": "%@"}),
        Profile(
            "chain",
            settings=_ANY_NAME,
            passdbs=(
                Database(_MASTER, {"master": "yes", "result_success": "continue"}),
                Database("1"),
                Database("2"),
            ),
            userdbs=(Database("1"), Database("2")),
        ),
        Profile(
            "rules",
            settings=_ANY_NAME,
            passdbs=(
                Database(_MASTER, {"master": "yes"}),
                Database(
                    "1",
                    {"result_success": "continue", "result_failure": "continue-ok", "result_internalfail": "return-ok"},
                ),
                Database("2", {"result_failure": "return", "result_internalfail": "continue-fail"}),
            ),
            userdbs=(
                Database("1", {"result_success": "continue-ok", "result_internalfail": "return-fail"}),
                Database("2", {"skip": "found", "result_failure": "return-fail"}),
            ),
        ),
    )
}

LISTENERS = {"login": "login", "client": "client", "master": "master", "userdb": "userdb"}
"""Paths below base_dir, and the kind of each."""


def configuration(profile: Profile, dialect: str, directory: Path, *, delays: bool = False) -> str:
    """authlua's configuration for *profile*; sockets and scripts are in *directory*.

    Args:
        delays: failures take their time, as they do by default.
    """
    text = f'[server]\nbase_dir = "{directory}"\ndialect = "{dialect}"\n[log]\nlevel = "error"\n[auth]\n'
    text += "penalty = false\n"
    if not delays:
        text += 'failure_delay = "0s"\ninternal_failure_delay = "0s"\n'
    text += "".join(f'{name} = "{value}"\n' for name, value in profile.settings.items())
    for kind, databases in (("passdb", profile.passdbs), ("userdb", profile.userdbs)):
        for database in databases:
            script = directory / script_name(database.role)
            text += f'[[{kind}]]\nscript = "{script}"\ndialect = "{dialect}"\nuse_worker = false\n'
            for name, value in database.settings.items():
                text += f"{name} = true\n" if value == "yes" else f'{name} = "{value}"\n'
    for path, kind in LISTENERS.items():
        text += f'[[listener]]\nkind = "{kind}"\npath = "{path}"\nmode = "0666"\n'
        if dialect != "2.3" and kind in ("login", "client"):
            text += 'handshake = "late"\n'  # as Dovecot 2.4 shakes hands
    return text
