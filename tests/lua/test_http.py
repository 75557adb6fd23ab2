"""dovecot.http, asked of a running Dovecot and of authlua in one go; and an example that verifies by HTTP."""

import base64
import re
import socket
from collections.abc import Iterator
from itertools import zip_longest

import pytest
import trio

from authlua.conformance.raw import RawConnection
from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.results import PassdbReply, PassdbResult
from authlua.secret import Secret
from authlua.server.driving import complete
from authlua.services import fulfil_now
from tests.lua.conftest import SCRIPTS, Bench, login
from tests.reference.dovecot import Dovecot, Dovecot23, Dovecot24, why_not
from tests.services.backend import Backend

BOTH = pytest.mark.parametrize("dialect", [Dialect.V2_3, Dialect.V2_4])
LATER = ("PROBE meta request", "PROBE get_event")
"""authlua's 2.4 has the events of requests, which came after the 2.4.1 that is asked here."""


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A web server."""
    with Backend() as backend:
        yield backend


def script(backend: Backend) -> str:
    """The probes, with the backend's port."""
    return (SCRIPTS / "http.lua").read_text().replace("PORT", str(backend.port))


def probes(log: str) -> list[str]:
    """The lines of the script, without what differs from run to run."""
    lines = [line[line.index("PROBE") :] for line in log.splitlines() if "PROBE" in line]
    return [re.sub(r":[0-9]{5}\b", ":port", re.sub(r"\S*auth\.lua", "auth.lua", line)) for line in lines]


@pytest.mark.parametrize(
    ("kind", "dialect"),
    [
        pytest.param(Dovecot23, Dialect.V2_3, marks=pytest.mark.dovecot, id="2.3"),
        pytest.param(Dovecot24, Dialect.V2_4, marks=pytest.mark.dovecot24, id="2.4"),
    ],
)
def test_requests_answers_and_refusals_are_those_of_dovecot(kind: type[Dovecot], dialect: Dialect, bench: Bench):
    """Options, URLs, what is sent, every status, redirects, retries, what goes wrong: line by line."""
    if reason := why_not(kind.series):
        pytest.skip(reason)
    with (
        Backend() as backend,
        kind(script(backend), auth_failure_delay="0", auth_debug="no") as dovecot,
        RawConnection.connect(dovecot.sockets["client"]) as client,
    ):
        client.handshake(pid=4242)
        response = base64.b64encode(b"\0alice\0pass").decode()
        client.send(f"AUTH\t1\tPLAIN\tservice=imap\tresp={response}\n".encode())
        theirs = probes(dovecot.wait_for_log("PROBE end"))
    with Backend() as backend:
        trio.run(complete, bench.passdb(script(backend), dialect).lookup(login()))
    ours = probes("\n".join(bench.texts))
    pairs = [pair for pair in zip_longest(theirs, ours) if pair[0] != pair[1]]
    if dialect is Dialect.V2_4:
        pairs = [pair for pair in pairs if not str(pair[0]).startswith(LATER)]
    assert pairs == []


KEEP = """
local client = dovecot.http.client{}
local paths, number = { "/", "/", "/until-close", "/status/404", "/hang-up", "/" }, 0
function auth_passdb_lookup()
  number = number + 1
  local response = client:request{ url = "http://127.0.0.1:PORT" .. paths[number], method = "GET" }:submit()
  dovecot.i_info("PROBE " .. number .. " " .. response:status())
  return 1, { password = "pass" }
end
function auth_userdb_lookup() return 1, {} end
"""


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(Dovecot23, marks=pytest.mark.dovecot, id="2.3"),
        pytest.param(Dovecot24, marks=pytest.mark.dovecot24, id="2.4"),
    ],
)
def test_connections_are_kept_as_dovecot_keeps_them(kind: type[Dovecot], bench: Bench):
    """By default, until the server ends them."""
    if reason := why_not(kind.series):
        pytest.skip(reason)
    theirs, ours = [], []
    with (
        Backend() as backend,
        kind(KEEP.replace("PORT", str(backend.port)), auth_failure_delay="0", auth_debug="no") as dovecot,
        RawConnection.connect(dovecot.sockets["client"]) as client,
    ):
        client.handshake(pid=4242)
        for id in range(1, 7):
            response = base64.b64encode(b"\0alice%d\0pass" % id).decode()
            client.send(f"AUTH\t{id}\tPLAIN\tservice=imap\tresp={response}\n".encode())
            dovecot.wait_for_log(f"PROBE {id} ")
            theirs.append(backend.connections)

    async def logins() -> None:
        passdb = bench.passdb(KEEP.replace("PORT", str(backend.port)))
        for _ in range(6):
            await complete(passdb.lookup(login()))
            ours.append(backend.connections)

    with Backend() as backend:
        trio.run(logins)
    assert ours[:4] == theirs[:4] == [1, 1, 1, 2]
    # a connection that breaks as it is used is one more try here, as a GET does no harm twice
    assert (theirs[4:], ours[4:]) == ([2, 3], [3, 4])
    assert bench.texts[4:] == ["PROBE 5 9005", "PROBE 6 200"]


# -- script 02


class Judge(Backend):
    """The service that script 02 asks."""

    def answer(self, sock: socket.socket, head: bytes, body: bytes) -> bool:
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if fields[b"X-Auth-User"] == b"slow":
            self.closing.wait(20)
            return False
        status = b"404 Not Found" if fields[b"X-Auth-User"] == b"ghost" else b"403 Forbidden"
        if body == b"pass" and not status.startswith(b"404"):
            status = b"200 OK"
        sock.sendall(b"HTTP/1.1 " + status + b"\r\nX-Backend: b1\r\nContent-Length: 0\r\n\r\n")
        return True


def verify(bench: Bench, port: int, dialect: Dialect, user: str, password: bytes) -> PassdbReply:
    """What script 02 says."""
    text = (SCRIPTS / "02-verify-http.lua").read_text().replace("18765", str(port))
    reply: PassdbReply = trio.run(complete, bench.passdb(text, dialect).verify_plain(login(user), Secret(password)))
    return reply


@BOTH
def test_an_http_service_judges_passwords(bench: Bench, dialect: Dialect):
    """Script 02, as its header tells: right, wrong, unknown, too slow, not there."""
    with Judge() as judge:
        result, fields, _ = verify(bench, judge.port, dialect, "alice", b"pass")
        assert (result, dict(fields)) == (PassdbResult.OK, {"backend": "b1"})
        assert bench.lines[0].text == "backend: status=200 reason=OK"
        assert judge.requests[0].startswith(b"POST /auth HTTP/1.1\r\n")
        assert b"User-Agent: authlua-example\r\n" in judge.requests[0]
        assert verify(bench, judge.port, dialect, "alice", b"wrong")[0] is PassdbResult.PASSWORD_MISMATCH
        assert verify(bench, judge.port, dialect, "ghost", b"pass")[0] is PassdbResult.USER_UNKNOWN
        result, _, text = verify(bench, judge.port, dialect, "slow", b"pass")
        assert result is PassdbResult.INTERNAL_FAILURE
        assert text.startswith("passdb-lua: backend: 9008 Request timed out (")
        port = judge.port
    result, _, text = verify(bench, port, dialect, "alice", b"pass")
    assert result is PassdbResult.INTERNAL_FAILURE
    assert text == f"passdb-lua: backend: 9003 connect(127.0.0.1:{port}) failed: Connection refused"
    with pytest.raises(ScriptError, match="'auth_passdb_lookup' is not a function"):
        trio.run(complete, bench.passdb(SCRIPTS / "02-verify-http.lua", dialect).lookup(login()))


# -- what Dovecot cannot do


GET = """
local function get(path) return dovecot.http.client{}:request{ url = "URL" .. path }:submit() end
"""


async def test_hundreds_of_calls_wait_at_once(bench: Bench, backend: Backend) -> None:
    """In one Lua state; each gets its own answer."""
    text = GET.replace("URL", backend.url)
    text += """
    function auth_passdb_lookup(req) return 1, { said = get("/echo?" .. req.user):payload():match("%?(%S+)") } end"""
    passdb = bench.passdb(text)
    said: dict[str, str | None] = {}

    async def ask(user: str) -> None:
        reply = await complete(passdb.lookup(login(user)))
        said[user] = dict(reply.fields)["said"]

    async with trio.open_nursery() as nursery:
        for number in range(300):
            nursery.start_soon(ask, f"u{number}")
    assert said == {f"u{number}": f"u{number}" for number in range(300)}
    assert passdb.busy == 0


@pytest.mark.parametrize("version", ["5.1", "5.2", "5.3", "5.4", "5.5", "luajit"])
def test_where_a_script_cannot_wait_the_request_is_made_on_the_spot(bench: Bench, backend: Backend, version: str):
    """While it loads, and inside a C function such as string.gsub."""
    text = GET.replace("URL", backend.url)
    text += """
    local first = get("/"):status()
    function auth_passdb_lookup(req)
      local inner = ("x"):gsub("x", function() return get("/status/404"):reason() end)
      return 1, "first=" .. first .. " inner=" .. inner:gsub(" ", "_")
    end"""
    passdb = bench.passdb(text, version=version, now=fulfil_now)
    reply = trio.run(complete, passdb.lookup(login()))
    assert dict(reply.fields) == {"first": "200", "inner": "Said_So"}


def test_an_answer_cut_short_is_handed_over_and_logged(bench: Bench, backend: Backend):
    """As in Dovecot, which gives the script what came."""
    text = GET.replace("URL", backend.url)
    text += """
    function auth_passdb_lookup(req) return 1, { got = get("/half"):payload() } end"""
    reply = trio.run(complete, bench.passdb(text).lookup(login()))
    assert dict(reply.fields) == {"got": "hello"}
    assert [line.level for line in bench.lines if "while reading the payload at offset 5" in line.text] == ["error"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('r:add_header("a\\nb", "c")', "line break"),
        ('r:add_header("a", "b\\r\\nc: d")', "line break"),
        ("r:submit() r:submit()", "submitted before"),
        ("r.submit(client)", "expected struct http_request got table"),
        ('r.submit("x")', "expected struct http_request got string"),
        ("r.submit(nil)", "expected struct http_request got nil"),
        ("dovecot.http.client{ user_agent = {} }", "user_agent: string expected"),
    ],
)
@BOTH
def test_what_crashes_dovecot_is_an_error(bench: Bench, backend: Backend, dialect: Dialect, body: str, problem: str):
    """Of the script, which may catch it."""
    text = f"""
    function auth_passdb_lookup(req)
      local client = dovecot.http.client{{}}
      local r = client:request{{ url = "{backend.url}/" }}
      {body}
    end"""
    with pytest.raises(ScriptError, match=problem):
        trio.run(complete, bench.passdb(text, dialect).lookup(login()))
