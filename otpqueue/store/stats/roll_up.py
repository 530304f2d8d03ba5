"""Roll events up: one statement moves them from the outbox into the sums of their minute and hour."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from otpqueue.store import locks
from otpqueue.store.locks import Lock

# Only the holder of the lock deletes events, and no session updates them, so rows found in the index are
# still in place. An event may become visible after one with a higher id was taken: `after` is used within one
# job, and the next job starts with the lowest id.
_ROLL_UP = text(
    """
    WITH taken AS (
        DELETE FROM stat_events WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM stat_events WHERE id > :after ORDER BY id LIMIT :limit
        ))
        RETURNING *
    ), counted AS (
        SELECT at, client_id, country, channel, metric, label, n,
               CASE WHEN also IS NULL THEN total ELSE 0 END AS total
        FROM taken
        UNION ALL
        SELECT at, client_id, country, channel, also, also_label, n, total FROM taken WHERE also IS NOT NULL
    ), by_minute AS MATERIALIZED (
        SELECT at, client_id, country, channel, metric, label, sum(n) AS n, sum(total) AS total
        FROM counted GROUP BY at, client_id, country, channel, metric, label
    ), minutes AS (
        INSERT INTO stats_minutes AS s (at, client_id, country, channel, metric, label, n, total)
        SELECT * FROM by_minute
        ON CONFLICT (at, client_id, country, channel, metric, label)
        DO UPDATE SET n = s.n + excluded.n, total = s.total + excluded.total
    ), hours AS (
        INSERT INTO stats_hours AS s (at, client_id, country, channel, metric, label, n, total)
        SELECT date_trunc('hour', at, 'UTC'), client_id, country, channel, metric, label, sum(n), sum(total)
        FROM by_minute GROUP BY 1, client_id, country, channel, metric, label
        ON CONFLICT (at, client_id, country, channel, metric, label)
        DO UPDATE SET n = s.n + excluded.n, total = s.total + excluded.total
    )
    SELECT count(*) AS events, max(id) AS last FROM taken
    """
)


@dataclass(frozen=True, kw_only=True)
class RollUpBatch:
    """The result of a step."""

    events: int
    last: int | None
    """The newest of them; None if there was none."""


def try_lock_roll_up(conn: Connection) -> bool:
    """Try to lock the roll-up until this transaction ends; return whether it is locked."""
    return locks.try_take(conn, Lock.ROLL_UP)


def roll_up(conn: Connection, *, after: int, limit: int) -> RollUpBatch:
    """Add up to `limit` events to the sums, oldest first, starting after a given one; return them.

    Call in a transaction that holds the lock.
    """
    row = conn.execute(_ROLL_UP, {"after": after, "limit": limit}).one()
    return RollUpBatch(events=row.events, last=row.last)
