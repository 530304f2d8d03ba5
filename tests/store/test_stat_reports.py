"""What the statistics say of a window: whole steps of it, apart and filtered as asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, text

from otpqueue.domain.stats import Dimension, Metric, MetricPoint, MetricSum
from otpqueue.store import clients
from otpqueue.store.schema import stat_events, stats_hours, stats_minutes
from otpqueue.store.stats import reports
from tests.store.conftest import NOW, Store
from tests.store.recounting import by_hour

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
Row = tuple[datetime, str, str, str, str, str]


@pytest.fixture
def names(store: Store) -> dict[UUID, str]:
    """Return the names of three clients."""
    return {clients.ensure_client(store.conn, name, now=NOW): name for name in ("shop", "bank", "club")}


@pytest.fixture
def counts(store: Store, names: dict[UUID, str]) -> dict[Row, tuple[int, Decimal]]:
    """Store random counts of two days and return them, clients by name."""
    random, found = Random(5), Counter[Row]()
    for _ in range(3000):
        at = NOW - MINUTE * random.randrange(2 * 24 * 60)
        metric, label = random.choice([("sent", ""), ("failed", "a"), ("failed", "b"), ("cost", "EUR")])
        client, country = random.choice(list(names.values())), random.choice(["GB", "US", "ZZ"])
        found[at, client, country, random.choice(["sms", "voice"]), metric, label] += random.randrange(1, 5)
    made = {row: (n, Decimal(n) / 4) for row, n in found.items()}
    ids = {name: client_id for client_id, name in names.items()}
    columns = [column.name for column in stats_minutes.columns]
    for table, expected in ((stats_minutes, made), (stats_hours, by_hour(made))):
        rows = [(at, ids[client], *rest, *sums) for (at, client, *rest), sums in expected.items()]
        store.conn.execute(insert(table), [dict(zip(columns, row, strict=True)) for row in rows])
    return made


def expected(
    counts: dict[Row, tuple[int, Decimal]],
    *,
    since: datetime,
    until: datetime,
    by: Sequence[Dimension] = (),
    metrics: Collection[Metric] | None = None,
    client: str | None = None,
    country: str | None = None,
) -> list[MetricSum]:
    """Return what should be said of a window."""
    n, total = Counter[tuple[tuple[str, ...], str, str]](), Counter[tuple[tuple[str, ...], str, str]]()
    for (at, name, code, channel, metric, label), (times, measured) in counts.items():
        wanted = (metrics is None or metric in metrics) and client in {None, name} and country in {None, code}
        if since <= at < until and wanted:
            values = {Dimension.CLIENT: name, Dimension.COUNTRY: code, Dimension.CHANNEL: channel}
            key = (tuple(values[dimension] for dimension in by), metric, label)
            n[key] += times
            total[key] += measured
    return [
        MetricSum(key=key[0], metric=Metric(key[1]), label=key[2], n=n[key], total=total[key])
        for key in sorted(n)
    ]


def test_sums_of_any_window(store: Store, counts: dict[Row, tuple[int, Decimal]]) -> None:
    """Whether whole hours or minutes are read, sums are those of the minutes that begin in the window.

    In one that is longer than six hours, of the hours that do.
    """
    random = Random(6)
    for _ in range(60):
        since = NOW - timedelta(seconds=random.randrange(2 * 24 * 3600))
        until = since + random.choice(
            [timedelta(seconds=random.randrange(6 * 3600)), HOUR, 6 * HOUR, 7 * HOUR, 24 * HOUR]
        )
        by = random.sample(list(Dimension), random.randrange(4))
        asked = {
            "by": by,
            "metrics": random.choice([None, {Metric.FAILED, Metric.COST}]),
            "client": random.choice([None, None, "bank"]),
            "country": random.choice([None, None, "US"]),
        }
        found = reports.read_sums(store.conn, since=since, until=until, **asked)
        by_step = counts if until - since <= 6 * HOUR else by_hour(counts)
        assert sorted(found, key=_order) == expected(by_step, since=since, until=until, **asked)


def _order(one: MetricSum) -> tuple[tuple[str, ...], str, str]:
    return one.key, one.metric.value, one.label


def test_sums_are_in_order(store: Store, counts: dict[Row, tuple[int, Decimal]]) -> None:
    """Groups stand together."""
    found = reports.read_sums(
        store.conn, since=NOW - 24 * HOUR, until=NOW, by=[Dimension.COUNTRY, Dimension.CLIENT]
    )

    assert found == sorted(found, key=_order)
    assert {one.key for one in found} == {
        (country, client) for country in ("GB", "US", "ZZ") for client in ("shop", "bank", "club")
    }


def test_series(store: Store, counts: dict[Row, tuple[int, Decimal]]) -> None:
    """Each step of a window has its own sums, from the minute or hour with which the window begins."""
    for step in (MINUTE, 5 * MINUTE, 45 * MINUTE, HOUR, 6 * HOUR):
        check_series(store, counts, step)


def check_series(store: Store, counts: dict[Row, tuple[int, Decimal]], step: timedelta) -> None:
    """Compare a series in one step with what it should be."""
    since = NOW - 13 * HOUR - timedelta(minutes=17, seconds=30)
    origin = since.replace(second=0) if step % HOUR else since.replace(minute=0, second=0)

    found = reports.read_series(
        store.conn, since=since, until=NOW, step=step, by=[Dimension.COUNTRY], client="shop"
    )

    begins, wanted = origin, []
    by_step = counts if step % HOUR else by_hour(counts)
    while begins < NOW:
        until = min(begins + step, NOW)
        sums = expected(by_step, since=begins, until=until, by=[Dimension.COUNTRY], client="shop")
        wanted += [
            MetricPoint(at=begins, key=one.key, metric=one.metric, label=one.label, n=one.n, total=one.total)
            for one in sums
        ]
        begins += step
    assert found == wanted


@pytest.mark.parametrize("step", [timedelta(0), -MINUTE, timedelta(seconds=90), timedelta(seconds=1)])
def test_series_in_odd_steps(store: Store, step: timedelta) -> None:
    """Less than a minute is not known."""
    with pytest.raises(ValueError, match="minutes or hours"):
        reports.read_series(store.conn, since=NOW - HOUR, until=NOW, step=step)


def test_what_came_to_nothing_is_left_out(store: Store, names: dict[UUID, str]) -> None:
    """What was counted off again is as if it had never been."""
    row = {
        "client_id": next(iter(names)),
        "country": "GB",
        "channel": "sms",
        "metric": "attempts",
        "total": 0,
    }
    minutes = [row | {"at": NOW, "label": "unknown", "n": 1}]
    minutes += [row | {"at": NOW + MINUTE, "label": "unknown", "n": -1}]
    store.conn.execute(insert(stats_minutes), minutes)

    assert reports.read_sums(store.conn, since=NOW, until=NOW + HOUR) == []


def test_client_without_a_row(store: Store) -> None:
    """The counts of a deleted client are reported under its id."""
    gone = uuid4()
    row = {"country": "GB", "channel": "sms", "metric": "sent", "label": "", "n": 2, "total": 0}
    store.conn.execute(insert(stats_minutes), [row | {"client_id": gone, "at": NOW}])

    (found,) = reports.read_sums(store.conn, since=NOW, until=NOW + MINUTE, by=[Dimension.CLIENT])

    assert (found.key, found.n) == ((str(gone),), 2)
    assert reports.read_sums(store.conn, since=NOW, until=NOW + MINUTE, client="unknown") == []


def test_session_that_prefers_another_zone(store: Store, counts: dict[Row, tuple[int, Decimal]]) -> None:
    """Steps are those of UTC, also where the session's hours begin at another minute."""
    asked = {"since": NOW - 13 * HOUR, "until": NOW, "step": 6 * HOUR}
    found = reports.read_series(store.conn, **asked)
    with store.engine.connect() as conn:
        conn.execute(text("SET timezone = 'Asia/Kolkata'"))
        other = reports.read_series(conn, **asked)
        conn.execute(text("RESET timezone"))

    assert [one.at for one in other] == [one.at for one in found]
    assert other == found


def test_what_waits(store: Store) -> None:
    """The oldest event that is not added up shows the delay of the statistics."""
    assert reports.find_oldest_minute(store.conn) is None
    for minutes in (3, 5, 4):
        store.insert(f"+44770090012{minutes}", created_at=NOW + minutes * MINUTE)

    assert reports.find_oldest_minute(store.conn) == NOW + 3 * MINUTE
    store.conn.execute(stat_events.delete())
    assert reports.find_oldest_minute(store.conn) is None
