"""Queries on the queue as a whole: how much waits to be sent, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, func, literal, select

from otpqueue.domain.request import SendState
from otpqueue.store.schema import otp_requests

MOST = 100_000
"""So many are counted: whether there are more makes no difference, and to count them takes time."""

_r = otp_requests.c
_DUE = _r.send_state == SendState.DUE.value


@dataclass(frozen=True, kw_only=True)
class Depth:
    """How many requests are to be sent, `MOST` of each at most."""

    due: int
    later: int
    """To be tried again after a pause."""
    claimed: int
    due_since: datetime | None
    """Since when the oldest has been due; None if none is."""


def depth(conn: Connection, *, now: datetime) -> Depth:
    """Return how the queue stands. Reads partial indexes, which hold no more than the queue does."""

    def counted(*conditions: ColumnElement[bool]) -> ColumnElement[int]:
        found = select(literal(1)).where(*conditions).limit(MOST).subquery()
        return select(func.count()).select_from(found).scalar_subquery()

    row = conn.execute(
        select(
            counted(_DUE, _r.next_attempt_at <= now),
            counted(_DUE, _r.next_attempt_at > now),
            counted(_r.send_state == SendState.CLAIMED.value),
            select(func.min(_r.next_attempt_at)).where(_DUE, _r.next_attempt_at <= now).scalar_subquery(),
        )
    ).one()
    due, later, claimed, due_since = row
    return Depth(due=due, later=later, claimed=claimed, due_since=due_since)
