"""Webhooks: how many events a worker delivers per second, and CPU of each process per delivery.

The receiver answers after a set time. The events of a backlog of codes wait while the worker of the queue
`slow` is stopped; then it delivers them.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import time
from functools import partial

from benchmarks.harness import http1, options, report, stage
from benchmarks.harness.stage import Latency, Otpqueue, Stage
from otpqueue.embedded import ChildProcess


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.common(parser)
    parser.add_argument("--deliveries", type=int, default=1000, help="events that wait")
    parser.add_argument("--answer-ms", type=float, default=50, help="how long the receiver takes")


def measure(on: Stage, given: argparse.Namespace) -> report.Found:
    """Measure all cases."""
    cases: dict[str, partial[report.Measured]] = {}
    for ours in options.checkouts(given, processes=given.processes[0]):
        listening = Otpqueue(
            name=ours.name,
            checkout=ours.checkout,
            processes=ours.processes,
            settings={**ours.settings, "OTPQUEUE_WEBHOOK_ALLOW_PRIVATE": "true"},
            webhook=f"{on.provider_url}/_webhook",
        )
        cases[ours.name] = partial(_deliver, on, listening, given)
    return report.run(cases, rounds=given.rounds)


def _deliver(on: Stage, ours: Otpqueue, given: argparse.Namespace) -> report.Measured:
    numbers = options.fresh_numbers(given)
    on.set_latency(Latency(send_s=0.01, webhook_s=given.answer_ms / 1000))
    with ours.running(on, sends=True) as running:
        stage.warm(on, running, numbers, sends=True)
        _until_quiet(on, running.children)
        worker = [running.pids["periodic"]]
        stage.signal_families(worker, signal.SIGSTOP)
        on.reset_provider()
        # One event each: sent.
        wanted = itertools.islice(numbers, given.deliveries)
        load = http1.closed(running.port, map(running.post, wanted), connections=16)
        if load.failed:
            raise SystemExit(f"requests for codes were not accepted: {load.failed}")
        stage.sent_all(on, running)
        meter, begin = running.meter(on), time.monotonic()
        stage.signal_families(worker, signal.SIGCONT)
        stage.until(lambda: on.counts()["webhooks"] >= 1, running.children)
        first = time.monotonic()
        stage.until(lambda: on.counts()["webhooks"] >= given.deliveries, running.children, seconds=300)
        found = {"delivered/s": given.deliveries / (time.monotonic() - first)}
        found["first after ms"] = (first - begin) * 1000
        return found | report.cpu_ms(meter.used(), given.deliveries)


def _until_quiet(on: Stage, children: dict[str, ChildProcess]) -> None:
    seen = {"webhooks": -1, "since": time.monotonic()}

    def quiet() -> bool:
        count, now = on.counts()["webhooks"], time.monotonic()
        if count != seen["webhooks"]:
            seen.update(webhooks=count, since=now)
        return now - seen["since"] > 2

    stage.until(quiet, children)
