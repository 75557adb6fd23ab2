"""A `Site` as the text of an ``authlua.toml``."""

from collections.abc import Iterator

from authlua.config import SECTIONS, as_toml, keys
from authlua.doveconf.site import Left, Site, Table

_ARRAYS = ("passdb", "userdb", "listener")


def toml_of(site: Site) -> str:
    """The file, with a comment for each setting that is left."""
    lines = [f"# Made by `authlua import-dovecot` from the configuration of Dovecot {site.version.text}."]
    if site.left:
        lines.append(f"# {len(site.left)} of its settings could not be carried over: look for NOT CARRIED OVER.")
    for table in site.tables:
        lines += ["", *_lines(table)]
    return "\n".join(lines) + "\n"


def describe(left: Left) -> str:
    """*left* as people read it, behind a file's name and a colon, or ``line ``."""
    return f"{left.line}: {left.name}: {left.why}"


def _lines(table: Table) -> Iterator[str]:
    if table.line:
        yield f"# line {table.line}"
    for remark in table.remarks:
        yield f"# {remark}"
    for left in table.left:
        yield f"# NOT CARRIED OVER, line {describe(left)}"
    yield f"[[{table.section}]]" if table.section in _ARRAYS else f"[{table.section}]"
    for key in dict.fromkeys(("driver", *keys(SECTIONS[table.section]))):
        if key in table.keys:
            yield f"{key} = {as_toml(table.keys[key])}"
