"""Does the kit notice? Spoils a copy of authlua in many small ways, one at a time, and asks each the kit's questions.

``python -m tests.conformance.mutants`` (``make mutants``) tells of each mutant how it was caught, counts them, and ends
with 1 when one was not. No Dovecot is asked: sessions are compared with the authlua that was not spoilt, and the
dialogues know the answers.
"""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import authlua
from authlua.conformance import check, raw
from authlua.conformance.explore import explore
from authlua.conformance.profiles import PROFILES
from authlua.conformance.servers import Authlua

PACKAGE = Path(authlua.__file__).parent
SESSIONS = 400
SEED = 7
PLACES = (("2.3", "plain"), ("2.3", "chain"), ("2.4", "plain"), ("2.4", "rules"))


class Mutant(NamedTuple):
    """One way to spoil authlua: in *file*, *old*, which is there once, becomes *new*."""

    name: str
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant("TAB is not escaped", "protocol/escaping.py", r'"\t": "\x01t", ', ""),
    Mutant(
        "CR and LF change letters",
        "protocol/escaping.py",
        r'"\r": "\x01r", "\n": "\x01n"',
        r'"\r": "\x01n", "\n": "\x01r"',
    ),
    Mutant("the escape byte is not escaped", "protocol/escaping.py", r'"\x01": "\x011", ', ""),
    Mutant(
        "an unknown escape is lost",
        "protocol/escaping.py",
        "_MEANING.get(match[1], match[1])",
        '_MEANING.get(match[1], "")',
    ),
    Mutant("a rollback is forgotten", "auth/passdbs.py", "    request.passdb_fields.rollback()\n", ""),
    Mutant("a snapshot is forgotten", "auth/passdbs.py", "    request.passdb_fields.snapshot()\n", ""),
    Mutant("a client's line may be one byte longer", "protocol/client.py", "MAX_LINE = 16384", "MAX_LINE = 16385"),
    Mutant("a client's line may be one byte shorter", "protocol/client.py", "MAX_LINE = 16384", "MAX_LINE = 16383"),
    Mutant("a master's line may be one byte longer", "protocol/master.py", "MAX_LINE = 1024", "MAX_LINE = 1025"),
    Mutant("the greatest id is refused", "protocol/lines.py", "_MAX_ID = 0xFFFFFFFF", "_MAX_ID = 0xFFFFFFFE"),
    Mutant(
        "id 0 is taken",
        "protocol/client.py",
        'if not id:\n            raise RemoteProtocolError("AUTH needs',
        'if id is None:\n            raise RemoteProtocolError("AUTH needs',
    ),
    Mutant(
        "failures are told at once",
        "auth/replies.py",
        "delay=self._failure_delay and not nodelay",
        "delay=False and not nodelay",
    ),
    Mutant("nodelay delays", "auth/replies.py", "self._failure_delay and not nodelay and", "self._failure_delay and"),
    Mutant("temp instead of temp_fail", "auth/replies.py", '("code", "temp_fail")', '("code", "temp")'),
    Mutant(
        "a disabled user has expired",
        "auth/replies.py",
        'PassdbResult.USER_DISABLED: "user_disabled"',
        'PassdbResult.USER_DISABLED: "pass_expired"',
    ),
    Mutant(
        "code comes before user",
        "auth/replies.py",
        'pairs.append(("code", "temp_fail"))',
        'pairs.insert(0, ("code", "temp_fail"))',
    ),
    Mutant("authz_fail is forgotten", "auth/replies.py", '("code", "authz_fail")', '("code", "")'),
    Mutant("original_user is forgotten", "auth/replies.py", 'pairs.append(("original_user", original))', "pass"),
    Mutant(
        "auth_mech comes after the token",
        "auth/replies.py",
        '        pairs.append(("auth_mech", request.mech))\n',
        '        pairs.insert(0, ("auth_mech", request.mech))\n',
    ),
    Mutant(
        "a proxied login is kept for a master",
        "auth/replies.py",
        'keep = login and "nologin" not in fields and "proxy" not in fields',
        'keep = login and "nologin" not in fields',
    ),
    Mutant(
        "nologin is told to who failed",
        "auth/replies.py",
        '("nologin", *PROXY_FIELDS[dialect])',
        "PROXY_FIELDS[dialect]",
    ),
    Mutant("hidden fields are told", "auth/fields.py", '"allow_nets", ', ""),
    Mutant(
        "pass tells the password to MTAs", "auth/replies.py", 'if login and "proxy" in fields:', 'if "proxy" in fields:'
    ),
    Mutant(
        "a failed id stays taken",
        "protocol/client.py",
        "if self._turns.pop(id, None) is not _Turn.RUNNING:",
        "if self._turns.get(id) is not _Turn.RUNNING:",
    ),
    Mutant(
        "an unexpected continuation keeps its id",
        "protocol/client.py",
        '            del self._turns[id]\n            self._out.append(f"FAIL\\t{id}\\treason=Unexpected',
        '            self._out.append(f"FAIL\\t{id}\\treason=Unexpected',
    ),
    Mutant("an empty response is absent for minor 2", "protocol/client.py", "self.minor >= 2", "self.minor >= 3"),
    Mutant("a lone = is not an empty response", "protocol/client.py", 'b"" if response == "=" else ', ""),
    Mutant(
        "resp need not be last",
        "protocol/client.py",
        'raise RemoteProtocolError("AUTH has a parameter after resp=")',
        "pass",
    ),
    Mutant(
        "service may be missing",
        "protocol/client.py",
        'raise RemoteProtocolError("AUTH without service= or protocol=")',
        "pass",
    ),
    Mutant(
        "a login is fetched twice",
        "server/clients.py",
        "        request = self._kept.get(id)\n        self._expire(id)\n",
        "        request = self._kept.get(id)\n",
    ),
    Mutant("the cookie is not looked at", "server/clients.py", "if cookie != self._codec.cookie:", "if False:"),
    Mutant("the session's pid is not looked at", "server/masters.py", "session_pid != self._peer_pid", "False"),
    Mutant(
        "userdb clients may REQUEST",
        "protocol/master.py",
        'MasterKind.USERDB: frozenset({"USER", "PASS", "LIST"})',
        'MasterKind.USERDB: frozenset({"USER", "PASS", "LIST", "REQUEST"})',
    ),
    Mutant(
        "an unknown user is a failure",
        "auth/flow.py",
        "return NotFound(id) if result is UserdbResult.USER_UNKNOWN else Failed(id)",
        "return Failed(id)",
    ),
    Mutant(
        "an internal failure is an unknown user",
        "auth/flow.py",
        "return NotFound(id) if result is UserdbResult.USER_UNKNOWN else Failed(id)",
        "return NotFound(id)",
    ),
    Mutant("the second LIST waits", "protocol/master.py", "if self.listing is not None:", "if False:"),
    Mutant("names keep their case", "auth/names.py", "name = self._format.expand(", "self._format.expand("),
    Mutant(
        "two users of one pid", "server/clients.py", "            if not other.closed:\n", "            if False:\n"
    ),
    Mutant(
        "a bad name is forgotten",
        "auth/replies.py",
        "user = request.original_user if request.user is None else request.user",
        "user = request.user",
    ),
)


def spoil(mutant: Mutant, directory: Path) -> None:
    """Put the spoilt package into *directory*.

    Raises:
        LookupError: the code is not as the mutant knows it.
    """
    package = directory / "authlua"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    path = package / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        raise LookupError(f"{mutant.name}: {mutant.file} holds {text.count(mutant.old)} times {mutant.old!r}")
    path.write_text(text.replace(mutant.old, mutant.new))


def command_in(directory: Path) -> Sequence[str]:
    """What serves with the package in *directory*."""
    return ("env", f"PYTHONPATH={directory}", "PYTHONSAFEPATH=1", sys.executable, "-m", "authlua", "serve")


def how_caught(directory: Path, healthy: dict[tuple[str, str], Authlua]) -> str:
    """How the kit notices that the authlua in *directory* is spoilt; empty when it does not."""
    command = command_in(directory)
    for dialect, profile in PLACES:
        try:
            with Authlua(PROFILES[profile], dialect, command=command) as spoilt:
                good = healthy[dialect, profile]
                report = explore(
                    dialect, profile, spoilt.sockets, good.sockets, sessions=SESSIONS, seed=SEED, first=True
                )
        except RuntimeError:
            return "it does not start"
        if report.found:
            return f"a session ({dialect} {profile}): {next(iter(report.found))}"
    for dialect in ("2.3", "2.4"):
        with Authlua(PROFILES["plain"], dialect, command=command, delays=True) as spoilt:
            outcome = check(spoilt.sockets)
        if outcome.failures:
            return f"a dialogue ({dialect}): {', '.join(failure.name for failure in outcome.failures[:3])}"
    return ""


def main() -> int:
    """Try them all, or those whose names hold the words given."""
    raw.PATIENCE = 8.0
    words = sys.argv[1:]
    chosen = [mutant for mutant in MUTANTS if all(word in mutant.name for word in words)]
    missed = []
    with ExitStack() as stack:
        command = command_in(PACKAGE.parent)
        healthy = {
            (dialect, profile): stack.enter_context(Authlua(PROFILES[profile], dialect, command=command))
            for dialect, profile in PLACES
        }
        for number, mutant in enumerate(chosen, 1):
            with tempfile.TemporaryDirectory(prefix="authlua-mutant-") as directory:
                spoil(mutant, Path(directory))
                caught = how_caught(Path(directory), healthy)
            print(f"{number:>3} {mutant.name}: {caught or 'NOT CAUGHT'}", flush=True)
            if not caught:
                missed.append(mutant.name)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} mutants caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
