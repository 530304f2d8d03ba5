"""Delete what has been kept long enough, a batch of rows at a time, table by table as `holdings` says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, select, tuple_
from sqlalchemy.sql import ColumnElement

from otpqueue.store import locks
from otpqueue.store.holdings import HOLDINGS, Holding
from otpqueue.store.locks import Lock

AGEING: tuple[Holding, ...] = tuple(holding for holding in HOLDINGS if holding.age is not None)
"""The tables whose rows are deleted for their age; others' go with them."""


def take_turn(conn: Connection) -> bool:
    """Return whether nobody else is purging; nobody else will until this transaction ends."""
    return locks.try_take(conn, Lock.PURGE)


def delete_batch(
    conn: Connection, holding: Holding, *, retention: timedelta, now: datetime, limit: int
) -> int:
    """Delete up to `limit` rows of a table that are too old, the oldest first; return how many.

    Rows that somebody else has locked are passed over.
    """
    key = list(holding.table.primary_key.columns)
    conditions = _too_old(holding, retention, now)
    batch = (
        select(*key)
        .where(*conditions)
        .order_by(holding.column(holding.age or ""))
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("batch")
    )
    # What the batch locked cannot change before it is deleted.
    of_batch = tuple_(*key).in_(select(*batch.c))
    return conn.execute(delete(holding.table).where(of_batch)).rowcount


def count(conn: Connection, holding: Holding, *, retention: timedelta, now: datetime) -> int:
    """Return how many rows of a table are too old."""
    found: int = conn.execute(
        select(func.count()).select_from(holding.table).where(*_too_old(holding, retention, now))
    ).scalar_one()
    return found


def _too_old(holding: Holding, retention: timedelta, now: datetime) -> Sequence[ColumnElement[bool]]:
    if holding.age is None:
        raise ValueError(f"{holding.table.name} has no age")
    conditions: list[ColumnElement[bool]] = [holding.column(holding.age) < now - holding.kept_for(retention)]
    return conditions if holding.only is None else [*conditions, holding.only]
