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
from authlua.server.driving import Done, begin, complete, finish, resume
from authlua.server.ready import Connection
from authlua.wishes import Errand, Outcome, Wish

if TYPE_CHECKING:
    from authlua.server.app import App
    from authlua.server.core import Core
    from authlua.server.listeners import Listener

Lookup = Coroutine[Wish, Any, MasterReply]


class _Pending:
    """A lookup that has to wait."""

    __slots__ = ("core", "id", "lookup", "request", "waits_for")

    def __init__(self, id: int, request: AuthRequest, lookup: Lookup, core: "Core") -> None:
        self.id = id
        self.request = request
        self.lookup = lookup
        self.core = core
        self.waits_for: trio.CancelScope | Errand
        """Its task's scope, or what somebody else does for it."""


class Master(Connection):
    """A mail process, lmtp, doveadm … and the lookups it waits for.

    A lookup is driven on the spot, and by the outcome of an errand; one that waits for anything else has a task.
    """

    def __init__(self, app: "App", listener: "Listener", sock: socket.socket) -> None:
        self._codec = MasterConnection(app.dialect, listener.master_kind, spid=app.spid)
        self._peer_pid, self._restricted_uid = listener.peer(sock)
        self._pending: set[_Pending] = set()
        self._lists: set[trio.CancelScope] = set()
        super().__init__(app, listener, sock)
        app.masters.add(self)
        self._codec.greet()
        self.flush()

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
                            self._lists.add(scope := self._scope())
                            self._app.tasks.start_soon(self._list, scope, id, mask)
                        else:
                            self._codec.send(ListDone(id, ok=False))
                    case CacheFlush(name, users):
                        self._codec.send(Flushed(name, self._app.cache_flush(users)))
        except RemoteProtocolError as error:
            self.flush()
            self._app.log.warning(
                "auth_master_disconnected", reason=str(error), listener=self._listener.name, peer_pid=self._peer_pid
            )
            self.close()
            return
        self.flush()

    def ended(self) -> None:
        """Nobody waits for the lookups that run."""
        self._app.masters.discard(self)
        for scope in self._lists:
            scope.cancel()
        while self._pending:
            pending = self._pending.pop()
            pending.waits_for.cancel()
            if not isinstance(pending.waits_for, trio.CancelScope):
                pending.lookup.close()
                pending.core.release()

    @property
    def idle(self) -> bool:
        """No lookup is running."""
        return not self._pending and not self._lists

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
            self._wait(_Pending(id, request, lookup, self._app.core), step)

    def _wait(self, pending: _Pending, wish: Wish) -> None:
        pending.core.holds += 1
        self._pending.add(pending)
        if isinstance(wish, Errand):
            pending.waits_for = wish
            wish.start(lambda outcome: self._resume(pending, outcome))
        else:
            pending.waits_for = scope = self._scope()
            self._app.tasks.start_soon(self._carry_on, pending, wish, scope)

    def _scope(self) -> trio.CancelScope:
        return trio.CancelScope(deadline=trio.current_time() + self._app.request_timeout)

    def _resume(self, pending: _Pending, outcome: Outcome) -> None:
        """An errand has ended; what there is to write goes out when all that ended with it have been told."""
        self._pending.remove(pending)
        step: Done | Wish
        try:
            step = resume(pending.lookup, outcome)
        except Exception:
            self._app.bug(pending.request)
            step = Done(Failed(pending.id))
        self._go_on(pending, step)
        pending.core.release()
        self._app.unwritten.add(self)

    async def _carry_on(self, pending: _Pending, wish: Wish, scope: trio.CancelScope) -> None:
        step: Done | Wish = Done(Failed(pending.id))
        try:
            with scope:
                step = await finish(pending.lookup, wish, Errand)
        except Exception:
            self._app.bug(pending.request)
        finally:
            if self.closed:
                pending.lookup.close()
            else:
                self._pending.remove(pending)
                self._go_on(pending, step)
                self.flush()
            pending.core.release()

    def _go_on(self, pending: _Pending, step: Done | Wish) -> None:
        if isinstance(step, Done):
            self._codec.send(self._allowed(step.value))
        else:
            self._wait(pending, step)

    def flush(self) -> None:
        """Write what is there to be written."""
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
                    self.flush()
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
            self._lists.discard(scope)
            core.release()
        if not self.closed:
            self._codec.send(ListDone(id, ok))
            self.flush()
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
