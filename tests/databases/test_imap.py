"""The driver ``imap``: what another server's answer to a login means here."""

from pathlib import Path

import pytest

from authlua.auth import new_request
from authlua.databases import ImapOptions, ImapPassdb
from authlua.dialect import Dialect
from authlua.results import PassdbReply, PassdbResult
from authlua.secret import Secret
from authlua.server.driving import complete
from authlua.services import imap
from tests.ports import closed_port
from tests.services.imap_server import CAPABILITIES, ImapServer, context
from tests.services.tls import make_certificate


async def verify(
    server: ImapServer | int, user: str = "ok", password: bytes = b"secret", **options: str | bool
) -> PassdbReply:
    """The driver's reply."""
    port = server if isinstance(server, int) else server.port
    passdb = ImapPassdb(
        ImapOptions("127.0.0.1", "%u", port, **options),  # type: ignore[arg-type]
        dialect=Dialect.V2_3,
        id=1,
    )
    request = new_request([("service", "imap")], id=1, mech="PLAIN")
    request.user = user
    return await complete(passdb.verify_plain(request, Secret(password)))


@pytest.mark.parametrize(
    ("user", "result"),
    [
        ("ok", PassdbResult.OK),
        ("no", PassdbResult.PASSWORD_MISMATCH),
        ("wrong", PassdbResult.PASSWORD_MISMATCH),
        ("small", PassdbResult.PASSWORD_MISMATCH),
        ("other", PassdbResult.PASSWORD_MISMATCH),
        ("stray", PassdbResult.PASSWORD_MISMATCH),
        ("expired", PassdbResult.PASS_EXPIRED),
        ("down", PassdbResult.INTERNAL_FAILURE),
        ("odd", PassdbResult.INTERNAL_FAILURE),
        ("bad", PassdbResult.INTERNAL_FAILURE),
        ("bye", PassdbResult.INTERNAL_FAILURE),
        ("garbage", PassdbResult.INTERNAL_FAILURE),
        ("hangup", PassdbResult.INTERNAL_FAILURE),
    ],
)
@pytest.mark.parametrize("capabilities", [CAPABILITIES, "IMAP4rev1"], ids=["AUTHENTICATE", "LOGIN"])
async def test_only_a_no_to_the_password_is_a_mismatch(user: str, result: PassdbResult, capabilities: str) -> None:
    """All else that is no OK is a failure, which a client tries again."""
    with ImapServer(capabilities=capabilities) as server:
        reply = await verify(server, user)
    assert reply.result is result
    assert server.logins == [(user, "secret")]


@pytest.mark.parametrize("password", [b'a "quoted" \\ one', "pässwörd".encode(), b"", b"with space", b"x" * 2000])
@pytest.mark.parametrize("capabilities", [CAPABILITIES, "IMAP4rev1"], ids=["AUTHENTICATE", "LOGIN"])
async def test_any_password_arrives_as_it_was_typed(password: bytes, capabilities: str) -> None:
    """As a literal where it cannot be quoted."""
    with ImapServer(capabilities=capabilities) as server:
        await verify(server, "ok", password)
    assert server.logins[0][1].encode("latin-1") == password


async def test_a_nul_reaches_no_server() -> None:
    """In AUTHENTICATE PLAIN it would separate a name from a password."""
    with ImapServer() as server:
        assert (await verify(server, "ok", b"a\0b")).result is PassdbResult.PASSWORD_MISMATCH
    assert server.heard == []


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"greeting": "* BYE too many"}, "BYE too many"),
        ({"greeting": "* PREAUTH welcome"}, "PREAUTH welcome"),
        ({"greeting": "SSH-2.0-OpenSSH"}, "IMAP"),
        ({"capabilities": "IMAP4rev1 LOGINDISABLED"}, "LOGINDISABLED"),
    ],
)
async def test_a_server_that_lets_nobody_try_is_a_failure(how: dict[str, str], text: str) -> None:
    """Above all one that lets everybody in without asking."""
    with ImapServer(**how) as server:  # type: ignore[arg-type]
        reply = await verify(server)
    assert reply.result is PassdbResult.INTERNAL_FAILURE
    assert text in reply.text
    assert server.logins == []


async def test_a_server_that_is_not_there_is_a_failure() -> None:
    """The text says where it was looked for."""
    with closed_port() as port:
        reply = await verify(port)
    assert reply.result is PassdbResult.INTERNAL_FAILURE
    assert reply.text == f"IMAP 127.0.0.1:{port}: Connection refused"


async def test_a_server_that_never_answers_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute is enough, or here a moment."""
    monkeypatch.setattr(imap, "TIMEOUT", 0.2)
    with ImapServer() as server:
        reply = await verify(server, "silence")
    assert (reply.result, reply.text) == (
        PassdbResult.INTERNAL_FAILURE,
        f"IMAP 127.0.0.1:{server.port}: no answer in time",
    )


class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        make_certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
        return tmp_path / "cert.pem"

    def server(self, certificate: Path, **how: bool | str) -> ImapServer:
        tls = context(str(certificate), str(certificate.with_name("key.pem")))
        return ImapServer(tls=tls, capabilities=f"{CAPABILITIES} STARTTLS", **how)  # type: ignore[arg-type]

    @pytest.mark.parametrize("ssl", ["imaps", "starttls"])
    async def test_a_certificate_is_checked_unless_told_not_to(self, ssl: str, certificate: Path) -> None:
        """With an unknown one the password stays here."""
        with self.server(certificate, immediate=ssl == "imaps") as server:
            assert (await verify(server, ssl=ssl)).result is PassdbResult.INTERNAL_FAILURE
            assert server.logins == []
            assert (await verify(server, ssl=ssl, ca_file=str(certificate))).result is PassdbResult.OK
            assert (await verify(server, ssl=ssl, trusts_anybody=True)).result is PassdbResult.OK

    async def test_without_starttls_the_password_stays_here(self) -> None:
        """Somebody in between may have removed the word."""
        with ImapServer() as server:
            assert (await verify(server, ssl="starttls")).result is PassdbResult.INTERNAL_FAILURE
        assert server.logins == []

    async def test_what_was_said_before_tls_counts_for_nothing(self, certificate: Path) -> None:
        """Somebody in between may have said that the login succeeds."""
        lies = "* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\na3 OK\r\na4 OK\r\na5 OK"
        with self.server(certificate, injected=lies) as server:
            reply = await verify(server, "no", ssl="starttls", ca_file=str(certificate))
        assert reply.result is not PassdbResult.OK
        assert reply.result is PassdbResult.PASSWORD_MISMATCH or server.logins == []

    async def test_an_unreadable_authority_is_a_failure(self, certificate: Path) -> None:
        """And no exception."""
        with self.server(certificate, immediate=True) as server:
            reply = await verify(server, ssl="imaps", ca_file=str(certificate.with_name("nothing")))
        assert reply.result is PassdbResult.INTERNAL_FAILURE
