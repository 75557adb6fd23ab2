"""Client, login and token-login sockets: one connection and its requests."""

import secrets
import select
import socket
from collections.abc import Coroutine
from time import perf_counter
from typing import TYPE_CHECKING, Any

import trio

from authlua.auth import new_request
from authlua.protocol import (
    Advertised,
    Auth,
    Cancel,
    Challenge,
    ClientConnection,
    ClientKind,
    Cont,
    Fail,
    Hello,
    Ok,
    RemoteProtocolError,
)
from authlua.request import AuthRequest
from authlua.sasl import DOVECOT_TOKEN
from authlua.secret import Secret
from authlua.server.driving import Done, begin, finish, resume
from authlua.server.ready import Connection
from authlua.services import errand
from authlua.wishes import Ask, Errand, Hash, Outcome, Service, Wish

if TYPE_CHECKING:
    from authlua.server.app import App
    from authlua.server.core import Core
    from authlua.server.listeners import Listener

TOKEN_MECHS = [Advertised(DOVECOT_TOKEN.name, DOVECOT_TOKEN.flags, DOVECOT_TOKEN.allow_nul)]

Conversation = Coroutine[Wish, Any, Ok | Fail]


class _Pending:
    """A request whose core has to wait."""

    __slots__ = ("conversation", "core", "request", "started", "waits_for")

    def __init__(self, request: AuthRequest, conversation: Conversation, core: "Core", started: float) -> None:
        self.request = request
        self.conversation = conversation
        self.core = core
        self.started = started
        self.waits_for: trio.CancelScope | Errand | None = None
        """Its task's scope, or what somebody else does for it; `None` while it is the client's turn."""


class Client(Connection):
    """A login process, Postfix, Exim … and the requests it has open.

    A request is driven on the spot. It lives on in `_pending` only while it must wait: for the client, in silence;
    for an errand, whose outcome drives it on; for anything else, in a task of its own.
    """

    def __init__(self, app: "App", listener: "Listener", sock: socket.socket) -> None:
        kind = listener.client_kind
        self._codec = ClientConnection(
            app.dialect,
            kind,
            TOKEN_MECHS if kind is ClientKind.TOKEN_LOGIN else app.core.advertised,
            spid=app.spid,
            cuid=app.next_cuid(),
            cookie=Secret(secrets.token_bytes(16)),
            late=listener.late,
        )
        self._login = kind is not ClientKind.CLIENT
        self._pid = 0
        self._pending: dict[int, _Pending] = {}
        self._kept: dict[int, AuthRequest] = {}
        super().__init__(app, listener, sock)
        app.clients.add(self)
        self._codec.greet()
        self.flush()

    # --- bytes ---------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Serve all requests that *data* completes."""
        try:
            for message in self._codec.receive(data):
                if isinstance(message, Auth):
                    self._auth(message)
                elif isinstance(message, Cont):
                    self._continue(message)
                elif isinstance(message, Cancel):
                    self._drop(message.id)
                elif not self._hello(message):
                    return
                if self.closed:
                    return
        except RemoteProtocolError as error:
            self.flush()
            self._app.log.warning(
                "auth_client_disconnected", reason=str(error), listener=self._listener.name, client_pid=self._pid
            )
            self.close()
            return
        self.flush()

    def _hello(self, hello: Hello) -> bool:
        """On login sockets the client's pid is what a master's REQUEST names, so it must be unique."""
        if not self._login:
            return True
        logins = self._app.logins
        other = logins.get(hello.pid)
        if other is not None:
            other.probe()
            if not other.closed:
                self._app.log.warning(
                    "auth_client_disconnected",
                    reason=f"CPID {hello.pid} is that of another connection",
                    listener=self._listener.name,
                )
                self.flush()
                self.close()
                return False
        logins[hello.pid] = self
        self._pid = hello.pid
        return True

    def probe(self) -> None:
        """See whether the peer is gone already."""

        self.ready(select.EPOLLIN)

    def ended(self) -> None:
        """Drop what nobody is left to hear about; a lookup that runs is abandoned."""
        self._app.clients.discard(self)
        if self._app.logins.get(self._pid) is self:
            del self._app.logins[self._pid]
        for id in list(self._pending):
            self._drop(id)
        for id in list(self._kept):
            self._drop(id)

    # --- requests ------------------------------------------------------------

    def _auth(self, auth: Auth) -> None:
        app = self._app
        core = app.core
        started = perf_counter()
        request = new_request(
            auth.params,
            id=auth.id,
            mech=auth.mech,
            client_pid=self._pid if self._login else 0,  # as in Dovecot, scripts see only those that come back
            dialect=app.dialect,
            named=auth.named,
        )
        request.cuid = self._codec.cuid
        conversation = core.auth.authenticate(request, auth.initial, login=self._login)
        step = self._advance(request, conversation, None)
        if isinstance(step, Done):
            self._answer(request, step.value, started)
        else:
            core.holds += 1
            self._wait(_Pending(request, conversation, core, started), step)

    def _advance(self, request: AuthRequest, conversation: Conversation, answer: Any) -> Done | Wish:
        try:
            return begin(conversation, answer)
        except Exception:
            return Done(self._app.bug(request))

    def _continue(self, cont: Cont) -> None:
        pending = self._pending.pop(cont.id)
        if cont.channel_binding is not None:
            pending.request.channel_binding = cont.channel_binding
        self._app.expiry.stop((self, cont.id))
        step = self._advance(pending.request, pending.conversation, cont.data)
        if isinstance(step, Done):
            pending.core.release()
            self._answer(pending.request, step.value, pending.started)
        else:
            self._wait(pending, step)

    def _wait(self, pending: _Pending, wish: Wish) -> None:
        id = pending.request.id
        self._pending[id] = pending
        if isinstance(wish, Hash):
            wish = self._app.hasher.job(wish, for_whom=self._codec.cuid)
        elif isinstance(wish, Service):
            wish = errand(wish) or wish
        if isinstance(wish, Ask):
            pending.waits_for = None
            self._codec.send(Challenge(id, wish.challenge, wish.binding))
            self._app.expiry.start((self, id), lambda: self._give_up(pending))
        elif isinstance(wish, Errand):
            pending.waits_for = wish
            wish.start(lambda outcome: self._resume(pending, outcome))
        else:
            # the scope is there before the task, so a CANCEL in the same read finds it
            pending.waits_for = scope = trio.CancelScope(deadline=trio.current_time() + self._app.request_timeout)
            self._app.tasks.start_soon(self._carry_on, pending, wish, scope)

    def _resume(self, pending: _Pending, outcome: Outcome) -> None:
        """An errand has ended; what there is to write goes out when all that ended with it have been told."""
        request = pending.request
        if self._pending.pop(request.id, None) is not pending:
            raise AssertionError("an errand that was cancelled reports nothing")
        step: Done | Wish
        try:
            step = resume(pending.conversation, outcome)
        except Exception:
            step = Done(self._app.bug(request))
        if isinstance(step, Done):
            pending.core.release()
            self._answer(request, step.value, pending.started)
        else:
            self._wait(pending, step)
        self._app.unwritten.add(self)

    def flush(self) -> None:
        """Write what is there to be written."""
        self.write(self._codec.data_to_send())

    async def _carry_on(self, pending: _Pending, wish: Wish, scope: trio.CancelScope) -> None:
        """The slow path: something has to be waited for."""
        request = pending.request
        step: Done | Wish | None = None
        try:
            with scope:
                try:
                    step = await finish(pending.conversation, wish, Ask, Errand, Hash)
                except Exception:
                    step = Done(self._app.bug(request))
        finally:
            # whoever cancelled us has taken the request off the table; a deadline has not
            dropped = self._pending.get(request.id) is not pending
            if dropped:
                pending.core.release()
        if dropped:
            return
        del self._pending[request.id]
        if step is None:
            step = Done(self._app.timed_out(request))
        if isinstance(step, Done):
            pending.core.release()
            self._answer(request, step.value, pending.started)
        else:
            self._wait(pending, step)
        self.flush()

    def _answer(self, request: AuthRequest, reply: Ok | Fail, started: float) -> None:
        """Queue the verdict, or see to it that it is told later."""
        id = request.id
        codec = self._codec
        if isinstance(reply, Ok):
            codec.send(reply)
            if reply.keep:
                self._kept[id] = request
                self._app.expiry.start((self, id), lambda: self._expire(id))
            self._app.finished(request, reply, started)
            return
        self._app.finished(request, reply, started)
        if self._listener.close_on_tempfail and ("code", "temp_fail") in reply.fields:
            self.abort()
        elif reply.delay:
            codec.release(id)
            self._app.failures.put(lambda: self._tell(reply))
        else:
            codec.send(reply)

    def _tell(self, reply: Fail) -> None:
        if not self.closed:
            self._codec.send(reply)
            self.flush()

    def _drop(self, id: int) -> None:
        """Forget a request; nobody wants its answer."""
        self._app.expiry.stop((self, id))
        self._kept.pop(id, None)
        pending = self._pending.pop(id, None)
        if pending is None:
            return
        if pending.waits_for is not None:
            pending.waits_for.cancel()
        if not isinstance(pending.waits_for, trio.CancelScope):
            pending.conversation.close()
            pending.core.release()

    def _give_up(self, pending: _Pending) -> None:
        """The client says no more."""
        pending.core.auth.tell_unanswered(pending.request, self._app.request_timeout)
        self._expire(pending.request.id)

    def _expire(self, id: int) -> None:
        self._drop(id)
        self._codec.forget(id)

    @property
    def idle(self) -> bool:
        """No request is waiting for anything but its client."""
        return self._codec.idle

    # --- for masters ---------------------------------------------------------

    def take(self, id: int, cookie: Secret) -> AuthRequest | None:
        """Hand over the successful login *id*, once; whatever else that id was is over too."""
        if cookie != self._codec.cookie:
            return None
        request = self._kept.get(id)
        self._expire(id)
        return request

    def fail_open_requests(self) -> None:
        """The server stops: tell the client that its open requests failed for now."""
        for id, pending in list(self._pending.items()):
            asked = pending.waits_for is None
            self._drop(id)
            if asked:
                self._codec.forget(id)
            else:
                self._codec.send(self._app.core.auth.temporary_failure(pending.request))
        self.flush()
