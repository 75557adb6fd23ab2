"""How logins ended: the one line that each gets in the log, and who counts them."""

from time import perf_counter
from typing import TYPE_CHECKING, Final

from authlua.logs import Form, teller
from authlua.protocol import Fail, Ok
from authlua.request import AuthRequest
from authlua.server.counting import Counts

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

FORM: Final = Form(
    "auth_request_finished",
    (
        "success",
        "user",
        "original_user",
        "master_user",
        "mech",
        "service",
        "rip",
        "session",
        "cached",
        "code",
        "reason",
        "error",
        "policy_result",
        "policy_penalty",
        "duration",
    ),
)
"""Dovecot's event, with its field names."""


class Finished:
    """Hears of each login that is over.

    Args:
        log: gets a line about each.
    """

    def __init__(self, log: "FilteringBoundLogger") -> None:
        self._tell = teller(log, "info", FORM)
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
            self._tell(
                [
                    success,
                    user,
                    None if original_user == user else original_user,
                    request.master_user,
                    request.mech,
                    request.service,
                    request.rip,
                    request.session,
                    request.cached,
                    code,
                    reason,
                    "internal failure" if code == "temp_fail" else None,
                    policy_result,
                    request.policy_delay or None,
                    round(duration * 1e6),
                ]
            )
        if self.counts is not None:
            result = "ok" if isinstance(reply, Ok) else code or "fail"
            self.counts.login(request.mech, request.service, result, duration)
