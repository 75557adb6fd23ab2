"""The IMAP storage with servers that are not as they should be; tests/mail and tests/e2e have real ones."""

import resource
import socket
from pathlib import Path

import pytest
import trio

from authlua.mail import StorageError
from authlua.secret import Secret
from authlua.services import ImapStorage, exec_server, imap, imap_server
from tests.services.imap_server import ImapServer, context
from tests.services.tls import make_certificate


async def problem(port: int, *, tls: bool) -> str:
    """Why a script cannot have mail from the server at *port*."""
    server = imap_server("127.0.0.1", port, tls=tls, user="ok", master="", password=Secret(b"secret"))
    storage = ImapStorage(server)
    with pytest.raises(StorageError) as caught:
        await trio.to_thread.run_sync(lambda: storage.separator)
    return str(caught.value)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_server_that_never_greets_is_given_up(tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that comes before the first command has a time limit, TLS too."""
    monkeypatch.setattr(imap, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert await problem(port, tls=tls) == f"IMAP 127.0.0.1:{port}: no answer in time"


async def test_an_unknown_certificate_is_the_storages_error(tmp_path: Path) -> None:
    """It is the server that is wrong, not the script, nor we; and it hears no password."""
    make_certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    tls = context(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    with ImapServer(tls=tls, immediate=True) as server:
        assert "CERTIFICATE_VERIFY_FAILED" in await problem(server.port, tls=True)
    assert server.logins == []


async def test_a_command_has_all_the_memory_it_may_have(tmp_path: Path) -> None:
    """From its first moment; it may be Dovecot's ``imap``, which becomes its user at once. Whoever starts it may be a
    process with a script, whose memory is bounded."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 40, hard))
    try:
        command = f"exec >{tmp_path}/said; ulimit -S -v; ulimit -H -v"
        connected = await exec_server(["sh", "-c", command]).connect()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert connected.process is not None
    await connected.process.wait()
    await connected.stream.aclose()
    mine, most = (tmp_path / "said").read_text().split()
    assert mine == most


async def test_a_command_that_is_not_there_is_named() -> None:
    """As the system would."""
    with pytest.raises(FileNotFoundError, match="No such file or directory: 'not-there'"):
        await exec_server(["not-there"]).connect()
