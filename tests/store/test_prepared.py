"""Prepared statements: what goes in comes out, and a statement that has become outdated is prepared again."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from freezegun import freeze_time
from sqlalchemy import Engine, text

from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.request import Status
from otpqueue.store.engine import connection, fetch
from tests.store.conftest import MakeEngine

ID = UUID("01a228d1-690c-72f6-9fbf-dd2d261b2f94")
ECHO = """
    SELECT %(id)s::uuid AS id, %(hash)s::bytea AS hash, %(text)s::text AS text, %(number)s::bigint AS number,
        %(share)s::double precision AS share, %(yes)s::boolean AS yes, %(at)s::timestamptz AS at,
        %(day)s::date AS day, %(hashes)s::bytea[] AS hashes, %(ids)s::uuid[] AS ids,
        %(texts)s::text[] AS texts, %(numbers)s::integer[] AS numbers, %(record)s::jsonb AS record,
        '100 %%' AS percent, %(id)s::uuid AS again
"""
VALUES: dict[str, Any] = {
    "id": ID,
    "hash": b"\x00\\'\"\xff",
    "text": "quote \" ' backslash \\ percent % brace { \U0001f600",
    "number": -(2**40),
    "share": 0.1,
    "yes": True,
    "at": datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC),
    "day": date(2026, 3, 1),
    "hashes": [b"", b"\x00,\\", None],
    "ids": [ID],
    "texts": ["", "NULL", 'a "b", \\{c}', None],
    "numbers": [1, -2],
    "record": json.dumps({"a": ["%", None]}),
}


@pytest.fixture
def engine(other_engine: MakeEngine, database_url: str) -> Engine:
    """Return an engine with one connection."""
    return other_engine(database_url, pool_size=1)


def test_values_come_back(engine: Engine) -> None:
    """Each type keeps its value, executed for the first time, prepared, and prepared before."""
    wanted = VALUES | {"record": {"a": ["%", None]}, "percent": "100 %", "again": ID}
    for _ in range(4):
        (row,) = fetch(engine, ECHO, VALUES)
        assert row._asdict() == wanted


def test_nothing_is_null(engine: Engine) -> None:
    """None of each type is NULL, also once the statement was prepared with values."""
    for values in (VALUES, VALUES, dict.fromkeys(VALUES)):
        (row,) = fetch(engine, ECHO, values)
    assert set(row) == {None, "100 %"}


def test_subclasses_are_values_of_their_base(engine: Engine) -> None:
    """An enumeration of texts, and the times of a test that freezes time."""
    with freeze_time(VALUES["at"]):
        frozen = {"at": datetime.now(UTC), "day": datetime.now(UTC).date(), "texts": [Status.SENT]}
        (row,) = fetch(engine, ECHO, VALUES | frozen | {"text": Status.SENT})
    assert (row.at, row.day, row.text, row.texts) == (VALUES["at"], VALUES["day"], "sent", ["sent"])


def test_outdated_statement_is_prepared_again(
    engine: Engine, other_engine: MakeEngine, database_url: str
) -> None:
    """When a migration changes its function's result, and when the session forgets its statements."""
    asked = "SELECT * FROM newest(%(number)s)"
    with connection(engine) as conn:
        conn.execute(
            text("CREATE FUNCTION newest(n integer) RETURNS TABLE (a integer) LANGUAGE sql AS $$ SELECT n $$")
        )
    assert [fetch(engine, asked, {"number": n}) for n in range(3)] == [[(0,)], [(1,)], [(2,)]]

    with connection(engine) as conn:
        conn.execute(text("DROP FUNCTION newest"))
        conn.execute(
            text(
                "CREATE FUNCTION newest(n integer) RETURNS TABLE (b text, c integer) LANGUAGE sql "
                "AS $$ SELECT 'x', n $$"
            )
        )
    # A new connection sees the new columns at once, the old one when Postgres rejects its statement.
    for on in (other_engine(database_url, pool_size=1), engine):
        (row,) = fetch(on, asked, {"number": 3})
        assert row._fields == ("b", "c")
    (row,) = fetch(engine, asked, {"number": 3})
    assert (row.b, row.c) == ("x", 3)

    with connection(engine) as conn:
        conn.execute(text("DISCARD ALL"))
    (row,) = fetch(engine, asked, {"number": 4})
    assert row.c == 4


@pytest.mark.parametrize("uses", [0, 3])
def test_errors_are_those_of_psycopg(engine: Engine, uses: int) -> None:
    """A refused value is a data error with its SQLSTATE; a lost connection is an unavailable database."""
    divide = "SELECT 1 / %(by)s::integer AS share"
    for _ in range(uses):
        fetch(engine, divide, {"by": 1})

    with pytest.raises(psycopg.errors.DivisionByZero) as refused:
        fetch(engine, divide, {"by": 0})
    assert refused.value.sqlstate == "22012"
    with pytest.raises(psycopg.DataError):
        fetch(engine, ECHO, VALUES | {"text": "\x00"})
    with pytest.raises(TypeError):
        fetch(engine, divide, {"by": object()})
    with pytest.raises(DatabaseUnavailable):
        fetch(engine, "SELECT pg_terminate_backend(pg_backend_pid()), %(by)s::integer", {"by": 1})
    assert fetch(engine, divide, {"by": 1}) == [(1,)]
