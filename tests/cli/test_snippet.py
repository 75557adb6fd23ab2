"""The snippets by themselves; that the programs work with them is shown in tests/e2e."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from authlua.cli import main
from authlua.cli.snippet import CLIENTS, snippet
from authlua.config import ListenerSettings, load
from authlua.errors import ConfigError


def at(kind: str, path: str, *, name: str = "", tempfail: str = "reply") -> ListenerSettings:
    """A listener on a unix socket."""
    return ListenerSettings(kind=kind, path=Path(path), name=name, tempfail=tempfail)


APART = [
    at("login", "/run/authlua/login"),
    at("userdb", "/run/authlua/auth-userdb"),
    at("master", "/run/authlua/auth-master"),
]
WITHIN = [
    at("login", "/run/dovecot/login/authlua/login"),
    at("userdb", "/run/dovecot/auth-userdb"),
    at("master", "/run/dovecot/auth-master"),
]


def test_sockets_apart_from_dovecots_give_layout_e() -> None:
    """Every program of Dovecot is told where to ask, and the login processes leave their chroot."""
    text = snippet("dovecot-2.3", APART)
    assert "auth_socket_path = /run/authlua/auth-userdb\n" in text
    assert (
        "service imap-login {\n  protocol = imap\n  chroot =\n  executable = imap-login /run/authlua/login\n}\n" in text
    )
    assert (
        "service submission {\n  protocol = submission\n  executable = submission -a /run/authlua/auth-master\n}\n"
        in text
    )


def test_a_login_socket_inside_dovecots_login_folder_gives_layout_b() -> None:
    """The path is seen from inside the chroot; sockets with Dovecot's own names need no setting."""
    text = snippet("dovecot-2.3", WITHIN)
    assert "service pop3-login {\n  protocol = pop3\n  executable = pop3-login authlua/login\n}\n" in text
    assert "chroot" not in text.partition("\n")[2]
    assert "auth_socket_path" not in text
    assert " -a " not in text


def test_layout_b_names_the_sockets_that_are_elsewhere() -> None:
    """Only the login socket has to be in the chroot."""
    text = snippet("dovecot-2.3", [WITHIN[0], *APART[1:]])
    assert "auth_socket_path = /run/authlua/auth-userdb\n" in text
    assert "executable = imap -a /run/authlua/auth-master\n" in text


def test_layout_b_is_refused_for_a_socket_dovecot_would_not_start_with() -> None:
    """A foreign socket right in login/ keeps Dovecot from starting, one outside cannot be reached from the chroot."""
    for path in ("/run/dovecot/login/login", "/run/authlua/login"):
        with pytest.raises(ConfigError, match=path):
            snippet("dovecot-2.3", [at("login", path), *WITHIN[1:]], layout="B")


@pytest.mark.parametrize("client", ["dovecot-2.3", "dovecot-2.4"])
@pytest.mark.parametrize("listeners", [APART, WITHIN])
def test_dovecots_own_auth_sleeps_beside_authlua(client: str, listeners: list[ListenerSettings]) -> None:
    """All its sockets are off; 2.4 has one more."""
    text = snippet(client, listeners)
    assert text.count("mode = 0\n") == (7 if client == "dovecot-2.4" else 6)


def test_layout_m_needs_no_listeners() -> None:
    """Dovecot opens the sockets."""
    text = snippet("dovecot-2.4", [], layout="M", command="/opt/authlua dovecot-service -c /etc/a.toml")
    assert "service auth {\n  executable = /opt/authlua dovecot-service -c /etc/a.toml\n}\n" in text


@pytest.mark.parametrize("missing", range(3))
def test_a_listener_that_dovecot_needs_is_missed_by_its_kind(missing: int) -> None:
    """The message is for the admin's configuration."""
    listeners = [listener for i, listener in enumerate(APART) if i != missing]
    with pytest.raises(ConfigError, match=f'kind = "{APART[missing].kind}"'):
        snippet("dovecot-2.3", listeners)


def test_postfix_sees_a_socket_in_its_queue_from_inside_its_chroot() -> None:
    """A path relative to the queue directory works with and without the chroot."""
    text = snippet("postfix", [at("client", "/var/spool/postfix/private/auth")])
    assert text.splitlines()[1:] == [
        "smtpd_sasl_auth_enable = yes",
        "smtpd_sasl_type = dovecot",
        "smtpd_sasl_path = private/auth",
    ]


def test_postfix_is_told_that_a_socket_elsewhere_is_outside_its_chroot() -> None:
    """Debian runs smtpd chrooted."""
    text = snippet("postfix", [at("client", "/run/authlua/mta")])
    assert "smtpd_sasl_path = unix:/run/authlua/mta\n" in text
    assert "chroot" in text


def test_mail_servers_use_tcp_each_in_its_own_spelling() -> None:
    """Postfix wants inet:host:port, Exim host and port with a blank."""
    listeners = [ListenerSettings(kind="client", address="[::1]:12345")]
    assert "smtpd_sasl_path = inet:[::1]:12345\n" in snippet("postfix", listeners)
    assert "server_socket = ::1 12345\n" in snippet("exim", listeners)


def test_exim_has_an_authenticator_for_each_mech() -> None:
    """Names of drivers are made of letters and underscores."""
    text = snippet(
        "exim", [at("client", "/run/authlua/mta")], mechanisms=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "APOP")
    )
    assert "dovecot_plain:\n  driver = dovecot\n  public_name = PLAIN\n  server_socket = /run/authlua/mta\n" in text
    assert "dovecot_scram_sha_256:\n  driver = dovecot\n  public_name = SCRAM-SHA-256\n" in text
    assert ("PLUS" in text, "APOP" in text) == (False, False)


def test_a_mail_server_gets_the_listener_made_for_it() -> None:
    """tempfail = close is for mail servers only, so that listener is meant; a name decides otherwise."""
    listeners = [
        at("client", "/run/authlua/auth-client"),
        at("client", "/run/authlua/mta", tempfail="close"),
        at("client", "/run/authlua/third", name="third"),
    ]
    assert "unix:/run/authlua/mta\n" in snippet("postfix", listeners)
    assert "unix:/run/authlua/third\n" in snippet("postfix", listeners, listener="third")
    assert "unix:/run/authlua/auth-client\n" in snippet("postfix", listeners, listener="/run/authlua/auth-client")
    with pytest.raises(ConfigError, match="nobody"):
        snippet("postfix", listeners, listener="nobody")
    with pytest.raises(ConfigError, match='kind = "client"'):
        snippet("postfix", APART)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with every listener there is by default."""
    (tmp_path / "auth.lua").write_text("")
    path = tmp_path / "authlua.toml"
    path.write_text('[[passdb]]\nscript = "auth.lua"\n[[userdb]]\nscript = "auth.lua"\n')
    return path


@pytest.mark.parametrize("client", CLIENTS)
def test_the_command_prints_the_snippet_of_the_configuration(client: str, config: Path, capfdbinary) -> None:
    """Word for word."""
    assert main(["snippet", client, "-c", str(config)]) == 0
    assert capfdbinary.readouterr().out.decode().rstrip() == snippet(client, load(config).listeners).rstrip()


def test_the_command_for_layout_m_is_absolute(config: Path, monkeypatch, capfdbinary) -> None:
    """Dovecot starts its services with an empty PATH, and in a directory of its own."""
    monkeypatch.chdir(config.parent)
    assert main(["snippet", "dovecot-2.3", "--layout", "M", "-c", config.name]) == 0
    executable = capfdbinary.readouterr().out.decode().partition("executable = ")[2].splitlines()[0]
    assert executable == f"{sys.executable} -m authlua dovecot-service -c {config}"


def test_an_unfit_configuration_leaves_with_78(config: Path) -> None:
    """With one line that says what is missing."""
    config.write_text(config.read_text() + '[[listener]]\nkind = "client"\npath = "mta"\n')
    command = [sys.executable, "-m", "authlua", "snippet", "dovecot-2.3", "-c", str(config)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == (
        'authlua snippet: Dovecot needs a listener with kind = "login" and a path; the configuration has none\n'
    )


@pytest.mark.parametrize("page", ["dovecot-2.3", "dovecot-2.4", "postfix", "exim"])
def test_the_guides_show_what_the_command_prints(page: str, tmp_path: Path) -> None:
    """Each snippet in docs/howto is that of the listeners above it."""
    text = (Path(__file__).parent.parent.parent / "docs" / "howto" / f"{page}.md").read_text()
    (tmp_path / "auth.lua").write_text("")
    shown = 0
    listeners: tuple[ListenerSettings, ...] = ()
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        if kind == "toml" and "[[listener]]" in block:
            block = re.sub(r"^(user|group) = .*\n", "", block, flags=re.MULTILINE)  # this machine may not have them
            config = tmp_path / "authlua.toml"
            config.write_text(f'[[passdb]]\nscript = "auth.lua"\n[[userdb]]\nscript = "auth.lua"\n{block}')
            listeners = load(config).listeners
        elif block.startswith(f"# {page}: "):
            layout = "M" if "dovecot-service" in block else None
            assert snippet(page, listeners, layout=layout).rstrip() == block.rstrip()
            shown += 1
    assert shown == (3 if page.startswith("dovecot") else 2)
