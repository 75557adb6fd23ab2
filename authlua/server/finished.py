"""How logins ended: the one line that each gets in the log, and who counts them."""

from time import perf_counter
from typing import TYPE_CHECKING

from authlua.logs import teller
from authlua.protocol import Fail, Ok
from authlua.request import AuthRequest
from authlua.server.counting import Counts

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class Finished:
    """Hears of each login that is over.

    Args:
        log: gets Dovecot's event ``auth_request_finished``, with its field names.
    """

    def __init__(self, log: "FilteringBoundLogger") -> None:
        self._tell = teller(log, "info")
        self.counts: Counts | None = None
        self.requests = 0
        self.successes = 0

    def tell(self, request: AuthRequest, reply: Ok | Fail, started: float, *, policy_result: str | None) -> None:
        """*request*, which came at the time *started* of `perf_counter`, is answered; what the policy server said."""
        duration = perf_counter() - started
        self.requests += 1
        code: str | None = None
        if isinstance(reply, Ok):
            self.successes += 1
            success, reason = "yes", request.passdb_fields.get("reason")
        else:
            fields = dict(reply.fields)
            success, code, reason = "no", fields.get("code"), fields.get("reason")
        if self._tell is not None:
            user, original_user = request.user, request.original_user
            event = {
                "success": success,
                "user": user,
                "original_user": None if original_user == user else original_user,
                "master_user": request.master_user,
                "mech": request.mech,
                "service": request.service,
                "rip": request.rip,
                "session": request.session,
                "cached": request.cached,
                "code": code,
                "reason": reason,
                "error": "internal failure" if code == "temp_fail" else None,
                "policy_result": policy_result,
                "policy_penalty": request.policy_delay or None,
                "duration": round(duration * 1e6),
            }
            self._tell("auth_request_finished", event)
        if self.counts is not None:
            result = "ok" if isinstance(reply, Ok) else code or "fail"
            self.counts.login(request.mech, request.service, result, duration)
