"""Queries on what waits to be sent. They read few rows of partial indexes, however much waits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, literal, select

from otpqueue.domain.request import SendState
from otpqueue.store.schema import otp_requests

MOST = 10_000
"""So far rows are counted."""

_r = otp_requests.c


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """What waits to be sent."""

    due: int
    """Codes that a worker could take now; MOST for that many or more."""
    oldest_due_at: datetime | None
    """Since when the one that has waited longest could be taken."""
    claimed: int
    """Codes that workers hold; MOST as above."""

    @property
    def is_more(self) -> bool:
        """Whether more wait than were counted."""
        return self.due >= MOST

    def age_s(self, now: datetime) -> float | None:
        """Return for how long the oldest has waited, None where none waits."""
        return max(0.0, (now - self.oldest_due_at).total_seconds()) if self.oldest_due_at else None


def read(conn: Connection, *, now: datetime) -> Backlog:
    """Return what waits now."""
    is_due = (_r.send_state == SendState.DUE, _r.next_attempt_at <= now)
    due = select(literal(1)).where(*is_due).limit(MOST).subquery()
    claimed = select(literal(1)).where(_r.send_state == SendState.CLAIMED).limit(MOST).subquery()
    oldest = select(_r.next_attempt_at).where(*is_due).order_by(_r.next_attempt_at).limit(1)
    row = conn.execute(
        select(
            select(func.count()).select_from(due).scalar_subquery().label("due"),
            select(func.count()).select_from(claimed).scalar_subquery().label("claimed"),
            oldest.scalar_subquery().label("oldest"),
        )
    ).one()
    return Backlog(due=row.due, oldest_due_at=row.oldest, claimed=row.claimed)
