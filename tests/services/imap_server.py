"""An IMAP server that knows no mail, only how to answer to a name and a password."""

import base64
import re
import socket
import ssl
import threading
from types import TracebackType
from typing import Self

CAPABILITIES = "IMAP4rev1 SASL-IR AUTH=PLAIN"

ANSWERS = {
    "ok": "{tag} OK [CAPABILITY IMAP4rev1] Logged in",
    "no": "{tag} NO go away",
    "wrong": "{tag} NO [AUTHENTICATIONFAILED] Authentication failed.",
    "other": "{tag} NO [AUTHORIZATIONFAILED] not as that one",
    "expired": "{tag} NO [EXPIRED] choose a new password",
    "down": "{tag} NO [UNAVAILABLE] the users' file is on fire",
    "small": "{tag} NO [authenticationfailed] in small letters",
    "odd": "{tag} NO [CONTACTADMIN x] call us",
    "bad": "{tag} BAD what do you mean?",
    "bye": "* BYE see you",
    "garbage": "\0\1\2",
    "hangup": "",
    "silence": "* 1 EXISTS",
    "stray": "* 1 EXISTS\r\n* OK [ALERT] beware\r\n{tag} NO no",
}
"""What a user of that name hears."""

_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')

ENDS = ("bye", "garbage", "hangup")
"""Who then hears no more."""


class ImapServer:
    """Listens on a loopback port while the block lasts.

    Args:
        greeting: the first line.
        capabilities: what it says it can.
        tls: its certificate and key; used after STARTTLS, or with *immediate* from the beginning.
        injected: what somebody in between adds behind the answer to STARTTLS.
    """

    def __init__(
        self,
        *,
        greeting: str = "* OK ready",
        capabilities: str = CAPABILITIES,
        tls: ssl.SSLContext | None = None,
        immediate: bool = False,
        injected: str = "",
    ) -> None:
        self._greeting = greeting
        self._capabilities = capabilities
        self._tls = tls
        self._immediate = immediate
        self._injected = injected
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.heard: list[str] = []
        """The commands, without tags."""
        self.logins: list[tuple[str, str]] = []

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self._immediate and self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            with sock:
                sock.sendall(f"{self._greeting}\r\n".encode())
                self._talk(sock)
        except OSError:
            return  # the other side is gone

    def _talk(self, sock: socket.socket) -> None:
        file = sock.makefile("rwb", buffering=0)

        def say(*lines: str) -> None:
            file.write("".join(f"{line}\r\n" for line in lines).encode("latin-1"))

        while line := file.readline().decode("latin-1").rstrip("\r\n"):
            tag, _, command = line.partition(" ")
            word = command.split(" ")[0].upper()
            self.heard.append(word)
            if word == "CAPABILITY":
                say(f"* CAPABILITY {self._capabilities}", f"{tag} OK done")
            elif word == "STARTTLS" and self._tls is not None:
                say(f"{tag} OK begin", *([self._injected] if self._injected else []))
                with self._tls.wrap_socket(sock, server_side=True) as secure:
                    self._talk(secure)
                return
            elif word in ("LOGIN", "AUTHENTICATE"):
                if word == "LOGIN":
                    user, password = self._words(command, file)
                else:
                    initial = command.split(" ")[2:]
                    if not initial:
                        say("+ ")
                        initial = [file.readline().decode().strip()]
                    _, user, password = base64.b64decode(initial[0]).decode("latin-1").split("\0")
                self.logins.append((user, password))
                answer = ANSWERS[user].format(tag=tag)
                if answer:
                    say(answer)
                if user in ENDS:
                    return
            else:
                say(f"{tag} OK bye")

    @staticmethod
    def _words(command: str, file: socket.SocketIO) -> tuple[str, str]:
        """The two arguments of LOGIN, quoted or as literals."""
        rest = command.partition(" ")[2]
        literals: list[str] = []
        while match := re.search(r"\{(\d+)\}$", rest):
            file.write(b"+ go on\r\n")
            literals.append((file.read(int(match[1])) or b"").decode("latin-1"))
            rest = rest[: match.start()] + "\0" + file.readline().decode().rstrip("\r\n")
        words = (word[1:-1] if word[0] == '"' else word for word in _WORD.findall(rest))
        user, password = (literals.pop(0) if word == "\0" else re.sub(r"\\(.)", r"\1", word) for word in words)
        return user, password


def context(certificate: str, key: str) -> ssl.SSLContext:
    """TLS of a server with these."""
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(certificate, key)
    return made
