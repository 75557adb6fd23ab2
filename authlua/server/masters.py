"""Master, login-master and userdb sockets: one connection and its lookups."""

import socket
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import trio

from authlua import masks
from authlua.auth import new_request
from authlua.errors import ScriptError
from authlua.protocol import (
    CacheFlush,
    Failed,
    Flushed,
    List,
    ListDone,
    Listed,
    MasterConnection,
    MasterReply,
    NotFound,
    Pass,
    RemoteProtocolError,
    Request,
    User,
    UserFound,
)
from authlua.request import AuthRequest
from authlua.server.driving import Done, begin, complete, finish
from authlua.server.ready import Connection
from authlua.wishes import Wish

if TYPE_CHECKING:
    from authlua.server.app import App
    from authlua.server.core import Core
    from authlua.server.listeners import Listener

Lookup = Coroutine[Wish, Any, MasterReply]


class Master(Connection):
    """A mail process, lmtp, doveadm … and the lookups it waits for."""

    def __init__(self, app: "App", listener: "Listener", sock: socket.socket) -> None:
        self._app = app
        self._listener = listener
        self._codec = MasterConnection(app.dialect, listener.master_kind, spid=app.spid)
        self._peer_pid, self._restricted_uid = listener.peer(sock)
        self._scopes: set[trio.CancelScope] = set()
        super().__init__(app.ready, sock)
        app.masters.add(self)
        self._codec.greet()
        self.write(self._codec.data_to_send())

    def received(self, data: bytes) -> None:
        """Serve all lookups that *data* completes."""
        try:
            for message in self._codec.receive(data):
                match message:
                    case User(id, user, params):
                        request = new_request(params, id=id, dialect=self._app.dialect)
                        self._start(request, self._app.core.auth.lookup_user(request, user))
                    case Pass(id, user, params):
                        if self._restricted_uid is None:
                            request = new_request(params, id=id, dialect=self._app.dialect)
                            self._start(request, self._lookup_passdb(request, user))
                        else:
                            self._codec.send(Failed(id))
                    case Request():
                        self._request(message)
                    case List(id, mask, _):
                        if self._restricted_uid is None:
                            self.pause(True)
                            self._spawn(self._list, id, mask)
                        else:
                            self._codec.send(ListDone(id, ok=False))
                    case CacheFlush(name, users):
                        self._codec.send(Flushed(name, self._app.cache_flush(users)))
        except RemoteProtocolError as error:
            self.write(self._codec.data_to_send())
            self._app.log.warning(
                "auth_master_disconnected", reason=str(error), listener=self._listener.name, peer_pid=self._peer_pid
            )
            self.close()
            return
        self.write(self._codec.data_to_send())

    def bug(self) -> None:
        """A mistake of ours; the traceback goes to the log."""
        self._app.log.error("internal_error", listener=self._listener.name, exc_info=True)

    def ended(self) -> None:
        """Nobody waits for the lookups that run."""
        self._app.masters.discard(self)
        for scope in self._scopes:
            scope.cancel()

    @property
    def idle(self) -> bool:
        """No lookup is running."""
        return not self._scopes

    async def _lookup_passdb(self, request: AuthRequest, user: str) -> MasterReply:
        _, reply = await self._app.core.auth.lookup_passdb(request, user)
        return reply

    def _request(self, wanted: Request) -> None:
        """A mail process comes for a login (``core:2.3.21.1:src/auth/auth-request-handler.c:…_master_request``)."""
        client = self._app.logins.get(wanted.client_pid)
        request = client.take(wanted.client_id, wanted.cookie) if client is not None else None
        session_pid = wanted.session_pid
        if request is None or (session_pid is not None and self._peer_pid and session_pid != self._peer_pid):
            self._codec.send(Failed(wanted.id))
            return
        request.session_pid = session_pid
        auth = self._app.core.auth
        self._start(request, auth.fetch_login(request, wanted.id, wants_token=wanted.wants_token), wanted.id)

    def _start(self, request: AuthRequest, lookup: Lookup, id: int | None = None) -> None:
        id = request.id if id is None else id
        try:
            step = begin(lookup)
        except Exception:
            self._app.bug(request)
            step = Done(Failed(id))
        if isinstance(step, Done):
            self._codec.send(self._allowed(step.value))
        else:
            core = self._app.core
            core.holds += 1
            self._spawn(self._carry_on, core, request, lookup, step, id)

    def _spawn(self, function: Any, *args: Any) -> None:
        scope = trio.CancelScope(deadline=trio.current_time() + self._app.request_timeout)
        self._scopes.add(scope)
        self._app.tasks.start_soon(function, scope, *args)

    async def _carry_on(
        self, scope: trio.CancelScope, core: "Core", request: AuthRequest, lookup: Lookup, wish: Wish, id: int
    ) -> None:
        step: Done | Wish = Done(Failed(id))
        try:
            with scope:
                step = await finish(lookup, wish)
        except Exception:
            self._app.bug(request)
        finally:
            self._scopes.discard(scope)
            core.release()
        if isinstance(step, Done) and not self.closed:
            self._codec.send(self._allowed(step.value))
            self.write(self._codec.data_to_send())

    async def _list(self, scope: trio.CancelScope, id: int, mask: str | None) -> None:
        wanted = masks.mask(mask, ignore_case=True) if mask else None
        core = self._app.core
        core.holds += 1
        users = core.auth.list_users()
        ok = False
        try:
            with scope:
                while names := await complete(users.piece()):
                    for user in names:
                        if wanted is None or wanted(user):
                            self._codec.send(Listed(id, user))
                    self.write(self._codec.data_to_send())
                    scope.deadline = float("inf")  # how slowly a client reads is its own affair
                    await self.drained()
                    scope.deadline = trio.current_time() + self._app.request_timeout
                ok = True
        except ScriptError as error:
            self._app.log.error("userdb iteration failed", error=str(error))
        except Exception:
            self.bug()
        finally:
            users.close()
            self._scopes.discard(scope)
            core.release()
        if not self.closed:
            self._codec.send(ListDone(id, ok))
            self.write(self._codec.data_to_send())
            self.pause(False)

    def _allowed(self, reply: MasterReply) -> MasterReply:
        """On a world-accessible userdb socket others may only look up themselves."""
        uid = self._restricted_uid
        if uid is None or isinstance(reply, NotFound):
            return reply
        if isinstance(reply, UserFound) and dict(reply.fields).get("uid") == str(uid):
            return reply
        if isinstance(reply, UserFound | Failed):
            return Failed(reply.id)
        return reply
