"""An HTTP server of a few paths, for scripts to talk to; what it was sent can be read back."""

import socket
import ssl
import threading
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.services.tls import make_certificate


class Backend:
    """Answers on a loopback port while the block lasts. The path says how.

    ======================  =======================================================================================
    /                       200, body ``hello``, ``X-Twice`` twice
    /echo                   200, the request as it came, as body
    /status/N               status N without body
    /chunked                200, in chunks
    /until-close            200, body until the connection ends
    /redirect/N/TARGET      302 (or N) to TARGET, which is absolute when it begins with ``http``
    /loop                   302 to itself
    /slow                   nothing for a long time
    /gate                   as / once ``gate`` is set
    /big                    200, the body 300,000 bytes and as many more as it was sent
    /slow-body              the head, half of the body, then nothing for a long time
    /hang-up                the connection ends without an answer
    /once                   as /hang-up the first time, then as /
    /half                   less body than announced, then the connection ends
    /garbage                what is no HTTP
    /fields/NxM             200, with N header fields of M bytes
    /busy                   the first time 503 with ``Retry-After: 1``, then as /
    /late                   the first time 408, then as /
    ======================  =======================================================================================
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests: list[bytes] = []
        """Heads and bodies as they came."""
        self.connections = 0
        self.seen: set[bytes] = set()
        """What was asked for."""
        self.open: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        self.closing = threading.Event()
        self.gate = threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self.gate.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self.open:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it was closed already
        self._thread.join()
        for thread in self.threads:
            thread.join()

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def wrap(self, sock: socket.socket) -> socket.socket:
        """Where a server with TLS begins it."""
        return sock

    def _serve(self, plain: socket.socket) -> None:
        try:
            with plain, self.wrap(plain) as sock:
                self._talk(sock)
        except OSError:
            return  # whoever asked is gone

    def _talk(self, sock: socket.socket) -> None:
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                got = sock.recv(65536)
                if not got:
                    return
                data += got
            head, _, data = data.partition(b"\r\n\r\n")
            fields = {}
            for line in head.split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                fields[name.lower()] = value.strip()
            length = int(fields.get(b"content-length", b"0"))
            if length and fields.get(b"expect") == b"100-continue":
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            while len(data) < length:
                got = sock.recv(65536)
                if not got:
                    return
                data += got
            body, data = data[:length], data[length:]
            self.requests.append(head + b"\r\n\r\n" + body)
            if not self.answer(sock, head, body):
                return

    def answer(self, sock: socket.socket, head: bytes, body: bytes) -> bool:
        """Answer one request; whether the connection stays."""
        target = head.split(b" ")[1]
        if target.startswith(b"http"):
            target = b"/" + target.split(b"/", 3)[3]  # as Dovecot asks after a redirect
        path = target.partition(b"?")[0]
        first = target not in self.seen
        self.seen.add(target)
        if path in (b"/hang-up", b"/once") and (first or path == b"/hang-up"):
            return False
        if path == b"/slow":
            self.closing.wait(20)
            return False
        if path == b"/gate":
            self.gate.wait(20)
        if path == b"/slow-body":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
            self.closing.wait(20)
            return False
        if path == b"/half":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
            return False
        if path == b"/garbage":
            sock.sendall(b"what?\r\n\r\n")
            return False
        if path == b"/until-close":
            sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")
            return False
        if path == b"/chunked":
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")
        elif path.startswith(b"/status/"):
            code = path[8:]
            sock.sendall(b"HTTP/1.1 " + code + b" Said So\r\nContent-Length: 0\r\n\r\n")
        elif path.startswith(b"/fields/"):
            count, _, size = path[8:].partition(b"x")
            fields = b"".join(b"X-%d: %s\r\n" % (n, b"x" * int(size)) for n in range(int(count)))
            sock.sendall(b"HTTP/1.1 200 Many\r\n" + fields + b"Content-Length: 0\r\n\r\n")
        elif path == b"/big":
            sock.sendall(b"HTTP/1.1 200 Big\r\nContent-Length: %d\r\n\r\n" % (300_000 + len(body)))
            sock.sendall(b"x" * (300_000 + len(body)))
        elif path == b"/loop":
            self._redirect(sock, b"302", self.url.encode() + b"/loop")
        elif path.startswith(b"/redirect/"):
            _, _, code, where = path.split(b"/", 3)
            self._redirect(sock, code, where if where.startswith(b"http") else b"/" + where)
        elif path == b"/busy" and first:
            sock.sendall(b"HTTP/1.1 503 Busy\r\n" + self._date() + b"Retry-After: 1\r\nContent-Length: 0\r\n\r\n")
        elif path == b"/late" and first:
            sock.sendall(b"HTTP/1.1 408 Late\r\nContent-Length: 0\r\n\r\n")
        else:
            said = head + b"\r\n\r\n" + body if path == b"/echo" else b"hello"
            fields = b"X-Twice: one\r\nX-Twice: two\r\nX-Empty:\r\nContent-Length: %d\r\n\r\n" % len(said)
            sock.sendall(b"HTTP/1.1 200 Fine\r\n" + fields + said)
        return True

    @staticmethod
    def _date() -> bytes:
        return b"Date: " + formatdate(usegmt=True).encode() + b"\r\n"

    @staticmethod
    def _redirect(sock: socket.socket, code: bytes, where: bytes) -> None:
        sock.sendall(b"HTTP/1.1 " + code + b" Elsewhere\r\nLocation: " + where + b"\r\nContent-Length: 0\r\n\r\n")


class Tls(Backend):
    """The same over TLS, with a certificate of its own making."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.certificate = directory / "cert.pem"
        self.key = directory / "key.pem"
        make_certificate(self.certificate, self.key)
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(self.certificate, self.key)
        self.url = f"https://127.0.0.1:{self.port}"

    def wants_certificate(self) -> None:
        """Of clients, and only this one will do."""
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.load_verify_locations(self.certificate)

    def only(self, cipher: str) -> None:
        """Speak TLS 1.2 with *cipher*."""
        self.context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_ciphers(cipher)

    def locked_key(self, password: bytes) -> Path:
        """The key in a file that *password* opens."""
        from cryptography.hazmat.primitives import serialization

        key = serialization.load_pem_private_key(self.key.read_bytes(), None)
        path = self.key.with_name("locked.pem")
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password),
            )
        )
        return path

    def wrap(self, sock: socket.socket) -> socket.socket:
        wrapped = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.open.append(wrapped)  # it has taken the descriptor away from *sock*
        try:
            wrapped.do_handshake()
        except OSError:
            wrapped.close()
            raise
        return wrapped


class Proxy(Backend):
    """Passes CONNECT on; answers other requests itself."""

    def answer(self, sock: socket.socket, head: bytes, body: bytes) -> bool:
        method, target, _ = head.split(b"\r\n")[0].split(b" ")
        if method != b"CONNECT":
            return super().answer(sock, head, body)
        host, _, port = target.decode().partition(":")
        with socket.create_connection((host, int(port))) as there:
            sock.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=_pass_on, args=(there, sock))
            back.start()
            _pass_on(sock, there)
            back.join()
        return False


class SecureProxy(Proxy, Tls):
    """The same over TLS."""


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    """Hand on what comes, until one of them ends."""
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other one is gone
