"""A Lua state to try things in: for the prompt ``authlua repl``, and for the tests of ``authlua test-script``.

It has what auth scripts have, and what ``api/prompt.lua`` adds. Whatever waits in there waits on the spot.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from authlua.dialect import Dialect
from authlua.errors import ScriptError
from authlua.lua.calls import Refusal, ScriptLog, ScriptOptions
from authlua.lua.conversion import from_lua, lua_string, text
from authlua.lua.engine import DONE
from authlua.lua.replies import PASSDB_LOOKUP, PASSWORD_VERIFY, USERDB_LOOKUP, Judge
from authlua.lua.script import create, register_dovecot, script_init
from authlua.request import AuthRequest

_PART = Path(__file__).with_name("api") / "prompt.lua"

MakeRequest = Callable[[Mapping[str, Any]], AuthRequest]
"""A request out of the table a script gave; a `ValueError` says what is wrong with it."""


class Prompt:
    """The state.

    Args:
        directory: where the paths of scripts start.
    """

    def __init__(
        self, make: MakeRequest, directory: Path, *, log: ScriptLog, dialect: Dialect, options: ScriptOptions
    ) -> None:
        self._make = make
        self._directory = directory
        script = create("prompt", b"", "=prompt", log, dialect, options, None, "passdb")
        register_dovecot(script)
        self._calls, self._engine = script.calls, script.engine
        self._judge = Judge(script.calls)
        self._requests = 0
        functions: Mapping[str, Callable[..., Any]]
        functions = {"request": self._request, "judged": self._judged, "read": self._read, "place": self._place}
        self._engine.extend(_PART, functions)
        script_init(script)

    def evaluate(self, line: str) -> tuple[bool, str] | None:
        """What the Lua *line* comes to: whether it went well, and the results or the error; `None` when it goes on."""
        step = self._engine.enter("prompt", "evaluate", lua_string(line))
        if step is None:
            return None
        ok, said = step
        return ok, "(null)" if said is None else text(said)

    def script(self, path: Path) -> None:
        """Load the auth script at *path*; a `ScriptError` when that fails."""
        problem = self._engine.enter("prompt", "script", lua_string(str(path)))
        if problem is not None:
            raise ScriptError(text(problem))

    def tests(self, path: Path) -> list[str]:
        """Load the file of tests at *path*; the names of its tests as they stand there. Raises `ScriptError`."""
        ok, said = self._engine.enter("prompt", "tests_of", lua_string(str(path)))
        if not ok:
            raise ScriptError("(null)" if said is None else text(said))
        return text(said).split("\n") if said else []

    def test(self, name: str) -> None:
        """Run a test; a `ScriptError` when it fails."""
        step = self._engine.pcall(name)
        if step[0] != DONE:
            raise ScriptError("(null)" if step[1] is None else text(step[1]))

    def close(self) -> None:
        """Free the state."""
        self._engine.close()

    # -- what Lua calls

    def _request(self, values: Any) -> tuple[int, bytes | None, int]:
        try:
            request = self._make(from_lua(values))
        except ValueError as error:
            raise Refusal(f"request: {error}") from error
        self._requests -= 1  # those of the engine's own calls are positive
        self._calls.requests[self._requests] = request
        flags = sum(
            bit
            for bit, is_set in (
                (1, request.skip_password_check),
                (2, request.passdbs_seen_user_unknown),
                (4, request.passdbs_seen_internal_failure),
                (8, request.userdbs_seen_internal_failure),
            )
            if is_set
        )
        return self._requests, None if request.user is None else lua_string(request.user), flags

    def _judged(self, kind: bytes, call: int, *step: Any) -> tuple[bytes | None, ...]:
        request = self._calls.request(call)
        try:
            if kind == b"userdb_lookup":
                reply: Any = self._judge.userdb(USERDB_LOOKUP, step, request)
            else:
                function = PASSDB_LOOKUP if kind == b"passdb_lookup" else PASSWORD_VERIFY
                reply = self._judge.passdb(function, step, request)
        except ScriptError as error:
            raise Refusal(str(error)) from error
        fields = [lua_string(part or "") for field in reply.fields for part in field]
        return lua_string(reply.result.name), *fields

    def _read(self, path: bytes) -> bytes:
        place = self._directory / text(path)
        try:
            return place.read_bytes()
        except OSError as error:
            raise Refusal(f"{place}: {error.strerror}") from error

    def _place(self, path: bytes) -> bytes:
        return lua_string(str(self._directory / text(path)))
