"""A purge beside traffic: how it slows accepts down, and how many requests it deletes per second.

One in ten of the ended requests in the tables is older than the retention time. Requests for codes arrive at
a fixed rate, first without a purge, then beside `otpqueue purge`.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from functools import partial

from benchmarks.harness import history, http1, options, report, stage
from benchmarks.harness.http1 import quantile_of
from benchmarks.harness.stage import Latency, Otpqueue, Running, Stage

_LEAST_S = 2.0
_WARM_S = 5.0


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.common(parser, seconds=30)
    parser.set_defaults(rounds=1)
    options.history_options(parser)
    parser.add_argument("--per-second", type=float, default=30, help="requests a second")


def measure(on: Stage, given: argparse.Namespace) -> report.Found:
    """Measure all cases; every round fills a database of its own, or uses up a kept one."""
    found: report.Found = {}
    for _ in range(given.rounds):
        for ours in options.checkouts(given, processes=given.processes[0]):
            url = history.make(on, ours, given.rows)
            for name, measured in _measure(on, ours, url, given).items():
                found.setdefault(f"{ours.name}, {name}", []).append(measured)
            on.drop_database(url)
    return found


def _measure(on: Stage, ours: Otpqueue, url: str, given: argparse.Namespace) -> dict[str, report.Measured]:
    numbers = options.fresh_numbers(given)
    on.set_latency(Latency(send_s=given.latency_ms / 1000))
    with ours.running(on, sends=True, database_url=url) as running:
        stage.warm(on, running, numbers, sends=True)
        run = partial(_run, on, running, map(running.post, numbers), given)
        run(_WARM_S)
        alone, _ = run(given.seconds)
        purge = _Purge(on, ours, url)
        beside, answered = run(given.seconds)
        took, cpu_s = purge.wait()
        # A purge that is quicker than the load is judged by the calls of its own time.
        during = [t for at, t in answered if at - t <= purge.begin + max(took, _LEAST_S)]
        old = given.rows * history.OLD_SHARE
        beside |= {"p50 ms": quantile_of(during, 0.5) * 1000, "p99 ms": quantile_of(during, 0.99) * 1000}
        beside |= {"purged/s": old / took, "purge s": took, "cpu purge": cpu_s * 1000 / old}
        return {"no purge": alone, "beside a purge": beside}


def _run(
    on: Stage, running: Running, requests: http1.Requests, given: argparse.Namespace, seconds: float
) -> tuple[dict[str, float], list[tuple[float, float]]]:
    answered: list[tuple[float, float]] = []

    def note(_request: bytes, _status: int, _body: bytes, sent_at: float, answered_at: float) -> None:
        answered.append((answered_at, answered_at - sent_at))

    meter = running.meter(on)
    load = http1.scheduled(running.port, requests, per_s=given.per_second, seconds=seconds, on_answer=note)
    used = report.cpu_ms(meter.used(), load.answered)
    found = {"p50 ms": load.ms(0.5), "p99 ms": load.ms(0.99), "not 202": float(sum(load.failed.values()))}
    return found | used, answered


class _Purge:
    """`otpqueue purge`, which runs beside until it ends by itself."""

    def __init__(self, on: Stage, ours: Otpqueue, url: str) -> None:
        self.begin = time.monotonic()
        self._process = ours.start(on, url, "purge")
        self._ended: tuple[float, float] | None = None
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def wait(self) -> tuple[float, float]:
        """Return how long it took, and its own CPU, in seconds."""
        self._thread.join()
        if self._ended is None:
            raise SystemExit("otpqueue purge failed")
        return self._ended

    def _watch(self) -> None:
        _, status, usage = os.wait4(self._process.pid, 0)
        if os.waitstatus_to_exitcode(status) == 0:
            self._ended = time.monotonic() - self.begin, usage.ru_utime + usage.ru_stime
