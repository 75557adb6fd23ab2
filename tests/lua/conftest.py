"""Scripts from a few lines, requests from a name, and a log that can be read back."""

import functools
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from authlua.dialect import Dialect
from authlua.listing import Listing
from authlua.lua import LuaPassdb, LuaUserdb, ScriptOptions, Scripts, load_passdb, load_userdb
from authlua.request import AuthRequest
from authlua.wishes import Compute

SCRIPTS = Path(__file__).with_name("scripts")

Database = TypeVar("Database", LuaPassdb, LuaUserdb)


class Line(NamedTuple):
    """One line of the log."""

    level: str
    text: str
    request: AuthRequest | None
    fields: Mapping[str, object]


class Bench:
    """Loads scripts, runs calls, keeps the log."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: list[LuaPassdb | LuaUserdb] = []
        self.lines: list[Line] = []

    def log(self, level: str, text: str, request: AuthRequest | None, fields: Mapping[str, object]) -> None:
        self.lines.append(Line(level, text, request, fields))

    @property
    def texts(self) -> list[str]:
        """The log's texts."""
        return [line.text for line in self.lines]

    def script(self, source: str | bytes | Path) -> Path:
        """The file *source* is in; Lua text is written to one."""
        if isinstance(source, Path):
            return source
        path = self._directory / "auth.lua"
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
        return path

    def passdb(self, source: str | bytes | Path, dialect: Dialect | None = Dialect.V2_3, **options: Any) -> LuaPassdb:
        """The script as a passdb; *options* are those of `ScriptOptions`, and ``scripts``."""
        return self._opened(load_passdb, source, dialect, **options)

    def userdb(self, source: str | bytes | Path, dialect: Dialect | None = Dialect.V2_3, **options: Any) -> LuaUserdb:
        """The same as a userdb."""
        return self._opened(load_userdb, source, dialect, **options)

    def _opened(
        self,
        load: Callable[..., Database],
        source: str | bytes | Path,
        dialect: Dialect | None,
        *,
        scripts: Scripts | None = None,
        **options: Any,
    ) -> Database:
        database = load(
            self.script(source),
            log=self.log,
            dialect=dialect,
            server_dialect=Dialect.V2_3,
            options=ScriptOptions(**options),
            scripts=scripts,
        )
        self._open.append(database)
        return database

    @functools.cache  # noqa: B019 - a bench lives as long as its test
    def loaded(self, script: Path, dialect: Dialect, function: str) -> Any:
        """The database that has *function*, loaded once."""
        return (self.userdb if function == "auth_userdb_lookup" else self.passdb)(script, dialect)

    def evaluate(
        self, body: str, *, dialect: Dialect = Dialect.V2_3, request: AuthRequest | None = None, **options: Any
    ) -> str | None:
        """What Lua *body* returns, as ``tostring`` shows it, run in a passdb lookup (``req`` is the request)."""
        script = f"local function body(req) {body}\nend\nfunction auth_passdb_lookup(req)\n"
        script += "  local function pack(...) return { n = select('#', ...), ... } end\n  local out = pack(body(req))\n"
        script += "  for i = 1, out.n do out[i] = tostring(out[i]) end\n"
        script += '  return 1, { out = table.concat(out, " ") }\nend'
        database = self.passdb(script, dialect, **options)
        reply = now(database.lookup(request or login()))
        return dict(reply.fields)["out"]

    def close(self) -> None:
        for database in self._open:
            database.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A place to try scripts."""
    place = Bench(tmp_path)
    yield place
    place.close()


SAID = (
    "service", "session", "lip", "rip", "lport", "rport", "real_lip", "real_rip", "real_lport", "real_rport",
    "local_name", "client_id", "secured", "valid_client_cert", "ssl_ja3_hash", "ssl_client_cert_fp",
    "ssl_client_cert_pubkey_fp",
)  # fmt: skip
"""Attributes of a request that are read from what the client said."""


def _param(name: str, value: object) -> tuple[str, str | None]:
    """What a client says so that attribute *name* has *value*."""
    return (name.replace("_", "-"), None) if value is True else (name, str(value).replace("TLS", "tls"))


def login(user: str | None = "alice", **attributes: Any) -> AuthRequest:
    """A PLAIN login to imap."""
    said = {name: value for name, value in attributes.items() if name in SAID}
    params = dict(_param(*pair) for pair in said.items())
    request = AuthRequest(mech="PLAIN", id=1, params={"service": "imap"} | params)
    request.user = request.original_user = user
    for name in attributes.keys() - said.keys():
        setattr(request, name, attributes[name])
    return request


def now(call: Coroutine[Any, Any, Any]) -> Any:
    """The result of a call that never waits, in the one send it is allowed."""
    try:
        wish = call.send(None)
    except StopIteration as done:
        return done.value
    call.close()
    raise AssertionError(f"the call waits for {wish}")


def listed(listing: Listing) -> list[str]:
    """All names of a listing that never waits."""
    names = []
    try:
        while piece := now(listing.piece()):
            names += piece
    finally:
        listing.close()
    return names


def computing(call: Coroutine[Any, Any, Any], *, between: Callable[[], None] = lambda: None) -> tuple[Any, int]:
    """The result of a call whose `Compute` wishes are fulfilled on the spot, and how many there were."""
    count, answer = 0, None
    while True:
        try:
            wish = call.send(answer)
        except StopIteration as done:
            return done.value, count
        assert isinstance(wish, Compute)
        between()
        answer = wish.function(*wish.args)
        count += 1
