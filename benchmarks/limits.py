"""What limits and the rules against guessing cost: accepting with them and without, side by side.

    python -m benchmarks.limits [--requests 3000] [--rounds 5] [--rows 200000]

Embedded engines (durable, as in production) on this machine. The tables hold so many old requests with a
wrong code each, from a thousand addresses, a tenth of the last hour. Each round 8 threads accept requests,
each for a number and from an address of its own: without limits, with those in Redis, and with the rules
besides. Then, one after the other: what counting one call costs, and the rules for a number and an address
that were guessed at. Prints every round and the medians.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from sqlalchemy import text

from otpqueue import clock, logs
from otpqueue.domain import phone
from otpqueue.domain.client_settings import ClientSettings
from otpqueue.domain.errors import NotAdmitted
from otpqueue.domain.limits import LIMITS
from otpqueue.embedded import EngineHome, Postgres, Valkey
from otpqueue.operations.admission import Applicant
from otpqueue.operations.request import CodeWanted, RequestCode
from otpqueue.settings import load
from otpqueue.store import clients, migrate
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts

THREADS = 8
SEED = """
    WITH made AS (
        INSERT INTO otp_requests (id, client_id, number_sealed, seal_key_id, number_hash, client_ip_hash,
                                  channel, status, send_state, checks_allowed, checks_used, created_at,
                                  updated_at, send_by)
        SELECT gen_random_uuid(), :client_id, '\\x00', 'k1', sha256(i::text::bytea),
               sha256((i % 1000)::text::bytea), 'sms', 'locked', 'idle', 5, 1, at, at, at
        FROM (
            SELECT i, now() - interval '10 hours' * i / :rows AS at FROM generate_series(1, :rows) AS s (i)
        ) AS old
        RETURNING id, client_ip_hash, created_at
    )
    INSERT INTO checks (request_id, number, client_ip_hash, started_at, finished_at, verdict)
    SELECT id, 1, client_ip_hash, created_at, created_at, 'wrong' FROM made
"""

_indexes = itertools.count()


def wish() -> CodeWanted:
    """Return what nobody has asked for before."""
    index = next(_indexes)
    return CodeWanted(phone_number=f"+447400{index % 1_000_000:06}", client_ip=f"2001:db8:{index:x}::1")


def rate(request: RequestCode, client_id: UUID, count: int) -> float:
    """Accept `count` requests from 8 threads and return how many a second."""

    def one(_: int) -> None:
        request(wish(), client_id=client_id, now=clock.now())

    start = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, range(count)))
    return count / (time.perf_counter() - start)


def alone_ms(work: Callable[[], object], count: int = 500) -> float:
    """Return how many milliseconds something takes, one after the other: the median."""
    took = []
    for _ in range(count):
        start = time.perf_counter()
        work()
        took.append((time.perf_counter() - start) * 1000)
    return statistics.median(took)


def run(parts: Parts, off: Parts, client_id: UUID, *, count: int, rounds: int) -> None:
    """Run the rounds and print them."""
    bare = replace(off.request, admission=replace(off.admission, rules=()), wake=lambda: True)
    counted = replace(parts.request, admission=replace(parts.admission, rules=()), wake=lambda: True)
    measures = {
        "accept, no limits": bare,
        "accept, limits": counted,
        "accept, limits and rules": replace(parts.request, wake=lambda: True),
    }
    found: dict[str, list[float]] = {name: [] for name in measures}
    for turn in range(1, rounds + 1):
        for name, request in measures.items():
            found[name].append(rate(request, client_id, count))
            print(f"round {turn}  {name:<28}{found[name][-1]:8.0f} /s", flush=True)
    print()
    for name, rates in found.items():
        print(f"median   {name:<28}{statistics.median(rates):8.0f} /s")
    own = ClientSettings.from_stored({"limits": {"key_rate": "10000/s"}})
    print(f"\nalone    {'rate of one call':<28}{alone_ms(lambda: parts.key_rate(client_id, own)):8.2f} ms")
    (rule,) = parts.admission.rules

    guessed = hashlib.sha256(b"7").digest()
    applicant = Applicant(
        client_id=client_id,
        settings=own,
        number=phone.parse("+447400000007"),
        number_hashes=[guessed],
        client_ip_hashes=[guessed],
        language=None,
        resend=False,
        now=clock.now(),
    )

    def look() -> None:
        with connection(parts.engine) as conn, suppress(NotAdmitted):
            rule(conn, applicant)

    print(f"alone    {'rules against guessing':<28}{alone_ms(look):8.2f} ms")


def main() -> None:
    """Start everything, measure, stop everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000, help="requests in each measure")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=200_000, help="old requests in the tables")
    given = parser.parse_args()
    logs.configure(process="benchmark", style="readable", level="WARNING")
    with (
        tempfile.TemporaryDirectory() as folder,
        EngineHome(Path(folder)) as home,
        Postgres(home.path / "postgres") as postgres,
        Valkey(home.path / "valkey") as valkey,
    ):
        environment = {
            **os.environ,
            "DATABASE_URL": postgres.url,
            "REDIS_URL": valkey.url,
            "OTPQUEUE_SEAL_KEYS": "k1:" + base64.b64encode(b"s" * 32).decode(),
            "OTPQUEUE_HASH_KEY": base64.b64encode(b"h" * 32).decode(),
        }
        parts = Parts(load(environment, dotenv=None))
        off = Parts(load(environment | {limit.setting: "off" for limit in LIMITS.values()}, dotenv=None))
        migrate.upgrade(parts.engine)
        with connection(parts.engine) as conn:
            client_id = clients.ensure_client(conn, "benchmark", now=clock.now())
            conn.execute(text("SET statement_timeout = 0"))
            conn.execute(text(SEED), {"client_id": client_id, "rows": given.rows})
            conn.execute(text("RESET statement_timeout"))
            conn.execute(text("ANALYZE"))
        print(f"{given.rows} requests with a wrong code each in the tables", flush=True)
        run(parts, off, client_id, count=given.requests, rounds=given.rounds)
        parts.close()
        off.close()


if __name__ == "__main__":
    main()
