"""Add events up: taken from the outbox and added to their minute and hour by one statement, or not at all."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from otpqueue.store import locks
from otpqueue.store.locks import Lock

# Only who has the turn takes events, and nobody updates any: what the look into the index found is there, and
# where it was. An event may become visible after one with a higher id was taken: `after` serves one job, and
# the next one begins with the lowest there is.
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
    """What a step took."""

    events: int
    last: int | None
    """The newest of them; None when there was none."""


def take_turn(conn: Connection) -> bool:
    """Return whether nobody else adds events up; nobody else will until this transaction ends."""
    return locks.try_take(conn, Lock.ROLL_UP)


def roll_up(conn: Connection, *, after: int, limit: int) -> RollUpBatch:
    """Add up to `limit` events up, the oldest first of those after a given one, and return which.

    Call in a transaction that has the turn.
    """
    row = conn.execute(_ROLL_UP, {"after": after, "limit": limit}).one()
    return RollUpBatch(events=row.events, last=row.last)
