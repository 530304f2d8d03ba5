"""Tell an operator what happens now, and how that was an hour or a day ago."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from sqlalchemy import Engine

from otpqueue.domain.stats import Metric, Point, Tally
from otpqueue.operations.health import CheckHealth, Healthy
from otpqueue.operations.stop_sending import SendingStatus, SendingSwitch
from otpqueue.store import queue, stat_reports
from otpqueue.store.engine import connection
from otpqueue.store.queue import Depth

RECENT = timedelta(minutes=10)
"""What counts as now: whole minutes, without the running one."""

AN_HOUR = timedelta(hours=1)

_CHARTED = (
    *(Metric.REQUESTED, Metric.REFUSED, Metric.SENT, Metric.FAILED, Metric.EXPIRED, Metric.DELIVERED),
    *(Metric.CHECKS, Metric.VERIFIED, Metric.ACCEPT_TO_SENT, Metric.SENT_TO_DELIVERED),
)
_COMPARED = (*_CHARTED, Metric.UNDELIVERED)


class Span(Enum):
    """How far back charts look, and in which steps."""

    HOUR = ("1h", timedelta(minutes=60), timedelta(minutes=1))
    DAY = ("24h", timedelta(hours=24), timedelta(hours=1))

    def __init__(self, word: str, length: timedelta, step: timedelta) -> None:
        self.word, self.length, self.step = word, length, step

    def times(self, now: datetime) -> tuple[datetime, ...]:
        """Return the beginnings of its steps; the last step is the running one."""
        running = now.replace(second=0, microsecond=0)
        if self.step >= AN_HOUR:
            running = running.replace(minute=0)
        count = self.length // self.step
        return tuple(running - self.step * back for back in range(count - 1, -1, -1))


@dataclass(frozen=True, kw_only=True)
class Overview:
    """How everything stands."""

    healthy: Healthy
    queue: Depth
    sending: SendingStatus
    recent: Tally
    before: Tally
    """The same minutes an hour ago."""
    points: tuple[Point, ...]
    """What happened in the span's steps."""
    counted_until: datetime | None
    """What happened in this minute is not all in the figures yet; None if all is."""
    at: datetime

    @property
    def waited_s(self) -> float | None:
        """For how long the oldest has waited to be sent; None where none waits."""
        since = self.queue.due_since
        return None if since is None else max(0.0, (self.at - since).total_seconds())


@dataclass(frozen=True, kw_only=True)
class TellOverview:
    """Tells how everything stands."""

    engine: Engine
    switch: SendingSwitch
    health: CheckHealth

    def __call__(self, span: Span, *, now: datetime) -> Overview:
        """Return how everything stands. Raises DatabaseUnavailable."""
        minute = now.replace(second=0, microsecond=0)
        times = span.times(now)
        with connection(self.engine) as conn:
            recent, before = (
                Tally(stat_reports.sums(conn, since=until - RECENT, until=until, metrics=_COMPARED))
                for until in (minute, minute - AN_HOUR)
            )
            points = stat_reports.series(
                conn, since=times[0], until=times[-1] + span.step, step=span.step, metrics=_CHARTED
            )
            depth = queue.depth(conn, now=now)
            counted_until = stat_reports.waiting_since(conn)
        return Overview(
            healthy=self.health(now=now),
            queue=depth,
            sending=self.switch.status(now=now),
            recent=recent,
            before=before,
            points=tuple(points),
            counted_until=counted_until,
            at=now,
        )
