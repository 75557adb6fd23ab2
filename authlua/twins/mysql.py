"""MySQL and MariaDB, with PyMySQL: no library of C has to be there, and a session costs one socket."""

import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pymysql
from pymysql.constants import CR, FIELD_TYPE
from pymysql.converters import encoders

from authlua.twins.pools import SESSIONS
from authlua.twins.sql import Rows, Session, SqlError, filled_in

_INTEGERS = frozenset(
    (FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.INT24, FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG, FIELD_TYPE.YEAR)
)
_FLOATS = frozenset((FIELD_TYPE.FLOAT, FIELD_TYPE.DOUBLE))

_NAMES: Mapping[int, str] = {
    **dict.fromkeys((*_INTEGERS, *_FLOATS, FIELD_TYPE.DECIMAL), "number"),
    **dict.fromkeys((FIELD_TYPE.VAR_STRING, FIELD_TYPE.STRING, FIELD_TYPE.ENUM, FIELD_TYPE.SET), "string"),
    **dict.fromkeys((FIELD_TYPE.BLOB, FIELD_TYPE.TINY_BLOB, FIELD_TYPE.MEDIUM_BLOB, FIELD_TYPE.LONG_BLOB), "binary"),
    FIELD_TYPE.DATE: "date",
    FIELD_TYPE.TIME: "time",
    FIELD_TYPE.TIMESTAMP: "timestamp",
    FIELD_TYPE.DATETIME: "datetime",
    FIELD_TYPE.NULL: "null",
}
"""LuaSQL's words for types."""

_LOST = (CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST)


def sessions(
    database: bytes | None,
    user: bytes | None = None,
    password: bytes | None = None,
    host: bytes | None = None,
    port: int | None = None,
    path: bytes | None = None,
    *_: Any,
) -> tuple[Callable[[], Session], int]:
    """Sessions with what LuaSQL's and LuaDBI's ``connect`` are given."""
    where: dict[str, Any] = {"host": (host or b"localhost").decode(), "port": int(port or 3306)}
    if where["host"] == "localhost":
        where["unix_socket"] = (path or b"/run/mysqld/mysqld.sock").decode()
    return partial(
        MySql,
        where,
        user=None if user is None else user.decode(),
        password=b"" if password is None else password,
        database=None if database is None else database.decode(),
        charset="utf8mb4",
        use_unicode=False,
        autocommit=True,
        client_flag=0,
    ), SESSIONS


class MySql:
    """One session."""

    def __init__(self, where: Mapping[str, Any], **options: Any) -> None:
        self.autocommits = True
        try:
            self._connection = pymysql.connect(**where, **options, conv=dict(encoders))
        except pymysql.MySQLError as error:
            raise _refused(error, where) from error

    def execute(self, statement: bytes) -> Rows:
        return self._rows(statement, typed=False)

    def run(self, statement: bytes, parameters: Sequence[Any]) -> Rows:
        return self._rows(filled_in(statement, [self._literal(value) for value in parameters]), typed=True)

    def _literal(self, value: Any) -> bytes:
        if value is None:
            return b"NULL"
        if isinstance(value, bytes):
            # latin-1 loses no byte; the text travels as it came
            return str(self._connection.cursor().mogrify("%s", (value.decode("latin-1"),))).encode("latin-1")
        return str(int(value) if isinstance(value, bool) else value).encode()

    def _rows(self, statement: bytes, *, typed: bool) -> Rows:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement)
                rows: Sequence[Any] = cursor.fetchall()
                description, affected = cursor.description, cursor.rowcount
        except pymysql.MySQLError as error:
            raise _said(error) from error
        if description is None:
            return Rows(None, (), (), affected)
        if typed:
            readers = [_reader(column[1]) for column in description]
            rows = [
                [
                    value if value is None or read is None else read(value)
                    for read, value in zip(readers, row, strict=True)
                ]
                for row in rows
            ]
        names = [column[0].encode() for column in description]
        return Rows(names, [_type(column) for column in description], rows, 0)

    def check(self, statement: bytes) -> None:
        self._rows(b"PREPARE authlua FROM " + self._literal(statement), typed=False)

    def commit(self) -> None:
        self._ask(self._connection.commit)

    def rollback(self) -> None:
        self._ask(self._connection.rollback)

    def autocommit(self, on: bool) -> None:
        self.autocommits = on
        self._ask(partial(self._connection.autocommit, on))

    @staticmethod
    def _ask(question: Callable[[], object]) -> None:
        try:
            question()
        except pymysql.MySQLError as error:
            raise _said(error) from error

    def last_id(self) -> int:
        return int(self._connection.insert_id())

    def ping(self) -> bool:
        try:
            self._connection.ping(reconnect=False)
        except pymysql.MySQLError:
            return False
        return True

    def close(self) -> None:
        if self._connection.open:
            try:
                self._connection.close()
            except OSError:
                return  # the server was quicker


def _reader(kind: int) -> Callable[[bytes], Any] | None:
    return int if kind in _INTEGERS else float if kind in _FLOATS else None


def _type(column: Sequence[Any]) -> bytes:
    return f"{_NAMES.get(column[1], 'undefined')}({column[3]})".encode()


def _said(error: pymysql.MySQLError) -> SqlError:
    number, text = (*error.args, "")[:2] if len(error.args) > 1 else (0, str(error))
    if number in _LOST and "(" in str(text):
        text = "Lost connection to server during query" if number == CR.CR_SERVER_LOST else "Server has gone away"
    return SqlError(str(text).encode(), lost=number in _LOST or isinstance(error, pymysql.InterfaceError))


def _refused(error: pymysql.MySQLError, where: Mapping[str, Any]) -> SqlError:
    """The words of the C library for why there is no connection."""
    cause = getattr(error, "original_exception", None)
    if not isinstance(cause, OSError):
        return _said(error)
    if "unix_socket" in where:
        return SqlError(
            f"Can't connect to local server through socket '{where['unix_socket']}' ({cause.errno})".encode()
        )
    if isinstance(cause, socket.gaierror):
        return SqlError(f"Unknown server host '{where['host']}' ({cause.errno})".encode())
    number = 115 if isinstance(cause, ConnectionRefusedError) else cause.errno  # what it has seen last: in progress
    return SqlError(f"Can't connect to server on '{where['host']}' ({number})".encode())
