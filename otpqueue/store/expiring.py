"""Expire requests and codes, and give up resends, at their deadlines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import CTE, Connection, case, func, literal_column, or_, select, update
from sqlalchemy.sql import ColumnElement

from otpqueue.domain.request import CHECKABLE, Reason, Resend, SendState, Status
from otpqueue.store.requests import build_end_values, filter_by_status
from otpqueue.store.schema import otp_requests
from otpqueue.store.stops import exclude_stopped

_r = otp_requests.c
_ENDED = (_r.id, _r.client_id, _r.reason)

_WHY_UNSENT: ColumnElement[str] = case(
    (literal_column(exclude_stopped("otp_requests")), Reason.SEND_DEADLINE.value),
    else_=Reason.SENDING_STOPPED.value,
)
"""The reason why a code that is still due at its deadline was not sent."""


@dataclass(frozen=True)
class EndedRequest:
    """A request that has just ended, and the reason."""

    id: UUID
    client_id: UUID
    reason: str


def give_up_resends(conn: Connection, *, now: datetime, limit: int) -> int:
    """Mark resends that were not sent by `send_by` as failed; return how many."""
    conditions = [_r.send_state == SendState.DUE, filter_by_status(CHECKABLE), _r.send_by <= now]
    batch = _select_batch(conditions, _r.send_by, limit)
    result = conn.execute(
        update(otp_requests)
        .where(_r.id.in_(select(batch.c.id)), *conditions)
        .values(
            send_state=SendState.IDLE.value,
            next_attempt_at=None,
            resend=Resend.FAILED.value,
            resend_reason=_WHY_UNSENT,
            updated_at=now,
        )
    )
    return result.rowcount


def expire_unsent(conn: Connection, *, now: datetime, limit: int) -> list[EndedRequest]:
    """Expire requests with an unsent first code past `send_by` that no worker holds. Return them."""
    return _expire(
        conn,
        [_r.send_state == SendState.DUE, _r.status == Status.QUEUED, _r.send_by <= now],
        _r.send_by,
        _WHY_UNSENT,
        now=now,
        limit=limit,
    )


def expire_codes(conn: Connection, *, now: datetime, limit: int) -> list[EndedRequest]:
    """Expire requests with an expired code; return them.

    A request with a check in flight waits for that check: the code was entered in time.
    """
    idle = or_(_r.check_lease_until.is_(None), _r.check_lease_until < func.statement_timestamp())
    return _expire(
        conn,
        [filter_by_status(CHECKABLE), _r.expires_at <= now, idle],
        _r.expires_at,
        Reason.CODE_LIFETIME,
        now=now,
        limit=limit,
    )


def _expire(
    conn: Connection,
    conditions: list[ColumnElement[bool]],
    deadline: ColumnElement[datetime],
    reason: Reason | ColumnElement[str],
    *,
    now: datetime,
    limit: int,
) -> list[EndedRequest]:
    batch = _select_batch(conditions, deadline, limit)
    ended = conn.execute(
        update(otp_requests)
        .where(_r.id.in_(select(batch.c.id)), *conditions)
        .values(build_end_values(Status.EXPIRED, reason, now))
        .returning(*_ENDED)
    )
    return [EndedRequest(*one) for one in ended]


def _select_batch(
    conditions: list[ColumnElement[bool]], deadline: ColumnElement[datetime], limit: int
) -> CTE:
    # In the order of the partial index that finds them. Ordered by id, stale statistics can make a scan of
    # all ended requests seem cheaper.
    rows = select(_r.id).where(*conditions).order_by(deadline).limit(limit)
    return rows.with_for_update(skip_locked=True).cte("batch")
