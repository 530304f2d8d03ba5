"""Evaluate the alert rules once a minute: query the measurements of each rule, and store the result.

Measurements are read before the transaction that stores them. A rule that cannot be measured does not keep
the others from being evaluated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue.domain.alert_queries import (
    RULE_QUERIES,
    RuleQuery,
    measure_counts,
    measure_numbers,
    select_top_reasons,
)
from otpqueue.domain.alerts import (
    ALL,
    AlertRule,
    RuleVerdict,
    SubjectMeasure,
    judge_measure,
    sort_worst_first,
)
from otpqueue.domain.circuit import CircuitState
from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.provider_calls import CallFailure
from otpqueue.domain.stats import MetricTally
from otpqueue.operations.alerts.lifecycle import AlertStore, EvaluationResult, RuleMeasures
from otpqueue.store.alerts import facts, number_facts, records
from otpqueue.store.alerts.evaluations import Evaluation
from otpqueue.store.alerts.facts import DisabledEndpoint, QueueFacts, WaitingEvent
from otpqueue.store.engine import allow_time, connection, snapshot
from otpqueue.store.privacy import seal_counts
from otpqueue.store.vault import MOST_SEALS
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

ELSEWHERE = frozenset({"workers_silent"})
"""Rules that API processes evaluate, because this job does not run without workers."""

_HABIT_S = 30
"""Aggregating a week of a large deployment takes longer than the usual statement timeout."""

_OVERLAP = timedelta(minutes=3)
"""Events from shortly before the last evaluation may have been committed after it."""

_STALE = timedelta(minutes=3)
"""When events have waited this long to be rolled up, the roll-ups are too old to evaluate."""


@dataclass(frozen=True, kw_only=True)
class EvaluateAlerts:
    """Evaluates alert rules. Of two concurrent evaluations, one does nothing."""

    engine: Engine
    rules: Mapping[str, AlertRule]
    circuit: Callable[[], CircuitState]
    book: AlertStore
    seal_key_id: str
    """The id of the primary seal key."""

    def __call__(self, *, now: datetime) -> EvaluationResult:
        """Evaluate every enabled rule. Raises DatabaseUnavailable."""
        began, last = time.monotonic(), self.book.last()
        if self.book.is_soon(last, now):
            return EvaluationResult(skipped=True)
        here = [rule for name, rule in self.rules.items() if name not in ELSEWHERE]
        with connection(self.engine) as conn:
            waiting = facts.find_oldest_event(conn)
            unknown = [name for name in records.count_open(conn) if name not in self.rules]
        can_judge = _has_statistics(waiting, last, now)
        measured = [
            found
            for rule in here
            if not rule.off and (can_judge or rule.name not in RULE_QUERIES)
            for found in [self.measure_rule(rule, last.at if last else None, now)]
            if found
        ]
        return self.book.enter(
            measured,
            # A rule that this version does not have counts as disabled.
            retired=[*(rule.name for rule in here if rule.off), *unknown],
            examples=partial(_examples, now=now),
            now=now,
            took_ms=round((time.monotonic() - began) * 1000),
            waiting=waiting.id if waiting else None,
        )

    def measure_rule(self, rule: AlertRule, last: datetime | None, now: datetime) -> RuleMeasures | None:
        """Return the measurements of a rule; None if unavailable.

        `last` is the time of its last evaluation.
        """
        watch = RULE_QUERIES.get(rule.name)

        def measure(conn: Connection) -> list[SubjectMeasure]:
            if watch and watch.baseline:
                allow_time(conn, _HABIT_S)
            measures = self._measures(conn, rule, last, now)
            return _with_series(conn, rule, watch, measures, now) if watch else measures

        try:
            # One snapshot, so that value, sample, figures, reasons and the chart agree.
            return RuleMeasures(rule=rule, measures=snapshot(self.engine, measure))
        except DatabaseUnavailable as error:
            # One rule may exceed the timeout. If Postgres is down, the transaction that stores the result
            # raises.
            log.warning("alert_rule_not_evaluated", rule=rule.name, reason=error.code)
        except Exception:
            log.exception("alert_rule_failed", rule=rule.name)
        return None

    def _measures(
        self, conn: Connection, rule: AlertRule, last: datetime | None, now: datetime
    ) -> list[SubjectMeasure]:
        if rule.name in RULE_QUERIES:
            watch = RULE_QUERIES[rule.name]
            return measure_counts(rule, watch, facts.read_windows(conn, rule, watch, now=now))
        match rule.name:
            case "number_requests" | "number_wrong_codes":
                count = (
                    number_facts.count_requesting_numbers
                    if rule.name == "number_requests"
                    else number_facts.count_guessed_numbers
                )
                known = records.list_known_numbers(conn, rule.name)
                fresh = now - rule.window if last is None else min(last, now) - _OVERLAP
                return measure_numbers(count(conn, rule, known=known, fresh=fresh, now=now))
            case "queue_age":
                return [_of_queue(facts.read_queue(conn, now=now), now)]
            case "circuit_open":
                return [_of_circuit(self.circuit(), facts.count_failed_calls(conn, now=now))]
            case "webhook_disabled":
                return [_of_endpoint(one) for one in facts.list_disabled_endpoints(conn)]
            case "seal_key_worn":
                return [_of_seal_key(self.seal_key_id, seal_counts.read_counts(conn))]
        raise ValueError(f"{rule.name} is not evaluated here")


def _has_statistics(waiting: WaitingEvent | None, last: Evaluation | None, now: datetime) -> bool:
    """Return whether events are being rolled up: the oldest waiting one is recent, or differs from last time.

    A late event can be old at once: a price in a delivery report belongs to the minute of the send.
    """
    if waiting is None or now - waiting.at < _STALE or last is None or last.waiting != waiting.id:
        return True
    log.warning("alerts_without_statistics", waiting_s=round((now - waiting.at).total_seconds()))
    return False


def _of_queue(queue: QueueFacts, now: datetime) -> SubjectMeasure:
    waited = 0.0 if queue.oldest is None else max((now - queue.oldest).total_seconds(), 0)
    return SubjectMeasure(subject=ALL, value=waited, sample=queue.due, figures={"due": queue.due})


def _of_circuit(state: CircuitState, failures: Mapping[CallFailure, int]) -> SubjectMeasure:
    value = 0 if state is CircuitState.CLOSED else 1
    reasons = {failure.value: n for failure, n in failures.items()}
    return SubjectMeasure(
        subject=ALL,
        value=value,
        sample=1,
        figures={"circuit": state.value, "failed_calls_of_5_min": sum(reasons.values())},
        reasons=select_top_reasons(reasons),
    )


def _of_seal_key(key_id: str, seals: Mapping[str, int]) -> SubjectMeasure:
    # Only the primary key: a previous key seals nothing more.
    sealed = seals.get(key_id, 0)
    figures: dict[str, float | int | str] = {"key_id": key_id, "seals": sealed, "most_seals": MOST_SEALS}
    return SubjectMeasure(subject=ALL, value=sealed / MOST_SEALS, sample=sealed, figures=figures)


def _of_endpoint(one: DisabledEndpoint) -> SubjectMeasure:
    figures = {"reason": one.reason, "since": f"{one.disabled_at:%Y-%m-%d %H:%M:%S} UTC"}
    return SubjectMeasure(subject=one.client, value=1, sample=1, figures=figures)


def _with_series(
    conn: Connection, rule: AlertRule, watch: RuleQuery, measures: Sequence[SubjectMeasure], now: datetime
) -> list[SubjectMeasure]:
    """Return the measurements, with a chart of the window for those that may open an alert."""
    open_subjects = records.list_open_subjects(conn, rule.name)
    wanted = {
        one.subject
        for one in sort_worst_first(rule, measures)
        if judge_measure(rule, one, is_open=False) is RuleVerdict.BAD and one.subject not in open_subjects
    }
    shown = [
        replace(one, series=_series(conn, rule, watch, one.subject, now)) if one.subject in wanted else one
        for one in measures
    ]
    if rule.name == "provider_misconfigured" and wanted:
        # The roll-ups count only statuses. The error codes of the attempts name the rejections.
        reasons = facts.count_configuration_refusals(conn, rule, now=now)
        return [replace(one, reasons=reasons) for one in shown]
    return shown


def _series(
    conn: Connection, rule: AlertRule, watch: RuleQuery, subject: str, now: datetime
) -> dict[str, Any]:
    step, steps = facts.read_series(conn, rule, watch, subject, now=now)
    return {
        "unit": watch.chart_unit.value,
        "step_s": round(step.total_seconds()),
        "points": [_point(at, watch, tally) for at, tally in steps],
    }


def _examples(
    conn: Connection, rule: AlertRule, measure: SubjectMeasure, *, now: datetime
) -> list[str] | None:
    """Return the ids of some requests as evidence of an alert; None if they cannot be read.

    They are read when the alert opens, not with the measurement, so that an erased request is never named.
    """
    try:
        # An error here must not keep the alert from opening.
        with conn.begin_nested():
            found = _find_examples(conn, rule, measure, now)
            return None if found is None else [str(one) for one in found]
    except Exception:
        log.exception("alert_evidence_failed", rule=rule.name)
    return None


def _find_examples(
    conn: Connection, rule: AlertRule, measure: SubjectMeasure, now: datetime
) -> Sequence[UUID] | None:
    if measure.number_hash is not None:
        return number_facts.find_newest_of_number(conn, measure, since=now - rule.window)
    if rule.name == "queue_age":
        return facts.find_oldest_due(conn, now=now)
    watch = RULE_QUERIES.get(rule.name)
    return facts.find_examples(conn, rule, watch, measure.subject, now=now) if watch else None


def _point(at: datetime, watch: RuleQuery, tally: MetricTally) -> dict[str, Any]:
    value, sample = watch.chart(tally)
    shown = None if value is None else round(value, 4)
    return {"at": at.isoformat().replace("+00:00", "Z"), "value": shown, "sample": sample}
