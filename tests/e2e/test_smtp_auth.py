"""People send mail through Postfix and Exim, which ask authlua as they would ask Dovecot."""

import contextlib
import shutil
import smtplib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from authlua.cli.snippet import snippet
from authlua.config import ListenerSettings, load
from tests.e2e import clients, dovecot, mta
from tests.e2e.dovecot import NATIVE, Dovecot
from tests.e2e.programs import PATIENCE, Scene
from tests.e2e.server import service_wrapper, serving, write_config
from tests.e2e.stack import DOMAIN, PASSWORD, SCRIPT
from tests.ports import free_port

CLIENTS = (clients.smtp_plain, clients.smtp_login)
SERVERS = ("postfix-unix", "postfix-inet", "postfix-reply", "exim-unix", "exim-inet", "exim-reply")
"""The mail server and the socket it asks: *reply* is a socket whose temporary failures are ordinary replies."""

WELCOME = {"postfix": "235 2.7.0 Authentication successful", "exim": "235 Authentication succeeded"}
FAILED = {
    "postfix": "535 5.7.8 Error: authentication failed: (reason unavailable)",
    "exim": "535 Incorrect authentication data",
}
EXPIRED = {
    "postfix": "535 5.7.8 Error: authentication failed: Password expired",
    "exim": "535 Incorrect authentication data",
}
LATER = {
    "postfix": "454 4.7.0 Temporary authentication failure: Connection lost to authentication server",
    "exim": "435 Unable to authenticate at present",
}

REFUSALS = {
    "a wrong password": ("alice", "wrong", FAILED),
    "no such user": ("nobody", PASSWORD, FAILED),
    "a disabled user": ("disabled", PASSWORD, FAILED),
    "an expired password": ("expired", PASSWORD, EXPIRED),
}


@dataclass
class MailServers:
    """Postfix and Exim, each once for every socket of *subject*; *ports* by the names of `SERVERS`."""

    subject: str
    scene: Scene
    ports: dict[str, int]


@pytest.fixture(scope="module", params=["dovecot", "authlua", "authlua-in-dovecot"])
def servers(request: pytest.FixtureRequest) -> Iterator[MailServers]:
    """The mail servers with Dovecot's auth, which keeps what the tests expect honest, and with authlua.

    In Dovecot (layout M), the sockets are Dovecot's, and the listeners of authlua.toml give them their options.
    """
    subject = request.param
    if reason := mta.missing() or (None if subject == "authlua" else dovecot.missing("2.3")):
        pytest.skip(reason)
    with Scene.open() as scene, contextlib.ExitStack() as ends:
        directory = scene.directory
        shutil.copy(SCRIPT, directory)
        config = write_config(
            directory,
            "2.3",
            [
                {"kind": "client", "name": "unix", "path": f"{directory}/mta", "mode": "0666", "tempfail": "close"},
                {"kind": "client", "name": "inet", "address": f"127.0.0.1:{free_port()}", "tempfail": "close"},
                {"kind": "client", "name": "reply", "path": f"{directory}/mta-reply", "mode": "0666"},
            ],
        )
        listeners = load(config).listeners
        if subject == "authlua":
            ends.enter_context(serving(config))
        elif subject == "dovecot":
            auth = NATIVE["2.3"].format(script=directory / "auth.lua") + dovecot_sockets(listeners)
            ends.enter_context(Dovecot("2.3", directory, 0, auth=auth).running())
        else:
            command = f"{service_wrapper(config, outside=False)} dovecot-service -c {config}"
            auth = snippet("dovecot-2.3", [], layout="M", command=command) + dovecot_sockets(listeners)
            ends.enter_context(Dovecot("2.3", directory, 0, auth=auth).running())
        sockets = ("unix", "inet", "reply")
        snippets = {socket: snippet("postfix", listeners, listener=socket) for socket in sockets}
        postfix = ends.enter_context(mta.postfix(directory, snippets))
        ports = {f"postfix-{socket}": port for socket, port in postfix.items()}
        for socket in sockets:
            text = snippet("exim", listeners, listener=socket)
            ports[f"exim-{socket}"] = ends.enter_context(mta.exim(directory / f"exim-{socket}", text))
        yield MailServers(subject, scene, ports)


def dovecot_sockets(listeners: Sequence[ListenerSettings]) -> str:
    """The sockets of *listeners* as Dovecot opens them."""
    text = "service auth {\n"
    for listener in listeners:
        if listener.path is not None:
            text += f"  unix_listener {listener.path} {{\n    mode = {listener.mode:04o}\n  }}\n"
        else:
            port = (listener.address or "").rpartition(":")[2]
            text += f"  inet_listener {listener.name} {{\n    port = {port}\n  }}\n"
    return text + "}\n"


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("server", SERVERS)
def test_the_right_password_lets_in(servers: MailServers, server: str, client) -> None:
    """Through both mail servers, by both kinds of socket, with and without an initial response."""
    answer = client(servers.ports[server], f"alice@{DOMAIN}", PASSWORD)
    assert answer == WELCOME[server.partition("-")[0]]


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refused_login_is_told_so(servers: MailServers, refusal: str, server: str) -> None:
    """A verdict is 535; Postfix adds the reason if there is one."""
    user, password, words = REFUSALS[refusal]
    assert clients.smtp_plain(servers.ports[server], f"{user}@{DOMAIN}", password) == words[server.partition("-")[0]]


@pytest.mark.parametrize("server", SERVERS)
def test_a_refused_login_that_took_two_questions_is_told_so(servers: MailServers, server: str) -> None:
    """LOGIN ends as PLAIN does."""
    answer = clients.smtp_login(servers.ports[server], f"alice@{DOMAIN}", "wrong")
    assert answer == FAILED[server.partition("-")[0]]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("server", SERVERS)
def test_a_temporary_failure_is_not_a_wrong_password(servers: MailServers, server: str, client) -> None:
    """Both mail servers say "later" only when the connection is closed on them, so authlua can be told to do that.

    Dovecot cannot, and is taken to say "wrong password", as is an authlua that answers.
    """
    closes = servers.subject != "dovecot" and not server.endswith("reply")
    words = LATER if closes else FAILED
    assert client(servers.ports[server], f"broken@{DOMAIN}", PASSWORD) == words[server.partition("-")[0]]


@pytest.mark.parametrize("server", SERVERS)
def test_after_a_temporary_failure_the_next_login_is_served(servers: MailServers, server: str) -> None:
    """A closed connection is opened anew; Postfix's smtpd lives on and asks again."""
    for user in ("alice", "broken", "alice"):
        answer = clients.smtp_plain(servers.ports[server], f"{user}@{DOMAIN}", PASSWORD)
    assert answer == WELCOME[server.partition("-")[0]]


def test_an_aborted_exchange_leaves_the_next_one_alone(servers: MailServers) -> None:
    """Postfix sends no CANCEL when a client gives up with "*"; the next login has an id of its own."""
    port = servers.ports["postfix-unix"]
    with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE) as client:
        client.ehlo()
        assert client.docmd("AUTH", "LOGIN")[0] == 334
        assert client.docmd("*")[0] == 501
        assert client.docmd("AUTH", "LOGIN")[0] == 334
        assert client.docmd(b64encode(f"alice@{DOMAIN}".encode()).decode())[0] == 334
        assert client.docmd(b64encode(PASSWORD.encode()).decode())[0] == 235
