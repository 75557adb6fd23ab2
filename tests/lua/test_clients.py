"""dovecot.dict, .dns, .doveadm and .sleep: what scripts get, and what real servers make of it."""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from authlua.conformance.raw import RawConnection
from authlua.dialect import Dialect
from authlua.request import AuthRequest
from authlua.server.driving import complete
from authlua.services import fulfil_now
from tests.e2e.programs import accepts
from tests.lua.conftest import Bench, login
from tests.ports import closed_port, free_port
from tests.reference.dovecot import Dovecot, Dovecot23, Dovecot24, why_not
from tests.services.redis_server import RedisServer, needs_redis

BOTH = pytest.mark.parametrize("dialect", [Dialect.V2_3, Dialect.V2_4])
VERSIONS = ["5.1", "5.2", "5.3", "5.4", "5.5", "luajit"]


def said(bench: Bench, body: str, dialect: Dialect = Dialect.V2_4, **options: Any) -> str:
    """What Lua *body* returns, as ``tostring`` shows it; ``try(f)`` is what *f* returns or the error it raises."""
    script = f"""
    local function try(f, ...) local _, first = pcall(f, ...) return first end
    local function pack(...) return {{ n = select("#", ...), ... }} end
    local function body(req) {body} end
    function auth_passdb_lookup(req)
      local out = pack(body(req))
      for i = 1, out.n do out[i] = tostring(out[i]) end
      return 1, {{ out = table.concat(out, " | ") }}
    end"""
    passdb = bench.passdb(script, dialect, now=fulfil_now, **options)
    request: AuthRequest = login()
    return str(dict(trio.run(complete, passdb.lookup(request)).fields)["out"])


FILE = 'local d = dovecot.dict{ driver = "file", path = "PATH" }\n'
REDIS = 'local d = dovecot.dict{ driver = "redis", port = PORT, key_prefix = "p/" }\n'

WRITE = """
local t = d:transaction_begin("alice")
t:set("shared/a", "1")
t:set("shared/b/c", "tab\\tline\\nreturn\\rone\\1end")
t:set("priv/d", 4)
t:set("shared/gone", "x")
t:commit()
t = d:transaction_begin("bob")
t:unset("shared/gone")
t:set_non_atomic()
t:set_timestamp{ tv_sec = 1, tv_nsec = 2 }
t:commit()
t = d:transaction_begin()
t:set("shared/a", "never")
t:rollback()
"""
READ = """
local function one(...) local found = d:lookup(...) return found and #found == 1 and found[1] end
return one("shared/a"), one("shared/b/c"), one("priv/d", "alice"), one("shared/gone"), one("shared/none")
"""
FOUND = "1 | tab\tline\nreturn\rone\1end | 4 | nil | nil"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis."""
    with RedisServer() as server:
        yield server


@pytest.mark.parametrize("version", VERSIONS)
def test_a_file_keeps_what_a_script_sets(bench: Bench, tmp_path: Path, version: str) -> None:
    """What is committed, whatever is in it; nothing else. It does so in every Lua."""
    place = FILE.replace("PATH", f"{tmp_path}/dict")
    assert said(bench, place + WRITE + READ, version=version) == FOUND
    assert said(bench, place + READ, version=version) == FOUND


@needs_redis
@BOTH
def test_a_redis_keeps_what_a_script_sets(bench: Bench, redis: RedisServer, dialect: Dialect) -> None:
    """Under Dovecot's keys; a user's own begin with the name."""
    redis("FLUSHALL")
    place = REDIS.replace("PORT", str(redis.port))
    assert said(bench, place + WRITE + READ, dialect) == FOUND
    assert sorted(redis("KEYS", "*").split()) == ["p/a", "p/alice/d", "p/b/c"]


@needs_redis
def test_what_redis_is_given_may_end(bench: Bench, redis: RedisServer) -> None:
    """After the seconds of the dict, or of the transaction."""
    place = f'local d = dovecot.dict{{ driver = "redis", port = {redis.port}, expire = "1 hour" }}\n'
    body = 'for s = 0, 100, 100 do local t = d:transaction_begin("u", s) t:set("shared/e" .. s, "x") t:commit() end'
    said(bench, place + body)
    assert 3590 < int(redis("TTL", "e0")) <= 3600
    assert 90 < int(redis("TTL", "e100")) <= 100


def test_iterating(bench: Bench, tmp_path: Path) -> None:
    """One level, all below it, or the very key; sorted when asked."""
    place = FILE.replace("PATH", f"{tmp_path}/dict")
    body = """
    local F, t = dovecot.dict, d:transaction_begin("u")
    for _, key in ipairs{ "shared/z", "shared/a", "shared/a/b", "priv/a", "shared/ab" } do t:set(key, key:reverse()) end
    t:commit()
    local function keys(path, flags, user)
      local found = {}
      for key, values in d:iterate(path, flags + F.ITERATE_FLAG_SORT_BY_KEY, user or "") do
        found[#found + 1] = key .. (values[1] == key:reverse() and #values == 1 and "" or "!")
      end
      return table.concat(found, ",")
    end
    return keys("shared/", 0), keys("shared/", F.ITERATE_FLAG_RECURSE), keys("shared/a", F.ITERATE_FLAG_EXACT_KEY),
      keys("priv/", 0, "u"), keys("shared/x/", 0)
    """
    assert said(bench, place + body) == (
        "shared/a,shared/ab,shared/z | shared/a,shared/a/b,shared/ab,shared/z | shared/a | priv/a | "
    )


def test_iterating_in_order(bench: Bench, tmp_path: Path) -> None:
    """Of keys or of values."""
    body = """
    local t = d:transaction_begin()
    for key, value in pairs{ a = "2", b = "3", c = "1" } do t:set("shared/" .. key, value) end
    t:commit()
    local function keys(flag)
      local found = {}
      local order = dovecot.dict["ITERATE_FLAG_SORT_BY_" .. flag]
      for key in d:iterate("shared/", order) do found[#found + 1] = key:sub(8) end
      return table.concat(found)
    end
    return keys("KEY"), keys("VALUE")
    """
    assert said(bench, FILE.replace("PATH", f"{tmp_path}/dict") + body) == "abc | cab"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ('d:lookup("x")', "Invalid dict key prefix"),
        ('d:lookup("priv/x")', "priv/ dict key prefix requires username"),
        ('d:lookup("priv/x", "")', "priv/ dict key prefix requires username"),
        ("d:lookup()", "expected 2 to 3 arguments, got 1"),
        ("d.lookup({}, 'shared/x')", "Bad argument #1, expected struct dict got table"),
        ('d:iterate("shared/")', "expected 3 to 4 arguments, got 2"),
        ('d:iterate("x", 0)', "Invalid dict key prefix"),
        ('t:set("priv/x", "1")', "priv/ dict key prefix requires username"),
        ('t:set("shared/x")', "expected 3 arguments, got 2"),
        ('t:unset("x")', "Invalid dict key prefix"),
        ("t:set_timestamp{}", "tv_sec missing from table"),
        ("t:set_timestamp{ tv_sec = 1 }", "tv_nsec missing from table"),
        ("t:commit() t:commit()", "dict transaction already committed"),
        ("t:rollback() t:commit()", "dict transaction already aborted"),
        ('t:rollback() t:set("shared/x", "1")', "dict transaction already aborted"),
        (
            'd:transaction_begin("u", 5):commit()',
            "dict transaction commit failed: Expiration not supported by dict driver",
        ),
    ],
)
def test_a_dict_says_what_dovecots_says(bench: Bench, tmp_path: Path, call: str, error: str) -> None:
    """In its words (``core:2.4.4:src/lib-dict/dict-lua.c`` and its neighbours)."""
    place = FILE.replace("PATH", f"{tmp_path}/dict")
    assert said(bench, f"{place}local t = d:transaction_begin()\nreturn try(function() {call} end)") == error


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ('{ driver = "cdb" }', "Unknown dict module: cdb"),
        ("{}", "dict_driver is required"),
        ('{ driver = "file" }', "dict file: dict_file_path is required"),
        ('{ driver = "file", path = "x", host = "y" }', "Invalid dict file setting: host is unknown setting"),
        ('{ driver = "redis", port = 0 }', "Invalid dict redis setting: port=0: Invalid port number 0"),
        ('{ driver = "redis", password = {} }', "Invalid dict redis setting: password: string expected"),
        ('"file"', "Dictionary URI is missing ':': file"),
        ('"file:/x:nolock"', "dict file: Invalid parameter: nolock"),
        ('"redis:host=::1:nosuch=1"', "dict redis: Unknown parameter: "),
    ],
)
@BOTH
def test_what_no_dict_can_be_made_of(bench: Bench, given: str, error: str, dialect: Dialect) -> None:
    """The script is told what is wrong."""
    assert said(bench, f"return try(dovecot.dict, {given})", dialect) == error


@needs_redis
def test_a_dict_may_be_named_as_in_2_3(bench: Bench, redis: RedisServer, tmp_path: Path) -> None:
    """By the text that Dovecot 2.3 has in its configuration."""
    for uri in (
        f"file:{tmp_path}/dict:lock=fcntl",
        f"file:{tmp_path}/dict:lock=flock",
        f"redis:host=127.0.0.1:port={redis.port}:prefix=q/:db=2:expire_secs=60:timeout_msecs=500",
        f"redis:path={redis.path}:prefix=r/",
    ):
        assert said(bench, f'local d = dovecot.dict("{uri}")\n{WRITE}{READ}') == FOUND
    assert 50 < int(redis("-n", "2", "TTL", "q/a")) <= 60


def test_a_backend_that_is_away_is_an_error(bench: Bench, tmp_path: Path) -> None:
    """Never a value, nor the lack of one."""
    with closed_port() as port:
        place = REDIS.replace("PORT", str(port))
        problem = f"Redis at 127.0.0.1:{port}: connect failed: Connection refused"
        body = """
        local t = d:transaction_begin()
        t:set("shared/x", "1")
        return try(d.lookup, d, "shared/x"), try(t.commit, t)
        """
        assert said(bench, place + body) == f"{problem} | dict transaction commit failed: {problem}"
        body = 'return try(function() for key in d:iterate("shared/", 0) do end end)'
        assert said(bench, place + body) == "Unsupported operation (dict does not support this feature)"
    directory = FILE.replace("PATH", str(tmp_path))
    assert said(bench, directory + 'return try(d.lookup, d, "shared/x")') == f"open({tmp_path}) failed: Is a directory"


# -- Dovecot reads what we wrote, and the reverse


@pytest.mark.dovecot
@needs_redis
@pytest.mark.parametrize("driver", ["file", "redis"])
def test_dovecot_finds_what_a_script_wrote_and_the_reverse(
    bench: Bench, tmp_path: Path, redis: RedisServer, driver: str
) -> None:
    """Keys of all and of users, also of one with a slash in the name."""
    if reason := why_not("2.3"):
        pytest.skip(reason)
    config = tmp_path / "dovecot.conf"
    config.write_text("protocols =\n")

    def doveadm(command: str, *words: str) -> Any:
        line = ["doveadm", "-c", str(config), "-f", "json", "dict", command, *words]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
        # 2.3.19.1 crashes when a change of a Redis is done
        assert done.returncode == 0 or (driver, command, done.returncode) == ("redis", "set", -signal.SIGSEGV)
        return [value for row in json.loads(done.stdout or "[]") for value in row.values()]

    uri = f"file:{tmp_path}/dict" if driver == "file" else f"redis:host=127.0.0.1:port={redis.port}:prefix=dv/"
    place = f'local d = dovecot.dict("{uri}")\n'
    ours = """
    local t = d:transaction_begin("a/b\\\\c")
    t:set("shared/a", "one") t:set("shared/esc", "a\\tb\\1c") t:set("priv/p", "two") t:set("shared/gone", "x")
    t:commit()
    """
    said(bench, place + ours)
    assert doveadm("get", uri, "shared/a") == ["one"]
    assert doveadm("get", uri, "shared/esc") == ["a\tb\1c"]
    assert doveadm("get", "-u", "a/b\\c", uri, "priv/p") == ["two"]
    doveadm("set", uri, "shared/theirs", "their\tvalue")
    doveadm("set", "-u", "a/b\\c", uri, "priv/p", "theirs too")
    theirs = 'return d:lookup("shared/theirs")[1], d:lookup("priv/p", "a/b\\\\c")[1]'
    assert said(bench, place + theirs) == "their\tvalue | theirs too"
    if driver == "file":
        doveadm("unset", uri, "shared/gone")
        assert said(bench, place + 'return d:lookup("shared/gone")') == "nil"
        body = 'local n = 0 for _ in d:iterate("shared/", 1) do n = n + 1 end return n'
        assert said(bench, place + body) == "3"
        assert len(doveadm("iter", "-R", "-V", uri, "shared/")) == 3


# -- dns


@BOTH
def test_names_become_addresses(bench: Bench, dialect: Dialect) -> None:
    """A table of them; an address is one of itself. What is no name is nil, the reason and its code."""
    body = """
    local client = dovecot.dns{ timeout = "20 secs" }
    local six = client:lookup("::1", dovecot.event())
    return client:lookup("192.0.2.1")[1], six[1], #six, client:lookup("no.such.host.invalid")
    """
    assert said(bench, body, dialect) == "192.0.2.1 | ::1 | 1 | nil | Name or service not known | -2"
    body = 'local c = dovecot.dns{} return try(c.lookup, c), try(c.lookup, c, {}), try(c.lookup, c, "x", "y")'
    assert "expected 2 to 3 arguments, got 1 | " in said(bench, body, dialect)
    assert said(bench, body, dialect).endswith(" | Bad argument #3, expected struct event got string")
    body = 'return try(function() return dovecot.dns{}:lookup("x", {}) end)'
    assert said(bench, body, dialect) == "Bad argument #3, expected struct event got table"


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(Dovecot23, marks=pytest.mark.dovecot, id="2.3"),
        pytest.param(Dovecot24, marks=pytest.mark.dovecot24, id="2.4"),
    ],
)
def test_dovecots_own_resolver_says_the_same(bench: Bench, kind: type[Dovecot]) -> None:
    """Asked on the socket of its ``dns-client`` service."""
    if reason := why_not(kind.series):
        pytest.skip(reason)
    names = ["127.0.0.1", "::1", "no.such.host.invalid", "localhost"]
    if kind.series == "2.4":
        names.remove("localhost")  # it may run in a directory with a hosts file of its own
    with (
        kind("function auth_passdb_lookup() return 1, 'x' end") as dovecot,
        RawConnection.connect(dovecot.sockets["client"]) as auth,
        socket.socket(socket.AF_UNIX) as client,
    ):
        auth.handshake()  # Dovecot takes its time to stop when it has not quite started
        client.connect(str(dovecot.base_dir / "dns-client"))
        client.settimeout(30)
        client.sendall(b"VERSION\tdns-client\t1\t0\n" + "".join(f"IP\t{name}\n" for name in names).encode())
        text = ""
        while text.count("\n") < 1 + len(names):  # its version, and the answers
            text += client.recv(4096).decode()
    theirs = [line.split("\t") for line in text.splitlines()[1:]]
    for name, (code, *words) in zip(names, theirs, strict=True):
        body = f'local found, why, code = dovecot.dns{{}}:lookup("{name}") '
        body += 'if found then return "0", table.concat(found, " ") end return code, why'
        assert said(bench, body) == f"{code} | {' '.join(words)}"


# -- doveadm


DOVEADM = """
service doveadm {
  unix_listener doveadm-server {
    mode = 0600
  }
  inet_listener tcp {
    %s = 127.0.0.1
    port = %d
  }
}
doveadm_password = s3cret
"""

USERS = """
function auth_userdb_lookup(req)
  if req.user == "ghost" then return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, "" end
  return dovecot.auth.USERDB_RESULT_OK, { uid = "65534", gid = "65534", home = "/nonexistent" }
end
"""


def wait_for(place: Path | int) -> None:
    """Until Dovecot has got round to listen there."""
    for _ in range(1500):
        if accepts(place):
            return
        time.sleep(0.02)
    raise AssertionError(f"nobody listens on {place}")


@pytest.mark.parametrize(
    ("kind", "mail"),
    [
        pytest.param(Dovecot23, "mail_location = maildir:~/mail\n", marks=pytest.mark.dovecot, id="2.3"),
        pytest.param(Dovecot24, "mail_driver = maildir\nmail_path = ~/mail\n", marks=pytest.mark.dovecot24, id="2.4"),
    ],
)
def test_dovecots_doveadm_runs_commands(bench: Bench, kind: type[Dovecot], mail: str) -> None:
    """Over its socket and over TCP: the exit code, and nil or the error; a service that hangs up has a code too."""
    if reason := why_not(kind.series):
        pytest.skip(reason)
    port = free_port()
    extra = mail + DOVEADM % ("address" if kind is Dovecot23 else "listen", port)
    with kind(USERS, extra=extra, auth_debug="no") as dovecot:
        wait_for(dovecot.base_dir / "doveadm-server")
        wait_for(port)
        body = f"""
        local service = dovecot.doveadm{{ socket_path = "{dovecot.base_dir}/doveadm-server" }}
        local tcp = {{ host = "127.0.0.1", port = {port}, password = "s3cret" }}
        local out = {{}}
        local function run(client, ...)
          local code, error = client:cmd(...)
          out[#out + 1] = code .. " " .. tostring(error)
        end
        run(service, {{ "", "", "who" }})
        run(service, {{ "", "", "who" }}, {{ proxy_ttl = 2, forward_fields = {{ a = "b\\tc" }} }})
        run(service, {{ "", "", "nosuch" }})
        run(service, {{ "", "ghost", "mailbox list" }})
        run(service, {{ "", "", "auth cache flush" }})
        run(dovecot.doveadm(tcp), {{ "", "", "who" }})
        tcp.password = "wr0ng"
        run(dovecot.doveadm(tcp), {{ "", "", "who" }})
        tcp.password = nil
        run(dovecot.doveadm(tcp), {{ "", "", "who" }})
        return table.concat(out, "\\n")
        """
        assert said(bench, body).splitlines() == [
            "0 nil",
            "0 nil",
            "-1 ",
            "67 NOUSER",
            f"1000 doveadm server {dovecot.base_dir}/doveadm-server disconnected",
            "0 nil",
            "1000 doveadm authentication failed",
            "1000 doveadm_password not set, can't authenticate to remote server",
        ]
        assert "wr0ng" not in "".join(bench.texts)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("c:cmd()", "expected 2 to 3 arguments, got 1"),
        ("c:cmd{ {} }", "Invalid command line parameter: Table value has invalid type: table"),
        (
            "c:cmd({}, { forward_fields = { a = {} } })",
            "invalid forward_fields: Table key 'a' value has invalid type: table",
        ),
        ("c.cmd({}, {})", "Bad argument #1, expected struct doveadm_client got table"),
        ("dovecot.doveadm{}", "Invalid doveadm setting: expected a socket_path, or a host and a port"),
        ('dovecot.doveadm{ timeout = "5" }', None),
    ],
)
def test_a_doveadm_client_says_what_dovecots_says(bench: Bench, call: str, error: str | None) -> None:
    """In its words (``core:2.4.4:src/lib-doveadm/doveadm-client-lua.c``)."""
    body = f'local c = dovecot.doveadm{{ socket_path = "/nonexistent" }} return try(function() return {call} end)'
    got = said(bench, body)
    assert got == error if error else got.startswith("Invalid doveadm setting: timeout=5: Time interval '5' is missing")


@BOTH
def test_false_is_a_value_of_a_setting(bench: Bench, dialect: Dialect) -> None:
    """It is Dovecot's no, and none where that is no value."""
    body = 'return type(dovecot.doveadm{ socket_path = "/x", ssl_client_require_valid_cert = false })'
    assert said(bench, body, dialect) == "table"
    body = 'return try(dovecot.doveadm, { socket_path = "/x", timeout = false })'
    assert said(bench, body, dialect) == "Invalid doveadm setting: timeout=no: Invalid time interval: no"


def test_a_doveadm_service_that_is_not_there(bench: Bench) -> None:
    """Is the exit code that Dovecot has for it, and why."""
    body = 'return dovecot.doveadm{ socket_path = "/nonexistent" }:cmd{ "", "", "who" }'
    assert said(bench, body) == "1000 | connect(/nonexistent) failed: No such file or directory"


# -- waiting


async def test_all_of_them_wait_without_holding_others_up(bench: Bench, autojump_clock: trio.testing.MockClock) -> None:
    """A thousand calls sleep at once in one state, for as long as one."""
    passdb = bench.passdb(
        'function auth_passdb_lookup() dovecot.sleep(5) return 1, { password = "{PLAIN}x" } end', Dialect.V2_4
    )
    before = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(complete, passdb.lookup(login()))
    assert trio.current_time() - before == pytest.approx(5)


@pytest.mark.parametrize("seconds", ["-1", "nil", "0/0", "1e300", "{}", "'x'"])
def test_a_script_sleeps_for_seconds(bench: Bench, seconds: str) -> None:
    """And for nothing else."""
    error = said(bench, f"return try(dovecot.sleep, {seconds})")
    assert "bad argument #1 to 'sleep' (number of seconds expected, got " in error


def test_pairs_of_dovecot_shows_no_more_than_dovecots(bench: Bench) -> None:
    """In 2.3, where it knows no dict, either."""
    body = "local names = {} for name in pairs(dovecot) do names[#names + 1] = name end table.sort(names) "
    assert said(bench, body + 'return table.concat(names, " ")', Dialect.V2_3) == "auth http"


@BOTH
def test_mail_is_for_mail_scripts(bench: Bench, dialect: Dialect) -> None:
    """An auth script has neither their constants nor their objects."""
    assert said(bench, "return dovecot.storage, mail_user, mailbox, mail", dialect) == "nil | nil | nil | nil"
