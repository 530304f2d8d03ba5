"""Store the result of an evaluation. Alerts open and resolve in one transaction with their notifications.

No alert names a number or request that is being erased. Evaluations that name some and erasures exclude each
other by a lock, for which neither waits long. An evaluation during an erasure names none, and opens no alert
about a number; the next evaluation does.
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
from otpqueue.store.alerts import evaluations, notices, number_facts, records
from otpqueue.store.alerts.evaluations import Evaluation, PendingAlert
from otpqueue.store.alerts.records import OpenAlert
from otpqueue.store.engine import allow_time, connection, transaction
from otpqueue.store.locks import Lock
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

_ALLOWED_S = 20

FindExamples = Callable[[Connection, AlertRule, SubjectMeasure], Sequence[str] | None]
"""Returns the ids of requests that are evidence of a new alert; None if no request may be named."""


@dataclass(frozen=True, kw_only=True)
class RuleMeasures:
    """The measurements of one rule. A subject without a measurement is healthy."""

    rule: AlertRule
    measures: Sequence[SubjectMeasure]


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """The changes that an evaluation made."""

    opened: tuple[UUID, ...] = ()
    closed: tuple[UUID, ...] = ()
    skipped: bool = False
    """Whether it was skipped because another process has just evaluated, or is about to."""


@dataclass(kw_only=True)
class _EvaluationRun:
    """The state of a running evaluation."""

    conn: Connection
    now: datetime
    examples: FindExamples
    opened: list[UUID] = field(default_factory=list)
    closed: list[UUID] = field(default_factory=list)

    @cached_property
    def may_name(self) -> bool:
        """Whether numbers and requests may be stored from now on, because no erasure is running.

        No erasure can begin before this evaluation has ended. Later reads no longer return erased rows.
        """
        return locks.try_take(self.conn, Lock.ERASE)

    def is_erased(self, measure: SubjectMeasure) -> bool:
        """Return whether a measurement is about a number that has since been erased."""
        if measure.number_hash is None or not self.may_name:
            return False
        return not number_facts.is_known(self.conn, measure.number_hash, before=self.now)


@dataclass(frozen=True, kw_only=True)
class AlertStore:
    """Stores the alerts of one watch: rules that are evaluated together, by one process at a time."""

    engine: Engine
    watch: str
    lock: Lock
    """The advisory lock of the watch."""
    apart: timedelta
    """The minimum time between evaluations: a second beat must not count the same problem twice."""
    channels: tuple[NotificationChannel, ...]

    def last(self) -> Evaluation | None:
        """Return the last evaluation of this watch. Raises DatabaseUnavailable."""
        with connection(self.engine) as conn:
            return evaluations.find_last_evaluation(conn, self.watch)

    def is_soon(self, last: Evaluation | None, now: datetime) -> bool:
        """Return whether it is too soon for another evaluation. A clock that was set back is not too soon."""
        return last is not None and abs(now - last.at) < self.apart

    def enter(
        self,
        measured: Sequence[RuleMeasures],
        *,
        retired: Sequence[str] = (),
        examples: FindExamples,
        now: datetime,
        took_ms: int,
        waiting: int | None = None,
    ) -> EvaluationResult:
        """Store the result of an evaluation in one transaction. Alerts of `retired` rules are resolved.

        `waiting` is the oldest event that is not rolled up yet. Raises DatabaseUnavailable.
        """

        def work(conn: Connection) -> EvaluationResult:
            allow_time(conn, _ALLOWED_S)
            if not locks.try_take(conn, self.lock) or self.is_soon(
                evaluations.find_last_evaluation(conn, self.watch), now
            ):
                return EvaluationResult(skipped=True)
            state = _EvaluationRun(conn=conn, now=now, examples=examples)
            self._enter_all(state, measured, retired)
            evaluations.record_evaluation(
                conn,
                self.watch,
                at=now,
                took_ms=took_ms,
                measures=sum(len(one.measures) for one in measured),
                opened=len(state.opened),
                closed=len(state.closed),
                waiting=waiting,
            )
            return EvaluationResult(opened=tuple(state.opened), closed=tuple(state.closed))

        return transaction(self.engine, work)

    def _enter_all(
        self, state: _EvaluationRun, measured: Sequence[RuleMeasures], retired: Sequence[str]
    ) -> None:
        names = [*(one.rule.name for one in measured), *retired]
        opening = notices.has_opening()
        open_ones = records.lock_open_alerts(state.conn, names, noticed=opening, now=state.now)
        pending = evaluations.list_pending(state.conn, names)
        for one in measured:
            self._enter(
                state,
                one,
                [alert for alert in open_ones if alert.rule == one.rule.name],
                [before for before in pending if before.rule == one.rule.name],
            )
        for alert in open_ones:
            if alert.rule in retired:
                self._close(state, alert, "the rule is off")
        evaluations.delete_pending(state.conn, [before for before in pending if before.rule in retired])

    def _enter(
        self,
        state: _EvaluationRun,
        measured: RuleMeasures,
        open_ones: Sequence[OpenAlert],
        pending: Sequence[PendingAlert],
    ) -> None:
        found = {measure.key: measure for measure in measured.measures}
        still_open = 0
        for alert in open_ones:
            # During hash key rotation a number may have two alerts. The older one continues.
            measure = found.pop(alert.key, None) if alert.key else None
            still_open += self._update_open(state, measured.rule, alert, measure)
        before = {one.key: one.bad for one in pending}
        kept: set[str] = set()
        held_back = 0
        for measure in sort_worst_first(measured.rule, found.values()):
            run = TransitionProgress(count=before.get(measure.key, 0))
            run, transition = run.after(judge_measure(measured.rule, measure, is_open=False), measured.rule)
            if not (run.count or transition) or state.is_erased(measure):
                continue
            if measure.number_hash is not None and not state.may_name:
                # The previous state, from which the next evaluation continues.
                kept.add(measure.subject)
            elif not transition:
                evaluations.keep_pending(state.conn, measured.rule, measure, bad=run.count, now=state.now)
                kept.add(measure.subject)
            elif still_open < MOST_OPEN:
                self._open(state, measured.rule, measure)
                still_open += 1
            else:
                held_back += 1
        evaluations.delete_pending(state.conn, [one for one in pending if one.subject not in kept])
        if held_back:
            log.warning("alerts_held_back", rule=measured.rule.name, subjects=held_back)

    def _update_open(
        self, state: _EvaluationRun, rule: AlertRule, alert: OpenAlert, measure: SubjectMeasure | None
    ) -> bool:
        """Store the measurement of an open alert. Returns whether it stays open."""
        verdict = RuleVerdict.GOOD if measure is None else judge_measure(rule, measure, is_open=True)
        run, transition = TransitionProgress(is_open=True, count=alert.good).after(verdict, rule)
        records.record_value(state.conn, alert.id, measure, good=run.count, now=state.now)
        # The number was erased, so the alert has no subject any more.
        if transition or alert.key is None:
            self._close(state, alert, None if alert.key else "the number was erased")
            return False
        if not alert.noticed and not alert.silenced:
            # The alert opened while silenced, and the silence has ended.
            notices.add(state.conn, alert.id, AlertTransition.OPENED, self.channels, now=state.now)
        return True

    def _open(self, state: _EvaluationRun, rule: AlertRule, measure: SubjectMeasure) -> None:
        evidence = _evidence(measure)
        named = state.examples(state.conn, rule, measure) if state.may_name else None
        if named is not None:
            evidence["requests"] = list(named)
        alert = records.add(state.conn, rule, measure, evidence=evidence, now=state.now)
        records.record_value(state.conn, alert.id, measure, good=0, now=state.now)
        records.add_event(state.conn, alert.id, "opened", now=state.now)
        if alert.silenced:
            self._note_silence(state, alert, AlertTransition.OPENED)
        else:
            notices.add(state.conn, alert.id, AlertTransition.OPENED, self.channels, now=state.now)
        state.opened.append(alert.id)

    def _close(self, state: _EvaluationRun, alert: OpenAlert, why: str | None) -> None:
        records.close(state.conn, alert.id, now=state.now)
        records.add_event(state.conn, alert.id, "closed", now=state.now, detail=why)
        if alert.silenced:
            # A resolution is notified if and only if the opening was.
            notices.drop_undelivered(state.conn, alert.id)
            self._note_silence(state, alert, AlertTransition.CLOSED)
        else:
            notified = notices.list_notified_channels(state.conn, alert.id)
            notices.add(state.conn, alert.id, AlertTransition.CLOSED, notified, now=state.now)
        state.closed.append(alert.id)

    def _note_silence(self, state: _EvaluationRun, alert: OpenAlert, transition: AlertTransition) -> None:
        records.add_event(state.conn, alert.id, "notice_silenced", now=state.now, detail=transition.value)


def _evidence(measure: SubjectMeasure) -> dict[str, Any]:
    """Return the evidence of an alert, all from one measurement, so that its numbers agree."""
    evidence: dict[str, Any] = {
        "value": measure.value,
        "sample": measure.sample,
        "figures": dict(measure.figures),
        "reasons": dict(measure.reasons),
    }
    if measure.series is not None:
        evidence["series"] = dict(measure.series)
    return evidence
