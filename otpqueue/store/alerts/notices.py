"""Queries on notifications of alerts: the outbox, from which each is delivered once on each channel.

Leases are set and compared by Postgres's own clock, since hosts disagree; all other times are arguments.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from otpqueue.domain.alerts import AlertTransition, NotificationChannel
from otpqueue.store.alerts.silences import is_silenced
from otpqueue.store.schema import alert_notices, alerts

_n = alert_notices.c


@dataclass(frozen=True, kw_only=True)
class ClaimedNotice:
    """A notification claimed for delivery, with its claim."""

    id: UUID
    alert_id: UUID
    transition: AlertTransition
    channel: NotificationChannel
    created_at: datetime
    tries: int
    """Including this one."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """The delivery state of a notification."""

    id: UUID
    transition: AlertTransition
    channel: NotificationChannel
    created_at: datetime
    tries: int
    delivered_at: datetime | None
    next_try_at: datetime | None
    """None once it was delivered or given up."""
    problem: str | None


def has_opening() -> ColumnElement[bool]:
    """Return the condition that a notification of an alert's opening exists."""
    found = exists().where(_n.alert_id == alerts.c.id, _n.transition == AlertTransition.OPENED)
    return found.correlate(alerts)


def add(
    conn: Connection,
    alert_id: UUID,
    transition: AlertTransition,
    channels: Collection[NotificationChannel],
    *,
    now: datetime,
) -> None:
    """Enqueue a notification for each channel; existing ones do not change."""
    rows = [
        {
            "id": uuid7(),
            "alert_id": alert_id,
            "transition": transition,
            "channel": channel,
            "created_at": now,
            "next_try_at": now,
        }
        for channel in channels
    ]
    if rows:
        conn.execute(insert(alert_notices).values(rows).on_conflict_do_nothing())


def list_notified_channels(conn: Connection, alert_id: UUID) -> list[NotificationChannel]:
    """Return the channels with a notification of the alert's opening, delivered or pending."""
    rows = conn.execute(
        select(_n.channel).where(
            _n.alert_id == alert_id,
            _n.transition == AlertTransition.OPENED,
            or_(_n.delivered_at.is_not(None), _n.next_try_at.is_not(None)),
        )
    )
    return [NotificationChannel(channel) for channel in rows.scalars()]


def drop_undelivered(conn: Connection, alert_id: UUID) -> None:
    """Delete the undelivered notifications of an alert, except those in delivery."""
    conn.execute(
        delete(alert_notices).where(
            _n.alert_id == alert_id, _n.next_try_at.is_not(None), _free(), _n.delivered_at.is_(None)
        )
    )


def _free() -> ColumnElement[bool]:
    return or_(_n.lease_until.is_(None), _n.lease_until <= func.statement_timestamp())


def claim(
    conn: Connection, channel: NotificationChannel, *, now: datetime, lease_s: float
) -> ClaimedNotice | None:
    """Claim the notification of a channel that has been due for longest; None if none is due.

    The opening of an alert goes first. Silenced notifications wait.
    """
    opening = alert_notices.alias()
    opening_first = exists().where(
        opening.c.alert_id == _n.alert_id,
        opening.c.channel == _n.channel,
        opening.c.transition == AlertTransition.OPENED,
        opening.c.next_try_at.is_not(None),
    )
    due = (
        select(_n.id)
        .join(alerts, alerts.c.id == _n.alert_id)
        .where(
            _n.next_try_at <= now,
            _n.channel == channel,
            _free(),
            or_(_n.transition == AlertTransition.OPENED, ~opening_first.correlate(alert_notices)),
            ~is_silenced(now),
        )
        .order_by(_n.next_try_at, _n.id)
        .limit(1)
        .with_for_update(of=alert_notices, skip_locked=True)
        .scalar_subquery()
    )
    row = conn.execute(
        update(alert_notices)
        .where(_n.id == due)
        .values(tries=_n.tries + 1, lease_until=func.statement_timestamp() + timedelta(seconds=lease_s))
        .returning(_n.id, _n.alert_id, _n.transition, _n.channel, _n.created_at, _n.tries)
    ).one_or_none()
    if row is None:
        return None
    return ClaimedNotice(
        id=row.id,
        alert_id=row.alert_id,
        transition=AlertTransition(row.transition),
        channel=NotificationChannel(row.channel),
        created_at=row.created_at,
        tries=row.tries,
    )


def mark_delivered(conn: Connection, claimed: ClaimedNotice, *, now: datetime) -> bool:
    """Mark a notification as delivered, even if its lease was lost; return False if it already was."""
    result = conn.execute(
        update(alert_notices)
        .where(_n.id == claimed.id, _n.delivered_at.is_(None))
        .values(delivered_at=now, next_try_at=None, lease_until=None, problem=None)
    )
    return result.rowcount > 0


def record_failure(
    conn: Connection, claimed: ClaimedNotice, *, problem: str, next_try_at: datetime | None
) -> None:
    """Record a failed try and the time of the next one; None to give up."""
    conn.execute(
        update(alert_notices)
        .where(and_(_n.id == claimed.id, _n.tries == claimed.tries, _n.delivered_at.is_(None)))
        .values(next_try_at=next_try_at, lease_until=None, problem=problem)
    )


def list_notices(conn: Connection, alert_id: UUID) -> list[Notice]:
    """Return the notifications of an alert, oldest first."""
    columns = (_n.id, _n.transition, _n.channel, _n.created_at, _n.tries, _n.delivered_at)
    rows = conn.execute(
        select(*columns, _n.next_try_at, _n.problem)
        .where(_n.alert_id == alert_id)
        .order_by(_n.created_at, _n.id)
    )
    return [
        Notice(
            **{
                **row,
                "transition": AlertTransition(row["transition"]),
                "channel": NotificationChannel(row["channel"]),
            }
        )
        for row in rows.mappings()
    ]
