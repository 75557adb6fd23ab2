"""The control socket: one JSON object a line in, one a line out."""

import json
import socket
from typing import TYPE_CHECKING, Any

from authlua.errors import ConfigError, ScriptError
from authlua.server.ready import Connection

if TYPE_CHECKING:
    from authlua.server.app import App
    from authlua.server.listeners import Listener

MAX_LINE = 65536


class Control(Connection):
    """An admin's command line.

    ``{"command": "reload"}``, ``{"command": "status"}`` and ``{"command": "cache-flush", "users": […]}`` are answered
    with ``{"ok": true, …}`` or ``{"ok": false, "error": "…"}``, where ``"error_of"`` says whose a reload's error is:
    the ``"configuration"``'s, a ``"script"``'s, or our own (``"authlua"``).
    """

    def __init__(self, app: "App", listener: "Listener", sock: socket.socket) -> None:
        self._buffer = b""
        super().__init__(app, listener, sock)
        app.controls.add(self)

    def ended(self) -> None:
        """The admin has gone."""
        self._app.controls.discard(self)

    def received(self, data: bytes) -> None:
        """Serve each command that *data* completes."""
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._command(line)
        if len(self._buffer) > MAX_LINE:
            self.close()

    def _command(self, line: bytes) -> None:
        try:
            command = json.loads(line)
            name = command["command"]
        except (ValueError, TypeError, KeyError, RecursionError):
            self._answer(ok=False, error='expected an object such as {"command": "status"}')
            return
        match name:
            case "status":
                self._answer(ok=True, status=self._app.status())
            case "cache-flush":
                users = command.get("users") or []
                if isinstance(users, list) and all(isinstance(user, str) for user in users):
                    self._answer(ok=True, flushed=self._app.cache_flush(users))
                else:
                    self._answer(ok=False, error="users: expected a list of names or masks")
            case "reload":
                self._app.tasks.start_soon(self._reload)
            case _:
                self._answer(ok=False, error=f"unknown command {name!r}; known are reload, status, cache-flush")

    async def _reload(self) -> None:
        error = await self._app.reload()
        match error:
            case None:
                self._answer(ok=True)
            case ConfigError():
                self._answer(ok=False, error=str(error), error_of="configuration")
            case ScriptError():
                self._answer(ok=False, error=str(error), error_of="script")
            case _:
                self._answer(ok=False, error=f"{type(error).__name__}: {error}", error_of="authlua")

    def _answer(self, **answer: Any) -> None:
        self.write(json.dumps(answer).encode() + b"\n")
