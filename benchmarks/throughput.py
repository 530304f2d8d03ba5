"""How many codes a second: one wake-up for many rows, against one Celery message per request.

    python -m benchmarks.throughput [--requests 3000] [--latency-ms 100] [--rounds 3]

Embedded engines (durable, as in production) and the simulator, all on this machine. Each round, in turn: one
worker process empties a backlog in our shape and in the baseline's; then 8 threads accept requests with our
wake-up and with one publish per request. Prints every round and the medians.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import requests
from sqlalchemy import text
from uuid_utils.compat import uuid7

from otpqueue import clock, jobs, logs
from otpqueue.domain.limits import LIMITS
from otpqueue.embedded import ChildProcess, EngineHome, Postgres, Valkey
from otpqueue.embedded.home import free_port
from otpqueue.operations.request import CodeWanted
from otpqueue.settings import load
from otpqueue.store import clients, heartbeats, migrate
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts

KEY = "benchmark-key"
ACCEPTING_THREADS = 8
BASELINE_TABLE = """
    CREATE TABLE baseline (id uuid PRIMARY KEY, number text NOT NULL, status text NOT NULL DEFAULT 'queued',
                           pin_id text, claimed_at timestamptz, sent_at timestamptz)
"""

_indexes = itertools.count()


def fresh_number() -> str:
    """Return a valid number that was not returned before."""
    return f"+447400{next(_indexes) % 1_000_000:06}"


class Bench:
    """The engines, the simulator and our parts."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.parts = Parts(load(environment, dotenv=None))
        migrate.upgrade(self.parts.engine)
        ids = self.parts.provision(self.parts.transport, now=clock.now()).ids
        self.baseline_environment = environment | {
            "BASELINE_APPLICATION_ID": ids.application_id,
            "BASELINE_MESSAGE_ID": ids.message_id(language=None, country=None),
        }
        with connection(self.parts.engine) as conn:
            self.client_id: UUID = clients.ensure_client(conn, "benchmark", now=clock.now())
            conn.execute(text(BASELINE_TABLE))

    def accept(self, count: int, wake: Callable[[], bool]) -> float:
        """Accept `count` requests from 8 threads and return how many a second."""
        request = replace(self.parts.request, wake=wake)

        def one(_: int) -> None:
            request(CodeWanted(phone_number=fresh_number()), client_id=self.client_id, now=clock.now())

        start = time.perf_counter()
        with ThreadPoolExecutor(ACCEPTING_THREADS) as pool:
            list(pool.map(one, range(count)))
        return count / (time.perf_counter() - start)

    def publish_each(self) -> bool:
        """Wake in the conventional way: one message per request, to a queue that nobody serves."""
        self.parts.publisher.send_task("nobody", args=[str(uuid7())], queue="nobody", retry=False)
        return True

    def clear(self) -> None:
        """Empty the tables and Redis."""
        with connection(self.parts.engine) as conn:
            conn.execute(text("TRUNCATE otp_requests CASCADE"))
            conn.execute(text("TRUNCATE baseline"))
        self.parts.redis.flushall()

    def send_ours(self, count: int) -> float:
        """Let one worker process of ours empty a backlog; return codes a second."""
        self.clear()
        self.accept(count, lambda: True)
        with self._worker(["-m", "otpqueue", "worker", "--queues=send"], self.environment):
            self._until(self._is_served)
            self.parts.waker.wake()
            return self._rate(
                count,
                "SELECT count(*) FILTER (WHERE outcome = 'accepted'), "
                "extract(epoch FROM max(finished_at) - min(claimed_at)) FROM send_attempts",
            )

    def _is_served(self) -> bool:
        with connection(self.parts.engine) as conn:
            return any(one.works for one in heartbeats.living(conn))

    def send_baseline(self, count: int) -> float:
        """Let one conventional worker process empty a backlog; return codes a second."""
        self.clear()
        ids = [uuid7() for _ in range(count)]
        with connection(self.parts.engine) as conn:
            conn.execute(
                text("INSERT INTO baseline (id, number) VALUES (:id, :number)"),
                [{"id": one, "number": fresh_number().removeprefix("+")} for one in ids],
            )
        celery = jobs.make_celery(self.environment["REDIS_URL"], quick=True)
        for one in ids:
            celery.send_task("send_one", args=[str(one)], queue="baseline")
        celery.close()
        command = ["-m", "celery", "-A", "benchmarks.baseline", "worker", "--pool=threads"]
        command += ["--concurrency=64", "--queues=baseline", "--without-gossip", "--without-mingle"]
        with self._worker(command, self.baseline_environment):
            return self._rate(
                count,
                "SELECT count(*) FILTER (WHERE status = 'sent'), "
                "extract(epoch FROM max(sent_at) - min(claimed_at)) FROM baseline",
            )

    @contextmanager
    def _worker(self, command: list[str], environment: dict[str, str]) -> Iterator[None]:
        log = Path(environment["BENCHMARK_LOGS"]) / "worker.log"
        worker = ChildProcess("worker", [sys.executable, *command], env=environment, log=log)
        worker.start()
        try:
            yield
        finally:
            worker.stop(grace=20)

    def _rate(self, count: int, statement: str) -> float:
        found: Any = None

        def done() -> bool:
            nonlocal found
            with connection(self.parts.engine) as conn:
                found = conn.execute(text(statement)).one()
            return bool(found[0] == count)

        self._until(done)
        return count / float(found[1])

    def _until(self, done: Callable[[], bool], *, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise SystemExit("the worker did not finish; see its log")
            time.sleep(0.2)


def run(bench: Bench, *, count: int, rounds: int) -> None:
    """Run the rounds and print them."""
    measures: dict[str, Callable[[], float]] = {
        "send, wake-up": lambda: bench.send_ours(count),
        "send, message per request": lambda: bench.send_baseline(count),
        "accept, wake-up": lambda: bench.accept(count, bench.parts.waker.wake),
        "accept, message per request": lambda: bench.accept(count, bench.publish_each),
    }
    found: dict[str, list[float]] = {name: [] for name in measures}
    for turn in range(1, rounds + 1):
        for name, measure in measures.items():
            found[name].append(measure())
            print(f"round {turn}  {name:<30}{found[name][-1]:8.0f} /s", flush=True)
    print()
    for name, rates in found.items():
        print(f"median   {name:<30}{statistics.median(rates):8.0f} /s")


def main() -> None:
    """Start everything, measure, stop everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000, help="requests in each measure")
    parser.add_argument("--latency-ms", type=int, default=100, help="how long the provider takes")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    logs.configure(process="benchmark", style="readable", level="WARNING")
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        EngineHome(Path(folder)) as home,
        Postgres(home.path / "postgres") as postgres,
        Valkey(home.path / "valkey") as valkey,
    ):
        url = f"http://127.0.0.1:{port}"
        environment = {
            **os.environ,
            "BENCHMARK_LOGS": folder,
            "DATABASE_URL": postgres.url,
            "REDIS_URL": valkey.url,
            "INFOBIP_BASE_URL": url,
            "INFOBIP_API_KEY": KEY,
            "OTPQUEUE_SEAL_KEYS": "k1:" + base64.b64encode(b"s" * 32).decode(),
            "OTPQUEUE_HASH_KEY": base64.b64encode(b"h" * 32).decode(),
            "OTPQUEUE_SEND_WITHIN_S": "600",
            "OTPQUEUE_DAILY_CAP": "none",
            "OTPQUEUE_LOG_LEVEL": "WARNING",
            # What they cost: benchmarks.limits.
            **{limit.setting: "off" for limit in LIMITS.values()},
        }
        simulator = ChildProcess(
            "simulator",
            [sys.executable, "-m", "otpqueue.simulator", f"--port={port}", f"--api-key={KEY}"],
            ready=lambda: requests.get(f"{url}/_simulator/stats", timeout=1).raise_for_status(),
            log=Path(folder) / "simulator.log",
        )
        simulator.start()
        simulator.wait_ready()
        fault = {"match": {"path": "/2fa/2/pin"}, "times": None, "latency_ms": given.latency_ms}
        bench = Bench(environment)
        requests.post(f"{url}/_simulator/faults", json=fault, timeout=5).raise_for_status()
        try:
            run(bench, count=given.requests, rounds=given.rounds)
        finally:
            simulator.stop()


if __name__ == "__main__":
    main()
