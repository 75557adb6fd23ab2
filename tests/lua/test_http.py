"""dovecot.http, asked of a running Dovecot and of authlua in one go; and an example that verifies by HTTP."""

import base64
import json
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import trio

from authlua.conformance.raw import RawConnection
from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.results import PassdbReply, PassdbResult
from authlua.secret import Secret
from authlua.server.driving import complete
from authlua.services import fulfil_now
from authlua.services.http_client import made_of
from authlua.services.http_messages import Options
from authlua.services.http_tls import TlsOptions
from authlua.wishes import Service
from tests.lua.conftest import SCRIPTS, Bench, login
from tests.reference.dovecot import Dovecot, Dovecot23, Dovecot24, why_not
from tests.services.backend import Backend, Tls

BOTH = pytest.mark.parametrize("dialect", [Dialect.V2_3, Dialect.V2_4])
EACH = pytest.mark.parametrize(
    ("kind", "dialect"),
    [
        pytest.param(Dovecot23, Dialect.V2_3, marks=pytest.mark.dovecot, id="2.3"),
        pytest.param(Dovecot24, Dialect.V2_4, marks=pytest.mark.dovecot24, id="2.4"),
    ],
)
"""A Dovecot, and its dialect."""
LATER = ("PROBE meta request", "PROBE get_event", "PROBE setting dns_client_timeout")
"""authlua's 2.4 has what came with 2.4.3, after the 2.4.1 that is asked here: events of requests, settings of DNS."""


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


@contextmanager
def asked(kind: type[Dovecot], text: str) -> Iterator[Dovecot]:
    """A Dovecot whose script *text* has run for one login, to the line ``PROBE end``."""
    if reason := why_not(kind.series):
        pytest.skip(reason)
    with (
        kind(text, auth_failure_delay="0", auth_debug="no") as dovecot,
        RawConnection.connect(dovecot.sockets["client"]) as client,
    ):
        (dovecot.directory / "raw").mkdir()
        (dovecot.directory / "raw").chmod(0o777)
        client.handshake(pid=4242)
        response = base64.b64encode(b"\0alice\0pass").decode()
        client.send(f"AUTH\t1\tPLAIN\tservice=imap\tresp={response}\n".encode())
        dovecot.wait_for_log("PROBE end")
        yield dovecot


@EACH
def test_requests_answers_and_refusals_are_those_of_dovecot(kind: type[Dovecot], dialect: Dialect, bench: Bench):
    """Options, URLs, what is sent, every status, redirects, retries, what goes wrong: line by line."""
    with Backend() as backend, asked(kind, script(backend)) as dovecot:
        theirs = probes(dovecot.log())
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


DEBUG = """
local function client(options)
  if dovecot.gettimeofday then
    options.event_parent = dovecot.event():append_log_prefix("mine: "):set_forced_debug()
    options.request_max_redirects, options.request_max_attempts = "1", "2"
  else
    options.debug, options.max_redirects, options.max_attempts = true, 1, 2
  end
  return dovecot.http.client(options)
end
function auth_passdb_lookup()
  local directory = debug.getinfo(1, "S").source:match("^@(.*)/")
  local client, url = client{ rawlog_dir = directory .. "/raw" }, "http://127.0.0.1:PORT"
  local redirect, close = "/redirect/302/" .. url .. "/", "/until-close"
  local paths = { "/", "/status/404", redirect, close, "/once", close, "/hang-up" }
  for _, path in ipairs(paths) do
    client:request{ url = url .. path }:submit()
  end
  local post = client:request{ url = url .. "/", method = "POST" }
  if dovecot.gettimeofday then post:set_payload("one\\ntwo", true) else post:set_payload("one\\ntwo") end
  post:submit()
  client:request{ url = "http://127.0.0.1:1/" }:submit()
  dovecot.i_info("PROBE end")
  return 1, { password = "pass" }
end
function auth_userdb_lookup() return 1, {} end
"""


def told(lines: Iterable[str], port: int) -> list[str]:
    """What is said of requests, each by itself, without what only Dovecot has to say."""
    found = []
    for line in lines:
        line = line.replace(str(port), "port")
        # 2.3 has this as an event of the connection
        line = re.sub(
            r"http-client: conn \S+ \[\d+\]: (Got \d+ response) for (request .*?\]):", r"http-client[2]: \2: \1:", line
        )
        match = re.search(r"(mine: )?http-client\[\d+\]: (request .*)", line)
        if match is None or re.search(r"\]: (Free|Destroy|Send more|Resubmitting|Got expected)", line):
            continue
        text = re.sub(r"\d+ ms", "N ms", re.sub(r" \(requests left=\d+\)| \(Request queued.*", "", match[2]))
        text = re.sub(r"\(conn:([^,]*),id=\d+\)", r"\1", text)
        found.append(
            (match[1] or "") + text.replace("/redirect/302/http://127.0.0.1:port/", "/").replace("port// (", "port/ (")
        )
    return found


def recorded(directory: Path, kind: str, port: int) -> list[str]:
    """The lines of all raw logs of a *kind*, without times."""
    files = sorted(directory.glob(f"*.{kind}"), key=lambda path: int(path.name.split(".")[2]))
    data = "\n".join(path.read_text() for path in files).replace(str(port), "port")
    data = re.sub(r"(?m)^\d+\.\d{6} ", "", re.sub("Date: .*", "Date: now", data))
    return data.replace("GET http://127.0.0.1:port/ ", "GET / ").splitlines()


@EACH
def test_debug_lines_and_raw_logs_are_those_of_dovecot(
    kind: type[Dovecot], dialect: Dialect, bench: Bench, tmp_path: Path
):
    """What is told of a request, and what goes over its connection; one by one, as it happens."""
    with Backend() as backend, asked(kind, DEBUG.replace("PORT", str(backend.port))) as dovecot:
        theirs = told(dovecot.log().splitlines(), backend.port)
        their_traffic = [recorded(dovecot.directory / "raw", way, backend.port) for way in ("in", "out")]
    with Backend() as backend:
        text = DEBUG.replace("PORT", str(backend.port))
        (tmp_path / "raw").mkdir()
        trio.run(complete, bench.passdb(text, dialect).lookup(login()))
    ours = told(bench.texts, backend.port)
    our_traffic = [recorded(tmp_path / "raw", way, backend.port) for way in ("in", "out")]
    assert ours == theirs
    assert our_traffic == their_traffic


PROXY = """
local is_2_4 = dovecot.gettimeofday ~= nil
local function client(options)
  options.user_agent = "me"
  if is_2_4 then
    options.request_timeout = "300ms"
    options.ssl_client_require_valid_cert = "no" -- 2.4.1 crashes otherwise
    options.proxy_url, options.proxy_username, options.proxy_password = "http://127.0.0.1:PORT", "me", "pw"
  else
    options.proxy_url, options.request_timeout_msecs = "http://me:pw@127.0.0.1:PORT", 300
  end
  return dovecot.http.client(options)
end
function auth_passdb_lookup()
  for _, url in ipairs{ "http://backend.invalid/echo?a", "http://u:p@127.0.0.1:1/", "https://127.0.0.1:1/" } do
    local request = client{}:request{ url = url, method = "POST" }
    request:add_header("X-Own", "1")
    dovecot.i_info("PROBE " .. request:submit():status())
  end
  if is_2_4 then
    client{ proxy_ssl_tunnel = "no" }:request{ url = "https://127.0.0.1:1/x?y" }:submit()
    for _, url in ipairs{ "http://me:pw@proxy/", "ftp://proxy", "http://proxy/#x" } do
      dovecot.i_info("PROBE " .. select(2, pcall(dovecot.http.client, { proxy_url = url })))
    end
  end
  dovecot.i_info("PROBE end")
  return 1, { password = "pass" }
end
function auth_userdb_lookup() return 1, {} end
"""


def sent(backend: Backend) -> list[bytes]:
    """The requests of a backend, without what differs from run to run."""
    return [re.sub(rb"Date: [^\r]*", b"Date: now", request) for request in backend.requests]


@EACH
def test_proxies_are_asked_as_dovecot_asks_them(kind: type[Dovecot], dialect: Dialect, bench: Bench):
    """For a page, with and without a login; for a tunnel; and for what TLS should hide, if a script wants that."""
    with Backend() as backend, asked(kind, PROXY.replace("PORT", str(backend.port))) as dovecot:
        theirs = probes(dovecot.log())
    with Backend() as other:
        trio.run(complete, bench.passdb(PROXY.replace("PORT", str(other.port)), dialect).lookup(login()))
    assert sent(other) == sent(backend)
    assert len(sent(other)) == (4 if dialect is Dialect.V2_4 else 3)
    assert probes("\n".join(bench.texts)) == theirs


TLS = """
local all = {
  {}, { ssl_min_protocol = "TLSv1.2" }, { ssl_min_protocol = "any" }, { ssl_min_protocol = "tlsv1.3" },
  { ssl_min_protocol = "LATEST" }, { ssl_min_protocol = "nosuch" }, { ssl_options = "no_ticket, Compression" },
  { ssl_options = "no_ticket nosuch" }, { ssl_curve_list = "X25519:P-256" }, { ssl_curve_list = "P-384" },
  { ssl_curve_list = "X25519:nosuch" }, { ssl_cipher_suites = "nosuch" }, { ssl_cipher_list = "nosuch" },
  { ssl_cipher_list = "ECDHE-ECDSA-AES256-GCM-SHA384" }, { ssl_cipher_list = "ECDHE-ECDSA-CHACHA20-POLY1305" },
  { ssl_client_ca_file = "/nonexistent" }, { ssl_client_cert_file = "/nonexistent" },
  { ssl_client_key_file = "/nonexistent" }, { ssl_client_ca_dir = "/nonexistent" },
}
function auth_passdb_lookup()
  for i, options in ipairs(all) do
    options.ssl_client_require_valid_cert, options.request_timeout = "no", "10s"
    local response = dovecot.http.client(options):request{ url = "https://127.0.0.1:PORT/" }:submit()
    -- what OpenSSL says of it differs, and in Dovecot from time to time
    local reason = response:reason():gsub("SSL handshak.*", "no TLS"):gsub("setting%): .*", "setting)")
    dovecot.i_info("PROBE " .. i .. ": " .. response:status() .. " " .. reason)
  end
  dovecot.i_info("PROBE end")
  return 1, { password = "pass" }
end
function auth_userdb_lookup() return 1, {} end
"""


@pytest.mark.dovecot24
def test_tls_is_as_with_dovecot(bench: Bench, tmp_path: Path):
    """What there is to set, with a server that has TLS 1.2 and one cipher; and what is nothing."""
    with Tls(tmp_path) as backend:
        backend.only("ECDHE-ECDSA-AES256-GCM-SHA384")
        text = TLS.replace("PORT", str(backend.port))
        with asked(Dovecot24, text) as dovecot:
            theirs = probes(dovecot.log())
        trio.run(complete, bench.passdb(text, Dialect.V2_4).lookup(login()))
    assert probes("\n".join(bench.texts)) == theirs


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
        reply = verify(bench, judge.port, dialect, "alice", b"pass")
        assert (reply.result, dict(reply.fields)) == (PassdbResult.OK, {"backend": "b1"})
        assert bench.lines[0].text == "backend: status=200 reason=OK"
        assert judge.requests[0].startswith(b"POST /auth HTTP/1.1\r\n")
        assert b"User-Agent: authlua-example\r\n" in judge.requests[0]
        assert verify(bench, judge.port, dialect, "alice", b"wrong").result is PassdbResult.PASSWORD_MISMATCH
        assert verify(bench, judge.port, dialect, "ghost", b"pass").result is PassdbResult.USER_UNKNOWN
        reply = verify(bench, judge.port, dialect, "slow", b"pass")
        assert reply.result is PassdbResult.INTERNAL_FAILURE
        assert reply.text.startswith("passdb-lua: backend: 9008 Request timed out (")
        port = judge.port
    reply = verify(bench, port, dialect, "alice", b"pass")
    assert reply.result is PassdbResult.INTERNAL_FAILURE
    assert reply.text == f"passdb-lua: backend: 9003 connect(127.0.0.1:{port}) failed: Connection refused"
    with pytest.raises(ScriptError, match="'auth_passdb_lookup' is not a function"):
        trio.run(complete, bench.passdb(SCRIPTS / "02-verify-http.lua", dialect).lookup(login()))


# -- events


def events(bench: Bench, backend: Backend) -> list[tuple[str, str, object]]:
    """What is told of requests: level, text, and what the script's events said."""
    lines = [line for line in bench.lines if "request [" in line.text]
    return [(line.level, line.text.replace(backend.url, "URL"), line.fields.get("mine")) for line in lines]


PARENT = """
local mine = dovecot.event():append_log_prefix("mine: "):add_str("mine", "parent")FORCED
function auth_passdb_lookup()
  local request = dovecot.http.client{ event_parent = mine }:request{ url = "URL/?q" }
  BODY
  request:submit()
end
"""
CLIENT = "mine: http-client[1]: request [Req1: GET URL/?<hidden>]: "


@pytest.mark.parametrize(
    ("body", "prefix", "mine"),
    [
        ("", CLIENT, "parent"),
        ('request:get_event():add_str("mine", "own")', CLIENT, "own"),
        ('request:get_event():append_log_prefix("own: ")', CLIENT.replace("request", "own: request"), "parent"),
        (
            'assert(select(2, pcall(request.set_event, request, {})):find("expected struct event got table"))',
            CLIENT,
            "parent",
        ),
        ("request:set_event(mine)", CLIENT.replace("http-client[1]: ", ""), "parent"),
        (
            'request:set_event(dovecot.event():set_forced_debug():add_str("mine", "other"))',
            CLIENT.replace("mine: http-client[1]: ", ""),
            "other",
        ),
    ],
)
def test_events_of_a_request_are_below_the_event_it_was_given(
    bench: Bench, backend: Backend, body: str, prefix: str, mine: str
):
    """With its prefix and its fields; in 2.4 whoever forces debug lines there gets those of the request."""
    text = PARENT.replace("FORCED", ":set_forced_debug()").replace("BODY", body).replace("URL", backend.url)
    with pytest.raises(ScriptError):  # it returns nothing
        trio.run(complete, bench.passdb(text, Dialect.V2_4).lookup(login()))
    told = events(bench, backend)
    assert [line for line in told if "took" not in line[1]] == [
        ("debug", f"{prefix}{end}", mine) for end in ("Submitted", "Sent header", "Finished")
    ]
    assert len(told) == 4
    assert bench.lines[-1].fields["event_name"] == "http_request_finished"
    assert bench.lines[-1].fields["status_code"] == 200


@BOTH
@pytest.mark.parametrize("debug", [False, True])
def test_who_wants_no_debug_lines_gets_none(bench: Bench, backend: Backend, dialect: Dialect, debug: bool):
    """2.3 has them where the client asks for them; 2.4 where the event does, or the server has debug lines."""
    text = PARENT.replace("FORCED", "").replace("BODY", "").replace("URL", backend.url)
    with pytest.raises(ScriptError):
        trio.run(complete, bench.passdb(text, dialect, debug=debug).lookup(login()))
    assert bool(events(bench, backend)) == (debug and dialect is Dialect.V2_4)


@pytest.mark.parametrize("dialect", [Dialect.V2_3, Dialect.V2_4])
def test_a_raw_log_that_cannot_be_made_is_an_error_in_the_log(bench: Bench, backend: Backend, dialect: Dialect):
    """Also of a client without debug lines; a directory that is missing is none."""
    text = """
    function auth_passdb_lookup()
      local statuses = {}
      for _, place in ipairs{ "/nonexistent", "/etc/passwd" } do
        local client = dovecot.http.client{ rawlog_dir = place }
        statuses[#statuses + 1] = client:request{ url = "URL/" }:submit():status()
      end
      return 1, { statuses = table.concat(statuses, ",") }
    end"""
    reply = trio.run(complete, bench.passdb(text.replace("URL", backend.url), dialect).lookup(login()))
    assert dict(reply.fields) == {"statuses": "200,200"}
    (line,) = bench.lines
    assert (line.level, "script" in line.fields) == ("error", dialect is Dialect.V2_4)  # whose event that is below
    assert re.fullmatch(
        r"http-client\[2\]: http_client_rawlog_dir: creat\(/etc/passwd/\S+\.in\) failed: Not a directory", line.text
    )


# -- options


OPTIONS_2_3: list[tuple[str, dict[str, object]]] = [
    ('user_agent = "me"', {"user_agent": "me"}),
    ('rawlog_dir = "/raw"', {"rawlog_dir": "/raw"}),
    ("max_idle_time_msecs = 1500", {"max_idle_time": 1.5}),
    ("no_auto_redirect = true", {"auto_redirect": False}),
    ("no_auto_redirect = false", {"auto_redirect": True}),
    ("no_auto_retry = true", {"auto_retry": False}),
    ("max_redirects = 3", {"request_max_redirects": 3}),
    ("max_attempts = 4", {"request_max_attempts": 4}),
    ("max_connect_attempts = 5", {"max_connect_attempts": 5}),
    ("connect_backoff_time_msecs = 250", {"connect_backoff_time": 0.25}),
    ("connect_backoff_max_time_msecs = 5000", {"connect_backoff_max_time": 5}),
    ("request_absolute_timeout_msecs = 6000", {"request_absolute_timeout": 6}),
    ("request_timeout_msecs = 7000", {"request_timeout": 7}),
    ("connect_timeout_msecs = 8000", {"connect_timeout": 8}),
    ("soft_connect_timeout_msecs = 100", {"soft_connect_timeout": 0.1}),
    ("max_auto_retry_delay_secs = 9", {"max_auto_retry_delay": 9}),
    ('proxy_url = "http://proxy/"', {"proxy_url": "http://proxy/"}),
    ('debug = true, event_parent = dovecot.event(), nosuch = "x", request_timeout = "1s"', {}),
]
OPTIONS_2_4: list[tuple[str, dict[str, object]]] = [
    ('user_agent = "me"', {"user_agent": "me"}),
    ('rawlog_dir = "/raw"', {"rawlog_dir": "/raw"}),
    ('max_idle_time = "1500ms"', {"max_idle_time": 1.5}),
    ('auto_redirect = "no"', {"auto_redirect": False}),
    ("auto_redirect = false", {"auto_redirect": False}),
    ('auto_retry = "yes"', {"auto_retry": True}),
    ("auto_retry = true", {"auto_retry": True}),
    ('proxy_ssl_tunnel = "no"', {"proxy_ssl_tunnel": False}),
    ('request_max_redirects = "3"', {"request_max_redirects": 3}),
    ("request_max_attempts = 4", {"request_max_attempts": 4}),
    ('read_request_max_attempts = "1"', {"read_request_max_attempts": 1}),
    ('write_request_max_attempts = "2"', {"write_request_max_attempts": 2}),
    ('delete_request_max_attempts = "3"', {"delete_request_max_attempts": 3}),
    ('max_connect_attempts = "5"', {"max_connect_attempts": 5}),
    ('connect_backoff_time = "250 ms"', {"connect_backoff_time": 0.25}),
    ('connect_backoff_max_time = "5s"', {"connect_backoff_max_time": 5}),
    ('request_absolute_timeout = "6 secs"', {"request_absolute_timeout": 6}),
    ('request_timeout = "7s"', {"request_timeout": 7}),
    ('read_request_timeout = "1 min"', {"read_request_timeout": 60}),
    ('write_request_timeout = "2 mins"', {"write_request_timeout": 120}),
    ('delete_request_timeout = "1h"', {"delete_request_timeout": 3600}),
    ('connect_timeout = "8s"', {"connect_timeout": 8}),
    ('soft_connect_timeout = "100ms"', {"soft_connect_timeout": 0.1}),
    ('max_auto_retry_delay = "9s"', {"max_auto_retry_delay": 9}),
    ('max_parallel_connections = "10"', {"max_parallel_connections": 10}),
    ('max_pipelined_requests = "2"', {}),
    ('dns_ttl = "1 min"', {"dns_ttl": 60}),
    ('dns_client_timeout = "3s"', {"dns_client_timeout": 3}),
    ('dns_client_socket_path = "/dns"', {"dns_client_socket_path": "/dns"}),
    ('socket_send_buffer_size = "1k"', {"socket_send_buffer_size": 1024}),
    ('socket_recv_buffer_size = "2 MB"', {"socket_recv_buffer_size": 2 << 20}),
    ('response_hdr_max_size = "1k"', {"response_hdr_max_size": 1024}),
    ('response_hdr_max_field_size = "512"', {"response_hdr_max_field_size": 512}),
    ('response_hdr_max_fields = "9"', {"response_hdr_max_fields": 9}),
    ('proxy_url = "http://proxy/"', {"proxy_url": "http://proxy/"}),
    ('proxy_socket_path = "/proxy"', {"proxy_socket_path": "/proxy"}),
    ('proxy_username = "me", proxy_password = "pw"', {"proxy_username": "me", "proxy_password": "pw"}),
    ('ssl_client_require_valid_cert = "no"', {"ssl_client_require_valid_cert": False}),
    ('ssl_crypto_device = "x", ssl_peer_certificate_fingerprint_hash = "x", event_parent = dovecot.event()', {}),
]
OPTIONS_2_4 += [
    (f'{name} = "x"', {name: "x"}) for name in TlsOptions._fields if name != "ssl_client_require_valid_cert"
]
DEFAULTS_2_4 = {
    "response_hdr_max_size": 200 << 10,
    "response_hdr_max_field_size": 8 << 10,
    "response_hdr_max_fields": 50,
}


@pytest.mark.parametrize(
    ("dialect", "said", "expected"),
    [
        *((Dialect.V2_3, said, expected) for said, expected in [("", {}), *OPTIONS_2_3]),
        *((Dialect.V2_4, said, DEFAULTS_2_4 | expected) for said, expected in [("", {}), *OPTIONS_2_4]),
    ],
)
def test_each_option_is_handed_on(bench: Bench, dialect: Dialect, said: str, expected: dict[str, Any]):
    """Under its name of 2.4, in seconds and bytes; what is not said is left to the client."""
    text = f"""
    function auth_passdb_lookup(req)
      dovecot.http.client{{ {said} }}:request{{ url = "http://x/" }}:submit()
    end"""
    call = bench.passdb(text, dialect).lookup(login())
    wish = call.send(None)
    call.close()
    assert isinstance(wish, Service)
    options = json.loads(wish.arguments[0])
    assert options == expected
    made_of(options)  # knows all of these names


def test_there_is_no_option_that_no_script_has():
    """Each one of the service's has a name in 2.4."""
    names = {*Options._fields, *TlsOptions._fields} - {"tls"}
    assert names == {name for _, expected in OPTIONS_2_4 for name in expected}


# -- requests and responses


GET = """
local function get(path) return dovecot.http.client{}:request{ url = "URL" .. path }:submit() end
"""


class Odd(Backend):
    """Answers with bytes that are no text."""

    def answer(self, sock: socket.socket, head: bytes, body: bytes) -> bool:
        sock.sendall(b"HTTP/1.1 200 OK\r\nX-Odd: \xe4\xff\r\nContent-Length: 6\r\n\r\n\0\xff\r\n\1\0")
        return True


@BOTH
def test_bytes_of_an_answer_are_kept(bench: Bench, dialect: Dialect):
    """Also those that are no text."""
    with Odd() as backend:
        text = GET.replace("URL", backend.url)
        text += """
        function auth_passdb_lookup(req)
          local response = get("/")
          local got = response:payload() .. response:header("x-odd")
          return 1, { got = got:gsub(".", function(c) return c:byte() .. " " end) }
        end"""
        reply = trio.run(complete, bench.passdb(text, dialect).lookup(login()))
    assert dict(reply.fields) == {"got": "0 255 13 10 1 0 228 255 "}


@BOTH
def test_a_header_that_was_added_may_be_removed(bench: Bench, backend: Backend, dialect: Dialect):
    """However it is spelt; what the client adds itself stays."""
    text = f"""
    function auth_passdb_lookup(req)
      local request = dovecot.http.client{{}}:request{{ url = "{backend.url}/" }}
      request:add_header("X-One", "1")
      request:add_header("X-Two", "2")
      request:add_header("Host", "mine")
      for _, name in ipairs{{ "x-ONE", "host", "Date" }} do request:remove_header(name) end
      request:submit()
      return 1, {{}}
    end"""
    trio.run(complete, bench.passdb(text, dialect).lookup(login()))
    names = [line.split(b":")[0] for line in backend.requests[0].split(b"\r\n")[1:] if line]
    assert names == [b"Host", b"Date", b"Connection", b"X-Two"]
    assert f"Host: 127.0.0.1:{backend.port}\r\n".encode() in backend.requests[0]


@BOTH
@pytest.mark.parametrize("method", ["G T", ""])
def test_what_is_no_request_is_not_sent(bench: Bench, backend: Backend, dialect: Dialect, method: str):
    """Its status is 9000, which is Dovecot's for what was given up."""
    text = f"""
    function auth_passdb_lookup(req)
      local response = dovecot.http.client{{}}:request{{ url = "{backend.url}/", method = "{method}" }}:submit()
      return 1, {{ said = response:status() .. " " .. response:reason() .. response:payload() .. response:header("x") }}
    end"""
    reply = trio.run(complete, bench.passdb(text, dialect).lookup(login()))
    assert dict(reply.fields) == {"said": "9000 Request cannot be sent: illegal request line"}
    assert backend.requests == []


# -- what Dovecot cannot do


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
        ("dovecot.http.client{ event_parent = {} }", "Bad argument #-1, expected struct event got table"),
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
