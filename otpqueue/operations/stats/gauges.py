"""Gauges that are read at each scrape of the metrics: the state of the service in Postgres and Redis."""

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
"""How long readings are cached, so that several scrapers cost as much as one."""

WAIT_S = 2.0
"""How long a scrape waits for Postgres before it reports it as down."""

PERCENTILES = (50, 95, 99)
_CURRENCY = re.compile(r"[A-Z]{3}")
_EVENTS = (
    *(Metric.REQUESTED, Metric.REFUSED, Metric.SENT, Metric.FAILED, Metric.DELIVERED, Metric.UNDELIVERED),
    *(Metric.VERIFIED, Metric.EXPIRED, Metric.LOCKED, Metric.CANCELLED),
)


class CachedReading(Generic[T]):
    """The result of `read`, cached for `kept_s` seconds. Thread-safe.

    `read` runs in a thread, one at a time, and a call waits for it for up to `wait_s`. One that hangs thus
    occupies only one thread.
    """

    def __init__(self, read: Callable[[], T], *, kept_s: float, wait_s: float) -> None:
        self._read, self._kept_s, self._wait_s = read, kept_s, wait_s
        self._lock = threading.Lock()
        self._result: T | None = None
        self._read_at = -kept_s
        self._reading: threading.Thread | None = None

    def get(self) -> T | None:
        """Return the result, None if it is not available in time."""
        with self._lock:
            if time.monotonic() - self._read_at < self._kept_s:
                return self._result
            if self._reading is None:
                self._reading = threading.Thread(target=self._refresh, name="readings", daemon=True)
                self._reading.start()
            reading = self._reading
        reading.join(self._wait_s)
        with self._lock:
            return self._result if time.monotonic() - self._read_at < self._kept_s else None

    def _refresh(self) -> None:
        result = None
        try:
            result = self._read()
        except Exception as error:  # noqa: BLE001 - the other metrics must still be exported
            log.warning("readings_not_taken", error=type(error).__name__)
        finally:
            with self._lock:
                self._result, self._read_at, self._reading = result, time.monotonic(), None


@dataclass(frozen=True, kw_only=True)
class ReadGauges:
    """Reads gauges. Never raises for a part that is down, and does not wait for it."""

    from_database: CachedReading[Sequence[Reading]]
    circuit: Callable[[], CircuitState]
    """Raises RedisError."""

    def __call__(self) -> list[Reading]:
        """Return all readings that are available."""
        readings = list(self._of_redis())
        result = self.from_database.get()
        return [*readings, (metrics.DATABASE_UP, {(): float(result is not None)}), *(result or ())]

    def _of_redis(self) -> Sequence[Reading]:
        try:
            now = self.circuit()
        except RedisError:
            return [(metrics.REDIS_UP, {(): 0.0})]
        states = {(state.value,): float(state is now) for state in CircuitState}
        return [(metrics.REDIS_UP, {(): 1.0}), (metrics.CIRCUIT, states)]


def of_database(engine: Engine, *, now: datetime) -> list[Reading]:
    """Return the readings of Postgres. Raises DatabaseUnavailable, and other errors if it is not migrated."""
    with connection(engine) as conn:
        result = [*_of_queue(conn, now), *_of_processes(conn), *_of_statistics(conn, now)]
        return [*result, _of_stops(conn), _of_alerts(conn)]


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
    result = Counter((one.kind, get_liveness(one)) for one in living)
    lives = {
        (kind.value, life.name.lower()): float(result[kind, life])
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
    # The provider chose this text, so it is exported only if it is one of a bounded set.
    cost = {(word,): float(spent) for word, spent in tally.cost.items() if _CURRENCY.fullmatch(word)}
    return [
        (metrics.RECENT, {(event.value,): float(tally.count(event)) for event in _EVENTS}),
        (metrics.RECENT_FAILURES, failures),
        (metrics.RECENT_RATIO, {(of,): share for of, share in shares.items() if share is not None}),
        (metrics.RECENT_COST, cost),
        (metrics.RECENT_LATENCY, latencies),
        (metrics.STATISTICS_AGE, {(): max(waiting_s, 0.0)}),
    ]
