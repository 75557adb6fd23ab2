"""``authlua snippet``: the configuration that points Dovecot, Postfix or Exim at this server's sockets.

The end-to-end tests load these very texts into the real programs, so what is printed here is known to work.
Where a text comes from a rule of the client, the rule is named beside it.
"""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from authlua.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from authlua.config import ListenerSettings

HELP = "print the configuration of Dovecot, Postfix or Exim that fits this one"

CLIENTS = ("dovecot-2.3", "dovecot-2.4", "postfix", "exim")
LAYOUTS = ("E", "B", "M")

POSTFIX_QUEUE = "/var/spool/postfix"
DOVECOT_LISTENERS = ("login/login", "token-login/tokenlogin", "auth-login", "auth-client", "auth-userdb", "auth-master")
"""What Dovecot's ``service auth`` opens by itself (``core:2.3.21.1:src/auth/auth-settings.c``)."""

PROTOCOLS = ("imap", "pop3", "submission")
"""Each is named in its service: with it, Dovecot passes over the blocks of what is not installed; without, it stops."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("client", choices=CLIENTS, help="the program to be configured")
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        help="Dovecot only: E, the sockets are ours alone; B, the login socket is inside Dovecot's login chroot; "
        "M, Dovecot starts authlua (default: B if the login listener is in a folder of Dovecot's login/, else E)",
    )
    parser.add_argument(
        "--listener",
        metavar="NAME",
        help="Postfix and Exim only: name, path or address of the listener to use "
        "(default: the first of kind client, one with tempfail = close preferred)",
    )


def run(args: argparse.Namespace) -> int:
    """Print the snippet for the configuration that *args* name."""
    from authlua.cli.source import load_settings

    settings = load_settings(args)
    text = snippet(
        args.client,
        settings.listeners,
        layout=args.layout,
        listener=args.listener,
        mechanisms=settings.auth.mechanisms,
        command=f"{program()} dovecot-service -c {settings.path and settings.path.absolute()}",
    )
    say(text.rstrip())
    return 0


def program() -> str:
    """How to start this authlua by an absolute path, as Dovecot wants it: it hands on no PATH."""
    started = sys.argv[0]
    if started.endswith("/authlua"):
        return os.path.abspath(started)
    return f"{sys.executable} -m authlua"


def snippet(
    client: str,
    listeners: "Sequence[ListenerSettings]",
    *,
    layout: str | None = None,
    listener: str | None = None,
    mechanisms: "Iterable[str]" = ("plain", "login"),
    command: str = "/usr/bin/authlua dovecot-service -c /etc/authlua/authlua.toml",
) -> str:
    """The text to put into *client*'s configuration.

    *layout* and *command* (what Dovecot shall execute in layout M) matter to Dovecot only, *listener* and
    *mechanisms* to Postfix and Exim. Raises `ConfigError` when *listeners* lack what the client needs.
    """
    match client:
        case "postfix":
            return postfix(mta_listener(listeners, listener))
        case "exim":
            return exim(mta_listener(listeners, listener), mechanisms)
        case _:
            return dovecot(client, listeners, layout, command)


def dovecot(client: str, listeners: "Sequence[ListenerSettings]", layout: str | None, command: str) -> str:
    """Dovecot's own words are the same in 2.3 and 2.4, as far as they are needed here."""
    if layout == "M":
        return (
            f"# {client}: Dovecot starts authlua in the place of its own auth process and owns the sockets.\n"
            f"service auth {{\n  executable = {command}\n}}\n"
        )
    login = socket(listeners, "login")
    chroot = login_chroot(login)
    if layout is None:
        layout = "B" if chroot else "E"
    if layout == "B":
        if chroot is None:
            raise unfit(
                "layout B needs the login listener in a folder inside Dovecot's login folder, "
                f"such as /run/dovecot/login/authlua/login; it is {login}"
            )
        text = [f"# {client}: authlua's login socket is inside the chroot of Dovecot's login processes."]
        word = str(login.relative_to(chroot))
        base_dir = chroot.parent
    else:
        text = [
            f"# {client}: authlua's sockets are outside Dovecot's folders; the login processes give up their chroot."
        ]
        word = str(login)
        base_dir = None
    userdb = socket(listeners, "userdb")
    master = socket(listeners, "master")
    if base_dir is None or userdb != base_dir / "auth-userdb":
        text.append(f"auth_socket_path = {userdb}")
    chroot_line = "  chroot =\n" if layout == "E" else ""
    for protocol in PROTOCOLS:
        executable = f"{protocol}-login {word}"
        text.append(
            f"service {protocol}-login {{\n  protocol = {protocol}\n{chroot_line}  executable = {executable}\n}}"
        )
    if base_dir is None or master != base_dir / "auth-master":
        for protocol in PROTOCOLS:
            executable = f"{protocol} -a {master}"
            text.append(f"service {protocol} {{\n  protocol = {protocol}\n  executable = {executable}\n}}")
    text.append("service auth {")
    for name in (*DOVECOT_LISTENERS, *(("auth-token",) if client == "dovecot-2.4" else ())):
        text.append(f"  unix_listener {name} {{\n    mode = 0\n  }}")
    text.append("}\n")
    return "\n".join(text)


def unfit(problem: str) -> Exception:
    """The error that the configuration has no place for the client."""
    from authlua.errors import ConfigError

    return ConfigError([problem])


def socket(listeners: "Sequence[ListenerSettings]", kind: str) -> "Path":
    """The unix socket of the first listener of *kind*: Dovecot's programs connect to nothing else."""
    for listener in listeners:
        if listener.kind == kind and listener.path is not None:
            return listener.path
    raise unfit(f'Dovecot needs a listener with kind = "{kind}" and a path; the configuration has none')


def login_chroot(login: "Path") -> "Path | None":
    """Dovecot's ``login`` folder if *login* is in a folder inside it.

    Not directly inside: Dovecot refuses to start when it finds a socket of somebody else there
    (``core:2.3.19.1:src/master/master-settings.c:mkdir_login_dir``).
    """
    return next((folder for folder in login.parents[1:] if folder.name == "login"), None)


def mta_listener(listeners: "Sequence[ListenerSettings]", wanted: str | None) -> "ListenerSettings":
    """The client listener a mail server is to use."""
    clients = [listener for listener in listeners if listener.kind == "client"]
    if wanted is not None:
        for listener in clients:
            if wanted in (listener.name, listener.address, str(listener.path)):
                return listener
        raise unfit(f"no listener of kind client has the name, path or address {wanted!r}")
    if not clients:
        raise unfit('mail servers need a listener with kind = "client"; the configuration has none')
    return next((listener for listener in clients if listener.tempfail == "close"), clients[0])


def postfix(listener: "ListenerSettings") -> str:
    """``main.cf``; the inet form of ``smtpd_sasl_path`` works, though Postfix's manual does not name it."""
    if listener.path is None:
        path, note = f"inet:{listener.address}", ""
    elif listener.path.is_relative_to(POSTFIX_QUEUE):
        path, note = str(listener.path.relative_to(POSTFIX_QUEUE)), ""
    else:
        path = f"unix:{listener.path}"
        note = (
            "# smtpd must run outside Postfix's chroot to reach this socket: an n in the chroot column of master.cf\n"
        )
    return (
        f"# postfix: main.cf\n{note}smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = {path}\n"
    )


def exim(listener: "ListenerSettings", mechanisms: "Iterable[str]") -> str:
    """One authenticator for each mech; a TCP ``server_socket`` is written as host, blank, port.

    APOP is POP3's alone, and Exim tells nobody about its TLS channel, which the -PLUS mechs would need.
    """
    if listener.address is None:
        server = str(listener.path)
    else:
        host, _, port = listener.address.rpartition(":")
        server = f"{host.strip('[]')} {port}"
    text = ["# exim: authenticators", "begin authenticators", ""]
    for mech in mechanisms:
        if mech.upper() == "APOP" or mech.upper().endswith("-PLUS"):
            continue
        text += [
            f"dovecot_{mech.lower().replace('-', '_')}:",
            "  driver = dovecot",
            f"  public_name = {mech.upper()}",
            f"  server_socket = {server}",
            "  server_set_id = $auth1",
            "",
        ]
    return "\n".join(text)
