"""Databases for scripts: what LuaSQL and LuaDBI do, in threads.

What a script takes for a connection is a set of sessions (`authlua.twins.pools`) with the same parameters. What the
script told it before others used it (``SET``, ``USE``, ``PRAGMA``) is told each of them.
"""

import re
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from authlua.twins.operations import Steps, Waits, Want, begin
from authlua.twins.pools import Pool
from authlua.twins.resources import Leases
from authlua.twins.threads import Threads

Answer = tuple[Any, ...]

_SETTING = re.compile(rb"\s*(?:SET|USE|PRAGMA)\b", re.IGNORECASE)


class SqlError(Exception):
    """What the database said; *lost* when the session is of no more use."""

    def __init__(self, text: bytes, *, lost: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.lost = lost


class Rows(NamedTuple):
    """What a statement brought."""

    names: Sequence[bytes] | None
    """Of the columns; `None` when the statement brings no rows."""
    types: Sequence[bytes]
    rows: Sequence[Sequence[Any]]
    """Values for Lua: bytes, numbers, booleans, `None`."""
    affected: int


class Session(Protocol):
    """One session of a database. Its methods block, and raise `SqlError`."""

    autocommits: bool
    """Each statement is a transaction of its own; a fresh session is like that."""

    def execute(self, statement: bytes, /) -> Rows:
        """Run *statement*; values as LuaSQL has them."""
        ...

    def run(self, statement: bytes, parameters: Sequence[Any], /) -> Rows:
        """Run *statement* with *parameters* in the place of question marks; values as LuaDBI has them."""
        ...

    def check(self, statement: bytes, /) -> None:
        """See whether the database understands *statement*."""
        ...

    def commit(self) -> None:
        """Keep what the transaction has done."""
        ...

    def rollback(self) -> None:
        """Take it back."""
        ...

    def autocommit(self, on: bool, /) -> None:
        """Whether each statement is a transaction of its own."""
        ...

    def last_id(self) -> int:
        """The key that the last insert made."""
        ...

    def ping(self) -> bool:
        """Whether the server is there."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Connection(Pool[Session]):
    """What a script takes for a connection."""

    def __init__(self, open_session: Callable[[], Session], most: int) -> None:
        super().__init__()
        self.open_session = open_session
        self.most = most
        self.count = 0
        self.born: int | None = None
        """The call that opened it; `None` when that was while the script was loaded."""
        self.settings: list[bytes] = []
        self.autocommit = True
        self.closed = False

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """End all sessions, those that are taken when their calls are over."""
        self.closed = True
        while self.idle:
            self.idle.pop().close()

    def _fresh(self) -> Session:
        session = self.open_session()
        try:
            for statement in self.settings:
                session.execute(statement)
        except BaseException:
            session.close()
            raise
        return session

    def may_grow(self) -> bool:
        return self.count < self.most

    def drop(self, session: Session) -> None:
        self.count -= 1
        session.close()

    def give_back(self, session: Session, *, lost: bool) -> None:
        """*session* is free, or *lost*."""
        super().give_back(session, lost=lost or self.closed)

    def take(
        self, call: int | None, threads: Threads, leases: Leases
    ) -> Generator[Want, bool, tuple[Session, Callable[[bool], None]]]:
        """A session for *call*, and what to call with whether it is lost when the call has no end of its own."""
        if call is not None and call in self.taken:
            return self.taken[call], lambda lost: self.lost.add(call) if lost else None
        if not (yield from self.turn()):
            raise SqlError(b"all sessions are taken by logins that wait")
        if self.idle:
            session = self.idle.pop()
        else:
            self.count += 1
            try:
                session = yield from threads.run(self._fresh)
            except BaseException:
                self.count -= 1
                raise
        if session.autocommits != self.autocommit:
            yield from threads.run(session.autocommit, self.autocommit)
        if call is None:
            return session, lambda lost: self.give_back(session, lost=lost)
        self.hand(session, call, leases)
        return session, lambda lost: self.lost.add(call) if lost else None


class Cursor:
    """Rows on their way to the script."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.at = 0

    def fetch(self) -> Answer:
        """`True` and the values of the next row; nothing after the last."""
        if self.at >= len(self.rows.rows):
            return ()
        self.at += 1
        return True, *self.rows.rows[self.at - 1]


class Sql:
    """What the Lua side of the databases calls."""

    def __init__(self, waits: Waits, leases: Leases, threads: Threads) -> None:
        self._waits = waits
        self._leases = leases
        self._threads = threads

    def functions(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {
            "sql_connect": self.connect,
            "sql_execute": self.execute,
            "sql_run": self.run,
            "sql_check": lambda call, connection, statement: self._does(call, connection, "check", statement),
            "sql_commit": lambda call, connection: self._does(call, connection, "commit"),
            "sql_rollback": lambda call, connection: self._does(call, connection, "rollback"),
            "sql_autocommit": self.autocommit,
            "sql_last_id": lambda call, connection: self._does(call, connection, "last_id"),
            "sql_ping": lambda call, connection: self._does(call, connection, "ping"),
            "sql_close": Connection.close,
            "sql_fetch": Cursor.fetch,
            "sql_names": lambda cursor: tuple(cursor.rows.names),
            "sql_types": lambda cursor: tuple(cursor.rows.types),
            "sql_count": lambda cursor: len(cursor.rows.rows),
            "sql_quote": quoted,
        }

    def connect(self, call: int | None, driver: bytes, autocommits: bool, *arguments: Any) -> Answer:
        """A `Connection` with its first session open, or `None` and why not."""
        open_session, most = _driver(driver.decode())(*arguments)
        connection = Connection(open_session, most)
        connection.born, connection.autocommit = call, autocommits
        return begin(self._connect(connection), self._waits)

    def _connect(self, connection: Connection) -> Steps:
        try:
            session = yield from self._threads.run(connection.open_session)
        except SqlError as error:
            return None, error.text
        connection.count = 1
        connection.give_back(session, lost=False)
        return (connection,)

    def _doing(
        self, call: int | None, connection: Connection, method: str, arguments: tuple[Any, ...]
    ) -> Generator[Want, bool, Any]:
        session, done = yield from connection.take(call, self._threads, self._leases)
        lost = True
        try:
            value = yield from self._threads.run(partial(getattr(session, method), *arguments))
            lost = False
            return value
        except SqlError as error:
            lost = error.lost
            raise
        finally:
            done(lost)

    def _does(self, call: int | None, connection: Connection, method: str, *arguments: Any) -> Answer:
        def steps() -> Steps:
            try:
                value = yield from self._doing(call, connection, method, arguments)
            except SqlError as error:
                return None, error.text
            return (True if value is None else value,)

        return begin(steps(), self._waits)

    def execute(self, call: int | None, connection: Connection, statement: bytes) -> Answer:
        """A `Cursor`; how many rows were changed; or `None` and why not."""
        if call in (None, connection.born) and _SETTING.match(statement):
            connection.settings.append(statement)
        return begin(self._rows(self._doing(call, connection, "execute", (statement,))), self._waits)

    def run(self, call: int | None, connection: Connection, statement: bytes, *parameters: Any) -> Answer:
        """The same with parameters."""
        return begin(self._rows(self._doing(call, connection, "run", (statement, parameters))), self._waits)

    @staticmethod
    def _rows(doing: Generator[Want, bool, Rows]) -> Steps:
        try:
            rows = yield from doing
        except SqlError as error:
            return None, error.text
        return (rows.affected,) if rows.names is None else (Cursor(rows),)

    def autocommit(self, call: int | None, connection: Connection, on: bool) -> Answer:
        """Whether each statement is a transaction of its own."""
        connection.autocommit = on
        return self._does(call, connection, "autocommit", on)


def _driver(name: str) -> Callable[..., tuple[Callable[[], Session], int]]:
    """What makes a way to open sessions, and how many there may be, out of the arguments of ``connect``."""
    if name == "sqlite3":
        from authlua.twins import sqlite

        return sqlite.sessions
    if name == "mysql":
        from authlua.twins import mysql

        return mysql.sessions
    from authlua.twins import postgres

    return postgres.sessions


_MYSQL = {b"\0": b"0", b"\n": b"n", b"\r": b"r", b"\x1a": b"Z", b"'": b"'", b'"': b'"', b"\\": b"\\"}
"""Bytes that a backslash has to stand in front of, and what they become behind it."""


def quoted(driver: bytes, text: bytes) -> bytes:
    """*text* as it may stand between single quotes."""
    if driver != b"mysql":
        return text.replace(b"'", b"''")
    return re.sub(rb"[\0\n\r\x1a'\"\\]", lambda found: b"\\" + _MYSQL[found[0]], text)


def filled_in(statement: bytes, literals: Sequence[bytes]) -> bytes:
    """*statement* with *literals* in the place of its question marks, of which there must be as many."""
    pieces = split_at_marks(statement)
    expect(len(pieces) - 1, literals)
    return b"".join(part for pair in zip(pieces, [*literals, b""], strict=True) for part in pair)


def expect(count: int, parameters: Sequence[Any]) -> None:
    """Refuse *parameters* unless there are *count* of them."""
    if count != len(parameters):
        raise SqlError(b"Statement expected %d parameters but received %d" % (count, len(parameters)))


def split_at_marks(statement: bytes) -> list[bytes]:
    """*statement* without the question marks that stand for parameters, cut where they were."""
    pieces, begun, quote, at = [], 0, 0, 0
    while at < len(statement):
        byte = statement[at]
        if quote:
            if byte == ord("\\") and quote != ord("`"):
                at += 1
            elif byte == quote:
                quote = 0
        elif byte in b"'\"`":
            quote = byte
        elif byte == ord("?"):
            pieces.append(statement[begun:at])
            begun = at + 1
        at += 1
    return [*pieces, statement[begun:]]
