"""The operator's view of `webhook_deliveries`: list, retry and give up."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, null, or_, select, update
from sqlalchemy.sql import ColumnElement

from otpqueue.domain.webhooks import WebhookResponse, WebhookState
from otpqueue.store.schema import webhook_deliveries

_d = webhook_deliveries.c


@dataclass(frozen=True, kw_only=True)
class StoredDelivery:
    """A stored delivery."""

    id: UUID
    request_id: UUID
    event: str
    at: datetime
    state: WebhookState
    tries: int
    tried_at: datetime | None
    next_try_at: datetime | None
    answer: WebhookResponse | None


@dataclass(frozen=True, kw_only=True)
class DeliveryBatch:
    """How many deliveries one step affected, and the number after which the next step starts."""

    count: int
    number: int


def list_newest(
    conn: Connection, client_id: UUID, *, failed: bool, request_id: UUID | None, limit: int
) -> list[StoredDelivery]:
    """Return a client's deliveries, newest first: all, failed ones only, or those of one request."""
    conditions = [_d.client_id == client_id]
    if failed:
        # The first condition matches an index.
        conditions += [_d.state != WebhookState.DELIVERED, _d.tried_at.is_not(None)]
    if request_id is not None:
        conditions.append(_d.request_id == request_id)
    rows = conn.execute(select(webhook_deliveries).where(*conditions).order_by(_d.number.desc()).limit(limit))
    return [_to_stored(row) for row in rows]


def count_unfinished(conn: Connection, client_id: UUID) -> dict[WebhookState, int]:
    """Return how many of a client's deliveries are pending, and how many were given up."""
    rows = conn.execute(
        select(_d.state, func.count().label("n"))
        .where(_d.client_id == client_id, _d.state != WebhookState.DELIVERED)
        .group_by(_d.state)
    )
    counts = {WebhookState(row.state): int(row.n) for row in rows}
    return {state: counts.get(state, 0) for state in (WebhookState.PENDING, WebhookState.GIVEN_UP)}


def make_due(
    conn: Connection,
    client_id: UUID,
    *,
    ids: Sequence[UUID] | None,
    states: Collection[WebhookState],
    after: int,
    now: datetime,
    limit: int,
) -> DeliveryBatch:
    """Make up to `limit` deliveries in some states due now, with their tries reset.

    Selects these `ids`, or all in numerical order after `after`. Deliveries that a worker holds are skipped.
    """
    conditions: list[ColumnElement[bool]] = [
        _d.client_id == client_id,
        _d.state != WebhookState.DELIVERED,
        _d.state.in_(sorted(state.value for state in states)),
        _d.number > after,
        or_(_d.lease_until.is_(None), _d.lease_until < func.statement_timestamp()),
    ]
    if ids is not None:
        conditions.append(_d.id.in_(ids))
    batch = select(_d.id).where(*conditions).order_by(_d.number).limit(limit).with_for_update().cte("batch")
    rows = conn.execute(
        update(webhook_deliveries)
        .where(_d.id == batch.c.id)
        .values(state=WebhookState.PENDING.value, tries=0, next_try_at=now, lease_until=null())
        .returning(_d.number)
    )
    numbers = list(rows.scalars())
    return DeliveryBatch(count=len(numbers), number=max(numbers, default=after))


def give_up(conn: Connection, client_id: UUID, *, limit: int) -> int:
    """Give up to `limit` pending deliveries of a client up; return how many."""
    pending = select(_d.id).where(_d.client_id == client_id, _d.state == WebhookState.PENDING)
    batch = pending.limit(limit).with_for_update().cte("batch")
    result = conn.execute(
        update(webhook_deliveries)
        .where(_d.id == batch.c.id)
        .values(state=WebhookState.GIVEN_UP.value, next_try_at=null(), lease_until=null())
    )
    return result.rowcount


def _to_stored(row: Row[Any]) -> StoredDelivery:
    answer = WebhookResponse(status=row.http_status, reason=row.problem) if row.tried_at else None
    return StoredDelivery(
        id=row.id,
        request_id=row.request_id,
        event=row.event,
        at=row.at,
        state=WebhookState(row.state),
        tries=row.tries,
        tried_at=row.tried_at,
        next_try_at=row.next_try_at,
        answer=answer,
    )
