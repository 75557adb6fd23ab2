"""Passdbs and userdbs: the same database as a table of ours, whichever grammar it was written in."""

from dataclasses import dataclass, field

from authlua.doveconf.parsing import Setting, is_hidden
from authlua.doveconf.site import Left, Site, Table, is_yes

Fields = list[tuple[str, Setting]]


@dataclass
class Database:
    """One ``passdb`` or ``userdb`` as its reader found it."""

    kind: str
    """``passdb`` or ``userdb``."""
    driver: str
    line: int
    settings: dict[str, Setting] = field(default_factory=dict)
    """By our names, whether of all drivers or of this one; texts are Dovecot's."""
    names: dict[str, str] = field(default_factory=dict)
    """What Dovecot calls a setting whose name is another one here."""
    before: Fields = field(default_factory=list)
    """Fields set before the lookup."""
    after: Fields = field(default_factory=list)
    """Fields set after it."""
    own: Fields = field(default_factory=list)
    """The fields that the driver ``static`` says of everybody, and those that ``oauth2`` makes of claims."""
    auth: dict[str, Setting] = field(default_factory=dict)
    """What it says that is a setting of ``[auth]`` here."""
    script_settings: Fields = field(default_factory=list)
    """What a script gets in ``script_init``."""
    left: list[Left] = field(default_factory=list)

    @property
    def called(self) -> str:
        """How messages call it."""
        return f"{self.kind} {self.driver}"

    def leave(self, setting: Setting, name: str, why: str) -> None:
        """*setting*, which Dovecot calls *name*, has no counterpart."""
        self.left.append(Left(setting.line, f"{self.called}: {name}", why))

    def hidden(self) -> list[tuple[int, str]]:
        """Lines and names of what doveconf does not show."""
        shown = [*self.settings.items(), *self.before, *self.after, *self.own, *self.script_settings]
        return [
            (one.line, f"{self.called}: {self.names.get(name, name)}") for name, one in shown if is_hidden(one.value)
        ]


SERVED = {
    "passdb": ("lua", "static", "passwd-file", "passwd", "pam", "imap", "oauth2"),
    "userdb": ("lua", "static", "passwd-file", "passwd", "prefetch"),
}
"""The drivers that authlua has too."""

HINTS = {
    "sql": "ask the database from the script, with luasql or DBI",
    "ldap": "ask the directory from the script, with a Lua module for it or over HTTP",
    "dict": "ask it from the script, with dovecot.dict",
    "checkpassword": "have the script decide what the program decides",
    "shadow": 'use driver = "pam", which judges by the same passwords, if no mechanism needs to read them',
    "bsdauth": 'use driver = "pam" where the system has it',
    "nss": 'use driver = "passwd", which asks the name service switch as the system has it set up',
}
"""What to do instead of other drivers."""


def translate(database: Database, site: Site) -> Table:
    """*database* as a table.

    A driver that authlua lacks becomes a script that is still to be written, in the same place of the chain: leaving
    the database out could let in people whom it kept out.
    """
    table = Table(database.kind, database.line, left=database.left)
    driver = database.driver
    if driver not in SERVED[database.kind]:
        hint = HINTS.get(driver, "look its users up from the script")
        name = f"{database.kind}-{driver}.lua"
        table.left.append(Left(database.line, database.called, f"authlua has no such driver; write {name}: {hint}"))
        table.keys |= {"driver": "lua", "name": driver, "script": name}
    else:
        table.keys["driver"] = driver
    for key, setting in database.settings.items():
        name = f"{database.called}: {database.names.get(key, key)}"
        if key == "mechanisms":
            if not site.put_mechanisms(table, setting, name) and setting.value.strip():
                # no mechanism that is left could reach it, and an empty list would be all of them
                table.keys["mechanisms"] = ["none"]
        else:
            site.put(table, key, setting, name)
    site.put_fields(table, "default_fields", database.before, f"{database.called}: default_fields")
    site.put_fields(table, "override_fields", database.after, f"{database.called}: override_fields")
    if driver in ("static", "oauth2"):
        site.put_fields(table, "fields", database.own, f"{database.called}: fields")
    for key, setting in database.auth.items():
        site.put(site.auth, key, setting, f"{database.called}: {key}")
    if database.script_settings:
        table.keys["settings"] = {name: setting.value for name, setting in database.script_settings}
    return table


def opposite(setting: Setting) -> Setting:
    """A switch that allows what one of ours forbids, or the other way round."""
    return Setting("no" if setting.value.lower() in ("yes", "y", "1") else "yes", setting.line)


def only_when_yes(database: Database, setting: Setting, name: str, why: str) -> None:
    """*name* is left, unless it was switched off anyway."""
    try:
        if is_yes(setting.value):
            database.leave(setting, name, why)
    except ValueError as error:
        database.leave(setting, name, str(error))
