"""What a field of a passdb or userdb does: each is set on both servers, and the replies are compared.

The order of a reply's fields is that of Lua's hash table, so they are sorted.
"""

import time
from collections.abc import Mapping

import pytest

from tests.differential.servers import DOVECOTS, AuthClient, Authlua, MasterClient, Server, plain
from tests.reference.dovecot import why_not

LATER, LONG_AGO, TOO_LATE = int(time.time()) + 1, 1000, int(time.time()) + 100_000

PASSDB: Mapping[str, Mapping[str, str | None]] = {
    "plain": {},
    "ordinary": {"a": "b", "with space": "c d", "UPPER": "x"},
    "empty": {"a": ""},
    "tab": {"a": "x\ty"},
    "linefeed": {"a": "x\ny\r"},
    "escape": {"a": "x\x01y\x01"},
    "latin1": {"a": "x\udce9y"},
    "nul": {"a": "x\0y"},
    "nothing but nul": {"a": "\0"},
    "utf-8": {"a": "\u00fc\u20ac"},
    "user": {"user": "Another"},
    "user with domain": {"user": "another@example.org"},
    "no user": {"user": ""},
    "username": {"username": "another"},
    "username@in.domain": {"username": "another"},
    "username with domain": {"username": "another@example.org"},
    "domain": {"domain": "example.org"},
    "domain@in.domain": {"domain": "example.org"},
    "domain@in@two.domains": {"domain": "example.org"},
    "no domain@in.domain": {"domain": ""},
    "no username@in.domain": {"username": ""},
    "login_user": {"login_user": "another"},
    "allowed": {"allow_nets": "198.51.100.0/24"},
    "allowed by list": {"allow_nets": "192.0.2.1, 198.51.100.0/25 ::1"},
    "not allowed": {"allow_nets": "192.0.2.0/24"},
    "allowed by IPv6": {"allow_nets": "::/0"},
    "allowed by nonsense": {"allow_nets": "nonsense,198.51.100.1"},
    "not allowed by nonsense": {"allow_nets": "nonsense"},
    "allowed local": {"allow_nets": "local"},
    "allowed nowhere": {"allow_nets": ""},
    "allowed by one address": {"allow_nets": "198.51.100.1"},
    "allowed by 0 bits": {"allow_nets": "10.0.0.0/0"},
    "allowed by 33 bits": {"allow_nets": "198.51.100.1/33"},
    "allowed local or": {"allow_nets": "192.0.2.0/24,local"},
    "allowed really or": {"allow_nets": "198.51.100.1", "allow_real_nets": "local"},
    "allowed really": {"allow_real_nets": "203.0.113.0/24"},
    "not allowed really": {"allow_real_nets": "198.51.100.0/24"},
    "fail": {"fail": "y"},
    "delayed": {"delay_until": str(LATER)},
    "delayed by chance": {"delay_until": f"{LONG_AGO}+1"},
    "delayed for long": {"delay_until": str(TOO_LATE)},
    "delayed until nonsense": {"delay_until": "soon"},
    "delayed by nonsense": {"delay_until": f"{LONG_AGO}+soon"},
    "delayed up to": {"delay_until": f"{LONG_AGO}+"},
    "nodelay": {"nodelay": "y"},
    "nodelay by any value": {"nodelay": "no"},
    "nologin": {"nologin": "y", "reason": "closed"},
    "nologin by any value": {"nologin": "no"},
    "fail by any value": {"fail": "no"},
    "noauthenticate": {"noauthenticate": "y"},
    "nologin empty": {"nologin": ""},
    "reason": {"reason": "because"},
    "passdb_import": {"passdb_import": "a=b\tnologin=y\tc"},
    "import of a user": {"passdb_import": "user=another"},
    "import of userdb": {"passdb_import": "userdb_home=/h\tallow_nets=192.0.2.0/24"},
    "import without a value": {"passdb_import": "a\tb=="},
    "userdb": {"userdb_home": "/h", "userdb_uid": "5"},
    "userdb_import": {"userdb_userdb_import": "home=/h\tuid=5"},
    "userdb user": {"userdb_user": "another"},
    "userdb_userdb_import of a user": {"userdb_userdb_import": "user=another"},
    "original_user": {"original_user": "me", "auth_user": "you"},
    "what the reply uses": {"code": "c", "resp": "r"},
    "k5principals": {"k5principals": "a@B,c@D"},
    "forward": {"forward_x": "y", "event_x": "y", "token": "t"},
    "protected": {"a:protected": "b"},
    "default": {"a:default": "b"},
    "remove": {"a:remove": "b"},
    "other suffix": {"a:b": "c"},
    "proxy": {"proxy": "y", "host": "192.0.2.9"},
    "proxy with password": {"proxy": "y", "host": "192.0.2.9", "pass": "other", "destuser": "them", "port": "1143"},
    "proxy without host": {"proxy": "y"},
    "proxy by any value": {"proxy": "no", "host": "192.0.2.9"},
    "proxy family": {
        "proxy": "y",
        "host": "192.0.2.9",
        "master": "m",
        "proxy_mech": "PLAIN",
        "proxy_timeout": "5",
        "proxy_noauth": "y",
        "proxy_nopipelining": "y",
        "proxy_not_trusted": "y",
        "proxy_refresh": "450",
        "proxy_host_immediate_failure_after": "5",
        "source_ip": "192.0.2.1",
        "ssl": "any-cert",
        "starttls": "yes",
        "protocol": "imap",
    },
    "proxy with empty values": {"proxy": "", "host": "192.0.2.9", "pass": "", "master": ""},
    "no proxy but its fields": {"host": "192.0.2.9", "port": "143", "pass": "p", "destuser": "d"},
    "proxy_maybe without host": {"proxy_maybe": "y"},
    "proxy_maybe with all": {"proxy_maybe": "y", "host": "192.0.2.1", "destuser": "d", "ssl": "yes"},
    "proxy to ourselves": {"proxy": "y", "host": "192.0.2.1"},
    "proxy to IPv6": {"proxy": "y", "host": "2001:db8::1"},
    "proxy to hostip": {"proxy": "y", "host": "a.invalid", "hostip": "192.0.2.9"},
    "proxy with two addresses": {"proxy": "y", "host": "192.0.2.9", "hostip": "192.0.2.8"},
    "proxy with one address twice": {"proxy": "y", "host": "192.0.2.9", "hostip": "192.0.2.9"},
    "proxy_maybe by hostip": {"proxy_maybe": "y", "host": "a.invalid", "hostip": "192.0.2.1"},
    "proxy_always": {"proxy_maybe": "y", "proxy_always": "y", "host": "192.0.2.1"},
    "proxy_maybe elsewhere": {"proxy_maybe": "y", "host": "192.0.2.9"},
    "proxy_maybe here": {"proxy_maybe": "y", "host": "192.0.2.1"},
    "proxy_maybe here by port": {"proxy_maybe": "y", "host": "192.0.2.1", "port": "143"},
    "proxy_maybe on another port": {"proxy_maybe": "y", "host": "192.0.2.1", "port": "144"},
    "proxy and nologin": {"proxy": "y", "host": "192.0.2.9", "nologin": "y"},
    "proxy in a word": {"proxy": "yes", "host": "192.0.2.9"},
    "anonymous": {"user": "anonymous"},
    "password without scheme": {"password": "pass"},
    "password with an encoding": {"password": "{PLAIN.b64}cGFzcw=="},
    "password with another encoding": {"password": "{plain.HEX}70617373"},
    "password of md5crypt": {"password": "$1$abcdefgh$1s0bv7.OjNizlrMAOIQD7."},
    "password of md5crypt and more": {"password": "$1$abcdefgh$1s0bv7.OjNizlrMAOIQD7.$more"},
    "password of a scheme without end": {"password": "{PLAIN"},
    "password of a scheme alone": {"password": "{PLAIN}"},
    "empty password": {"password": ""},
    "password_noscheme": {"password": None, "password_noscheme": "{PLAIN}pass"},
}
"""What the user of that name has beside a password, or instead of it."""

USERDB: Mapping[str, Mapping[str, str]] = {
    "plain": {},
    "ordinary": {"home": "/h", "mail": "maildir:~/Maildir", "a": ""},
    "tab": {"a": "x\ty\n\x01z"},
    "latin1": {"a": "x\udce9y"},
    "nul": {"a": "x\0y", "b": "\0"},
    "what only others act on": {"chroot": "/c", "quota_rule": "*:bytes=1", "mail_plugins": "quota", "nice": "5"},
    "names that are sections": {"namespace/inbox/separator": "/", "plugin/x": "y", "event_x": "z"},
    "what the reply says itself": {"auth_mech": "m", "auth_token": "t", "anonymous": "a", "local_name": "l"},
    "numbers": {"uid": "5000", "gid": "5001"},
    "names": {"uid": "daemon", "gid": "daemon"},
    "zeros": {"uid": "005", "gid": "0"},
    "no such uid": {"uid": "nobody-here"},
    "no such gid": {"gid": "nobody-here"},
    "no uid": {"uid": ""},
    "negative uid": {"uid": "-1"},
    "last signed uid": {"uid": "2147483647"},
    "first unsigned uid": {"uid": "2147483648"},
    "last but one uid": {"uid": "4294967293"},
    "last uid": {"uid": "4294967294"},
    "no uid any more": {"uid": "4294967295"},
    "huge uid": {"uid": "99999999999999999999"},
    "uid with space": {"uid": " 5"},
    "several gids": {"gid": "5,6"},
    "uidgid_file": {"uidgid_file": "/etc/hostname"},
    "uidgid_file with user": {"uidgid_file": "/etc/%s"},
    "hostname": {"uidgid_file": "/etc/%u"},
    "no uidgid_file": {"uidgid_file": "/nowhere"},
    "tempfail": {"tempfail": "y"},
    "tempfail with reason": {"tempfail": "y", "reason": "try later"},
    "userdb_import": {"userdb_import": "home=/h\tuid=5\tb"},
    "import of a user": {"userdb_import": "user=another"},
    "system_user": {"system_user": "daemon"},
    "system_groups_user": {"system_groups_user": "daemon"},
    "user": {"user": "Another"},
    "no user": {"user": ""},
    "username": {"username": "another"},
    "domain": {"domain": "example.org"},
    "domain@in.domain": {"domain": "example.org"},
    "protected": {"a:protected": "b"},
    "default": {"a:default": "b"},
    "remove": {"a:remove": "b"},
    "blank": {" ": " "},
    "master_user": {"master_user": "m", "auth_user": "a"},
}
"""What a userdb has of the user of that name."""

BETTER: dict[tuple[str, str], str] = {}
"""What authlua answers otherwise, on purpose; docs/differences.md says why."""


def script() -> str:
    def table(users: Mapping[str, Mapping[str, str | None]], **more: str) -> str:
        entries = []
        for user, fields in users.items():
            pairs = [
                f"[{_lua(name)}] = {_lua(value)}" for name, value in {**more, **fields}.items() if value is not None
            ]
            entries.append(f"  [{_lua(user)}] = {{ {', '.join(pairs)} }},\n")
        return "{\n" + "".join(entries) + "}\n"

    text = "local auth = dovecot.auth\n"
    text += f"local passdb = {table(PASSDB, password='{PLAIN}pass')}local userdb = {table(USERDB)}"
    for kind in ("passdb", "userdb"):
        text += f"function auth_{kind}_lookup(request)\n  local found = {kind}[request.user]\n"
        text += f'  if found == nil then return auth.{kind.upper()}_RESULT_USER_UNKNOWN, "" end\n'
        text += f"  return auth.{kind.upper()}_RESULT_OK, found\nend\n"
    return text


def _lua(text: str) -> str:
    return '"' + "".join(f"\\{byte:03d}" for byte in text.encode("utf-8", "surrogateescape")) + '"'


def transcript(server: Server) -> dict[str, str]:
    """Each user with the right and with a wrong password on a login socket, and what the master is told."""
    where = ["lip=192.0.2.1", "lport=143", "rip=198.51.100.1", "real_rip=203.0.113.1"]
    said: dict[str, str] = {}
    with AuthClient(server, "login") as client:
        for password in ("pass", "wrong"):
            replies = client.login_all([(user, password, "") for user in PASSDB], *where)
            said |= {f"AUTH {user} {password}": plain(reply) for user, reply in zip(PASSDB, replies, strict=True)}
        replies = client.login_all([(user, "pass", "") for user in PASSDB])
        said |= {f"AUTH {user} from nowhere": plain(reply) for user, reply in zip(PASSDB, replies, strict=True)}
    with MasterClient(server) as master:
        for command, users in (("PASS", PASSDB), ("USER", USERDB)):
            said |= {f"{command} {user}": plain(master.ask(command, user)) for user in users}
    return said


@pytest.mark.parametrize(
    "series",
    [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)],
)
def test_each_field_does_the_same(series: str) -> None:
    """For logins that succeed and that fail, and for lookups."""
    if reason := why_not(series):
        pytest.skip(reason)
    settings: dict[str, str | int] = {
        "auth_failure_delay": 0,
        "auth_username_chars": "",
        "auth_username_format": "",
        "auth_debug": "no",
        **({} if series == "2.3" else {"auth_internal_failure_delay": 0}),
    }
    with DOVECOTS[series](script(), **settings) as dovecot:
        expected = transcript(dovecot)
        log = dovecot.log()
    config = (
        "[auth]\nfailure_delay = 0\ninternal_failure_delay = 0\npenalty = false\nusername_chars = ''\n"
        "username_format = ''\n"
        + "".join(f"[[{kind}]]\nscript = 'auth.lua'\nuse_worker = false\n" for kind in ("passdb", "userdb"))
    )
    with Authlua(config, dialect=series, files={"auth.lua": script()}) as authlua:
        got = transcript(authlua)
        log += authlua.log()
    wanted = {asked: BETTER.get((series, asked), reply) for asked, reply in expected.items()}
    differing = {asked: (reply, wanted[asked]) for asked, reply in got.items() if reply != wanted[asked]}
    for one in differing.items():
        print("DIFF", ascii(one))
    assert {asked: (reply, wanted[asked]) for asked, reply in got.items() if reply != wanted[asked]} == {}, log
