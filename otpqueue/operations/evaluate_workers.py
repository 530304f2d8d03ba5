"""Notice that a worker or beat is silent. It runs in the API: where all of them are, no job would.

So it delivers its notices itself, too, for as long as something is silent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection, Engine

from otpqueue.domain.alerts import Measure, Rule, breaks
from otpqueue.operations.alert_book import AlertBook, Evaluated, Looked
from otpqueue.operations.notify_alerts import NotifyAlerts
from otpqueue.store.engine import connection

RULE = "workers_silent"
BEAT = "beat"


class Heartbeat(Protocol):
    """The newest sign of life of a process."""

    @property
    def kind(self) -> str:
        """What it is: `worker`, `beat`, `api`."""

    @property
    def queues(self) -> Sequence[str]:
        """Which queues it serves, if it is a worker."""

    @property
    def age_s(self) -> float:
        """How long ago that was, by Postgres's clock."""


@dataclass(frozen=True, kw_only=True)
class EvaluateWorkers:
    """Evaluates `workers_silent`: for beat, and for each queue that some worker must serve."""

    engine: Engine
    rules: Mapping[str, Rule]
    book: AlertBook
    heartbeats: Callable[[Connection], Sequence[Heartbeat]]
    queues: Sequence[str]
    notify: NotifyAlerts
    began: datetime
    """When this process began to watch: what has shown no sign of life at all has been silent since then."""

    def __call__(self, *, now: datetime) -> Evaluated:
        """Evaluate, and deliver notices while something is silent. Raises DatabaseUnavailable."""
        began, rule = time.monotonic(), self.rules[RULE]
        if self.book.is_soon(self.book.last(), now):
            return Evaluated(skipped=True)
        measures = [] if rule.off else self._measures(now)
        evaluated = self.book.enter(
            [] if rule.off else [Looked(rule=rule, measures=measures)],
            retired=[RULE] if rule.off else [],
            gather=lambda _conn, _rule, measure: {"figures": dict(measure.figures)},
            now=now,
            took_ms=round((time.monotonic() - began) * 1000),
        )
        is_silent = any(breaks(rule, measure.value or 0) for measure in measures)
        if is_silent or evaluated.closed:
            self.notify(now=now)
        return evaluated

    def _measures(self, now: datetime) -> list[Measure]:
        with connection(self.engine) as conn:
            living = self.heartbeats(conn)
        since_began_s = max((now - self.began).total_seconds(), 0)

        def measure(subject: str, ages: Sequence[float]) -> Measure:
            figures = {"processes": len(ages)}
            return Measure(
                subject=subject, value=min(ages, default=since_began_s), sample=len(ages), figures=figures
            )

        return [
            measure(BEAT, [one.age_s for one in living if one.kind == "beat"]),
            *(
                measure(
                    f"queue {queue}",
                    [one.age_s for one in living if one.kind == "worker" and queue in one.queues],
                )
                for queue in self.queues
            ),
        ]
