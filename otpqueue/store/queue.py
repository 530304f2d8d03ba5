"""Queries on the queue as a whole: how much waits to be sent, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

MOST = 100_000
"""So many are counted: whether there are more makes no difference, and to count them takes time."""

# Each part reads a partial index, which holds no more than the queue does.
_DEPTH = text("""
    SELECT (SELECT count(*) FROM (
                SELECT FROM otp_requests WHERE send_state = 'due' AND next_attempt_at <= :now LIMIT :most
            ) AS due) AS due,
           (SELECT count(*) FROM (
                SELECT FROM otp_requests WHERE send_state = 'due' AND next_attempt_at > :now LIMIT :most
            ) AS later) AS later,
           (SELECT count(*) FROM (
                SELECT FROM otp_requests WHERE send_state = 'claimed' LIMIT :most
            ) AS claimed) AS claimed,
           (SELECT min(next_attempt_at) FROM otp_requests
            WHERE send_state = 'due' AND next_attempt_at <= :now) AS due_since
""")


@dataclass(frozen=True, kw_only=True)
class QueueDepth:
    """How many requests are to be sent, `MOST` of each at most."""

    due: int
    later: int
    """To be tried again after a pause."""
    claimed: int
    due_since: datetime | None
    """Since when the oldest has been due; None if none is."""


def depth(conn: Connection, *, now: datetime) -> QueueDepth:
    """Return how the queue stands."""
    row = conn.execute(_DEPTH, {"now": now, "most": MOST}).one()
    return QueueDepth(due=row.due, later=row.later, claimed=row.claimed, due_since=row.due_since)
