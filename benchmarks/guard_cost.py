"""What the pumping guard costs at the door: requests accepted a second with it off, in shadow and in force.

    python -m benchmarks guard [--requests 1500] [--rounds 5]

Embedded engines (durable, as in production); 8 threads; by turns, so that what else the machine does hits all
alike. `one block`: every request is for one known block, the worst case of its row. Prints the medians.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from sqlalchemy import insert, text

from otpqueue import clock, logs
from otpqueue.embedded import EngineHome, Postgres, Valkey
from otpqueue.operations.request import CodeWanted
from otpqueue.settings import load
from otpqueue.store import clients, migrate
from otpqueue.store.engine import connection
from otpqueue.store.guard import hour_of
from otpqueue.store.schema import guard_tallies
from otpqueue.wiring import Parts

THREADS = 8
_numbers = itertools.count()


def accept(parts: Parts, client_id: UUID, count: int, *, blocks: int) -> float:
    """Accept requests for known blocks and return how many a second."""
    request = replace(parts.request, wake=lambda: True)

    def one(_: int) -> None:
        index = next(_numbers)
        number = f"+447400{index % blocks:02}{index // blocks % 10_000:04}"
        request(CodeWanted(phone_number=number), client_id=client_id, now=clock.now())

    start = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, range(count)))
    return count / (time.perf_counter() - start)


def learn(parts: Parts) -> UUID:
    """Make a client, and blocks with so much history that nothing is refused."""
    with connection(parts.engine) as conn:
        now = clock.now()
        rows = [
            {"subject": f"447400{block:02}", "hour": hour_of(now), "country": "GB", "sent": n, "verified": n}
            for block, n in ((block, 10**6) for block in range(100))
        ]
        conn.execute(insert(guard_tallies), rows)
        return clients.ensure_client(conn, "benchmark", now=now)


def main() -> None:
    """Start everything, measure, stop everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=1500, help="requests in each measure")
    parser.add_argument("--rounds", type=int, default=5)
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
        modes = ("off", "shadow", "enforce")
        parts = {mode: Parts(load(environment | {"OTPQUEUE_GUARD": mode}, dotenv=None)) for mode in modes}
        migrate.upgrade(parts["off"].engine)
        client_id = learn(parts["off"])
        measures = [(mode, 100) for mode in modes] + [("off", 1), ("enforce", 1)]
        found: dict[tuple[str, int], list[float]] = {measure: [] for measure in measures}
        for _ in range(given.rounds):
            for mode, blocks in measures:
                with connection(parts["off"].engine) as conn:
                    conn.execute(text("TRUNCATE otp_requests CASCADE"))
                rate = accept(parts[mode], client_id, given.requests, blocks=blocks)
                found[mode, blocks].append(rate)
        for (mode, blocks), rates in found.items():
            name = f"guard {mode}, {'one block' if blocks == 1 else f'{blocks} blocks'}"
            print(f"{name:<28}{statistics.median(rates):8.0f} /s")
        for part in parts.values():
            part.close()


if __name__ == "__main__":
    main()
