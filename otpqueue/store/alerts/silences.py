"""Queries on silences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, ScalarSelect, func, insert, or_, select, update
from uuid_utils.compat import uuid7

from otpqueue.domain.alerts import AlertState
from otpqueue.store.alerts.subjects import format_subjects
from otpqueue.store.schema import alert_silences, alerts
from otpqueue.store.vault import Vault

_a, _s = alerts.c, alert_silences.c


@dataclass(frozen=True, kw_only=True)
class Silence:
    """A silence: a subject or rule without notifications, and its end."""

    id: UUID
    rule: str
    subject: str | None
    """None for every subject of the rule."""
    until: datetime
    reason: str | None
    silenced_by: str
    silenced_at: datetime


def silenced_until(now: datetime | ColumnElement[datetime]) -> ScalarSelect[datetime | None]:
    """Return the time until which an alert is silenced at `now`, null if it is not."""
    until = select(func.max(_s.until)).where(_s.rule == _a.rule, _is_about(), _s.until > now)
    return until.correlate(alerts).scalar_subquery()


def is_silenced(now: datetime) -> ColumnElement[bool]:
    """Return the condition that an alert is silenced at `now`."""
    return silenced_until(now).is_not(None)


def add_silence(
    conn: Connection,
    *,
    rule: str,
    subject: str | None,
    number_hash: bytes | None,
    until: datetime,
    by: str,
    reason: str | None,
    now: datetime,
    vault: Vault,
) -> Silence:
    """Store a silence. A number is named by its tag, and found and erased by its hash."""
    row = conn.execute(
        insert(alert_silences)
        .values(
            id=uuid7(),
            rule=rule,
            subject=subject,
            number_hash=number_hash,
            until=until,
            reason=reason,
            silenced_by=by,
            silenced_at=now,
        )
        .returning(*_s)
    )
    return _to_silences(conn, row.all(), vault)[0]


def end_silence(conn: Connection, silence_id: UUID, *, now: datetime, vault: Vault) -> Silence | None:
    """End a silence and return it; None if no active silence has this id."""
    row = conn.execute(
        update(alert_silences).where(_s.id == silence_id, _s.until > now).values(until=now).returning(*_s)
    )
    found = _to_silences(conn, row.all(), vault)
    return found[0] if found else None


def list_silences(conn: Connection, *, now: datetime, vault: Vault) -> list[Silence]:
    """Return the active silences, those that end first first."""
    rows = conn.execute(select(*_s).where(_s.until > now).order_by(_s.until, _s.id))
    return _to_silences(conn, rows.all(), vault)


def find_silenced_alerts(conn: Connection, silence_id: UUID) -> list[UUID]:
    """Return the ids of the open alerts that a silence matches, whether or not it is active."""
    rows = conn.execute(
        select(_a.id).where(_a.state == AlertState.OPEN, _s.id == silence_id, _s.rule == _a.rule, _is_about())
    )
    return list(rows.scalars())


def _is_about() -> ColumnElement[bool]:
    """Return the condition that a silence matches an alert of its rule."""
    return or_(_s.subject.is_(None), _s.subject == _a.subject, _s.number_hash == _a.number_hash)


def _to_silences(conn: Connection, rows: Sequence[Row[Any]], vault: Vault) -> list[Silence]:
    return [
        Silence(
            id=row.id,
            rule=row.rule,
            subject=subject,
            until=row.until,
            reason=row.reason,
            silenced_by=row.silenced_by,
            silenced_at=row.silenced_at,
        )
        for row, subject in zip(rows, format_subjects(conn, rows, vault), strict=True)
    ]
