"""How long a scrape of `/metrics` takes, at rest and under load.

    python -m benchmarks metrics [--scrapes 100]

Embedded engines (durable, as in production) on this machine, no worker. For an API of one process and of two:
`/metrics` is scraped with the token, by turns with `/health/live`, the cheapest call there is; at rest, then
while 8 threads ask for codes and read them as fast as they can.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from otpqueue import clock
from otpqueue.domain.limits import LIMITS
from otpqueue.embedded import ChildProcess, EngineHome, Postgres, Valkey
from otpqueue.embedded.home import free_port
from otpqueue.settings import load
from otpqueue.store import migrate
from otpqueue.wiring import Parts

THREADS = 8
TOKEN = "benchmark-metrics-token"  # noqa: S105 - of this benchmark alone
_numbers = itertools.count()


def fresh() -> dict[str, str]:
    """Return a value that no earlier call has used."""
    return {"phone_number": f"+447400{next(_numbers) % 1_000_000:06}"}


@contextmanager
def api(environment: dict[str, str], folder: Path, processes: int) -> Iterator[str]:
    """Serve the API and yield its address."""
    url = f"http://127.0.0.1:{free_port()}"
    port = url.rpartition(":")[2]
    child = ChildProcess(
        "api",
        [sys.executable, "-m", "otpqueue", "api", "--port", port],
        ready=lambda: requests.get(f"{url}/health/live", timeout=1).raise_for_status(),
        env={**environment, "OTPQUEUE_API_PROCESSES": str(processes)},
        log=folder / f"api-{processes}.log",
        cwd=folder,
    )
    try:
        child.start()
        child.wait_ready(30)
        yield url
    finally:
        child.stop()


@contextmanager
def load_on(url: str, key: str) -> Iterator[list[int]]:
    """Ask for codes and read them until the block ends; yields how many calls were made, growing."""
    over, made = threading.Event(), [0] * THREADS

    def call(place: int) -> None:
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {key}"
            while not over.is_set():
                answer = session.post(f"{url}/v1/otp-requests", json=fresh(), timeout=10)
                answer.raise_for_status()
                session.get(url + answer.headers["Location"], timeout=10).raise_for_status()
                made[place] += 2

    threads = [threading.Thread(target=call, args=[place]) for place in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        over.set()
        for thread in threads:
            thread.join()


def scrape(url: str, count: int, name: str) -> str:
    """Scrape this many times, 0.1 s apart, and print the times; return the last page."""
    took: dict[str, list[float]] = {"/metrics": [], "/health/live": []}
    text = ""
    for _ in range(count):
        for path, times in took.items():
            begun = time.perf_counter()
            # A connection of its own each time, as curl has.
            answer = requests.get(url + path, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10)
            times.append((time.perf_counter() - begun) * 1000)
            answer.raise_for_status()
            text = answer.text if path == "/metrics" else text
            time.sleep(0.05)
    for path, times in took.items():
        p95 = statistics.quantiles(times, n=20)[-1]
        print(f"{name:<34}{path:<14}{statistics.median(times):8.1f} ms median {p95:8.1f} ms p95", flush=True)
    return text


def scrapes(environment: dict[str, str], folder: Path, key: str, count: int) -> None:
    """Scrape APIs of one and two processes, without load and under it."""
    for processes in (1, 2):
        with api(environment, folder, processes) as url:
            name = f"{processes} API process{'es' if processes > 1 else ''}"
            scrape(url, count, f"{name}, at rest")
            with load_on(url, key) as made:
                time.sleep(1)
                begun, before = time.perf_counter(), sum(made)
                text = scrape(url, count, f"{name}, under load")
                rate = (sum(made) - before) / (time.perf_counter() - begun)
            series = sum(not line.startswith("#") for line in text.splitlines())
            print(f"    {rate:.0f} calls/s meanwhile; {series} series, {len(text) / 1024:.0f} KiB")


def main() -> None:
    """Start everything, measure, stop everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scrapes", type=int, default=100, help="scrapes in each measure")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        EngineHome(Path(name)) as home,
        Postgres(home.path / "postgres") as postgres,
        Valkey(home.path / "valkey") as valkey,
    ):
        environment = {
            **os.environ,
            "DATABASE_URL": postgres.url,
            "REDIS_URL": valkey.url,
            "INFOBIP_BASE_URL": "http://127.0.0.1:9",
            "INFOBIP_API_KEY": "never-used",
            "OTPQUEUE_SEAL_KEYS": "k1:" + base64.b64encode(b"s" * 32).decode(),
            "OTPQUEUE_HASH_KEY": base64.b64encode(b"h" * 32).decode(),
            "OTPQUEUE_METRICS_TOKEN": TOKEN,
            "OTPQUEUE_DAILY_CAP": "none",
            "OTPQUEUE_LOG_LEVEL": "WARNING",
            **{limit.setting: "off" for limit in LIMITS.values()},
        }
        parts = Parts(load(environment, dotenv=None))
        migrate.upgrade(parts.engine)
        key = parts.keys.create(client="benchmark", scopes=frozenset({"send", "verify"}), now=clock.now())
        parts.close()
        scrapes(environment, Path(name), key, given.scrapes)


if __name__ == "__main__":
    main()
