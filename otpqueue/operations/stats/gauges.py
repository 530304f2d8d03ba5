"""What is read when metrics are asked for: the state of the whole service, as Postgres and Redis have it."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from redis.exceptions import RedisError
from sqlalchemy import Connection, Engine

from otpqueue.domain.alert_rules import RULES
from otpqueue.domain.caps import CapScope
from otpqueue.domain.circuit import CircuitState
from otpqueue.domain.heartbeats import Heartbeat, Liveness, ProcessKind, find_widest_skew_s, get_liveness
from otpqueue.domain.stats import HISTOGRAMS, RECENT_WINDOW, Metric, MetricTally
from otpqueue.jobs import QUEUES
from otpqueue.store import heartbeats, queue, stops
from otpqueue.store.alerts import records
from otpqueue.store.engine import connection
from otpqueue.store.stats import reports
from otpqueue.telemetry import metrics
from otpqueue.telemetry.logs import get_logger
from otpqueue.telemetry.metrics import Reading

log = get_logger(__name__)

T = TypeVar("T")

KEPT_S = 5.0
"""Readings are so old at most: several who ask cost as much as one."""

WAIT_S = 2.0
"""Who asks waits so long for Postgres, which may hang, and then hears that it is not up."""

PERCENTILES = (50, 95, 99)
_CURRENCY = re.compile(r"[A-Z]{3}")
_EVENTS = (
    *(Metric.REQUESTED, Metric.REFUSED, Metric.SENT, Metric.FAILED, Metric.DELIVERED, Metric.UNDELIVERED),
    *(Metric.VERIFIED, Metric.EXPIRED, Metric.LOCKED, Metric.CANCELLED),
)


class CachedReading(Generic[T]):
    """What a look at something has found, taken at most every `kept_s` seconds. Thread-safe.

    The look is taken in a thread, and not waited for longer than `wait_s`: there is one at a time, so one
    that hangs costs a thread and no more.
    """

    def __init__(self, look: Callable[[], T], *, kept_s: float, wait_s: float) -> None:
        self._look, self._kept_s, self._wait_s = look, kept_s, wait_s
        self._lock = threading.Lock()
        self._found: T | None = None
        self._found_at = -kept_s
        self._looking: threading.Thread | None = None

    def __call__(self) -> T | None:
        """Return what was found, None if that could not be found in time."""
        with self._lock:
            if time.monotonic() - self._found_at < self._kept_s:
                return self._found
            if self._looking is None:
                self._looking = threading.Thread(target=self._take, name="readings", daemon=True)
                self._looking.start()
            looking = self._looking
        looking.join(self._wait_s)
        with self._lock:
            return self._found if time.monotonic() - self._found_at < self._kept_s else None

    def _take(self) -> None:
        found = None
        try:
            found = self._look()
        except Exception as error:  # noqa: BLE001 - whoever watches must hear of everything else
            log.warning("readings_not_taken", error=type(error).__name__)
        finally:
            with self._lock:
                self._found, self._found_at, self._looking = found, time.monotonic(), None


@dataclass(frozen=True, kw_only=True)
class ReadGauges:
    """Takes readings. Never raises for what is down, nor waits for it."""

    from_database: CachedReading[Sequence[Reading]]
    circuit: Callable[[], CircuitState]
    """Raises RedisError."""

    def __call__(self) -> list[Reading]:
        """Return what can be read of everything that is shown."""
        readings = list(self._of_redis())
        found = self.from_database()
        return [*readings, (metrics.DATABASE_UP, {(): float(found is not None)}), *(found or ())]

    def _of_redis(self) -> Sequence[Reading]:
        try:
            now = self.circuit()
        except RedisError:
            return [(metrics.REDIS_UP, {(): 0.0})]
        states = {(state.value,): float(state is now) for state in CircuitState}
        return [(metrics.REDIS_UP, {(): 1.0}), (metrics.CIRCUIT, states)]


def of_database(engine: Engine, *, now: datetime) -> list[Reading]:
    """Return what Postgres says. Raises DatabaseUnavailable, and more where it was not migrated."""
    with connection(engine) as conn:
        found = [*_of_queue(conn, now), *_of_processes(conn), *_of_statistics(conn, now)]
        return [*found, _of_stops(conn), _of_alerts(conn)]


def _of_queue(conn: Connection, now: datetime) -> list[Reading]:
    depth = queue.read_depth(conn, now=now)
    age_s = (now - depth.due_since).total_seconds() if depth.due_since else 0.0
    by_state = {"due": depth.due, "later": depth.later, "claimed": depth.claimed}
    return [
        (metrics.QUEUE, {(state,): float(count) for state, count in by_state.items()}),
        (metrics.OLDEST_DUE, {(): max(age_s, 0.0)}),
    ]


def _of_processes(conn: Connection) -> list[Reading]:
    living = [one for one in heartbeats.list_heartbeats(conn) if one.is_alive]
    found = Counter((one.kind, get_liveness(one)) for one in living)
    lives = {
        (kind.value, life.name.lower()): float(found[kind, life])
        for kind in ProcessKind
        for life in (Liveness.RUNNING, Liveness.STARTING, Liveness.CUT_OFF)
    }
    workers = {(queue,): float(_workers_of(queue, living)) for queue in QUEUES}
    skew_s = find_widest_skew_s(living)
    return [
        (metrics.PROCESSES, lives),
        (metrics.QUEUE_WORKERS, workers),
        (metrics.CLOCK_SKEW, {} if skew_s is None else {(): skew_s}),
    ]


def _workers_of(queue: str, living: Sequence[Heartbeat]) -> int:
    return sum(one.kind is ProcessKind.WORKER and one.is_connected and queue in one.queues for one in living)


def _of_stops(conn: Connection) -> Reading:
    scopes = Counter(one.scope for one in stops.list_stops(conn))
    return metrics.STOPPED, {(scope.value,): float(scopes[scope]) for scope in CapScope}


def _of_alerts(conn: Connection) -> Reading:
    counts = records.count_open(conn)
    return metrics.ALERTS_OPEN, {(rule,): float(counts.get(rule, 0)) for rule in RULES}


def _of_statistics(conn: Connection, now: datetime) -> list[Reading]:
    since = reports.find_window_start(now, RECENT_WINDOW)
    tally = MetricTally(reports.read_sums(conn, since=since, until=now))
    waiting_since = reports.find_oldest_minute(conn)
    waiting_s = (now - waiting_since).total_seconds() if waiting_since else 0.0
    latencies = {
        (span.value, str(percentile)): ms / 1000
        for span in HISTOGRAMS
        for percentile in PERCENTILES
        if (ms := tally.compute_quantile_ms(span, percentile / 100)) is not None
    }
    failures = {(reason,): float(count) for reason, count in tally.count_by_label(Metric.FAILED).items()}
    shares = {
        "sent": tally.success_share,
        "delivered": tally.delivered_share,
        "verified": tally.verified_share,
        "wrong_codes": tally.wrong_share,
    }
    # The provider's own word: it is shown if it is one that there may be only so many of.
    cost = {(word,): float(spent) for word, spent in tally.cost.items() if _CURRENCY.fullmatch(word)}
    return [
        (metrics.RECENT, {(event.value,): float(tally.count(event)) for event in _EVENTS}),
        (metrics.RECENT_FAILURES, failures),
        (metrics.RECENT_RATIO, {(of,): share for of, share in shares.items() if share is not None}),
        (metrics.RECENT_COST, cost),
        (metrics.RECENT_LATENCY, latencies),
        (metrics.STATISTICS_AGE, {(): max(waiting_s, 0.0)}),
    ]
