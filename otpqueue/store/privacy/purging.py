"""Delete rows past their retention, in batches, table by table as `holdings` describes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import Connection, delete, func, select, text, tuple_
from sqlalchemy.sql import ColumnElement

from otpqueue.store import locks
from otpqueue.store.locks import Lock
from otpqueue.store.privacy.holdings import HOLDINGS, Holding

AGEING: tuple[Holding, ...] = tuple(holding for holding in HOLDINGS if holding.age is not None)
"""The tables with rows that are purged by age. Rows of other tables are deleted with them."""


def try_lock_purging(conn: Connection) -> bool:
    """Try to lock purging until this transaction ends; return whether it is locked."""
    return locks.try_take(conn, Lock.PURGE)


# After large deletes, stale statistics can make a scan of the whole table seem cheaper.
_READ_BY_INDEX = text(
    "SELECT set_config(name, 'off', true) FROM unnest(ARRAY['enable_seqscan', 'enable_bitmapscan', "
    "'enable_sort', 'enable_hashjoin', 'enable_mergejoin']) AS t (name)"
)
_ALLOW_PURGE = text("SELECT set_config('otpqueue.purging', 'on', true)")
"""Marks this transaction for the trigger of `audit_entries`: it deletes by age."""


@dataclass(frozen=True, kw_only=True)
class DeletedBatch:
    """The result of one step."""

    rows: int
    newest: datetime | date | None
    """The age of the newest of them, where the next step continues; None if there were none."""


def delete_batch(
    conn: Connection,
    holding: Holding,
    *,
    retention: timedelta,
    now: datetime,
    limit: int,
    since: datetime | date | None = None,
) -> DeletedBatch:
    """Delete up to `limit` rows of a table that are past their retention, oldest first.

    Rows that another session has locked are skipped. `since` is the `newest` of the previous step. Without
    it, each step reads the index entries of all rows that earlier steps deleted and, while an old transaction
    is open, those rows too. Call in a transaction.
    """
    conn.execute(_READ_BY_INDEX)
    if holding.audit:
        conn.execute(_ALLOW_PURGE)
    key = list(holding.table.primary_key.columns)
    age = holding.column(holding.age or "")
    conditions = [*_too_old(holding, retention, now), *([age >= since] if since is not None else [])]
    batch = (
        select(*key)
        .where(*conditions)
        .order_by(age)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("batch")
    )
    # The locked rows cannot change before they are deleted.
    of_batch = tuple_(*key).in_(select(*batch.c))
    deleted = delete(holding.table).where(of_batch).returning(age.label("age")).cte("deleted")
    found = conn.execute(select(func.count().label("rows"), func.max(deleted.c.age).label("newest"))).one()
    return DeletedBatch(rows=found.rows, newest=found.newest)


def count(conn: Connection, holding: Holding, *, retention: timedelta, now: datetime) -> int:
    """Return how many rows of a table are past their retention."""
    found: int = conn.execute(
        select(func.count()).select_from(holding.table).where(*_too_old(holding, retention, now))
    ).scalar_one()
    return found


def _too_old(holding: Holding, retention: timedelta, now: datetime) -> Sequence[ColumnElement[bool]]:
    if holding.age is None:
        raise ValueError(f"{holding.table.name} has no age")
    conditions: list[ColumnElement[bool]] = [holding.column(holding.age) < now - holding.kept_for(retention)]
    return conditions if holding.only is None else [*conditions, holding.only]
