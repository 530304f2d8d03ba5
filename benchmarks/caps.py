"""What it costs the claim to count sends for the daily caps, and to look for stops and blocked numbers.

    python -m benchmarks.caps [--requests 8000] [--sessions 2] [--rounds 5]

An embedded Postgres (durable, as in production), no provider: several sessions claim a backlog in batches and
record each batch as accepted, by turns with the claim as it was before there were caps, with ours without a
cap, and with ours with caps overall, per client and per country. Prints microseconds of a session's time per
code, and codes a second, the median of the rounds; the same for batches of 64 and of 1 (low load).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text
from uuid_utils.compat import uuid7

from otpqueue import clock
from otpqueue.domain.caps import Caps
from otpqueue.domain.sending import Decision, Outcome, OutcomeKind, Status
from otpqueue.embedded import EngineHome, Postgres
from otpqueue.store import attempts, claims, clients, migrate
from otpqueue.store.attempts import Result
from otpqueue.store.engine import make_engine, run
from otpqueue.store.vault import Vault

VAULT = Vault(sealing_keys={"k1": b"s" * 32}, hashing_key=b"h" * 32)
COUNTRIES = ("GB", "DE", "FR", "US", "ID")
CAPS = Caps(overall=10_000_000, per_client=10_000_000, by_country={"GB": 10_000_000, "*": 10_000_000})
ACCEPTED = Outcome(kind=OutcomeKind.ACCEPTED, code="MESSAGE_SENT", http_status=200, pin_id="P")

# The claim before there were caps.
BEFORE = text(
    """
    WITH due AS MATERIALIZED (
        SELECT id FROM otp_requests
        WHERE send_state = 'due' AND next_attempt_at <= :now AND send_by > :now
        ORDER BY next_attempt_at
        LIMIT :slots
        FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE otp_requests AS r
        SET send_state = 'claimed', next_attempt_at = NULL, updated_at = :now,
            lease_until = statement_timestamp() + make_interval(secs => 30),
            attempt = r.attempt + 1, tries = r.tries + 1
        FROM due WHERE r.id = due.id
        RETURNING r.id, r.attempt, r.number_sealed, r.seal_key_id, r.send_kind, r.channel
    ), numbered AS (
        INSERT INTO send_attempts (request_id, number, worker, claimed_at, kind, channel)
        SELECT id, attempt, 'benchmark', :now, send_kind, channel FROM claimed
    )
    SELECT * FROM claimed
    """
)
FILL = text(
    """
    INSERT INTO otp_requests (id, client_id, number_sealed, seal_key_id, number_hash, country, channel,
                              status, send_state, next_attempt_at, checks_allowed, created_at, updated_at,
                              send_by)
    VALUES (:id, :client_id, :sealed, :key_id, :hash, :country, 'sms', 'queued', 'due', :now, 5, :now, :now,
            :send_by)
    """
)

Taken = list[tuple[UUID, int]]
ClaimSome = Callable[[Connection, int], Taken]


def before(conn: Connection, slots: int) -> Taken:
    """Claim as it was done before."""
    rows = conn.execute(BEFORE, {"now": clock.now(), "slots": slots}).all()
    for row in rows:
        VAULT.unseal(row.number_sealed, key_id=row.seal_key_id, row_id=row.id)
    return [(row.id, row.attempt) for row in rows]


def ours(caps: Caps) -> ClaimSome:
    """Return our claim with these caps."""

    def claim(conn: Connection, slots: int) -> Taken:
        taken = claims.claim(
            conn, slots=slots, lease_s=30, worker="benchmark", now=clock.now(), vault=VAULT, caps=caps
        )
        return [(one.request_id, one.attempt) for one in taken]

    return claim


def fill(engine: Engine, client_ids: list[UUID], count: int) -> None:
    """Make a backlog."""
    now = clock.now()
    rows: list[dict[str, Any]] = []
    for place in range(count):
        row_id: UUID = uuid7()
        number = f"+447400{place:06}"
        key_id, sealed = VAULT.seal(number, row_id=row_id)
        rows.append(
            {
                "id": row_id,
                "client_id": client_ids[place % len(client_ids)],
                "sealed": sealed,
                "key_id": key_id,
                "hash": VAULT.number_hash(number),
                "country": COUNTRIES[place % len(COUNTRIES)],
                "now": now - timedelta(seconds=1),
                "send_by": now + timedelta(hours=1),
            }
        )
    with engine.connect() as conn:
        conn.execute(text("TRUNCATE otp_requests CASCADE"))
        conn.execute(FILL, rows)
        conn.execute(text("ANALYZE otp_requests"))


def drain(engine: Engine, claim: ClaimSome, *, slots: int, sessions: int) -> tuple[float, float]:
    """Claim and record all; return how many seconds all sessions spent in claims, and how long it took."""

    def work(_: int) -> float:
        spent = 0.0
        while True:
            start = time.perf_counter()
            taken = run(engine, lambda conn: claim(conn, slots))
            spent += time.perf_counter() - start
            if not taken:
                return spent
            results = [_result(*one) for one in taken]
            run(engine, lambda conn, results=results: attempts.record(conn, results))

    start = time.perf_counter()
    with ThreadPoolExecutor(sessions) as threads:
        spent = sum(threads.map(work, range(sessions)))
    return spent, time.perf_counter() - start


def _result(request_id: UUID, attempt: int) -> Result:
    now = clock.now()
    return Result(
        request_id=request_id,
        attempt=attempt,
        outcome=ACCEPTED,
        decision=Decision(status=Status.SENT),
        started_at=now,
        finished_at=now,
        latency_ms=100,
        first=True,
        expires_at=now + timedelta(seconds=300),
    )


def main() -> None:
    """Start Postgres, measure, stop it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=8000, help="requests in each measure")
    parser.add_argument("--sessions", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    ways = {"before caps": before, "no cap set": ours(Caps()), "caps set": ours(CAPS)}
    with (
        tempfile.TemporaryDirectory() as folder,
        EngineHome(Path(folder)) as home,
        Postgres(home.path / "postgres") as postgres,
    ):
        engine = make_engine(postgres.url, pool_size=given.sessions + 1)
        migrate.upgrade(engine)
        with engine.connect() as conn:
            client_ids = [clients.ensure_client(conn, f"c{i}", now=clock.now()) for i in range(4)]
        for slots, count in ((64, given.requests), (1, given.requests // 8)):
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
            for _ in range(given.rounds):
                for name, claim in ways.items():
                    fill(engine, client_ids, count)
                    spent, whole = drain(engine, claim, slots=slots, sessions=given.sessions)
                    found[name].append((spent / count * 1e6, count / whole))
            for name, measures in found.items():
                cost, rate = (statistics.median(one) for one in zip(*measures, strict=True))
                print(f"batches of {slots:<3} {name:<12} claim {cost:7.0f} us/code  {rate:7.0f} codes/s")
        engine.dispose()


if __name__ == "__main__":
    main()
