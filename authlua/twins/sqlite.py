"""SQLite, with the standard library."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from authlua.twins.pools import SESSIONS
from authlua.twins.sql import Rows, Session, SqlError, expect, split_at_marks

_ERRORS = (sqlite3.Error, sqlite3.Warning, ValueError)
"""What a statement may end in; the last when it is no UTF-8."""


def sessions(path: bytes, busy: float | None = None, *_: Any) -> tuple[Callable[[], Session], int]:
    """Sessions of the file at *path*; one in memory can have only one."""
    name = path.decode("utf-8", "surrogateescape")
    alone = name in ("", ":memory:") or name.startswith("file::memory:")
    return partial(Sqlite, name, 0.0 if busy is None else busy / 1000), 1 if alone else SESSIONS


class Sqlite:
    """One session; it may move from thread to thread, as long as one uses it at a time."""

    def __init__(self, path: str, busy: float) -> None:
        try:
            self._connection = sqlite3.connect(path, timeout=busy, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _said(error) from error
        self._connection.text_factory = bytes
        self.autocommits = True

    def execute(self, statement: bytes) -> Rows:
        return self.run(statement, ())

    def run(self, statement: bytes, parameters: Sequence[Any]) -> Rows:
        expect(len(split_at_marks(statement)) - 1, parameters)
        try:
            cursor = self._connection.execute(
                statement.decode("utf-8", "surrogateescape"),
                [value.decode("utf-8") if isinstance(value, bytes) else value for value in parameters],
            )
            rows = cursor.fetchall()
        except _ERRORS as error:
            raise _said(error) from error
        if cursor.description is None:
            return Rows(None, (), (), max(0, cursor.rowcount))
        names = [column[0].encode() for column in cursor.description]
        return Rows(names, [b"" for _ in names], rows, 0)

    def check(self, statement: bytes) -> None:
        text = statement.decode("utf-8", "surrogateescape")
        try:
            self._connection.execute(f"EXPLAIN {text}", (None,) * (len(split_at_marks(statement)) - 1)).close()
        except _ERRORS as error:
            raise _said(error) from error

    def commit(self) -> None:
        self._end("COMMIT")

    def rollback(self) -> None:
        self._end("ROLLBACK")

    def _end(self, how: str) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute(how)
            if not self.autocommits:
                self._connection.execute("BEGIN")
        except sqlite3.Error as error:
            raise _said(error) from error

    def autocommit(self, on: bool) -> None:
        self.autocommits = on
        self._end("COMMIT")

    def last_id(self) -> int:
        number: int = self._connection.execute("SELECT last_insert_rowid()").fetchone()[0]
        return number

    def ping(self) -> bool:
        return True

    def close(self) -> None:
        self._connection.close()


def _said(error: Exception) -> SqlError:
    return SqlError(str(error).encode())
