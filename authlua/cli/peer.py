"""Asking a running server, authlua or Dovecot, over one of its sockets.

A plain blocking socket is enough, and starts faster than anything else.
"""

import argparse
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from authlua.errors import Unreachable
from authlua.protocol import AuthPeer, Handshake, MasterPeer, RemoteProtocolError, Reply

if TYPE_CHECKING:
    from authlua.cli.sasl import Client

PATIENCE = 155.0
"""Seconds to wait for an answer, as auth clients do: servers forget a request five seconds earlier."""

T = TypeVar("T")


class Conversation:
    """A connection to the server at a socket's path; anything that goes wrong on it is `Unreachable`."""

    def __init__(self, path: str, sock: socket.socket) -> None:
        self._path = path
        self._socket = sock

    def send(self, data: bytes) -> None:
        """Write *data*."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Unreachable(f"{self._path}: {error.strerror or error}") from error

    def read(self, receive: Callable[[bytes], Iterator[T]]) -> Iterator[T]:
        """What *receive* makes of the server's bytes, until the caller has heard enough."""
        while True:
            try:
                data = self._socket.recv(65536)
                if not data:
                    raise Unreachable(f"{self._path}: the server closed the connection without an answer")
                yield from receive(data)
            except TimeoutError as error:
                raise Unreachable(f"{self._path}: no answer within {PATIENCE:.0f} s") from error
            except OSError as error:
                raise Unreachable(f"{self._path}: {error.strerror or error}") from error
            except RemoteProtocolError as error:
                raise Unreachable(f"{self._path}: {error}") from error


@contextmanager
def connect(path: str) -> Iterator[Conversation]:
    """A conversation with the server that listens on the unix socket *path*."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        try:
            sock.connect(path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise Unreachable(f"{path}: {reason}; is the server running, and may you connect?") from error
        yield Conversation(path, sock)


@contextmanager
def master(path: str) -> Iterator[tuple[Conversation, MasterPeer]]:
    """A conversation on a master or userdb socket, its handshake sent."""
    with connect(path) as conversation:
        peer = MasterPeer()
        conversation.send(peer.hello())
        yield conversation, peer


def ask_master(path: str, line: Callable[[MasterPeer], bytes]) -> Reply:
    """The one reply to the one request that *line* makes, on a master or userdb socket."""
    with master(path) as (conversation, peer):
        conversation.send(line(peer))
        return next(conversation.read(peer.receive))


def authenticate(path: str, mech: str, params: list[tuple[str, str | None]], client: "Client") -> Reply:
    """One authentication on a client or login socket."""
    initial = next(client)
    with connect(path) as conversation:
        peer = AuthPeer(pid=os.getpid())
        conversation.send(peer.hello())
        for message in conversation.read(peer.receive):
            if isinstance(message, Handshake):
                if mech not in message.mechs:
                    offered = ", ".join(message.mechs)
                    raise Unreachable(f"{path}: the server does not offer {mech}, only {offered}")
                conversation.send(peer.auth(1, mech, params, initial))
            elif message.word == "CONT":
                conversation.send(peer.cont(1, answer(client, message.data or b"")))
            else:
                return message
    raise AssertionError("a conversation ends with an answer or Unreachable")


def answer(client: "Client", challenge: bytes) -> bytes:
    """What *client* says to *challenge*; one that has said all says nothing."""
    try:
        return client.send(challenge) or b""
    except StopIteration:
        return b""


def control(args: argparse.Namespace, request: dict[str, Any]) -> dict[str, Any]:
    """The running server's answer to *request* on its control socket: ``--socket``, or the configuration's.

    Raises `Unreachable` also when the server answers that it could not do it.
    """
    path = args.socket or _control_path(args)
    with connect(path) as conversation:
        conversation.send(json.dumps(request).encode() + b"\n")
        buffer = b""
        for data in conversation.read(lambda data: iter([data])):
            buffer += data
            if b"\n" in buffer:
                break
    try:
        answer: dict[str, Any] = json.loads(buffer)
        answer["ok"]
    except (ValueError, TypeError, KeyError):
        raise Unreachable(f"{path}: this is no control socket of authlua") from None
    return answer


def _control_path(args: argparse.Namespace) -> str:
    from authlua.cli.source import load_settings
    from authlua.errors import ConfigError

    settings = load_settings(args)
    for listener in settings.listeners:
        if listener.kind == "control" and listener.path is not None:
            return str(listener.path)
    raise ConfigError([f'{settings.path}: no [[listener]] of kind = "control", so the server cannot be asked'])
