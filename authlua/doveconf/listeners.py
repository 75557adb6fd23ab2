"""The sockets of ``service auth``, and what its neighbours ``auth-worker`` and ``anvil`` say about authentication."""

from authlua.config import DEFAULT_LISTENERS
from authlua.dialect import Dialect
from authlua.doveconf.parsing import Block, Setting
from authlua.doveconf.site import Left, Site, Table

_OWN = {
    "login/login": ("login", "login"),
    "auth-client": ("client", "auth-client"),
    "auth-login": ("login", "auth-login"),
    "auth-userdb": ("userdb", "auth-userdb"),
    "auth-master": ("master", "auth-master"),
    "token-login/tokenlogin": ("token-login", "token-login"),
}
"""Dovecot's own sockets in its ``base_dir``: kind and path of ours, which are in a directory of their own."""

_TYPES = {
    "auth": "client",
    "auth-legacy": "client",
    "login": "login",
    "master": "master",
    "userdb": "userdb",
    "token-login": "token-login",
    "tokenlogin": "token-login",
    "token": "token-login",
}
"""Kinds by 2.4's ``type``, or by the end of the name (``core:2.3.21.1:src/auth/main.c``)."""

_BASE_DIR = "/run/dovecot"
_USERS = {"default_internal_user": "dovecot", "default_internal_group": "dovecot", "default_login_user": "dovenull"}


def read_services(root: Block, site: Site) -> None:
    """Put what the services in *root* say into *site*."""
    for block in root.blocks:
        match block.name, block.argument:
            case "service", "auth":
                _auth(block, root, site)
            case "service", "auth-worker":
                limit = block.settings.get("process_limit")
                if limit is not None and limit.value not in ("0", "unlimited"):
                    site.put(site.lua, "worker_max", limit, "service auth-worker: process_limit")
            case "service", "anvil":
                if any(one.argument == "anvil-auth-penalty" and _is_off(one) for one in block.blocks):
                    site.auth.keys["penalty"] = False


def _auth(block: Block, root: Block, site: Site) -> None:
    user = _name(block.settings.get("user"), root)
    if user not in ("", "root", _name(Setting("$default_internal_user", 0), root)):
        site.server.keys["user"] = user
    said = {one.argument: one for one in block.blocks if one.name in ("unix_listener", "fifo_listener")}
    ports = [one for one in block.blocks if one.name == "inet_listener"]
    if not said and not ports:
        return
    for default in DEFAULT_LISTENERS:
        own = next((name for name, (_, path) in _OWN.items() if path == default["path"]), "")
        _socket(Table("listener", keys=dict(default)), said.pop(own, None), root, site)
    for name, one in said.items():
        _socket(Table("listener", one.line, keys=_place(name, one, root)), one, root, site)
    for one in ports:
        _port(one, root, site)


def _socket(table: Table, block: Block | None, root: Block, site: Site) -> None:
    """The unix socket *table*, as *block* would have it."""
    if block is not None:
        if _is_off(block):
            return
        table.line = block.line
        name = f"unix_listener {block.argument}"
        if mode := block.settings.get("mode"):
            site.put(table, "mode", Setting(mode.value.zfill(4), mode.line), f"{name}: mode")
        elif block.argument not in _OWN:
            table.keys["mode"] = "0600"
        for key in ("user", "group"):
            if owner := _name(block.settings.get(key), root):
                table.keys[key] = owner
    site.listeners.append(table)


def _place(name: str, block: Block, root: Block) -> dict[str, object]:
    """Kind and path of a socket that is not among Dovecot's own, or is, but not among our default ones."""
    if name in _OWN:
        kind, path = _OWN[name]
        return {"kind": kind, "path": path}
    given = block.settings.get("type", Setting("", 0)).value
    kind = _TYPES.get(given or name.rpartition("/")[2].rpartition("-")[2], "client")
    base_dir = root.settings.get("base_dir", Setting(_BASE_DIR, 0)).value
    return {"kind": kind, "path": name if name.startswith("/") else f"{base_dir}/{name}"}


def _port(block: Block, root: Block, site: Site) -> None:
    """An ``inet_listener``, on each of its addresses."""
    name = f"inet_listener {block.argument}".rstrip()
    port = block.settings.get("port", Setting("0", block.line))
    if port.value == "0":
        return
    word = "address" if site.dialect is Dialect.V2_3 else "listen"
    everywhere = root.settings.get("listen", Setting("*, ::", block.line))
    hosts = block.settings.get(word, everywhere).value.replace(",", " ").split()
    if "*" in hosts and "::" in hosts:
        hosts.remove("*")  # the one socket takes connections of both kinds
    kind = _TYPES.get(block.settings.get("type", Setting("", 0)).value, "client")
    if block.settings.get("ssl", Setting("no", 0)).value == "yes":
        site.server.left.append(Left(block.line, f"{name}: ssl", "listeners of authlua speak no TLS"))
        return
    for host in hosts:
        host = "0.0.0.0" if host == "*" else host
        table = Table("listener", block.line, {"kind": kind})
        if len(hosts) == 1 and block.argument:
            table.keys["name"] = block.argument
        at = f"[{host}]:{port.value}" if ":" in host else f"{host}:{port.value}"
        site.put(table, "address", Setting(at, port.line), f"{name}: {word}")
        if "address" in table.keys:
            site.listeners.append(table)
        else:
            site.server.left += table.left


def _is_off(block: Block) -> bool:
    """Mode 0 is how Dovecot is told not to open a socket."""
    mode = block.settings.get("mode")
    return mode is not None and not mode.value.strip("0")


def _name(setting: Setting | None, root: Block) -> str:
    """A user or group, which may be that of another setting."""
    value = setting.value if setting else ""
    if value.startswith("$"):
        other = value.removeprefix("$").removeprefix("SET:")
        return root.settings.get(other, Setting(_USERS.get(other, ""), 0)).value
    return value
