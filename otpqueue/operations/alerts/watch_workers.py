"""Detect silent workers and a silent beat. This runs in the API, because no job runs without them.

For the same reason it also delivers notifications while a process is silent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Engine

from otpqueue.domain.alerts import AlertRule, SubjectMeasure, is_bad
from otpqueue.domain.heartbeats import Heartbeat, ProcessKind
from otpqueue.operations.alerts.lifecycle import AlertStore, EvaluationResult, RuleMeasures
from otpqueue.operations.alerts.notify import NotifyAlerts
from otpqueue.store import heartbeats
from otpqueue.store.engine import connection

RULE = "workers_silent"
BEAT = "beat"


@dataclass(frozen=True, kw_only=True)
class EvaluateWorkers:
    """Evaluates `workers_silent` for beat, and for each queue that a worker must serve."""

    engine: Engine
    rules: Mapping[str, AlertRule]
    book: AlertStore
    queues: Sequence[str]
    notify: NotifyAlerts
    began: datetime
    """When this process began to evaluate."""
    worked: dict[str, datetime] = field(default_factory=dict)
    """When this process last saw a live process, by subject. Defaults to `began`."""

    def __call__(self, *, now: datetime) -> EvaluationResult:
        """Evaluate, and deliver notifications while a process is silent. Raises DatabaseUnavailable."""
        began, rule = time.monotonic(), self.rules[RULE]
        if self.book.is_soon(self.book.last(), now):
            return EvaluationResult(skipped=True)
        measures = [] if rule.off else self._measures(now)
        evaluated = self.book.enter(
            [] if rule.off else [RuleMeasures(rule=rule, measures=measures)],
            retired=[RULE] if rule.off else [],
            examples=lambda _conn, _rule, _measure: None,
            now=now,
            took_ms=round((time.monotonic() - began) * 1000),
        )
        if evaluated.closed or any(is_bad(rule, measure.value or 0) for measure in measures):
            self.notify(now=now)
        return evaluated

    def _measures(self, now: datetime) -> list[SubjectMeasure]:
        with connection(self.engine) as conn:
            signs = heartbeats.list_heartbeats(conn)
        workers = [one for one in signs if one.kind is ProcessKind.WORKER]
        return [
            self._measure(BEAT, [one for one in signs if one.kind is ProcessKind.BEAT], now),
            *(
                self._measure(f"queue {queue}", [one for one in workers if queue in one.queues], now)
                for queue in self.queues
            ),
        ]

    def _measure(self, subject: str, signs: Sequence[Heartbeat], now: datetime) -> SubjectMeasure:
        """Return how long there has been no live process. One that cannot reach the broker does not count."""
        for one in signs:
            worked_at = now - timedelta(seconds=one.idle_s)
            self.worked[subject] = max(worked_at, self.worked.get(subject, worked_at))
        silent_s = (now - self.worked.get(subject, self.began)).total_seconds()
        living = [one for one in signs if one.is_alive]
        return SubjectMeasure(
            subject=subject,
            value=max(silent_s, 0),
            sample=len(living),
            figures={"living": len(living), "cut_off": sum(not one.in_touch for one in living)},
        )
