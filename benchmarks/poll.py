"""Polls of a request's status: how many a second, and CPU of each process."""

from __future__ import annotations

import argparse
import itertools

from benchmarks.harness import http1, options, report
from benchmarks.harness.stage import Latency, Otpqueue, Stage
from benchmarks.verify import accepted_paths

_REQUESTS = 200


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.common(parser, seconds=6, connections="1,32")


def measure(on: Stage, given: argparse.Namespace) -> report.Found:
    """Measure all cases."""
    on.set_latency(Latency())
    cases = options.cases(given, lambda ours, connections: _poll(on, ours, connections, given))
    return report.run(cases, rounds=given.rounds)


def _poll(on: Stage, ours: Otpqueue, connections: int, given: argparse.Namespace) -> report.Measured:
    with ours.running(on, sends=False) as running:
        paths = accepted_paths(running, options.fresh_numbers(given), _REQUESTS)
        polls = itertools.cycle([http1.request("GET", path, b"", *running.headers) for path, _ in paths])
        http1.closed(running.port, polls, connections=min(connections, 32), seconds=1, expected=200)
        meter = running.meter(on)
        load = http1.closed(running.port, polls, connections=connections, seconds=given.seconds, expected=200)
        found = {
            "polls/s": load.per_s,
            "p50 ms": load.ms(0.5),
            "p99 ms": load.ms(0.99),
            "not 200": float(sum(load.failed.values())),
        }
        return found | report.cpu_ms(meter.used() | {"load": load.cpu_s}, load.answered)
