"""Enter what evaluations found: alerts open and close, and their notices go into the outbox with them.

No alert names a number or a request that is erased at that moment: erasures and evaluations that name some
exclude each other, and neither waits long. An evaluation beside an erasure names none, and opens no alert
about a number; the next one does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue.domain.alerts import (
    MOST_OPEN,
    AlertRule,
    AlertTransition,
    NotificationChannel,
    RuleVerdict,
    SubjectMeasure,
    TransitionProgress,
    judge_measure,
    sort_worst_first,
)
from otpqueue.store import locks
from otpqueue.store.alerts import facts, notices, records
from otpqueue.store.alerts.records import Evaluation, OpenAlert, PendingAlert
from otpqueue.store.engine import allow_time, connection, transaction
from otpqueue.store.locks import Lock
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

_ALLOWED_S = 20

FindExamples = Callable[[Connection, AlertRule, SubjectMeasure], Sequence[str] | None]
"""Takes what has just become an alert; returns ids of requests that show it, None for none to name."""


@dataclass(frozen=True, kw_only=True)
class RuleMeasures:
    """The measures of one rule. A subject without a measure is good."""

    rule: AlertRule
    measures: Sequence[SubjectMeasure]


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """What an evaluation changed."""

    opened: tuple[UUID, ...] = ()
    closed: tuple[UUID, ...] = ()
    skipped: bool = False
    """Whether another process has just evaluated, or is about to."""


@dataclass(kw_only=True)
class _EvaluationRun:
    """What one evaluation does, as it goes."""

    conn: Connection
    now: datetime
    examples: FindExamples
    opened: list[UUID] = field(default_factory=list)
    closed: list[UUID] = field(default_factory=list)

    @cached_property
    def may_name(self) -> bool:
        """Whether what is stored from now on may name numbers and requests: no erasure is under way.

        None begins before this evaluation has ended, and what is read from now on is without those erased.
        """
        return locks.try_take(self.conn, Lock.ERASE)

    def is_erased(self, measure: SubjectMeasure) -> bool:
        """Return whether a measure is about a number that has been erased since it was counted."""
        if measure.number_hash is None or not self.may_name:
            return False
        return not facts.is_known(self.conn, measure.number_hash, before=self.now)


@dataclass(frozen=True, kw_only=True)
class AlertStore:
    """Keeps the alerts of one watch: rules that are evaluated together, by one process at a time."""

    engine: Engine
    watch: str
    lock: Lock
    """The one of the watch."""
    apart: timedelta
    """Evaluations are at least so far apart: a second beat must not count what is bad twice."""
    channels: tuple[NotificationChannel, ...]

    def last(self) -> Evaluation | None:
        """Return the last evaluation of this watch. Raises DatabaseUnavailable."""
        with connection(self.engine) as conn:
            return records.find_last_evaluation(conn, self.watch)

    def is_soon(self, last: Evaluation | None, now: datetime) -> bool:
        """Return whether it is too soon for another evaluation, also by a clock that was set back since."""
        return last is not None and abs(now - last.at) < self.apart

    def enter(
        self,
        looked: Sequence[RuleMeasures],
        *,
        retired: Sequence[str] = (),
        examples: FindExamples,
        now: datetime,
        took_ms: int,
        waiting: int | None = None,
    ) -> EvaluationResult:
        """Enter what was found, in one transaction. Alerts of `retired` rules are closed.

        `waiting` is the event that has waited longest to be added up. Raises DatabaseUnavailable.
        """

        def work(conn: Connection) -> EvaluationResult:
            allow_time(conn, _ALLOWED_S)
            if not locks.try_take(conn, self.lock) or self.is_soon(
                records.find_last_evaluation(conn, self.watch), now
            ):
                return EvaluationResult(skipped=True)
            page = _EvaluationRun(conn=conn, now=now, examples=examples)
            self._enter_all(page, looked, retired)
            records.record_evaluation(
                conn,
                self.watch,
                at=now,
                took_ms=took_ms,
                measures=sum(len(one.measures) for one in looked),
                opened=len(page.opened),
                closed=len(page.closed),
                waiting=waiting,
            )
            return EvaluationResult(opened=tuple(page.opened), closed=tuple(page.closed))

        return transaction(self.engine, work)

    def _enter_all(
        self, page: _EvaluationRun, looked: Sequence[RuleMeasures], retired: Sequence[str]
    ) -> None:
        names = [*(one.rule.name for one in looked), *retired]
        opening = notices.has_opening()
        open_ones = records.lock_open_alerts(page.conn, names, noticed=opening, now=page.now)
        pending = records.list_pending(page.conn, names)
        for one in looked:
            self._enter(
                page,
                one,
                [alert for alert in open_ones if alert.rule == one.rule.name],
                [before for before in pending if before.rule == one.rule.name],
            )
        for alert in open_ones:
            if alert.rule in retired:
                self._close(page, alert, "the rule is off")
        records.delete_pending(page.conn, [before for before in pending if before.rule in retired])

    def _enter(
        self,
        page: _EvaluationRun,
        looked: RuleMeasures,
        open_ones: Sequence[OpenAlert],
        pending: Sequence[PendingAlert],
    ) -> None:
        found = {measure.key: measure for measure in looked.measures}
        still_open = 0
        for alert in open_ones:
            # After a look-up key was replaced one number may have two: the older one goes on.
            measure = found.pop(alert.key, None) if alert.key else None
            still_open += self._go_on(page, looked.rule, alert, measure)
        before = {one.key: one.bad for one in pending}
        kept: set[str] = set()
        held_back = 0
        for measure in sort_worst_first(looked.rule, found.values()):
            run = TransitionProgress(count=before.get(measure.key, 0))
            run, transition = run.after(judge_measure(looked.rule, measure, is_open=False), looked.rule)
            if not (run.count or transition) or page.is_erased(measure):
                continue
            if measure.number_hash is not None and not page.may_name:
                # As it stood before: the next evaluation goes on from there.
                kept.add(measure.subject)
            elif not transition:
                records.keep_pending(page.conn, looked.rule, measure, bad=run.count, now=page.now)
                kept.add(measure.subject)
            elif still_open < MOST_OPEN:
                self._open(page, looked.rule, measure)
                still_open += 1
            else:
                held_back += 1
        records.delete_pending(page.conn, [one for one in pending if one.subject not in kept])
        if held_back:
            log.warning("alerts_held_back", rule=looked.rule.name, subjects=held_back)

    def _go_on(
        self, page: _EvaluationRun, rule: AlertRule, alert: OpenAlert, measure: SubjectMeasure | None
    ) -> bool:
        """Enter what was found of an open alert; return whether it stays open."""
        verdict = RuleVerdict.GOOD if measure is None else judge_measure(rule, measure, is_open=True)
        run, transition = TransitionProgress(is_open=True, count=alert.good).after(verdict, rule)
        records.record_value(page.conn, alert.id, measure, good=run.count, now=page.now)
        # The number was erased: the alert has no subject any more.
        if transition or alert.key is None:
            self._close(page, alert, None if alert.key else "the number was erased")
            return False
        if not alert.noticed and not alert.silenced:
            # It opened in silence, which is over.
            notices.add(page.conn, alert.id, AlertTransition.OPENED, self.channels, now=page.now)
        return True

    def _open(self, page: _EvaluationRun, rule: AlertRule, measure: SubjectMeasure) -> None:
        evidence = _evidence(measure)
        named = page.examples(page.conn, rule, measure) if page.may_name else None
        if named is not None:
            evidence["requests"] = list(named)
        alert = records.add(page.conn, rule, measure, evidence=evidence, now=page.now)
        records.record_value(page.conn, alert.id, measure, good=0, now=page.now)
        records.add_event(page.conn, alert.id, "opened", now=page.now)
        if alert.silenced:
            self._note_silence(page, alert, AlertTransition.OPENED)
        else:
            notices.add(page.conn, alert.id, AlertTransition.OPENED, self.channels, now=page.now)
        page.opened.append(alert.id)

    def _close(self, page: _EvaluationRun, alert: OpenAlert, why: str | None) -> None:
        records.close(page.conn, alert.id, now=page.now)
        records.add_event(page.conn, alert.id, "closed", now=page.now, detail=why)
        if alert.silenced:
            # A closing is notified only where the opening was, and the other way round.
            notices.drop_undelivered(page.conn, alert.id)
            self._note_silence(page, alert, AlertTransition.CLOSED)
        else:
            notified = notices.list_notified_channels(page.conn, alert.id)
            notices.add(page.conn, alert.id, AlertTransition.CLOSED, notified, now=page.now)
        page.closed.append(alert.id)

    def _note_silence(self, page: _EvaluationRun, alert: OpenAlert, transition: AlertTransition) -> None:
        records.add_event(page.conn, alert.id, "notice_silenced", now=page.now, detail=transition.value)


def _evidence(measure: SubjectMeasure) -> dict[str, Any]:
    """Return what an alert opened for: all of one measure, so that its numbers agree with each other."""
    evidence: dict[str, Any] = {
        "value": measure.value,
        "sample": measure.sample,
        "figures": dict(measure.figures),
        "reasons": dict(measure.reasons),
    }
    if measure.series is not None:
        evidence["series"] = dict(measure.series)
    return evidence
