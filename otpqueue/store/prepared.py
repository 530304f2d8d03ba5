"""Prepared statements of the hot path: parameters in, rows out, one call of libpq.

psycopg's cursors convert parameters by the types that a server may have, and choose when to prepare. Both
cost more than sending the statement. Here a connection prepares a statement at its second execution, Postgres
infers the types of its parameters, and psycopg's loaders read the rows.
"""

from __future__ import annotations

import itertools
import re
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Any, cast
from uuid import UUID

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result

_PARAMETER = re.compile(r"%\((\w+)\)s|%%")
_NUMBERS = itertools.count(1)

_OUTDATED = frozenset({"0A000", "26000"})
"""The statement's result has another form since it was prepared (a migration), or the session forgot it.

Postgres has not executed it.
"""

_BINARY = (pq.Format.TEXT, pq.Format.BINARY)


class PreparedStatement:
    """A statement with the places of its parameters."""

    def __init__(self, statement: str) -> None:
        self.statement = statement
        names: list[str] = []

        def number(found: re.Match[str]) -> str:
            if found[0] == "%%":
                return "%"
            if found[1] not in names:
                names.append(found[1])
            return f"${names.index(found[1]) + 1}"

        self._text = _PARAMETER.sub(number, statement).encode()
        self._parameters = tuple(names)
        self._name = f"otpqueue_{next(_NUMBERS)}".encode()

    def execute(
        self, conn: psycopg.Connection[Any], session: dict[Any, Any], parameters: Mapping[str, Any]
    ) -> list[Any]:
        """Execute the statement and return its rows as named tuples.

        `session` keeps what belongs to this connection. Raises psycopg.Error.
        """
        values: list[bytes | None] = []
        formats: list[pq.Format] = []
        for name in self._parameters:
            value = parameters[name]
            kind = type(value)
            is_binary = kind is bytes
            if value is not None and not is_binary:
                value = _DUMPERS[kind](value)
            values.append(value)
            formats.append(_BINARY[is_binary])
        result = self._run(conn, session, values, formats)
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise error_from_result(result)
        if Transformer not in session:
            session[Transformer] = Transformer(conn)
        loaders = session[Transformer]
        loaders.set_pgresult(result)
        # Read from each result: a migration may change a function while other processes use it.
        columns = tuple(map(result.fname, range(result.nfields)))
        rows: list[Any] = loaders.load_rows(0, result.ntuples, _get_row_maker(columns))
        return rows

    def _run(
        self,
        conn: psycopg.Connection[Any],
        session: dict[Any, Any],
        values: list[bytes | None],
        formats: list[pq.Format],
    ) -> pq.abc.PGresult:
        link = conn.pgconn
        uses = 0 if conn.prepare_threshold is None else session.get(self, 0)  # None: behind PgBouncer
        if uses == 0:
            session[self] = 1
            return link.exec_params(self._text, values, None, formats)
        if uses > 1:
            result = link.exec_prepared(self._name, cast("Sequence[bytes]", values), formats)
            if result.status != pq.ExecStatus.FATAL_ERROR or _get_sqlstate(result) not in _OUTDATED:
                return result
            link.exec_(b"DEALLOCATE " + self._name)  # fails if it is gone with the session
        prepared = link.prepare(self._name, self._text)
        if prepared.status != pq.ExecStatus.COMMAND_OK:
            raise error_from_result(prepared)
        session[self] = 2
        return link.exec_prepared(self._name, cast("Sequence[bytes]", values), formats)


@lru_cache(maxsize=256)
def prepare(statement: str) -> PreparedStatement:
    """Return the prepared form of a constant statement, which names its parameters as `%(name)s`."""
    return PreparedStatement(statement)


@lru_cache(maxsize=256)
def _get_row_maker(columns: tuple[bytes | None, ...]) -> Callable[[Sequence[Any]], Any]:
    """Return what makes a named tuple of a row's values."""
    names = [(column or b"").decode() for column in columns]
    make_row: Callable[[Sequence[Any]], Any] = namedtuple("Row", names, rename=True)._make  # type: ignore[attr-defined]
    return make_row


def _get_sqlstate(result: pq.abc.PGresult) -> str:
    return (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()


def _dump_text(value: str) -> bytes:
    if "\0" in value:
        raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    return value.encode()


def _dump_list(values: Sequence[Any]) -> bytes:
    return b"{" + b",".join(b"NULL" if one is None else _dump_element(one) for one in values) + b"}"


def _dump_element(value: Any) -> bytes:
    if type(value) is bytes:
        return b'"\\\\x' + value.hex().encode() + b'"'
    text = _DUMPERS[type(value)](value)
    if isinstance(value, str):
        return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return text


class _Dumpers(dict[type, Callable[[Any], bytes]]):
    """The function for each type. A subclass has that of the nearest of its bases."""

    def __missing__(self, kind: type) -> Callable[[Any], bytes]:
        for base in kind.__mro__[1:]:
            if base in self:
                self[kind] = self[base]
                return self[base]
        raise TypeError(f"a statement has a parameter of type {kind.__name__}")


_BY_TYPE: Mapping[type, Callable[[Any], bytes]] = {
    str: _dump_text,
    int: lambda value: str(value).encode(),
    float: lambda value: repr(value).encode(),
    bool: lambda value: b"t" if value else b"f",
    UUID: lambda value: value.hex.encode(),
    datetime: lambda value: value.isoformat().encode(),
    date: lambda value: value.isoformat().encode(),
    list: _dump_list,
    tuple: _dump_list,
}
_DUMPERS = _Dumpers(_BY_TYPE)
