"""What passdbs have in common that only know stored passwords."""

from authlua.request import AuthRequest
from authlua.results import PassdbReply
from authlua.secret import Secret


class Compared:
    """A passdb whose stored passwords the chain compares itself."""

    verifies = False

    async def verify_plain(self, request: AuthRequest, password: Secret) -> PassdbReply:
        """Never asked, as `verifies` says."""
        raise AssertionError("the chain compares the password itself")
