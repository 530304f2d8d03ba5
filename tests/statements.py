"""The statements that this process executes: by cursors of psycopg, and prepared ones without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import psycopg

from otpqueue.store.prepared import PreparedStatement


@contextmanager
def spied_statements(note: Callable[[str], None]) -> Iterator[None]:
    """Call `note` with each statement before it is executed."""
    execute, execute_prepared = psycopg.Cursor.execute, PreparedStatement.execute

    def spy(cursor: psycopg.Cursor[Any], query: Any, *args: Any, **kwargs: Any) -> psycopg.Cursor[Any]:
        note(str(query))
        return execute(cursor, query, *args, **kwargs)

    def spy_prepared(
        prepared: PreparedStatement,
        conn: psycopg.Connection[Any],
        session: dict[Any, Any],
        parameters: Mapping[str, Any],
    ) -> list[Any]:
        note(prepared.statement)
        return execute_prepared(prepared, conn, session, parameters)

    with (
        mock.patch.object(psycopg.Cursor, "execute", spy),
        mock.patch.object(PreparedStatement, "execute", spy_prepared),
    ):
        yield
