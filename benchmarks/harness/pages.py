"""Count the pages that statements read: a cost that does not depend on the machine or its load."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import psycopg
from psycopg.pq import TransactionStatus

from otpqueue.store.prepared import PreparedStatement

_WORDS = ("select", "insert", "update", "delete", "with")


@dataclass
class PageCount:
    """What one statement read, all its executions together."""

    executions: int = 0
    pages: int = 0
    """Pages of tables and indexes that were read, from the cache of Postgres or from disk."""
    scanned: set[str] = field(default_factory=set)
    """Tables that were read as a whole."""


@contextmanager
def counted() -> Iterator[dict[str, PageCount]]:
    """Count the pages that statements of this process read, by statement.

    Each is executed twice: first by EXPLAIN (ANALYZE, BUFFERS), and undone. What its functions and triggers
    read is part of it.
    """
    found: dict[str, PageCount] = defaultdict(PageCount)
    execute, execute_prepared = psycopg.Cursor.execute, PreparedStatement.execute

    def explained(cursor: psycopg.Cursor[Any], query: Any, params: Any = None, **options: Any) -> Any:
        statement = query.decode() if isinstance(query, bytes) else str(query)
        if statement.lstrip("( \n").lower().startswith(_WORDS):
            _explain(cursor.connection, statement, params, found[" ".join(statement.split())])
        return execute(cursor, query, params, **options)

    def explained_prepared(
        prepared: PreparedStatement, conn: psycopg.Connection[Any], session: Any, parameters: Any
    ) -> list[Any]:
        _explain(conn, prepared.statement, parameters, found[" ".join(prepared.statement.split())])
        return execute_prepared(prepared, conn, session, parameters)

    def _explain(conn: psycopg.Connection[Any], statement: str, params: Any, count: PageCount) -> None:
        inside = conn.info.transaction_status is TransactionStatus.INTRANS
        begin, undo = ("SAVEPOINT pages", "ROLLBACK TO pages") if inside else ("BEGIN", "ROLLBACK")
        with psycopg.Cursor(conn) as cursor:
            execute(cursor, begin)
            try:
                execute(cursor, "EXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT JSON) " + statement, params)
                (plan,) = cursor.fetchone() or ([],)
            finally:
                execute(cursor, undo)
        plans = json.loads(plan) if isinstance(plan, str) else plan
        count.executions += 1
        for one in plans:
            top = one["Plan"]
            count.pages += top["Shared Hit Blocks"] + top["Shared Read Blocks"]
            count.scanned |= set(_scans(top))

    with (
        mock.patch.object(psycopg.Cursor, "execute", explained),
        mock.patch.object(PreparedStatement, "execute", explained_prepared),
    ):
        yield found


def _scans(plan: dict[str, Any]) -> Iterator[str]:
    if plan["Node Type"] == "Seq Scan":
        yield plan["Relation Name"]
    for one in plan.get("Plans", ()):
        yield from _scans(one)
