"""Breakdown by country or client: sends, rates, costs, and what restricts sending."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Engine

from otpqueue.domain.guard import GuardMode
from otpqueue.domain.stats import Dimension, Metric, MetricSum, MetricTally
from otpqueue.operations.admission.stop_sending import SendingStatus, SendingSwitch
from otpqueue.store.engine import connection
from otpqueue.store.guard import reports
from otpqueue.store.stats import reports as stat_reports

_METRICS = (
    *(Metric.REQUESTED, Metric.REFUSED, Metric.SENT, Metric.FAILED, Metric.EXPIRED, Metric.DELIVERED),
    *(Metric.UNDELIVERED, Metric.VERIFIED, Metric.CHECKS, Metric.COST),
)


@dataclass(frozen=True, kw_only=True)
class BreakdownRow:
    """A country or a client."""

    name: str
    tally: MetricTally
    guard_refused: int
    """Attempts that the pumping guard rejected, or would have rejected in shadow mode."""
    let_through_until: datetime | None
    """The end of its exception from the guard."""
    stopped: bool
    taken: int | None
    """How many codes of today (UTC) count against its cap; None if none."""
    cap: int | None

    @property
    def cost(self) -> Mapping[str, Decimal]:
        """The cost in delivery reports, by currency."""
        return self.tally.cost

    @property
    def spent(self) -> Decimal:
        """The cost as one number, to sort by. An account pays in one currency."""
        return sum(self.tally.cost.values(), Decimal(0))


@dataclass(frozen=True, kw_only=True)
class ReadBreakdown:
    """Reads the breakdown."""

    engine: Engine
    switch: SendingSwitch
    guard: GuardMode

    def __call__(self, by: Dimension, *, lasting: timedelta, now: datetime) -> list[BreakdownRow]:
        """Return every group with any count in the period before `now`.

        Raises DatabaseUnavailable.
        """
        since, until = stat_reports.find_window_start(now, lasting), now
        with connection(self.engine) as conn:
            sums = stat_reports.read_sums(conn, since=since, until=until, by=(by,), metrics=_METRICS)
            refused: dict[str, int] = {}
            excepted: dict[str, datetime] = {}
            if by is Dimension.COUNTRY:
                refused = reports.count_refused_by_country(conn, since=since)
                excepted = {one.subject: one.until for one in reports.list_exceptions(conn, now=now)}
        return _grouped(by, sums, refused, excepted, self.switch.status(now=now))


def _grouped(
    by: Dimension,
    sums: list[MetricSum],
    refused: Mapping[str, int],
    excepted: Mapping[str, datetime],
    sending: SendingStatus,
) -> list[BreakdownRow]:
    of_each: dict[str, list[MetricSum]] = defaultdict(list)
    for one in sums:
        of_each[one.key[0]].append(one)
    stopped = {stop.what for stop in sending.stops}
    lines = {line.what: line for line in sending.lines}
    return [
        BreakdownRow(
            name=name,
            tally=MetricTally(of_each.get(name, ())),
            guard_refused=refused.get(name, 0),
            let_through_until=excepted.get(name),
            stopped=f"{by.value} {name}" in stopped,
            taken=line.taken if line else None,
            cap=line.cap if line else None,
        )
        for name in sorted({*of_each, *refused})
        for line in [lines.get(f"{by.value} {name}")]
    ]
