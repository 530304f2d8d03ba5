"""Queries on alerts: open and pending alerts, their history and values, and silences.

An alert about a number stores the number's look-up hash and its tag. The masked number for display is read
from the newest request. Stored beside the hash, its last digits would make a brute-force search easier.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    ScalarSelect,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from uuid_utils.compat import uuid7

from otpqueue.domain import phone
from otpqueue.domain.alerts import Alert, AlertRule, AlertState, SubjectMeasure, format_number
from otpqueue.store.schema import (
    alert_evaluations,
    alert_history,
    alert_pending,
    alert_silences,
    alert_values,
    alerts,
)
from otpqueue.store.vault import Vault

_a, _s = alerts.c, alert_silences.c


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
class PendingAlert:
    """A subject that was bad at the last evaluation."""

    rule: str
    subject: str
    number_hash: bytes | None = field(repr=False)
    bad: int

    @property
    def key(self) -> str:
        """Identifies its subject within the rule."""
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


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation of rules."""

    at: datetime
    waiting: int | None
    """The event that had waited longest to be added to the statistics at that time."""


def find_last_evaluation(conn: Connection, watch: str) -> Evaluation | None:
    """Return the last evaluation of a watch, None if there was none."""
    e = alert_evaluations.c
    row = conn.execute(
        select(e.at, e.waiting).where(e.watch == watch).order_by(e.at.desc()).limit(1)
    ).one_or_none()
    return Evaluation(at=row.at, waiting=row.waiting) if row else None


def record_evaluation(
    conn: Connection,
    watch: str,
    *,
    at: datetime,
    took_ms: int,
    measures: int,
    opened: int,
    closed: int,
    waiting: int | None,
) -> None:
    """Store the time of an evaluation."""
    conn.execute(
        insert(alert_evaluations).values(
            watch=watch,
            at=at,
            took_ms=took_ms,
            measures=measures,
            opened=opened,
            closed=closed,
            waiting=waiting,
        )
    )


def _silenced_until(now: datetime | ColumnElement[datetime]) -> ScalarSelect[datetime | None]:
    until = select(func.max(_s.until)).where(_s.rule == _a.rule, _is_about(), _s.until > now)
    return until.correlate(alerts).scalar_subquery()


def is_silenced(now: datetime) -> ColumnElement[bool]:
    """Return the condition that an alert is silenced at `now`."""
    return _silenced_until(now).is_not(None)


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


def list_pending(conn: Connection, rules: Collection[str]) -> list[PendingAlert]:
    """Return the subjects that were bad at the last evaluation of these rules."""
    p = alert_pending.c
    rows = conn.execute(select(p.rule, p.subject, p.number_hash, p.bad).where(p.rule.in_(rules)))
    return [PendingAlert(**row) for row in rows.mappings()]


def list_known_numbers(conn: Connection, rule: str) -> list[bytes]:
    """Return the hashes of the numbers with an open or pending alert of a rule."""
    p = alert_pending.c
    of_open = select(_a.number_hash).where(_a.state == AlertState.OPEN, _a.rule == rule)
    of_pending = select(p.number_hash).where(p.rule == rule)
    found = conn.execute(of_open.union(of_pending)).scalars()
    return [number_hash for number_hash in found if number_hash is not None]


def keep_pending(
    conn: Connection, rule: AlertRule, measure: SubjectMeasure, *, bad: int, now: datetime
) -> None:
    """Store that a subject was bad for the `bad`-th consecutive time."""
    row = {"number_hash": measure.number_hash, "bad": bad, "evaluated_at": now}
    conn.execute(
        upsert(alert_pending)
        .values(rule=rule.name, subject=measure.subject, **row)
        .on_conflict_do_update(index_elements=["rule", "subject"], set_=row)
    )


def delete_pending(conn: Connection, ones: Sequence[PendingAlert]) -> None:
    """Delete pending alerts that are good again or have opened."""
    for one in ones:
        conn.execute(
            delete(alert_pending).where(
                alert_pending.c.rule == one.rule, alert_pending.c.subject == one.subject
            )
        )


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
    looked: dict[str, Any] = {"good": good, "evaluated_at": now}
    # Without a value the last pair stays: a value and a sample must come from the same evaluation.
    if value is not None:
        looked |= {"value": value, "sample": sample}
    conn.execute(update(alerts).where(_a.id == alert_id).values(looked))
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
    return [*alerts.c, _silenced_until(now).label("silenced_until")]


_NEWEST = text(
    """
    SELECT wanted.number_hash, r.id, r.number_sealed, r.seal_key_id
    FROM unnest(CAST(:number_hashes AS bytea[])) AS wanted (number_hash)
    CROSS JOIN LATERAL (
        SELECT id, number_sealed, seal_key_id FROM otp_requests AS o
        WHERE o.number_hash = wanted.number_hash ORDER BY o.created_at DESC LIMIT 1
    ) AS r
    """
)


def _masked(conn: Connection, number_hashes: Collection[bytes], vault: Vault) -> dict[bytes, str]:
    """Return the masked numbers with a stored request that can be unsealed."""
    found: dict[bytes, str] = {}
    if not number_hashes:
        return found
    for row in conn.execute(_NEWEST, {"number_hashes": list(number_hashes)}):
        with suppress(KeyError, InvalidTag):  # the key is missing: only the tag is shown
            number = vault.unseal(row.number_sealed, key_id=row.seal_key_id, row_id=row.id)
            found[row.number_hash] = phone.mask_number(number)
    return found


def _subjects(conn: Connection, rows: Sequence[Row[Any]], vault: Vault) -> list[str | None]:
    """Return the subjects of alerts or silences in the form for display."""
    masked = _masked(conn, {row.number_hash for row in rows if row.number_hash}, vault)
    return [
        row.subject
        if row.subject is None or row.number_hash is None
        else format_number(row.subject, masked.get(row.number_hash))
        for row in rows
    ]


def _to_domain(conn: Connection, rows: Sequence[Row[Any]], vault: Vault) -> list[Alert]:
    subjects = _subjects(conn, rows, vault)
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
    return _silences(conn, row.all(), vault)[0]


def end_silence(conn: Connection, silence_id: UUID, *, now: datetime, vault: Vault) -> Silence | None:
    """End a silence and return it; None if no active silence has this id."""
    row = conn.execute(
        update(alert_silences).where(_s.id == silence_id, _s.until > now).values(until=now).returning(*_s)
    )
    found = _silences(conn, row.all(), vault)
    return found[0] if found else None


def list_silences(conn: Connection, *, now: datetime, vault: Vault) -> list[Silence]:
    """Return the active silences, those that end first first."""
    rows = conn.execute(select(*_s).where(_s.until > now).order_by(_s.until, _s.id))
    return _silences(conn, rows.all(), vault)


def find_silenced_alerts(conn: Connection, silence_id: UUID) -> list[UUID]:
    """Return the ids of the open alerts that a silence matches, whether or not it is active."""
    rows = conn.execute(
        select(_a.id).where(_a.state == AlertState.OPEN, _s.id == silence_id, _s.rule == _a.rule, _is_about())
    )
    return list(rows.scalars())


def _is_about() -> ColumnElement[bool]:
    """Return the condition that a silence matches an alert of its rule."""
    return or_(_s.subject.is_(None), _s.subject == _a.subject, _s.number_hash == _a.number_hash)


def _silences(conn: Connection, rows: Sequence[Row[Any]], vault: Vault) -> list[Silence]:
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
        for row, subject in zip(rows, _subjects(conn, rows, vault), strict=True)
    ]
