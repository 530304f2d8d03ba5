"""Evaluations of the alert rules, and the subjects that were bad at the last one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from otpqueue.domain.alerts import AlertRule, SubjectMeasure
from otpqueue.store.schema import alert_evaluations, alert_pending


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


def list_pending(conn: Connection, rules: Collection[str]) -> list[PendingAlert]:
    """Return the subjects that were bad at the last evaluation of these rules."""
    p = alert_pending.c
    rows = conn.execute(select(p.rule, p.subject, p.number_hash, p.bad).where(p.rule.in_(rules)))
    return [PendingAlert(**row) for row in rows.mappings()]


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
