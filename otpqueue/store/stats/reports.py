"""Statistics: sums of a window, and time series. Only roll-ups are read.

A step (minute, hour) belongs to a window if it begins in it. The row of an hour is the sum of its minutes, so
a window of minutes is read as its whole hours, if any, and the remaining minutes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    String,
    Subquery,
    Table,
    cast,
    func,
    or_,
    select,
    text,
    union_all,
)

from otpqueue.domain.stats import Dimension, Metric, MetricPoint, MetricSum
from otpqueue.store.schema import clients, stat_events, stats_hours, stats_minutes

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
BY_MINUTE_UP_TO = timedelta(hours=6)
"""Longer windows are rounded to the hour."""


def find_window_start(now: datetime, window: timedelta) -> datetime:
    """Return where a window that ends now begins: its whole steps before the current one.

    Every display of the last N minutes or hours uses this function, so that all show the same figure.
    """
    step = MINUTE if window <= BY_MINUTE_UP_TO else HOUR
    return floor_to_step(now, step) - -(-window // step) * step


def floor_to_step(moment: datetime, step: timedelta) -> datetime:
    """Return the beginning of the minute or hour, whichever `step` is, that contains a moment."""
    return moment.replace(minute=0 if step == HOUR else moment.minute, second=0, microsecond=0)


def read_sums(
    conn: Connection,
    *,
    since: datetime,
    until: datetime,
    by: Sequence[Dimension] = (),
    metrics: Collection[Metric] | None = None,
    client: str | None = None,
    country: str | None = None,
) -> list[MetricSum]:
    """Return the counts of the steps that begin in a window, grouped by the given dimensions.

    Steps are minutes in a window of up to six hours, hours in a longer one. `client` is a name.
    """
    parts = _parts(since, until) if until - since <= BY_MINUTE_UP_TO else [(stats_hours, since, until)]
    counted = _counted(parts, by=by, metrics=metrics, client=client, country=country)
    return [
        MetricSum(key=tuple(key), metric=Metric(metric), label=label, n=n, total=total)
        for metric, label, n, total, *key in conn.execute(_named(counted, by)).all()
    ]


def read_series(
    conn: Connection,
    *,
    since: datetime,
    until: datetime,
    step: timedelta,
    by: Sequence[Dimension] = (),
    metrics: Collection[Metric] | None = None,
    client: str | None = None,
    country: str | None = None,
) -> list[MetricPoint]:
    """Return the counts of each step of a window, oldest first. An empty step has no points.

    `step` is whole minutes, or whole hours. The first step begins with the minute, or hour, of `since`.
    Raises ValueError for any other step.
    """
    whole = HOUR if step % HOUR == timedelta() else MINUTE
    if step <= timedelta() or step % whole:
        raise ValueError("a step is whole minutes or hours")
    origin = since.replace(minute=0 if whole == HOUR else since.minute, second=0, microsecond=0)
    table = stats_hours if whole == HOUR else stats_minutes
    counted = _counted(
        [(table, origin, until)], by=by, metrics=metrics, client=client, country=country, step=(step, origin)
    )
    return [
        MetricPoint(at=at, key=tuple(key), metric=Metric(metric), label=label, n=n, total=total)
        for at, metric, label, n, total, *key in conn.execute(_named(counted, by, counted.c.step)).all()
    ]


def raise_memory(conn: Connection) -> None:
    """Raise this transaction's memory for sums: grouped by two dimensions they are many."""
    conn.execute(text("SELECT set_config('work_mem', '32MB', true)"))


def find_oldest_minute(conn: Connection) -> datetime | None:
    """Return the minute of the oldest event that is not added up yet, None if there is none.

    The oldest is the one that was written first; an event with an earlier minute may follow it.
    """
    return conn.execute(select(stat_events.c.at).order_by(stat_events.c.id).limit(1)).scalar_one_or_none()


Part = tuple[Table, datetime, datetime]


def _parts(since: datetime, until: datetime) -> list[Part]:
    """Return which table to read for which part of the window."""
    first = since.replace(minute=0, second=0, microsecond=0)
    first = first if first == since else first + HOUR
    last = until.replace(minute=0, second=0, microsecond=0)
    if first >= last:
        return [(stats_minutes, since, until)]
    edges: list[Part] = [(stats_minutes, since, first), (stats_minutes, last, until)]
    return [(stats_hours, first, last), *(edge for edge in edges if edge[1] < edge[2])]


def _counted(
    parts: Sequence[Part],
    *,
    by: Sequence[Dimension],
    metrics: Collection[Metric] | None,
    client: str | None,
    country: str | None,
    step: tuple[timedelta, datetime] | None = None,
) -> Subquery:
    """Return the sums of the parts, with clients by id."""

    def of(part: Part) -> Select[Any]:
        table, since, until = part
        conditions: list[ColumnElement[bool]] = [table.c.at >= since, table.c.at < until]
        if metrics is not None:
            conditions.append(table.c.metric.in_(sorted(metric.value for metric in metrics)))
        if client is not None:
            ids = select(clients.c.id).where(clients.c.name == client).scalar_subquery()
            conditions.append(table.c.client_id == ids)
        if country is not None:
            conditions.append(table.c.country == country)
        steps = [func.date_bin(step[0], table.c.at, step[1]).label("step")] if step else []
        wanted = [table.c[_column(dimension)] for dimension in by]
        columns = [*steps, *wanted, table.c.metric, table.c.label]
        sums = [func.sum(table.c.n).label("n"), func.sum(table.c.total).label("total")]
        return select(*columns, *sums).where(*conditions).group_by(*columns)

    each = [of(part) for part in parts]
    if len(each) == 1:
        return each[0].subquery("counted")
    every = union_all(*each).subquery("every")
    columns = [column for column in every.c if column.name not in {"n", "total"}]
    sums = [func.sum(every.c.n).label("n"), func.sum(every.c.total).label("total")]
    return select(*columns, *sums).group_by(*columns).subquery("counted")


def _column(dimension: Dimension) -> str:
    return "client_id" if dimension is Dimension.CLIENT else dimension.value


def _named(counted: Subquery, by: Sequence[Dimension], *step: ColumnElement[datetime]) -> Select[Any]:
    """Return the query of the counts with clients' names, without zero sums."""
    c, key = counted.c, list(_key(counted, by))
    columns = [*step, c.metric, c.label, cast(c.n, BigInteger).label("n"), c.total, *key]
    rows: Select[Any] = select(*columns).where(or_(c.n != 0, c.total != 0))
    if Dimension.CLIENT in by:
        rows = rows.select_from(counted.outerjoin(clients, clients.c.id == counted.c.client_id))
    return rows.order_by(*step, *key, c.metric, c.label)


def _key(counted: Subquery, by: Sequence[Dimension]) -> Iterator[ColumnElement[Any]]:
    for dimension in by:
        if dimension is Dimension.CLIENT:
            yield func.coalesce(clients.c.name, cast(counted.c.client_id, String)).label("client")
        else:
            yield counted.c[dimension.value]
