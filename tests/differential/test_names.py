"""Names of users, of masters and of certificates: what a real Dovecot makes of them, and authlua too."""

import re

import pytest

from authlua.cli.peer import authenticate
from authlua.cli.sasl import CLIENTS, Identity
from tests.differential.servers import AuthClient, MasterClient, Server, answered_alike
from tests.differential.test_traps import conf, passdb, script
from tests.reference.dovecot import why_not

USERS = {
    "t": 'OK, { password = "{PLAIN}pass", whose = "t" }',
    "admin": 'OK, { password = "{PLAIN}root" }',
}
STATIC = {
    "2.3": "userdb {\n  driver = static\n  args = allow_all_users=yes uid=5\n}\n",
    "2.4": "userdb static {\n  userdb_static_allow_all_users = yes\n  fields {\n    uid = 5\n  }\n}\n",
}


def by_challenge(server: Server, mech: str, user: str, password: str, target: str = "") -> str:
    """The reply to a login with a mech that never sees the password."""
    client = CLIENTS[mech](Identity(user.encode(), password.encode(), target.encode()))
    reply = authenticate(str(server.sockets["client"]), mech, [("service", "imap")], client)
    return " ".join([reply.word, *(f"{name}={value}" for name, value in reply.fields)])


def ask(server: Server) -> list[str]:
    """What is said of names in all their forms, and at the end what the log says of those that are refused."""
    said = []
    with AuthClient(server) as client:
        for user, password, target in (
            ("t", "pass", ""),
            ("T", "pass", "T"),
            ("t*admin", "root", ""),
            ("t*admin", "pass", ""),
            ("nobody*admin", "root", ""),
            ("*admin", "root", ""),
            ("admin*admin", "root", ""),
            ("admin*ADMIN", "root", ""),
            ("t", "pass", "t"),
            ("admin", "root", "t"),
            ("admin", "root", "t!"),
            ("t*t*admin", "root", ""),
            ("t" * 128 + "!", "x", ""),
            ("t!\x07ü", "x", ""),
        ):
            said.append(client.login(user, password, authzid=target))
        for params in (
            ["cert_username="],
            ["cert_username"],
            ["cert_username=admin"],
            ["cert_username=t", "valid-client-cert"],
            ["forward_fields=a=1\x01tb\x01tc="],
        ):
            said.append(client.login("t", "pass", *params))
    for mech in ("CRAM-MD5", "SCRAM-SHA-1", "DIGEST-MD5"):
        said.append(by_challenge(server, mech, "t*admin", "root"))
        said.append(by_challenge(server, mech, "nobody*admin", "root"))
    for mech in ("SCRAM-SHA-1", "DIGEST-MD5"):
        said.append(by_challenge(server, mech, "admin", "root", "t"))
    with MasterClient(server) as master:
        for user in ("t*admin", "*admin", "t*", "t*nobody"):
            said += [master.ask("USER", user), master.ask("PASS", user)]
    return said + re.findall(r"Username character disallowed by auth_username_chars: 0x.. \(.*?\)", server.log())


@pytest.mark.parametrize(
    "series",
    [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)],
)
def test_names_become_the_same(series: str) -> None:
    """Those of users and masters, in logins and lookups, and those that cannot be."""
    if reason := why_not(series):
        pytest.skip(reason)
    more = "auth_master_user_separator = *\nauth_ssl_username_from_cert = yes\nauth_verbose = yes\n"
    more += "auth_username_chars = abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ*\n"
    databases = [passdb(series, "one"), passdb(series, "two", master="yes", result_success="continue")]
    mechs = "plain cram-md5 digest-md5 scram-sha-1"
    replies = answered_alike(
        series,
        conf(*databases, STATIC[series], more=more, mechanisms=mechs),
        {"one.lua": script(USERS), "two.lua": script(USERS)},
        ask,
    )
    assert replies[2] == "OK\tuser=t\twhose=t\toriginal_user=admin\tauth_user=admin"
    assert sum("disallowed" in reply for reply in replies) == 3
