"""PostgreSQL, with psycopg's binding of libpq."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from psycopg import pq

from authlua.twins.pools import SESSIONS
from authlua.twins.sql import Rows, Session, SqlError, split_at_marks

_TYPES: Mapping[int, str] = {
    16: "bool",
    17: "bytea",
    18: "char",
    19: "name",
    20: "int8",
    21: "int2",
    23: "int4",
    25: "text",
    26: "oid",
    114: "json",
    700: "float4",
    701: "float8",
    1042: "bpchar",
    1043: "varchar",
    1082: "date",
    1083: "time",
    1114: "timestamp",
    1184: "timestamptz",
    1700: "numeric",
    2950: "uuid",
    3802: "jsonb",
}
_READ: Mapping[int, Callable[[bytes], Any]] = {
    16: lambda data: data == b"t",
    **dict.fromkeys((20, 21, 23, 26), int),
    **dict.fromkeys((700, 701, 1700), float),
}


def sessions(
    database: bytes | None,
    user: bytes | None = None,
    password: bytes | None = None,
    host: bytes | None = None,
    port: bytes | int | None = None,
    *_: Any,
) -> tuple[Callable[[], Session], int]:
    """Sessions with what LuaSQL's and LuaDBI's ``connect`` are given."""
    known = {b"user": user, b"password": password, b"host": host, b"port": str(int(port)).encode() if port else None}
    if database and (b"=" in database or database.startswith((b"postgres://", b"postgresql://"))):
        return partial(Postgres, database), SESSIONS
    words = [b"%s='%s'" % (key, _quoted(value)) for key, value in {b"dbname": database, **known}.items() if value]
    return partial(Postgres, b" ".join(words)), SESSIONS


def _quoted(value: bytes) -> bytes:
    return value.replace(b"\\", b"\\\\").replace(b"'", b"\\'")


class Postgres:
    """One session."""

    def __init__(self, where: bytes) -> None:
        self._connection = pq.PGconn.connect(where)
        if self._connection.status != pq.ConnStatus.OK:
            text = self._connection.error_message
            self._connection.finish()
            raise SqlError(text)
        self.autocommits = True

    def execute(self, statement: bytes) -> Rows:
        return self._rows(self._connection.exec_(statement), typed=False)

    def run(self, statement: bytes, parameters: Sequence[Any]) -> Rows:
        return self._rows(
            self._connection.exec_params(_numbered(statement), [_text(v) for v in parameters]), typed=True
        )

    def check(self, statement: bytes) -> None:
        self._rows(self._connection.prepare(b"", _numbered(statement)), typed=False)

    def _rows(self, result: Any, *, typed: bool) -> Rows:
        if result.status == pq.ExecStatus.TUPLES_OK:
            columns = range(result.nfields)
            kinds = [result.ftype(column) for column in columns]
            rows = [[result.get_value(row, column) for column in columns] for row in range(result.ntuples)]
            if typed:
                readers = [_READ.get(kind) for kind in kinds]
                rows = [
                    [v if v is None or read is None else read(v) for read, v in zip(readers, row, strict=True)]
                    for row in rows
                ]
            types = [_type(kind, result.fmod(column)) for kind, column in zip(kinds, columns, strict=True)]
            return Rows([result.fname(column) for column in columns], types, rows, 0)
        if result.status == pq.ExecStatus.COMMAND_OK:
            return Rows(None, (), (), result.command_tuples or 0)
        lost = self._connection.status != pq.ConnStatus.OK
        raise SqlError(result.error_message or self._connection.error_message, lost=lost)

    def commit(self) -> None:
        self._end(b"COMMIT")

    def rollback(self) -> None:
        self._end(b"ROLLBACK")

    def _end(self, how: bytes) -> None:
        if self._connection.transaction_status != pq.TransactionStatus.IDLE:
            self.execute(how)
        if not self.autocommits:
            self.execute(b"BEGIN")

    def autocommit(self, on: bool) -> None:
        self.autocommits = on
        self._end(b"COMMIT")

    def last_id(self) -> int:
        raise SqlError(b"PostgreSQL has no last id")

    def ping(self) -> bool:
        return bool(self._connection.status == pq.ConnStatus.OK)

    def close(self) -> None:
        self._connection.finish()


def _numbered(statement: bytes) -> bytes:
    """*statement* with ``$1`` and so on in the place of question marks."""
    first, *others = split_at_marks(statement)
    return first + b"".join(b"$%d%s" % (number, piece) for number, piece in enumerate(others, 1))


def _text(value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return (b"f", b"t")[value] if isinstance(value, bool) else str(value).encode()


def _type(kind: int, modifier: int) -> bytes:
    name = _TYPES.get(kind, "unknown")
    return f"{name} ({modifier - 4})".encode() if kind in (1042, 1043) and modifier >= 4 else name.encode()
