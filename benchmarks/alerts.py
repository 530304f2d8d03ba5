"""What one evaluation of the rules of alerts costs, with a busy hour in the tables.

    python -m benchmarks alerts [--per-second 100] [--clients 5] [--countries 40] [--rounds 5]

An embedded Postgres (durable, as in production), no provider: an hour of requests at that rate, of which one
in fifty is refused and one in twenty has a wrong code, and statistics of a week by client and country. Prints
milliseconds of each rule and of a whole evaluation, the median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Engine, text

from otpqueue import clock
from otpqueue.domain.alert_rules import RULES
from otpqueue.domain.circuit import CircuitState
from otpqueue.embedded import EngineHome, Postgres
from otpqueue.operations.alerts.evaluate import ELSEWHERE, EvaluateAlerts
from otpqueue.operations.alerts.lifecycle import AlertStore
from otpqueue.store import clients, migrate
from otpqueue.store.engine import connection, make_engine
from otpqueue.store.locks import Lock

# Triggers would count all of it; the statistics are filled by themselves.
FILL = (
    "SET session_replication_role = replica",
    """
    INSERT INTO otp_requests (id, client_id, number_sealed, seal_key_id, number_hash, country, channel,
                              status, send_state, checks_allowed, created_at, updated_at, send_by, sent_at,
                              finished_at)
    SELECT gen_random_uuid(), (SELECT id FROM clients LIMIT 1), 'x', 'k1',
           sha256(('n' || i % (:requests / 2))::bytea), 'C' || i % :countries, 'sms', 'verified', 'idle', 5,
           at, at, at, at, at
    FROM (SELECT i, CAST(:now AS timestamptz) - i * interval '1 hour' / :requests AS at
          FROM generate_series(1, :requests) AS i) AS filled
    """,
    """
    INSERT INTO checks (request_id, number, started_at, finished_at, verdict)
    SELECT id, 1, created_at, created_at, 'wrong' FROM otp_requests TABLESAMPLE BERNOULLI (5)
    """,
    """
    INSERT INTO refusals (id, client_id, reason, number_hash, created_at, minute)
    SELECT gen_random_uuid(), client_id, 'limit_number_15m', number_hash, created_at,
           date_trunc('minute', created_at)
    FROM otp_requests TABLESAMPLE BERNOULLI (2)
    ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO stats_hours (at, client_id, country, channel, metric, label, n, total)
    SELECT date_trunc('hour', CAST(:now AS timestamptz)) - h * interval '1 hour', c.id, 'C' || k, 'sms',
           split_part(m, ':', 1), split_part(m, ':', 2), 100, 100
    FROM generate_series(1, 24 * 8) AS h, clients AS c, generate_series(1, :countries) AS k,
         unnest(CAST(:metrics AS text[])) AS m
    """,
    """
    INSERT INTO stats_minutes (at, client_id, country, channel, metric, label, n, total)
    SELECT date_trunc('minute', CAST(:now AS timestamptz)) - h * interval '1 minute', c.id, 'C' || k, 'sms',
           split_part(m, ':', 1), split_part(m, ':', 2), 2, 2
    FROM generate_series(0, 6 * 60) AS h, clients AS c, generate_series(1, :countries) AS k,
         unnest(CAST(:metrics AS text[])) AS m
    """,
    "SET session_replication_role = origin",
    "ANALYZE",
)
METRICS = [
    *(
        "requested:",
        "refused:limit_number_15m",
        "sent:",
        "failed:provider_refused",
        "verified:",
        "delivered:",
    ),
    *(
        "undelivered:",
        "expired:unchecked",
        "checks:correct",
        "checks:wrong",
        "provider_sends:200",
        "cost:EUR",
    ),
    *("sent_to_delivered:5000", "sent_to_verified:10000", "provider_checks:200", "accept_to_sent:200"),
]


def median_ms(work: Callable[[], object], rounds: int) -> float:
    """Return the milliseconds that a call takes."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def fill(engine: Engine, *, requests: int, client_count: int, countries: int) -> None:
    """Fill the tables."""
    now = clock.now()
    with connection(engine) as conn:
        conn.execute(text("SET statement_timeout = 0"))
        for number in range(client_count):
            clients.ensure_client(conn, f"client-{number}", now=now)
        values = {"requests": requests, "countries": countries, "now": now, "metrics": METRICS}
        for statement in FILL:
            wanted = {name: value for name, value in values.items() if f":{name}" in statement}
            conn.execute(text(statement), wanted)
        conn.execute(text("RESET statement_timeout"))


def measure(engine: Engine, rounds: int) -> None:
    """Print what each rule and a whole evaluation take."""
    book = AlertStore(
        engine=engine, watch="rules", lock=Lock.EVALUATE_RULES, apart=timedelta(seconds=30), channels=()
    )
    now = clock.now()
    everything = EvaluateAlerts(engine=engine, rules=RULES, circuit=lambda: CircuitState.CLOSED, book=book)
    last = now - timedelta(minutes=1)
    for rule in RULES.values():
        if rule.name not in ELSEWHERE:
            ms = median_ms(lambda rule=rule: everything.measure_rule(rule, last, now), rounds)
            print(f"{rule.name:<24}{ms:>9.1f} ms")
    moments = iter(now + timedelta(minutes=minutes) for minutes in range(1, rounds + 2))
    # The first one has no evaluation before it, and looks at the whole hour.
    first = median_ms(lambda: everything(now=next(moments)), 1)
    print(f"{'the first evaluation':<24}{first:>9.1f} ms")
    print(f"{'an evaluation':<24}{median_ms(lambda: everything(now=next(moments)), rounds):>9.1f} ms")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--per-second", type=int, default=100)
    parser.add_argument("--clients", type=int, default=5)
    parser.add_argument("--countries", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        EngineHome(Path(folder)) as home,
        Postgres(home.path / "postgres", durable=True) as postgres,
    ):
        engine = make_engine(postgres.create_database("alerts"), pool_size=2)
        migrate.upgrade(engine)
        requests = given.per_second * 3600
        print(f"{requests} requests in an hour, {given.clients} clients, {given.countries} countries")
        fill(engine, requests=requests, client_count=given.clients, countries=given.countries)
        measure(engine, given.rounds)
        engine.dispose()


if __name__ == "__main__":
    main()
