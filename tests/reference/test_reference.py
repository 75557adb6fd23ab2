"""The reference itself: what the other tests believe is asked of a real Dovecot that is really there."""

import os
import socket
from pathlib import Path

import pytest

from authlua.conformance.raw import RawConnection, SilenceError
from tests.reference.dovecot import Dovecot, Dovecot23, Dovecot24, why_not

SCRIPT = Path(__file__).with_name("auth.lua")
BOTH = [
    pytest.param(Dovecot23, marks=pytest.mark.dovecot, id="2.3"),
    pytest.param(Dovecot24, marks=pytest.mark.dovecot24, id="2.4"),
]


@pytest.fixture(params=BOTH)
def dovecot(request):
    """A running Dovecot of each series that is installed."""
    if reason := why_not(request.param.series):
        pytest.skip(reason)
    with request.param(SCRIPT) as running:
        yield running


def test_a_user_logs_in_and_a_master_finds_the_same_server(dovecot: Dovecot):
    """Login and master socket are one server: both tell the same SPID, and the script answers on both."""
    with RawConnection.connect(dovecot.sockets["login"]) as login:
        greeting = login.handshake(pid=4242)
        assert login.ask("AUTH\t1\tPLAIN\tservice=imap\tresp=AG9rQHgAcGFzcw==") == [b"OK\t1\tuser=ok@x"]
    with RawConnection.connect(dovecot.sockets["master"]) as master:
        assert master.handshake(minor=1).spid == greeting.spid
        assert master.ask("USER\t1\tnobody@x\tservice=imap") == [b"NOTFOUND\t1"]


def test_its_programs_use_its_configuration(dovecot: Dovecot):
    """doveadm of this Dovecot asks this Dovecot, and says so in this log."""
    done = dovecot.run("doveadm", "user", "ok@x")
    assert (done.returncode, done.stderr) == (0, "")
    assert "/srv/mail/ok" in done.stdout
    assert "ok@x" in dovecot.wait_for_log("Calling auth_userdb_lookup")


@pytest.mark.parametrize("kind", BOTH)
def test_nothing_is_left_of_it(kind: type[Dovecot]):
    """Its processes end and its directory, inside a chroot too, is gone."""
    if reason := why_not(kind.series):
        pytest.skip(reason)
    with kind(SCRIPT) as dovecot:
        process, place = dovecot._process, dovecot._place
        assert process is not None
        with RawConnection.connect(dovecot.sockets["login"]) as login:
            spid = int(login.handshake(pid=1).spid)
    assert process.poll() is not None
    assert not place.exists()
    assert not dovecot.directory.is_symlink()
    with pytest.raises(ProcessLookupError):
        os.kill(spid, 0)


@pytest.mark.parametrize("kind", BOTH)
def test_a_wrong_setting_is_said_at_once(kind: type[Dovecot]):
    """A Dovecot that does not start raises, with its own words, and leaves nothing behind."""
    if reason := why_not(kind.series):
        pytest.skip(reason)
    dovecot = kind(SCRIPT, no_such_setting="y")
    with pytest.raises(RuntimeError, match="no_such_setting"), dovecot:
        pass
    assert not dovecot.directory.exists()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="connecting as another user needs root")
def test_a_client_may_be_another_user(dovecot: Dovecot):
    """The server sees the uid it was asked to see: such a peer may look up nobody but itself."""
    for uid, answer in (5000, b"USER\t1\tok@x\t"), (5001, b"FAIL\t1"):
        with RawConnection.connect(dovecot.sockets["userdb"], uid=uid) as userdb:
            userdb.handshake(minor=1)
            assert userdb.ask("USER\t1\tok@x\tservice=lmtp")[0].startswith(answer)


def test_silence_and_the_end_are_told_apart():
    """No answer is an error after a while; a closed connection is None at once, and half a line is neither."""
    ours, theirs = socket.socketpair()
    with RawConnection(ours, patience=0.01) as connection, theirs:
        theirs.sendall(b"a line\nhalf")
        assert connection.receive() == b"a line"
        with pytest.raises(SilenceError):
            connection.receive()
        theirs.sendall(b" a line\n")
        assert connection.receive() == b"half a line"
        theirs.close()
        assert connection.receive() is None
