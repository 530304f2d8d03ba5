"""Statistics of a window: counts by dimension, and the rates derived from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.domain.stats import Dimension, Metric, MetricSum, MetricTally
from otpqueue.store import clients
from otpqueue.store.engine import allow_time, transaction
from otpqueue.store.stats import reports
from otpqueue.store.stats.reports import BY_MINUTE_UP_TO, HOUR, MINUTE

_PATIENCE_S = 20
"""A month of a busy deployment takes a second or two to read."""


@dataclass(frozen=True, kw_only=True)
class StatisticsGroup:
    """The counts of one group."""

    key: tuple[str, ...]
    """Its values of the requested dimensions."""
    tally: MetricTally


@dataclass(frozen=True, kw_only=True)
class StatisticsReport:
    """The counts of a window."""

    since: datetime
    until: datetime
    """The end of the running step, which is in the future."""
    step: timedelta
    by: tuple[Dimension, ...]
    groups: tuple[StatisticsGroup, ...]
    """The groups with the most requests first, a bounded number; empty if no dimension was requested."""
    left_out: int
    """How many groups were left out."""
    all: MetricTally
    waiting_since: datetime | None
    """The minute of the oldest event that is not rolled up yet; None if there is none."""


@dataclass(frozen=True, kw_only=True)
class ReadStatistics:
    """Reads statistics."""

    engine: Engine
    kept: timedelta
    """The retention of statistics."""
    groups_at_most: int = 1000

    def __call__(
        self,
        *,
        window: timedelta,
        by: Sequence[Dimension] = (),
        client: str | None = None,
        country: str | None = None,
        now: datetime,
    ) -> StatisticsReport:
        """Return the counts of the whole steps of a window and of the running step after them.

        Steps are minutes in a window of up to six hours, hours in a longer one. Raises InvalidRequest for a
        window longer than the retention and for an unknown client, DatabaseUnavailable.
        """
        if not MINUTE <= window <= self.kept:
            raise InvalidRequest([FieldError("window", f"must be 1m to {self.kept.days}d")])
        step = MINUTE if window <= BY_MINUTE_UP_TO else HOUR
        until = reports.floor_to_step(now, step) + step
        since = reports.find_window_start(now, window)

        def read(conn: Connection) -> tuple[list[MetricSum], datetime | None]:
            allow_time(conn, _PATIENCE_S)
            reports.raise_memory(conn)
            if client is not None and clients.find_client(conn, client) is None:
                # Zero counts would suggest that the client has no requests.
                raise InvalidRequest([FieldError("client", "does not exist", missing=True)])
            sums = reports.read_sums(conn, since=since, until=until, by=by, client=client, country=country)
            return sums, reports.find_oldest_minute(conn)

        sums, waiting_since = transaction(self.engine, read)
        groups = _groups(sums) if by else []
        return StatisticsReport(
            since=since,
            until=until,
            step=step,
            by=tuple(by),
            groups=tuple(groups[: self.groups_at_most]),
            left_out=max(len(groups) - self.groups_at_most, 0),
            all=MetricTally(sums),
            waiting_since=waiting_since,
        )


def _groups(sums: Sequence[MetricSum]) -> list[StatisticsGroup]:
    by_key: dict[tuple[str, ...], list[MetricSum]] = defaultdict(list)
    for one in sums:
        by_key[one.key].append(one)
    groups = [StatisticsGroup(key=key, tally=MetricTally(ones)) for key, ones in by_key.items()]
    return sorted(groups, key=lambda group: (-group.tally.count(Metric.REQUESTED), group.key))
