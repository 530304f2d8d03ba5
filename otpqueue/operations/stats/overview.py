"""The data of the console's dashboard: the current state, the last 15 minutes, and the same an hour ago."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from sqlalchemy import Connection, Engine

from otpqueue.domain.alerts import AlertRule
from otpqueue.domain.stats import RECENT_WINDOW, Metric, MetricPoint, MetricTally
from otpqueue.operations.admission.stop_sending import SendingStatus, SendingSwitch
from otpqueue.operations.health import CheckHealth, HealthStatus
from otpqueue.store import queue
from otpqueue.store.engine import connection
from otpqueue.store.queue import QueueDepth
from otpqueue.store.stats import reports

AN_HOUR = timedelta(hours=1)

_CHARTED = (
    *(Metric.REQUESTED, Metric.REFUSED, Metric.SENT, Metric.FAILED, Metric.EXPIRED, Metric.DELIVERED),
    *(Metric.CHECKS, Metric.VERIFIED, Metric.ACCEPT_TO_SENT, Metric.SENT_TO_DELIVERED),
)
_COMPARED = (*_CHARTED, Metric.UNDELIVERED)


COMPARED_RULES = ("success_rate", "delivery_rate", "check_failures")
"""Alert rules with values on the dashboard, each over its own window.
Another window would give a value that contradicts an open alert.
"""


class ChartSpan(Enum):
    """The length and the steps of the dashboard's charts."""

    HOUR = ("1h", timedelta(minutes=60), timedelta(minutes=1))
    DAY = ("24h", timedelta(hours=24), timedelta(hours=1))

    def __init__(self, word: str, length: timedelta, step: timedelta) -> None:
        self.word, self.length, self.step = word, length, step

    def times(self, now: datetime) -> tuple[datetime, ...]:
        """Return the start of each step. The last step is still running."""
        running = now.replace(second=0, microsecond=0)
        if self.step >= AN_HOUR:
            running = running.replace(minute=0)
        count = self.length // self.step
        return tuple(running - self.step * back for back in range(count - 1, -1, -1))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Counts of a window that ends now, and of the same window an hour ago."""

    window: timedelta
    now: MetricTally
    minutes: float
    """The length of the window with its running minute."""
    before: MetricTally
    minutes_before: float


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The state of the service at one moment."""

    healthy: HealthStatus
    queue: QueueDepth
    sending: SendingStatus
    recent: Comparison
    """Of RECENT_WINDOW."""
    of_rules: Mapping[str, Comparison]
    """Of the windows of the alert rules in `COMPARED_RULES`, by rule."""
    points: tuple[MetricPoint, ...]
    """The counts of each step of the span."""
    counted_until: datetime | None
    """Events since this minute are not all rolled up yet; None if they are."""
    at: datetime

    @property
    def waited_s(self) -> float | None:
        """How long the oldest due request has waited to be sent, in seconds; None if none is due."""
        since = self.queue.due_since
        return None if since is None else max(0.0, (self.at - since).total_seconds())


@dataclass(frozen=True, kw_only=True)
class ReadOverview:
    """Reads the overview."""

    engine: Engine
    switch: SendingSwitch
    health: CheckHealth
    rules: Mapping[str, AlertRule]

    def __call__(self, span: ChartSpan, *, now: datetime) -> Overview:
        """Return the overview. Raises DatabaseUnavailable."""
        times = span.times(now)
        windows = {rule: self.rules[rule].window for rule in COMPARED_RULES}
        with connection(self.engine) as conn:
            compared = {window: _compare(conn, window, now) for window in {RECENT_WINDOW, *windows.values()}}
            points = reports.read_series(
                conn, since=times[0], until=times[-1] + span.step, step=span.step, metrics=_CHARTED
            )
            depth = queue.read_depth(conn, now=now)
            counted_until = reports.find_oldest_minute(conn)
        return Overview(
            healthy=self.health(now=now),
            queue=depth,
            sending=self.switch.status(now=now),
            recent=compared[RECENT_WINDOW],
            of_rules={rule: compared[window] for rule, window in windows.items()},
            points=tuple(points),
            counted_until=counted_until,
            at=now,
        )


def _compare(conn: Connection, window: timedelta, now: datetime) -> Comparison:
    since = reports.find_window_start(now, window)
    # Without the running minute, because an hour ago that minute was counted whole.
    until_before = now.replace(second=0, microsecond=0) - AN_HOUR
    tally, before = (
        MetricTally(reports.read_sums(conn, since=begin, until=end, metrics=_COMPARED))
        for begin, end in ((since, now), (since - AN_HOUR, until_before))
    )
    return Comparison(
        window=window,
        now=tally,
        minutes=(now - since) / timedelta(minutes=1),
        before=before,
        minutes_before=(until_before - (since - AN_HOUR)) / timedelta(minutes=1),
    )
