"""The servers whose exchanges ``tests/vectors/sasl-exchanges.json`` holds, built anew around authlua's core.

Their databases were files; here are passdbs that read the same text.
"""

import base64
import hashlib
import hmac
import json
import re
import time
from binascii import a2b_base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from authlua.auth import RULES, Auth, AuthOptions, PassdbEntry, new_request
from authlua.dialect import Dialect
from authlua.protocol import Advertised, Challenge, ClientConnection, ClientKind, Cont, Fail, Ok
from authlua.protocol import Auth as AuthMessage
from authlua.request import AuthRequest
from authlua.results import PassdbReply, PassdbResult
from authlua.secret import Secret
from authlua.wishes import Ask, Compute

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "sasl-exchanges.json").read_text())
BEARERS = ("OAUTHBEARER", "XOAUTH2")


class PasswdFile:
    """``user:password::::::fields``, one a line."""

    verifies = False

    def __init__(self, text: str, dialect: Dialect) -> None:
        self.users: dict[str, list[tuple[str, str | None]]] = {}
        for line in text.splitlines():
            user, password, *_, extra = (line + ":::::::").split(":", 7)
            extra = extra.rstrip(":")
            fields: list[tuple[str, str | None]] = [("password", password)] if password else []
            for item in extra.split():
                name, _, value = item.partition("=")
                # 2.4.1 takes the ``y`` of its passwd-file for a switch without a value
                fields.append((name, "" if value == "y" and dialect is not Dialect.V2_3 else value))
            self.users[user] = fields

    async def verify_plain(self, request: AuthRequest, password: Secret) -> PassdbReply:
        raise AssertionError("this passdb only looks up")

    async def lookup(self, request: AuthRequest) -> PassdbReply:
        found = self.users.get(request.user or "")
        return PassdbReply(PassdbResult.USER_UNKNOWN) if found is None else PassdbReply(PassdbResult.OK, found)


class OtpTable(PasswdFile):
    """The table of the SQL passdb: it can also store."""

    async def set_credentials(self, request: AuthRequest, stored: Secret) -> bool:
        self.users[request.user or ""] = [("password", stored.reveal().decode())]
        return True


class TokenJudge:
    """The oauth2 passdb with local validation (``core:2.3.19.1:src/lib-oauth2/oauth2-jwt.c``), as far as recorded."""

    verifies = True

    def __init__(self, dialect: Dialect) -> None:
        self._old = dialect is Dialect.V2_3
        self._key = VECTORS["jwt_key"]["value_base64"]

    async def lookup(self, request: AuthRequest) -> PassdbReply:
        raise AssertionError("this passdb judges tokens")

    async def verify_plain(self, request: AuthRequest, password: Secret) -> PassdbReply:
        token = password.reveal()
        claims = self._claims(token)
        if claims is None:
            return PassdbReply(PassdbResult.PASSWORD_MISMATCH)
        name = claims["sub"].lower() if self._old else claims["sub"]
        if name != request.user:
            return PassdbReply(PassdbResult.USER_UNKNOWN)
        return PassdbReply(PassdbResult.OK, [("token", token.decode())] if self._old else [])

    def _claims(self, token: bytes) -> dict[str, Any] | None:
        try:
            parts = [base64.urlsafe_b64decode(part + b"==") for part in token.split(b".")]
            header, claims = json.loads(parts[0]), json.loads(parts[1])
            signed = hmac.digest(base64.b64decode(self._key), token.rpartition(b".")[0], hashlib.sha256)
            valid = len(parts) == 3 and header["alg"].upper() == "HS256" and signed == parts[2]
            typed = header.get("typ") == "JWT" or not self._old
            known = header.get("kid", "default") == "default" and "azp" not in claims
            now = time.time()
            timely = now < self._time(claims["exp"]) and all(claims.get(key, 0) <= now for key in ("nbf", "iat"))
            scoped = "mail" in claims.get("scope", "").split() and bool(claims["sub"])
        except (ValueError, KeyError, IndexError):
            return None
        return claims if valid and typed and known and timely and scoped else None

    def _time(self, value: int | str) -> float:
        if isinstance(value, int):
            return value
        if value.isdigit():
            return int(value) if self._old else 0
        return time.mktime(time.strptime(value, "%Y-%m-%dT%H:%M:%SZ"))


def _chain(name: str, files: Mapping[str, str], dialect: Dialect, table: OtpTable) -> list[PassdbEntry]:
    passwd = PasswdFile(files.get("passwd", ""), dialect)
    judge = PassdbEntry(
        passdb=TokenJudge(dialect), id=4, mechanisms=BEARERS, result_failure=RULES["return-fail"], name="oauth2"
    )
    main = PassdbEntry(passdb=passwd, id=3)
    if name == "2.3-jwt":
        return [judge]
    rule = RULES["return-ok" if name == "2.3-return" else "continue"]
    master = PassdbEntry(
        passdb=PasswdFile(files["master"], dialect), id=2, master=True, result_success=rule, name="master"
    )
    if name == "2.3-return":
        return [master, main, PassdbEntry(passdb=table, id=5, name="sql")]
    deny = PassdbEntry(passdb=PasswdFile(files["deny"], dialect), id=1, deny=True)
    return [deny, master, *([judge] if dialect is Dialect.V2_4 else []), main]


class Server:
    """One of the recorded servers."""

    def __init__(self, config: str) -> None:
        files = VECTORS["configs"][config]
        self.dialect = Dialect(config.partition("-")[0])
        self.table = OtpTable("", self.dialect)
        mechanisms = re.search(r"auth_mechanisms = (.*)", files["dovecot.conf"])
        assert mechanisms
        url = "https://example.com/.well-known/openid-configuration"
        self.auth = Auth(
            AuthOptions(
                dialect=self.dialect,
                mechanisms=mechanisms[1].upper().split(),
                realms=("example.com", "example.org"),
                openid_configuration_url=url if config in ("2.3-jwt", "2.4-main") else "",
                username_chars="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@",
                username_format="%Lu" if self.dialect is Dialect.V2_3 else "%{user | lower}",
                anonymous_username="anonuser",
                master_user_separator="*",
                ssl_username_from_cert=True,
                failure_delay=0,
                internal_failure_delay=0,
            ),
            passdbs=_chain(config, files, self.dialect, self.table),
            userdbs=[],
            log=lambda level, text, request, fields: None,
        )

    def connect(self, *, minor: int, spid: int = 1, cuid: int = 1) -> "Connection":
        """A client's connection, its handshake done."""
        return Connection(self, minor, spid, cuid)


class Connection:
    """Lines in, lines out."""

    def __init__(self, server: Server, minor: int, spid: int, cuid: int) -> None:
        self._server = server
        mechs = [Advertised(mech.name, mech.flags, mech.allow_nul) for mech in server.auth.mechs]
        self._codec = ClientConnection(
            server.dialect, ClientKind.CLIENT, mechs, spid=spid, cuid=cuid, cookie=Secret(b"c" * 16), late=minor > 2
        )
        self._running: tuple[AuthRequest, Any] | None = None
        self._codec.greet()
        self.handshake = self._read(f"VERSION\t1\t{minor}\nCPID\t1\n")

    def say(self, line: str) -> list[str]:
        """What the server answers to *line*."""
        return self._read(line + "\n")

    def _read(self, text: str) -> list[str]:
        for message in self._codec.receive(text.encode()):
            if isinstance(message, AuthMessage):
                request = new_request(message.params, id=message.id, mech=message.mech)
                request.cuid = self._codec.cuid
                core = self._server.auth.authenticate(request, message.initial, login=False)
                self._drive(request, core, None)
            elif isinstance(message, Cont):
                assert self._running
                request, core = self._running
                request.channel_binding = message.channel_binding
                self._drive(request, core, message.data)
        return self._codec.data_to_send().decode().splitlines()

    def _drive(self, request: AuthRequest, core: Any, answer: Any) -> None:
        try:
            wish = core.send(answer)
            while isinstance(wish, Compute):
                wish = core.send(wish.function(*wish.args))
        except StopIteration as done:
            reply: Ok | Fail = done.value
            self._codec.send(reply)
            return
        assert isinstance(wish, Ask), wish
        self._running = request, core
        self._codec.send(Challenge(request.id, wish.challenge, wish.binding))


def challenges(exchange: Mapping[str, Any]) -> Iterator[bytes]:
    """What the recorded server sent to be answered."""
    for step in exchange["transcript"]:
        line = step.get("S", "").split("\t")
        if line[0] == "CONT":
            yield a2b_base64(line[2])
