"""Queries on the whole queue: how many requests wait to be sent, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

MOST = 100_000
"""The maximum that is counted. Counting more would take time without changing any decision."""

# Each part reads a partial index, which is never larger than the queue.
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
    """How many requests wait to be sent, each count up to `MOST`."""

    due: int
    later: int
    """Waiting for a retry."""
    claimed: int
    due_since: datetime | None
    """When the oldest one fell due; None if none is due."""


def read_depth(conn: Connection, *, now: datetime) -> QueueDepth:
    """Return the depth of the queue."""
    row = conn.execute(_DEPTH, {"now": now, "most": MOST}).one()
    return QueueDepth(due=row.due, later=row.later, claimed=row.claimed, due_since=row.due_since)
