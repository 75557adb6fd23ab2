"""Opening sockets: all of them or none."""

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
import trio

from authlua.config import ListenerSettings
from authlua.errors import ConfigError
from authlua.server.listeners import Listener, open_listeners
from tests.auth.fakes import House
from tests.ports import free_port
from tests.server.living import living, read_until


def unix(path: Path, **options: Any) -> ListenerSettings:
    return ListenerSettings(**{"kind": "client", "path": path, "mode": 0o600, **options})


def test_a_socket_file_has_its_mode_and_its_directory_is_made(tmp_path: Path) -> None:
    """Whatever the umask says."""
    path = tmp_path / "a" / "b" / "auth"
    (listener,) = open_listeners((unix(path, mode=0o640),), {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    listener.stop()
    assert not path.exists()


def test_a_stale_socket_file_is_replaced_and_a_live_one_respected(tmp_path: Path) -> None:
    """Two servers never share a path."""
    path = tmp_path / "auth"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    (listener,) = open_listeners((unix(path),), {})
    with pytest.raises(ConfigError, match="another server listens there"):
        open_listeners((unix(path),), {})
    assert path.exists()
    listener.stop()


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """A file, a directory, a link to nothing: somebody has to look at it."""
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "directory", "link"):
        with pytest.raises(ConfigError, match=rf"{name}: there is something that is no socket"):
            open_listeners((unix(tmp_path / name),), {})
    assert len(list(tmp_path.iterdir())) == 3


def test_all_that_cannot_be_opened_is_named_and_nothing_stays_open(tmp_path: Path) -> None:
    """The admin mends it in one go."""
    wanted = (
        unix(tmp_path / "good"),
        unix(tmp_path / "nobody", user="no-such-user"),
        unix(tmp_path / ("x" * 200)),
        ListenerSettings(kind="client", address="192.0.2.1:12345"),
    )
    with pytest.raises(ConfigError) as error:
        open_listeners(wanted, {})
    assert len(error.value.problems) == 3
    assert list(tmp_path.iterdir()) == []


def test_sockets_that_were_passed_in_are_used_by_name_or_kind(tmp_path: Path) -> None:
    """And one that nobody wants is a mistake."""
    ours = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    for number, sock in enumerate(ours):
        sock.bind(str(tmp_path / str(number)))
        sock.listen()
    wanted = (unix(tmp_path / "a", name="mta"), unix(tmp_path / "b", kind="login"))
    listeners = open_listeners(wanted, {"mta": [ours[0]], "login": [ours[1]]})
    assert [listener.fileno() for listener in listeners] == [ours[0].fileno(), ours[1].fileno()]
    for listener in listeners:
        listener.stop()
    assert (tmp_path / "0").exists(), "what is not ours is not removed"
    with pytest.raises(ConfigError, match="no listener has that name or kind"):
        open_listeners(wanted, {"strange": [ours[2]]})
    for sock in ours:
        sock.close()


def test_a_socket_goes_to_the_listener_of_its_name_before_one_of_its_kind(tmp_path: Path) -> None:
    """In whatever order the listeners stand; and all sockets of a unit, which have one name, go together."""
    ours = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    for number, sock in enumerate(ours):
        sock.bind(str(tmp_path / str(number)))
        sock.listen()
    wanted = (unix(tmp_path / "a", kind="login", name="auth-login"), unix(tmp_path / "b", kind="login"))
    listeners = open_listeners(wanted, {"login": ours[:2]})
    assert [listener.settings.name for listener in listeners] == ["auth-login", "", ""]
    assert [listener.fileno() for listener in listeners[1:]] == [sock.fileno() for sock in ours[:2]]
    assert [listener.name for listener in listeners[1:]] == [str(tmp_path / "0"), str(tmp_path / "1")]
    for listener in listeners:
        listener.stop()
    (listener,) = open_listeners(wanted[:1], {"login": ours[2:]})
    assert listener.fileno() == ours[2].fileno()
    listener.stop()


def test_a_tcp_socket_listens_on_its_address() -> None:
    """IPv4 and, where there is one, IPv6."""
    port = free_port()
    (listener,) = open_listeners((ListenerSettings(kind="client", address=f"127.0.0.1:{port}"),), {})
    with socket.create_connection(("127.0.0.1", port)):
        listener.stop()


class Full(socket.socket):
    """A listening socket of a system that has no descriptor left, *times* times."""

    times = 0

    def accept(self) -> Any:
        if self.times:
            self.times -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def test_who_finds_no_room_waits_and_the_log_is_told_once(tmp_path: Path) -> None:
    """Not ten times a second; but again when it happens again."""
    async with living(tmp_path, House({}).auth) as server:
        sock = Full(socket.AF_UNIX)
        sock.bind(str(tmp_path / "full"))
        sock.listen()
        listener = Listener(unix(tmp_path / "full"), sock)
        listener.start(server.app)
        for told in (1, 2):
            sock.times = 3
            stream = await trio.open_unix_socket(str(tmp_path / "full"))
            await read_until(stream, b"DONE\n")
            await stream.aclose()
            assert len(server.events("accept_paused")) == told
        listener.stop()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to connect as somebody else")
@pytest.mark.parametrize(
    ("mode", "uid", "gid", "restricted"),
    [(0o666, 5000, 5000, 5000), (0o666, 4000, 5000, None), (0o666, 5000, 4000, None), (0o660, 5000, 5000, None)],
)
def test_who_may_see_whom_on_a_userdb_socket(
    tmp_path: Path, mode: int, uid: int, gid: int, restricted: int | None
) -> None:
    """Owner and group of a socket of mode 0666 see all, others themselves; any other mode is no matter."""
    path = tmp_path / "userdb"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        os.chown(path, 4000, 4000)
        path.chmod(mode)
        sock.listen()
        listener = Listener(ListenerSettings(kind="userdb", path=path), sock)
        where = os.open(tmp_path, os.O_RDONLY)
        path.chmod(0o666)
        tmp_path.chmod(0o755)
        child = os.fork()
        if child == 0:
            try:
                os.fchdir(where)
                os.setgroups([])
                os.setgid(gid)
                os.setuid(uid)
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect("userdb")
                    client.recv(1)
            finally:
                os._exit(0)
        sock.settimeout(10)
        peer, _ = sock.accept()
        seen = listener.peer(peer)
        peer.close()
        os.waitpid(child, 0)
        os.close(where)
        assert seen == (child, restricted)
