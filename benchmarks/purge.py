"""What a purge does per second, and what callers notice of it.

    python -m benchmarks.purge [--old 150000] [--seconds 10] [--callers 4]

An embedded Postgres (durable, as in production), filled with requests that ended long ago, each with an
attempt, a check, a report and two moves; no provider. Callers accept requests one after another, with a pause
between, without a purge and beside one by turns. Prints requests purged a second and how long accepting took.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from benchmarks.moves import accept
from otpqueue import clock
from otpqueue.embedded import EngineHome, Postgres
from otpqueue.operations.purge import Purge
from otpqueue.store import clients, migrate
from otpqueue.store.engine import allow_time, connection, make_engine, transaction

RETENTION = timedelta(days=30)
PAUSE_S = 0.02

FILL = (
    """
    INSERT INTO otp_requests (id, client_id, number_sealed, seal_key_id, number_hash, channel, status, reason,
                              send_state, checks_allowed, created_at, updated_at, send_by, finished_at)
    SELECT gen_random_uuid(), :client_id, decode(repeat('00', 41), 'hex'), 'k1', sha256(n::text::bytea),
           'sms', 'verified', 'code_correct', 'idle', 5, at, at, at, at
    FROM (SELECT n, now() - interval '40 days' + n * interval '1 ms' AS at FROM generate_series(1, :old) AS n)
    """,
    (
        "INSERT INTO send_attempts (request_id, number, worker, claimed_at, outcome, pin_id,"
        " external_message_id) SELECT id, 1, 'w', created_at, 'accepted', id::text, id::text"
        " FROM otp_requests"
    ),
    (
        "INSERT INTO checks (request_id, number, started_at, verdict)"
        " SELECT id, 1, created_at, 'correct' FROM otp_requests"
    ),
    (
        "INSERT INTO receipts (id, message_id, delivery, status, received_at, request_id, attempt)"
        " SELECT gen_random_uuid(), id::text, 'delivered', 'DELIVERED_TO_HANDSET', created_at, id, 1"
        " FROM otp_requests"
    ),
    (
        "INSERT INTO moves (request_id, at, of, was, became)"
        " SELECT id, created_at, 'status', 'x', 'y' FROM otp_requests, generate_series(1, 2)"
    ),
)


def fill(engine: Engine, client_id: UUID, old: int) -> None:
    """Store requests that ended forty days ago with their trails."""

    def work(conn: Connection) -> None:
        allow_time(conn, 600)
        for statement in FILL:
            conn.execute(text(statement), {"client_id": client_id, "old": old})

    transaction(engine, work)
    with connection(engine) as conn:
        conn.execute(text("VACUUM ANALYZE"))


def call(engine: Engine, client_id: UUID, numbers: range, enough: threading.Event) -> list[float]:
    """Accept requests until it is enough; return how many milliseconds each took."""
    took = []
    for number in numbers:
        if enough.wait(PAUSE_S):
            break
        start = time.perf_counter()
        accept(engine, client_id, number)
        took.append((time.perf_counter() - start) * 1000)
    return took


def calls(engine: Engine, client_id: UUID, callers: int, first: int, enough: threading.Event) -> list[float]:
    """Have several callers accept requests at once."""
    with ThreadPoolExecutor(callers) as threads:
        begun = [
            threads.submit(
                call, engine, client_id, range(first + 20_000 * one, first + 20_000 * (one + 1)), enough
            )
            for one in range(callers)
        ]
        return [one for done in begun for one in done.result()]


def after(seconds: float) -> threading.Event:
    """Return an event that happens after so many seconds."""
    event = threading.Event()
    threading.Timer(seconds, event.set).start()
    return event


def measured(purge: Purge) -> tuple[int, float]:
    """Purge; return how many rows went, without those that went with them, and in how many seconds."""
    start = time.perf_counter()
    count = sum(purge(now=clock.now()).values())
    return count, time.perf_counter() - start


def said(name: str, took: list[float]) -> str:
    """Return a line on how long calls took."""
    quantiles = statistics.quantiles(took, n=100)
    return (
        f"accept, {name:<16} {len(took):>6} calls  {statistics.median(took):6.1f} ms median"
        f"  {quantiles[94]:6.1f} p95  {quantiles[98]:6.1f} p99  {max(took):6.1f} max"
    )


def run(engine: Engine, *, old: int, seconds: float, callers: int) -> None:
    """Measure without and beside a purge by turns, then a purge alone."""
    with connection(engine) as conn:
        client_id = clients.ensure_client(conn, "benchmark", now=clock.now())
    fill(engine, client_id, old)
    found: dict[str, list[float]] = {"no purge": [], "beside a purge": []}
    purged, purging_s = 0, 0.0
    for turn in range(4):
        enough = after(seconds / 2)
        if turn % 2:
            purge = Purge(engine=engine, retention=RETENTION, budget_s=seconds / 2)
            with ThreadPoolExecutor(1) as thread:
                done = thread.submit(measured, purge)
                found["beside a purge"] += calls(engine, client_id, callers, turn * 100_000, enough)
                count, took_s = done.result()
            purged, purging_s = purged + count, purging_s + took_s
        else:
            found["no purge"] += calls(engine, client_id, callers, turn * 100_000, enough)
    for name, took in found.items():
        print(said(name, took))
    print(f"purged beside callers     {purged / purging_s:8.0f} requests/s, {purged} in {purging_s:.1f} s")
    for name, pause_s in (("with pauses", 0.05), ("without pauses", 0.0)):
        count, took_s = measured(
            Purge(engine=engine, retention=RETENTION, budget_s=seconds / 2, pause_s=pause_s)
        )
        print(f"purged alone, {name:<15}{count / took_s:5.0f} requests/s, {count} in {took_s:.1f} s")


def main() -> None:
    """Start Postgres, measure, stop it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--old", type=int, default=150_000, help="requests that are too old")
    parser.add_argument("--seconds", type=float, default=10, help="of calls without a purge, and beside one")
    parser.add_argument("--callers", type=int, default=4, help="callers at once")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        EngineHome(Path(folder)) as home,
        Postgres(home.path / "postgres") as postgres,
    ):
        engine = make_engine(postgres.url, pool_size=given.callers + 2)
        migrate.upgrade(engine)
        run(engine, old=given.old, seconds=given.seconds, callers=given.callers)
        engine.dispose()


if __name__ == "__main__":
    main()
