"""Prometheus metrics: their definitions and the instruments.

One module because callers use both together: `metrics.count(metrics.CHECKS, ...)`.

Counters, histograms and some gauges belong to a process. Its events are collected, and added to the
instruments within a quarter of a second and before each scrape, because one write to an instrument costs as
much as noting many events. Processes of one server share a folder, and each of them reports for all. Readings
are queried during the scrape.

Label values are our own constants or those of a standard. They are never an id, a number or caller input.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    values,
)

from otpqueue.telemetry.metrics_folder import FOLDER, delete_dead


@dataclass(frozen=True, eq=False, kw_only=True)
class Family:
    """The definition of one metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    known: tuple[tuple[str, ...], ...] = ()
    """Label values that exist from the start with the value 0."""
    buckets: tuple[float, ...] = ()
    """Upper bounds in seconds, for a histogram."""


def _define_counter(name: str, help: str, *labels: str, known: Iterable[str] = ()) -> Family:  # noqa: A002 - its name
    return Family(
        name=name, kind="counter", help=help, labels=labels, known=tuple((value,) for value in known)
    )


def _define_gauge(name: str, help: str, *labels: str) -> Family:  # noqa: A002
    return Family(name=name, kind="gauge", help=help, labels=labels)


HTTP_REQUESTS = _define_counter(
    "otpqueue_http_requests_total", "Calls answered.", "method", "route", "status"
)
HTTP_DURATION = Family(
    name="otpqueue_http_request_duration_seconds",
    kind="histogram",
    help="Time to answer a call, from when it got a thread; with `wait` up to 30 s.",
    labels=("method", "route"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
HTTP_IN_FLIGHT = _define_gauge("otpqueue_http_requests_in_flight", "Calls in progress.")
ACCEPTED = _define_counter(
    "otpqueue_requests_accepted_total",
    "Requests accepted.",
    "channel",
    known=("sms", "voice"),
)
RESENDS = _define_counter("otpqueue_resends_accepted_total", "Resends accepted.")
REFUSALS = _define_counter(
    "otpqueue_refusals_total", "Requests and resends rejected by an admission rule.", "reason"
)
LIMITS_HIT = _define_counter("otpqueue_limits_hit_total", "Calls rejected by a rate limit.", "limit")
GUARD_DECISIONS = _define_counter(
    "otpqueue_guard_decisions_total",
    "Decisions of the pumping guard; in mode `shadow` a refused send is still sent.",
    "mode",
    "decision",
    "reason",
)
GUARD_UNCOUNTED = _define_counter(
    "otpqueue_guard_uncounted_total",
    "Sends that the pumping guard could not count; they were sent.",
)
CHECKS = _define_counter(
    "otpqueue_checks_total",
    "Checks of codes, by verdict.",
    "verdict",
    known=("correct", "wrong", "expired", "exhausted", "unjudged", "unknown"),
)
PAGES = _define_counter(
    "otpqueue_verification_pages_total",
    "Events of hosted verification pages.",
    "event",
    known=(
        *("created", "opened", "verified", "redeemed"),
        *("foreign", "not_available", "form_refused", "token_refused"),
    ),
)
DELIVERIES = _define_counter(
    "otpqueue_deliveries_total",
    "Requests updated by a delivery report.",
    "status",
    known=("delivered", "undelivered"),
)
WAKE_UPS = _define_counter(
    "otpqueue_wake_ups_total",
    "Wake-ups for a job: published, not needed, or failed.",
    "name",
    "result",
)
WAKE_UPS_TAKEN = _define_counter("otpqueue_wake_ups_taken_total", "Wake-ups received by a worker.", "name")
CLAIMED = _define_counter("otpqueue_pump_claimed_total", "Attempts claimed by a worker.")
IN_FLIGHT = _define_gauge("otpqueue_pump_in_flight", "Claimed attempts that have not ended.")
SENDERS = _define_gauge("otpqueue_pump_sender_threads", "Maximum number of concurrent attempts.")
ATTEMPTS = _define_counter(
    "otpqueue_send_attempts_total",
    "Ended attempts, by outcome and class of the provider's response.",
    "outcome",
    "answer",
)
PROVIDER_REQUESTS = _define_counter(
    "otpqueue_provider_requests_total", "Calls to the provider, by class of its response.", "call", "answer"
)
PROVIDER_DURATION = Family(
    name="otpqueue_provider_request_duration_seconds",
    kind="histogram",
    help="Duration of a call to the provider, with or without a response.",
    labels=("call",),
    buckets=(0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 15),
)
JOBS = _define_counter(
    "otpqueue_jobs_total",
    "Ended jobs: done, skipped because of an outage (`put_off`), or failed.",
    "name",
    "result",
)
JOB_DURATION = Family(
    name="otpqueue_job_duration_seconds",
    kind="histogram",
    help="Duration of a job; `send_codes` runs while codes are due, for up to about 10 s.",
    labels=("name",),
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300),
)
SWEPT = _define_counter(
    "otpqueue_swept_total",
    "Findings of `sweep`: expired leases, missed deadlines, and due codes without a worker.",
    "what",
    known=("leases", "unsent", "resends", "checks", "woke"),
)
WEBHOOKS = _define_counter(
    "otpqueue_webhook_deliveries_total",
    "Webhook deliveries to clients, by result.",
    "result",
    known=("delivered", "failed", "given_up", "given_back"),
)
NOTICES = _define_counter(
    "otpqueue_alert_notices_total",
    "Alert notifications, by result.",
    "channel",
    "result",
)
CIRCUIT_OPENED = _define_counter(
    "otpqueue_circuit_opened_total",
    "Times the circuit breaker opened, also after a failed probe.",
)
CONNECTIONS_IN_USE = _define_gauge("otpqueue_database_connections_in_use", "Postgres connections in use.")
CONNECTIONS_MOST = _define_gauge(
    "otpqueue_database_connections_max", "Maximum number of Postgres connections for calls and jobs."
)
DATABASE_FAILURES = _define_counter(
    "otpqueue_database_failures_total",
    "Times Postgres was unavailable, too slow, or no connection was free in time.",
    "reason",
    known=("pool_exhausted", "unavailable"),
)
OURS = (
    *(HTTP_REQUESTS, HTTP_DURATION, HTTP_IN_FLIGHT, ACCEPTED, RESENDS, REFUSALS, LIMITS_HIT),
    *(
        GUARD_DECISIONS,
        GUARD_UNCOUNTED,
        CHECKS,
        PAGES,
        DELIVERIES,
        WAKE_UPS,
        WAKE_UPS_TAKEN,
        CLAIMED,
        IN_FLIGHT,
        SENDERS,
        ATTEMPTS,
    ),
    *(PROVIDER_REQUESTS, PROVIDER_DURATION, JOBS, JOB_DURATION, SWEPT, WEBHOOKS, NOTICES, CIRCUIT_OPENED),
    *(CONNECTIONS_IN_USE, CONNECTIONS_MOST, DATABASE_FAILURES),
)
"""Metrics that processes update."""

BUILD = _define_gauge("otpqueue_build_info", "Always 1; the labels are the versions.", "version", "python")
DATABASE_UP = _define_gauge("otpqueue_database_up", "Whether Postgres answered during the scrape.")
REDIS_UP = _define_gauge("otpqueue_redis_up", "Whether Redis answered during the scrape.")
CIRCUIT = _define_gauge(
    "otpqueue_circuit_state", "1 for the current state of the circuit breaker, 0 for the others.", "state"
)
QUEUE = _define_gauge(
    "otpqueue_queue_requests",
    "Requests to be sent: due now, due later, or claimed by a worker. Counts stop at 100 000.",
    "state",
)
OLDEST_DUE = _define_gauge(
    "otpqueue_queue_oldest_due_age_seconds",
    "How long the oldest due request has been waiting; 0 if none is due.",
)
PROCESSES = _define_gauge(
    "otpqueue_processes",
    "Processes with a heartbeat: running, starting, or cut off from the broker.",
    "kind",
    "life",
)
QUEUE_WORKERS = _define_gauge(
    "otpqueue_queue_workers", "Workers that serve a queue and reach the broker.", "queue"
)
CLOCK_SKEW = _define_gauge(
    "otpqueue_clock_skew_seconds", "Largest difference of a host's clock from Postgres's; negative if behind."
)
STOPPED = _define_gauge(
    "otpqueue_sending_stopped",
    "Active stops of the kill switch, by scope.",
    "scope",
)
RECENT = _define_gauge(
    "otpqueue_recent_events", "Events of the last 15 minutes, counted in Postgres.", "event"
)
RECENT_FAILURES = _define_gauge(
    "otpqueue_recent_failures", "Requests that ended `failed` in the last 15 minutes.", "reason"
)
RECENT_RATIO = _define_gauge(
    "otpqueue_recent_ratio",
    "Ratios, 0 to 1, of the last 15 minutes; absent without events.",
    "of",
)
RECENT_COST = _define_gauge("otpqueue_recent_cost", "Cost reported in the last 15 minutes.", "currency")
RECENT_LATENCY = _define_gauge(
    "otpqueue_recent_latency_seconds",
    "Percentiles of the last 15 minutes; absent without events.",
    "span",
    "percentile",
)
ALERTS_OPEN = _define_gauge("otpqueue_alerts_open", "Open alerts of otpqueue, by rule.", "rule")
STATISTICS_AGE = _define_gauge(
    "otpqueue_statistics_age_seconds",
    "How long the oldest event has been waiting for `roll_up`; 0 if none is waiting.",
)
READ = (
    *(
        BUILD,
        DATABASE_UP,
        REDIS_UP,
        CIRCUIT,
        QUEUE,
        OLDEST_DUE,
        PROCESSES,
        QUEUE_WORKERS,
        CLOCK_SKEW,
        STOPPED,
    ),
    *(RECENT, RECENT_FAILURES, RECENT_RATIO, RECENT_COST, RECENT_LATENCY, STATISTICS_AGE, ALERTS_OPEN),
)
"""Metrics that are queried during a scrape. All but `BUILD` are reported by the API only."""

Reading = tuple[Family, Mapping[Any, float]]
"""A metric and its values by label values."""

Instrument = Counter | Gauge | Histogram

disable_created_metrics()  # type: ignore[no-untyped-call]


class _Instruments:
    """The library's instruments of this process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._parents = {family: self._make_instrument(family) for family in OURS}
        self.children: dict[tuple[Family, tuple[str, ...]], Instrument] = {}
        for family in OURS:
            for labels in family.known if family.labels else ((),):
                self.get_child(family, labels)

    def _make_instrument(self, family: Family) -> Instrument:
        if family.kind == "counter":
            return Counter(family.name, family.help, family.labels, registry=self.registry)
        if family.kind == "gauge":
            return Gauge(
                family.name, family.help, family.labels, registry=self.registry, multiprocess_mode="livesum"
            )
        return Histogram(
            family.name, family.help, family.labels, registry=self.registry, buckets=family.buckets
        )

    def get_child(self, family: Family, labels: tuple[str, ...]) -> Instrument:
        """Return the instrument for these label values."""
        found = self.children.get((family, labels))
        if found is None:
            parent = self._parents[family]
            found = self.children[family, labels] = parent.labels(*labels) if labels else parent
        return found


_instruments = _Instruments()


def get_registry() -> CollectorRegistry:
    """Return the registry of this process's instruments, with all events until now."""
    flush_events()
    return _instruments.registry


FLUSH_S = 0.25
"""How long an event waits at most until other processes can see it. A process that is killed loses those."""

_changes: deque[tuple[Family, tuple[str, ...], float]] = deque()
"""Changes of counters and gauges, and durations, oldest first."""
_flushing = threading.Lock()
_has_events = threading.Event()
_is_flush_due = False
_flusher: threading.Thread | None = None


def count(family: Family, *labels: str, by: float = 1) -> None:
    """Increase a counter."""
    _note_event(family, labels, by)


def change_gauge(family: Family, by: float, *labels: str) -> None:
    """Increase a gauge by `by`, which may be negative."""
    _note_event(family, labels, by)


def observe(family: Family, seconds: float, *labels: str) -> None:
    """Record a duration in a histogram."""
    _note_event(family, labels, seconds)


def _note_event(family: Family, labels: tuple[str, ...], value: float) -> None:
    global _is_flush_due  # noqa: PLW0603 - read without a call for each event
    _changes.append((family, labels, value))
    if not _is_flush_due:
        _is_flush_due = True
        _has_events.set()
        if _flusher is None:
            _start_flusher()


def set_gauge(family: Family, value: float, *labels: str) -> None:
    """Set a gauge."""
    with _flushing:
        _add_changes()
        child = _instruments.get_child(family, labels)
        assert isinstance(child, Gauge)  # noqa: S101 - for mypy
        child.set(value)


def flush_events() -> None:
    """Add all events until now to the instruments."""
    global _is_flush_due  # noqa: PLW0603 - as above
    with _flushing:
        # Cleared first: an event that comes meanwhile sets it again.
        _has_events.clear()
        _is_flush_due = False
        _add_changes()


def _add_changes() -> None:
    sums: dict[tuple[Family, tuple[str, ...]], float] = {}
    for _ in range(len(_changes)):
        family, labels, value = _changes.popleft()
        if family.kind == "histogram":
            child = _instruments.get_child(family, labels)
            assert isinstance(child, Histogram)  # noqa: S101 - for mypy
            child.observe(value)
        else:
            sums[family, labels] = sums.get((family, labels), 0) + value
    for (family, labels), by in sums.items():
        child = _instruments.get_child(family, labels)
        assert isinstance(child, Counter | Gauge)  # noqa: S101 - for mypy
        child.inc(by)


def _start_flusher() -> None:
    global _flusher  # noqa: PLW0603 - one thread of each process
    with _flushing:
        if _flusher is None:
            _flusher = threading.Thread(target=_flush_often, name="metrics", daemon=True)
            _flusher.start()


def _flush_often() -> None:
    while True:
        _has_events.wait()
        time.sleep(FLUSH_S)
        flush_events()


def _forget_flusher() -> None:
    # A forked child has no threads, and its parent keeps its events.
    global _flusher, _flushing, _is_flush_due
    _flusher, _flushing, _is_flush_due = None, threading.Lock(), False
    _changes.clear()
    _has_events.clear()


os.register_at_fork(after_in_child=_forget_flusher)
atexit.register(flush_events)


def classify_status(status: int | None) -> str:
    """Return the class of an HTTP status such as `2xx`; `429` is its own class, `none` means no response."""
    if status is None:
        return "none"
    return "429" if status == 429 else f"{status // 100}xx" if 100 <= status <= 599 else "other"


def share_metrics() -> None:
    """Share the metrics of all processes that use the folder in `FOLDER`. Without that variable, do nothing.

    Call it in a new process before anything is counted. It removes the gauges of dead processes, and all but
    the last `DEAD_KEPT` of their counts.
    """
    global _instruments  # noqa: PLW0603 - set once, when the process starts
    folder = os.environ.get(FOLDER)
    if not folder:
        return
    # The library reads the variable at import, and the process that forks us had no folder then.
    flush_events()
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
    delete_dead(Path(folder))
    _instruments = _Instruments()
