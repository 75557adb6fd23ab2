"""A real Dovecot with the settings of a profile of the conformance kit."""

import re
from typing import Any

from authlua.conformance.profiles import Database, Profile, script_name
from tests.reference.dovecot import Dovecot, Dovecot23, Dovecot24

CRASH = "Panic:|killed with signal|Fatal:|throttling"
"""What a Dovecot's log says of a crash."""

ROOMY = """
service auth {
  client_limit = 8192
}
service anvil {
  client_limit = 8192
}
"""

IN_2_4 = {"default_realm": "default_domain"}


def _databases(profile: Profile, dialect: str) -> str:
    text = ""
    for kind, databases in (("passdb", profile.passdbs), ("userdb", profile.userdbs)):
        for number, database in enumerate(databases):
            text += _database(kind, number, database, dialect)
    return text


def _database(kind: str, number: int, database: Database, dialect: str) -> str:
    path = "{directory}/" + script_name(database.role)
    if dialect == "2.3":
        head = f"{kind} {{\n  driver = lua\n  args = file={path} blocking=no\n"
    else:
        head = f"{kind} number{number} {{\n  driver = lua\n  lua_file = {path}\n  {kind}_use_worker = no\n"
    return head + "".join(f"  {name} = {value}\n" for name, value in database.settings.items()) + "}\n"


class _Reference(Dovecot):
    """A Dovecot with all the scripts of *profile* in its directory."""

    def __init__(self, profile: Profile, **options: Any) -> None:
        super().__init__("", **options)
        self._profile = profile

    def _configuration(self) -> str:
        for name, text in self._profile.scripts().items():
            (self.directory / name).write_text(text)
        return super()._configuration()


class _Reference23(_Reference, Dovecot23):
    pass


class _Reference24(_Reference, Dovecot24):
    pass


def reference(profile: Profile, dialect: str) -> Dovecot:
    """The Dovecot of *dialect* that plays *profile*; enter it to start it."""
    settings = {"auth_debug": "no", "auth_failure_delay": "0"}
    if dialect == "2.4":
        settings["auth_internal_failure_delay"] = "0"
    for name, value in profile.settings.items():
        name = IN_2_4.get(name, name) if dialect == "2.4" else name
        settings[f"auth_{name}"] = value
    kind = {"2.3": _Reference23, "2.4": _Reference24}[dialect]
    return kind(profile, databases=_databases(profile, dialect), extra=ROOMY, **settings)


def crashes(log: str) -> list[str]:
    """The lines of a Dovecot's log that say that it crashed."""
    return [line for line in log.splitlines() if re.search(CRASH, line)]
