"""How fast events of the statistics are added up, and how fast sums are read.

    python -m benchmarks statistics [--events 1000000] [--combinations 50] [--days 30]

An embedded Postgres (durable, as in production), one session. `python -m benchmarks costs statistics`
measures what counting costs each code.

1. A backlog of events is added up, first as it is, then while an old transaction keeps Postgres from removing
   deleted rows.
2. Hours of some days, and minutes of half a day, for some combinations of client and country, in each of
   which all is counted that can be, are summed up. Milliseconds, the median of 20: how long it took, and how
   long Postgres and this process were at work. Postgres may use one core for each query.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from otpqueue import clock
from otpqueue.api.resources.stats import StatisticsResponse
from otpqueue.domain.stats import Dimension
from otpqueue.embedded import EngineHome, Postgres
from otpqueue.operations.stats.report import ReadStatistics
from otpqueue.operations.stats.roll_up import RollUp
from otpqueue.store import clients, migrate
from otpqueue.store.engine import allow_time, connection, make_engine, transaction
from otpqueue.store.stats import reports

SESSIONS = 3
EVENTS = """
INSERT INTO stat_events (at, client_id, country, channel, metric, label, also, also_label, n, total)
SELECT date_trunc('minute', now()) - n / 5000 * interval '1 minute', :client_id,
       (ARRAY['GB', 'US', 'DE', 'FR'])[1 + n % 4], 'sms', 'sent', '', 'accept_to_sent',
       (ARRAY['100', '200', '300', '500'])[1 + n % 3], 1, 150
FROM generate_series(1, :events) AS n
"""
SUMS = """
INSERT INTO {table} (at, client_id, country, channel, metric, label, n, total)
SELECT at, client, country, 'sms', m.metric, m.label, 7, 1234.5
FROM generate_series(
         date_trunc('hour', now(), 'UTC') - CAST(:past AS interval), now(), CAST(:step AS interval)
     ) AS at,
     unnest(CAST(:clients AS uuid[])) AS client,
     unnest(CAST(:countries AS text[])) AS country,
     (VALUES {metrics}) AS m (metric, label)
ORDER BY at, client, country, metric, label
"""
METRICS = [
    *[
        ("requested", ""),
        ("sent", ""),
        ("delivered", ""),
        ("undelivered", ""),
        ("verified", ""),
        ("cost", "EUR"),
    ],
    *[("refused", reason) for reason in ("number_15m", "number_day", "premium_rate_number")],
    *[("attempts", outcome) for outcome in ("accepted", "refused", "unknown", "returned")],
    *[("provider_sends", status) for status in ("200", "429", "503", "none")],
    *[("provider_checks", status) for status in ("200", "429", "none")],
    *[("failed", reason) for reason in ("provider_refused", "attempts_exhausted", "outcome_unknown")],
    *[("checks", verdict) for verdict in ("correct", "wrong", "unjudged", "unknown")],
    *[("expired", how) for how in ("send_deadline", "unchecked", "checked")],
    *[("cancelled", reason) for reason in ("replaced", "cancelled_by_client")],
    ("locked", "checks_exhausted"),
    *[("accept_to_sent", str(ms)) for ms in (50, 100, 200, 300, 500, 750, 1000, 5000)],
    *[("sent_to_delivered", str(ms)) for ms in (1000, 2000, 3000, 5000, 7500, 10000, 15000, 30000, 60000)],
    *[
        ("sent_to_verified", str(ms))
        for ms in (7500, 10000, 15000, 20000, 30000, 45000, 60000, 90000, 120000)
    ],
]


class Watch:
    """Knows how long Postgres was on a processor for the sessions that an engine may have."""

    def __init__(self, engine: Engine) -> None:
        """Watch all the sessions that the engine may have."""
        with ExitStack() as stack:
            every = [stack.enter_context(engine.connect()) for _ in range(SESSIONS)]
            pids = [conn.execute(text("SELECT pg_backend_pid()")).scalar_one() for conn in every]
        self._files = [Path(f"/proc/{pid}/schedstat") for pid in pids]

    def at_work(self) -> int:
        """Return for how many nanoseconds Postgres has been at work."""
        return sum(int(file.read_text().split()[0]) for file in self._files if file.exists())


def backlog(engine: Engine, client_id: UUID, *, events: int) -> None:
    """Measure how fast a backlog is added up, and the next few events after it."""
    add_up = RollUp(engine=engine, budget=timedelta(minutes=10))
    add_up()
    for name in ("", " while an old transaction is open"):
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as old:
            if name:
                old.execute(text("SET idle_in_transaction_session_timeout = 0"))
                old.execute(text("SELECT 1 FROM clients"))
            fill(engine, EVENTS, client_id=client_id, events=events)
            start = time.perf_counter()
            done = add_up()
            seconds = time.perf_counter() - start
            print(f"backlog{name}: {done} events in {seconds:.1f} s, {done / seconds:.0f} /s")
            fill(engine, EVENTS, client_id=client_id, events=1000)
            start = time.perf_counter()
            add_up()
            print(f"  the next 1000 events: {(time.perf_counter() - start) * 1000:.0f} ms")
            old.rollback()


def fill(engine: Engine, statement: str, **values: object) -> None:
    """Run a statement that takes its time."""

    def work(conn: Connection) -> None:
        allow_time(conn, 600)
        conn.execute(text(statement), values)

    transaction(engine, work)


def reading(engine: Engine, *, combinations: int, days: int) -> None:
    """Measure how fast sums are read."""
    with connection(engine) as conn:
        conn.execute(text("TRUNCATE stats_minutes, stats_hours"))
        of = [clients.ensure_client(conn, f"client-{n}", now=clock.now()) for n in range(5)]
    metrics = ", ".join(f"('{metric}', '{label}')" for metric, label in METRICS)
    countries = [f"{chr(65 + n // 26)}{chr(65 + n % 26)}" for n in range(combinations // len(of))]
    for table, past, step in (
        ("stats_hours", f"{days} days", "1 hour"),
        ("stats_minutes", "12 hours", "1 minute"),
    ):
        statement = SUMS.format(table=table, metrics=metrics)
        fill(engine, statement, past=past, step=step, clients=of, countries=countries)
    with connection(engine) as conn:
        conn.execute(text("SET statement_timeout = '10min'"))
        conn.execute(text("VACUUM ANALYZE stats_hours, stats_minutes"))
        for table in ("stats_hours", "stats_minutes"):
            rows, size = conn.execute(
                text(f"SELECT count(*), pg_size_pretty(pg_total_relation_size('{table}')) FROM {table}")  # noqa: S608
            ).one()
            print(f"{table}: {rows} rows, {size}")
        # A parallel worker's work would not be seen.
        conn.execute(text("ALTER SYSTEM SET max_parallel_workers_per_gather = 0"))
        conn.execute(text("SELECT pg_reload_conf()"))
    until, watch = clock.now(), Watch(engine)
    print(f"{'ms':<50}{'took':>6}{'work':>6}")
    for name, read in {**reads(until), **answers(engine, until, days=days)}.items():
        took, worked = [], []
        with connection(engine) as conn:
            read(conn)
            for _ in range(20):
                start, work = time.perf_counter(), watch.at_work() + time.process_time_ns()
                read(conn)
                took.append((time.perf_counter() - start) * 1e3)
                worked.append((watch.at_work() + time.process_time_ns() - work) / 1e6)
        print(f"{name:<50}{statistics.median(took):6.0f}{statistics.median(worked):6.0f}")


def reads(until: datetime) -> dict[str, Callable[[Connection], object]]:
    """Return what is measured, by name."""

    def sums(hours: float, *by: Dimension, **only: str) -> Callable[[Connection], object]:
        since = until - timedelta(hours=hours)
        return lambda conn: reports.read_sums(conn, since=since, until=until, by=by, **only)

    return {
        "sums of 15 minutes": sums(0.25),
        "sums of 1 hour by country": sums(1, Dimension.COUNTRY),
        "sums of 6 hours by country": sums(6, Dimension.COUNTRY),
        "sums of 24 hours": sums(24),
        "sums of 24 hours by country": sums(24, Dimension.COUNTRY),
        "sums of 24 hours by client and country": sums(24, Dimension.CLIENT, Dimension.COUNTRY),
        "sums of 24 hours of one client": sums(24, client="client-1"),
        "sums of 30 days": sums(24 * 30),
        "60 minutes, minute by minute": lambda conn: reports.read_series(
            conn, since=until - timedelta(hours=1), until=until, step=timedelta(minutes=1)
        ),
        "24 hours, hour by hour": lambda conn: reports.read_series(
            conn, since=until - timedelta(hours=24), until=until, step=timedelta(hours=1)
        ),
    }


def answers(engine: Engine, now: datetime, *, days: int) -> dict[str, Callable[[Connection], object]]:
    """Return the making of answers of the API, by the call."""
    tell = ReadStatistics(engine=engine, kept=timedelta(days=days))

    def answer(window: timedelta, *by: Dimension) -> Callable[[Connection], object]:
        return lambda _: StatisticsResponse.of(tell(window=window, by=by, now=now)).model_dump_json()

    hour, day = timedelta(hours=1), timedelta(days=1)
    return {
        "GET /v1/stats": answer(hour),
        "GET /v1/stats?by=country": answer(hour, Dimension.COUNTRY),
        "GET /v1/stats?window=24h": answer(day),
        "GET /v1/stats?window=24h&by=country": answer(day, Dimension.COUNTRY),
        "GET /v1/stats?window=24h&by=client,country": answer(day, Dimension.CLIENT, Dimension.COUNTRY),
        f"GET /v1/stats?window={days}d": answer(days * day),
    }


def main() -> None:
    """Start Postgres, measure, stop it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000, help="of each backlog")
    parser.add_argument("--combinations", type=int, default=50, help="of client and country")
    parser.add_argument("--days", type=int, default=30)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        EngineHome(Path(folder)) as home,
        Postgres(home.path / "postgres") as postgres,
    ):
        engine = make_engine(postgres.url, pool_size=SESSIONS)
        migrate.upgrade(engine)
        with connection(engine) as conn:
            client_id = clients.ensure_client(conn, "benchmark", now=clock.now())
        if given.events:
            backlog(engine, client_id, events=given.events)
        if given.combinations:
            reading(engine, combinations=given.combinations, days=given.days)
        engine.dispose()


if __name__ == "__main__":
    main()
