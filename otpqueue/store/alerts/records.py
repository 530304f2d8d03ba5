"""Queries on alerts, their history and values.

An alert about a number stores the number's look-up hash and its tag. The masked number for display is read
from the newest request. Stored beside the hash, its last digits would make a brute-force search easier.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from uuid_utils.compat import uuid7

from otpqueue.domain.alerts import Alert, AlertRule, AlertState, SubjectMeasure
from otpqueue.store.alerts.silences import is_silenced, silenced_until
from otpqueue.store.alerts.subjects import format_subjects
from otpqueue.store.schema import (
    alert_history,
    alert_pending,
    alert_values,
    alerts,
)
from otpqueue.store.vault import Vault

_a = alerts.c


@dataclass(frozen=True, kw_only=True)
class OpenAlert:
    """An open alert, with the fields that the next evaluation needs."""

    id: UUID
    rule: str
    subject: str | None
    number_hash: bytes | None = field(repr=False)
    good: int
    """Consecutive good evaluations."""
    silenced: bool
    noticed: bool
    """Whether its opening has a notification, delivered or not."""

    @property
    def key(self) -> str | None:
        """Identifies its subject within the rule; None after an erasure."""
        return self.number_hash.hex() if self.number_hash else self.subject


@dataclass(frozen=True, kw_only=True)
class AlertEvent:
    """An event in the history of an alert."""

    at: datetime
    what: str
    actor: str | None
    detail: str | None


@dataclass(frozen=True, kw_only=True)
class AlertValue:
    """The result of one evaluation of an open alert."""

    at: datetime
    value: float | None
    sample: int


def lock_open_alerts(
    conn: Connection, rules: Collection[str], *, noticed: ColumnElement[bool], now: datetime
) -> list[OpenAlert]:
    """Return the open alerts of these rules, oldest first, and lock them."""
    rows = conn.execute(
        select(
            _a.id,
            _a.rule,
            _a.subject,
            _a.number_hash,
            _a.good,
            is_silenced(now).label("silenced"),
            noticed.label("noticed"),
        )
        .where(_a.state == AlertState.OPEN, _a.rule.in_(rules))
        .order_by(_a.id)
        .with_for_update(of=alerts)
    )
    return [OpenAlert(**row) for row in rows.mappings()]


def count_open(conn: Connection) -> dict[str, int]:
    """Return how many alerts are open, by rule."""
    rows = conn.execute(
        select(_a.rule, func.count().label("number"))
        .where(_a.state == AlertState.OPEN.value)
        .group_by(_a.rule)
    )
    return {row.rule: row.number for row in rows}


def list_open_subjects(conn: Connection, rule: str) -> set[str]:
    """Return the subjects of a rule's open alerts, without numbers."""
    rows = conn.execute(
        select(_a.subject).where(_a.state == AlertState.OPEN, _a.rule == rule, _a.number_hash.is_(None))
    )
    return {subject for subject in rows.scalars() if subject is not None}


def list_known_numbers(conn: Connection, rule: str) -> list[bytes]:
    """Return the hashes of the numbers with an open or pending alert of a rule."""
    p = alert_pending.c
    of_open = select(_a.number_hash).where(_a.state == AlertState.OPEN, _a.rule == rule)
    of_pending = select(p.number_hash).where(p.rule == rule)
    found = conn.execute(of_open.union(of_pending)).scalars()
    return [number_hash for number_hash in found if number_hash is not None]


def add(
    conn: Connection, rule: AlertRule, measure: SubjectMeasure, *, evidence: Mapping[str, Any], now: datetime
) -> OpenAlert:
    """Open an alert."""
    alert_id = uuid7()
    conn.execute(
        insert(alerts).values(
            id=alert_id,
            rule=rule.name,
            subject=measure.subject,
            number_hash=measure.number_hash,
            state=AlertState.OPEN,
            value=measure.value,
            threshold=rule.threshold,
            window_s=rule.window_s,
            sample=measure.sample,
            evaluated_at=now,
            opened_at=now,
            evidence=dict(evidence),
        )
    )
    silenced = conn.execute(select(is_silenced(now)).where(_a.id == alert_id)).scalar_one()
    return OpenAlert(
        id=alert_id,
        rule=rule.name,
        subject=measure.subject,
        number_hash=measure.number_hash,
        good=0,
        silenced=silenced,
        noticed=False,
    )


def record_value(
    conn: Connection, alert_id: UUID, measure: SubjectMeasure | None, *, good: int, now: datetime
) -> None:
    """Store the result of an evaluation of an open alert; None for no data."""
    value, sample = (measure.value, measure.sample) if measure else (None, 0)
    evaluated: dict[str, Any] = {"good": good, "evaluated_at": now}
    # Without a value the last pair stays: a value and a sample must come from the same evaluation.
    if value is not None:
        evaluated |= {"value": value, "sample": sample}
    conn.execute(update(alerts).where(_a.id == alert_id).values(evaluated))
    point = {"alert_id": alert_id, "at": now, "value": value, "sample": sample}
    conn.execute(upsert(alert_values).values(point).on_conflict_do_nothing())


def close(conn: Connection, alert_id: UUID, *, now: datetime) -> None:
    """Close an alert."""
    conn.execute(update(alerts).where(_a.id == alert_id).values(state=AlertState.CLOSED, closed_at=now))


def add_event(
    conn: Connection,
    alert_id: UUID,
    what: str,
    *,
    now: datetime,
    actor: str | None = None,
    detail: str | None = None,
) -> None:
    """Add an event to the history of an alert."""
    conn.execute(
        insert(alert_history).values(alert_id=alert_id, at=now, what=what, actor=actor, detail=detail)
    )


def _shown(now: datetime) -> list[ColumnElement[Any]]:
    return [*alerts.c, silenced_until(now).label("silenced_until")]


def _to_domain(conn: Connection, rows: Sequence[Row[Any]], vault: Vault) -> list[Alert]:
    subjects = format_subjects(conn, rows, vault)
    return [_alert(row, subject) for row, subject in zip(rows, subjects, strict=True)]


def _alert(row: Row[Any], subject: str | None) -> Alert:
    return Alert(
        id=row.id,
        rule=row.rule,
        subject=subject,
        state=AlertState(row.state),
        value=row.value,
        threshold=row.threshold,
        window_s=row.window_s,
        sample=row.sample,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        evaluated_at=row.evaluated_at,
        evidence=row.evidence or {},
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
        silenced_until=row.silenced_until,
    )


def list_newest(
    conn: Connection, *, state: AlertState | None, rule: str | None, limit: int, now: datetime, vault: Vault
) -> list[Alert]:
    """Return alerts, newest first."""
    conditions = [*([_a.state == state] if state else []), *([_a.rule == rule] if rule else [])]
    rows = conn.execute(
        select(*_shown(now)).where(*conditions).order_by(_a.opened_at.desc(), _a.id.desc()).limit(limit)
    )
    return _to_domain(conn, rows.all(), vault)


def list_alerts_naming(conn: Connection, request_id: UUID, *, now: datetime, vault: Vault) -> list[Alert]:
    """Return the alerts with a request in their evidence, newest first."""
    named = _a.evidence.contains({"requests": [str(request_id)]})
    rows = conn.execute(select(*_shown(now)).where(named).order_by(_a.opened_at.desc(), _a.id.desc()))
    return _to_domain(conn, rows.all(), vault)


def find(conn: Connection, alert_id: UUID, *, now: datetime, vault: Vault) -> Alert | None:
    """Return one alert, None if there is none with this id."""
    rows = conn.execute(select(*_shown(now)).where(_a.id == alert_id)).all()
    return _to_domain(conn, rows, vault)[0] if rows else None


def list_events(conn: Connection, alert_id: UUID) -> list[AlertEvent]:
    """Return the history of an alert, oldest first."""
    h = alert_history.c
    rows = conn.execute(
        select(h.at, h.what, h.actor, h.detail).where(h.alert_id == alert_id).order_by(h.number)
    )
    return [AlertEvent(**row) for row in rows.mappings()]


def list_values(conn: Connection, alert_id: UUID, *, limit: int) -> list[AlertValue]:
    """Return the results of the newest evaluations of an alert, oldest first."""
    v = alert_values.c
    rows = conn.execute(
        select(v.at, v.value, v.sample).where(v.alert_id == alert_id).order_by(v.at.desc()).limit(limit)
    )
    return [AlertValue(**row) for row in rows.mappings()][::-1]


def acknowledge(conn: Connection, alert_id: UUID, *, by: str, now: datetime) -> bool:
    """Store the acknowledgement of an alert; return False if it was acknowledged before."""
    changed = conn.execute(
        update(alerts)
        .where(_a.id == alert_id, _a.acknowledged_at.is_(None))
        .values(acknowledged_at=now, acknowledged_by=by)
    )
    return bool(changed.rowcount)


def find_number(conn: Connection, tag: str) -> bytes | None:
    """Return the look-up hash of the number with a tag, None if no alert is or was about it.

    Call in a transaction: it blocks an erasure of the number until it ends.
    """
    return conn.execute(
        select(_a.number_hash)
        .where(_a.subject == tag, _a.number_hash.is_not(None))
        .order_by(_a.opened_at.desc())
        .limit(1)
        .with_for_update(read=True)
    ).scalar_one_or_none()
