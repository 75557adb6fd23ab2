"""The conformance kit: the same questions to two servers of Dovecot's auth protocols, and a comparison of the answers.

`generate` makes sessions, `play` plays one against a server, `compare` tells where two servers differ, and `explore`
does all that with many at once. Nothing here knows how authlua works: it is asked over its sockets like the others.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from authlua.conformance.check import Failure, Outcome, check
from authlua.conformance.words import SCRIPT

if TYPE_CHECKING:
    from authlua.conformance.explore import Report

__all__ = ["SCRIPT", "Failure", "Outcome", "check", "compare_with_authlua"]


def compare_with_authlua(
    sockets: Mapping[str, Path], *, script: Path | None, sessions: int, seconds: float, seed: int
) -> "Report":
    """Play generated sessions to the server at *sockets* and to an authlua of our own that runs the same script.

    Args:
        script: what that server serves; `None`: the kit's own.
        sessions, seconds: the run ends with whichever is over first.

    Raises:
        Unreachable: nobody answers at the client socket.
    """
    from authlua.conformance.check import greeting_of
    from authlua.conformance.explore import deadline, explore
    from authlua.conformance.profiles import PROFILES
    from authlua.conformance.servers import Authlua

    dialect, _ = greeting_of(sockets["client"])
    text = None if script is None else script.read_text()
    with Authlua(PROFILES["plain"], dialect, script=text, delays=True) as authlua:
        return explore(
            dialect,
            "plain",
            authlua.sockets,
            sockets,
            sessions=sessions,
            seed=seed,
            stop=deadline(seconds),
            patient=True,
        )
