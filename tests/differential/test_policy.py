"""A policy server cannot tell whether a Dovecot or authlua asks it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.differential.servers import DOVECOTS, AuthClient, Authlua, Server
from tests.reference.dovecot import why_not

SCRIPT = """
function auth_passdb_lookup(request)
  if request.user == "nosuch" then return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, "no" end
  return dovecot.auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass" }
end
function auth_userdb_lookup(request) return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, "no" end
"""

LOGINS: list[tuple[str, str, list[Any], list[str]]] = [
    ("ok@x", "pass", [], ["rip=192.0.2.1", 'session=s"1', "client_id=a\x01t\\b"]),
    ("OK@x", "päss", [], ["secured=tls"]),
    ("ok@x", "bad", [], []),
    ("nosuch", "pass", [], []),
    ("ok@x", "pass", [{"status": -1, "msg": "go away"}], []),
    ("ok@x", "pass", [{"status": 0, "msg": ""}, {"status": -1, "msg": "late no"}], []),
    ("ok@x", "pass", [{"status": -1}], []),
    ("ok@x", "pass", [{"status": 1, "msg": "slow"}], ["no-penalty"]),
    ("ok@x", "pass", ["garbage"], []),
    ("ok@x", "pass", [{}], []),
    ("ok@x", "pass", [{"status": -1, "msg": 7}], []),
    ("ok@x", "pass", [{"status": -1, "more": [1, {"a": 2}], "msg": "m"}], []),
    ("ok@x", "pass", [500], []),
]


class PolicyServer(ThreadingHTTPServer):
    """Answers from a list and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Any] = []
        self.asked: list[tuple[str, str, str, str, str, bytes]] = []
        self.reported = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PolicyServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kept = tuple(self.headers.get(name, "") for name in ("Content-Type", "User-Agent", "X-Key", "Authorization"))
        self.server.asked.append((self.path, *kept, body))  # type: ignore[arg-type]
        report = "report" in self.path
        answer = self.server.answers.pop(0) if self.server.answers and not report else {"status": 0, "msg": ""}
        data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(answer if isinstance(answer, int) else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        if report:
            self.server.reported.set()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def policy_server() -> Iterator[PolicyServer]:
    with PolicyServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def transcript(server: Server, policy: PolicyServer) -> list[Any]:
    """Every login: its reply, and all that the policy server heard."""
    heard = []
    with AuthClient(server) as client:
        for user, password, answers, params in LOGINS:
            policy.asked.clear()
            policy.reported.clear()
            policy.answers = list(answers)
            reply = client.login(user, password, *params)
            assert policy.reported.wait(20), "no report came"
            heard.append((reply, list(policy.asked)))
        # a mech that never sees the password
        policy.asked.clear()
        policy.reported.clear()
        (reply,) = client.challenge_all(["ok@x"], "pass")
        assert policy.reported.wait(20), "no report came"
        heard.append((reply, list(policy.asked)))
    return heard


@pytest.mark.parametrize(
    "series",
    [pytest.param("2.3", marks=pytest.mark.dovecot), pytest.param("2.4", marks=pytest.mark.dovecot24)],
)
def test_the_policy_server_hears_the_same(series: str) -> None:
    """Paths, headers and bodies to the byte, and what its answers do."""
    if reason := why_not(series):
        pytest.skip(reason)
    with policy_server() as policy:
        url = f"http://us%40er:pa%3Ass@127.0.0.1:{policy.server_port}/"
        settings: dict[str, str | int] = {
            "auth_policy_server_url": url,
            "auth_policy_hash_nonce": "nonce",
            "auth_policy_server_api_header": "X-Key: abc",
            "auth_failure_delay": "0",
            "auth_mechanisms": "plain cram-md5",
        }
        with DOVECOTS[series](SCRIPT, **settings) as dovecot:
            expected = transcript(dovecot, policy)
        config = (
            '[auth]\nmechanisms = ["plain", "cram-md5"]\nfailure_delay = 0\npenalty = false\n'
            f'policy_server_url = "{url}"\n'
            'policy_hash_nonce = "nonce"\npolicy_server_api_header = "X-Key: abc"\n'
            '[[passdb]]\nscript = "auth.lua"\n[[userdb]]\nscript = "auth.lua"\n'
        )
        with Authlua(config, dialect=series, files={"auth.lua": SCRIPT}) as authlua:
            got = transcript(authlua, policy)
    assert expected == got
