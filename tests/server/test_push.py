"""Notifications and what happens to the server meanwhile."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from authlua.results import UserdbReply, UserdbResult
from authlua.server.core import Core
from authlua.wishes import Flight
from tests.auth.fakes import House
from tests.server.living import living, read_until
from tests.server.test_control import Script, ask

PUSH = {"user": "alice", "event": "messageNew", "folder": "INBOX", "imap-uidvalidity": 7, "imap-uid": 9, "snippet": ""}


class SlowUserdb:
    """Knows everybody, after a while."""

    def __init__(self, flight: Flight) -> None:
        self.flight = flight
        self.asked = trio.Event()

    async def lookup(self, request: Any) -> UserdbReply:
        self.asked.set()
        await self.flight
        return UserdbReply(UserdbResult.OK, [("home", "/h/alice")])


async def test_who_is_looked_up_during_a_reload_hears_of_the_mail(tmp_path: Path) -> None:
    """The scripts that know the user end when they have told, and not before."""
    house, flight = House({}, userdbs=[{}]), Flight()
    userdb = SlowUserdb(flight)
    object.__setattr__(house.auth._userdbs._entries[0], "userdb", userdb)
    async with living(tmp_path, house.auth, reload=lambda: Core(House({}).auth, [])) as server:
        script: Any = Script()
        server.app.core._scripts = [script]
        found: list[tuple[str, dict[str, str]]] = []
        notified = trio.Event()

        def user(name: str, fields: dict[str, str], *, service: str) -> Any:
            found.append((name, fields))
            return SimpleNamespace(username=name, service=service, session_id="s")

        async def process(user: object) -> Any:
            notified.set()
            return SimpleNamespace(push=told)

        async def told(*what: object) -> None:
            """The script has run."""

        scripts: Any = SimpleNamespace(
            limiter=trio.CapacityLimiter(1),
            user=user,
            process=process,
            give_back=lambda process: None,
            close=lambda: None,
        )
        server.app.core.mail = scripts
        body = json.dumps({**PUSH, "from": "", "subject": ""}).encode()
        stream = server.connect("push")
        await stream.send_all(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await read_until(stream, b"\r\n\r\n")
        await userdb.asked.wait()
        assert await ask(server.connect("control"), {"command": "reload"}) == {"ok": True}
        assert script.closed == 0
        flight.land()
        with trio.fail_after(1000):
            await notified.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert found == [("alice", {"home": "/h/alice"})]
        assert script.closed == 1
