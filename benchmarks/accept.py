"""The API alone, without a worker: requests accepted per second, time to the 202, CPU of each process."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial

from benchmarks.harness import http1, options, report, stage
from benchmarks.harness.stage import Contestant, Latency, Stage


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.common(parser, seconds=8, connections="1,32,256")
    parser.set_defaults(processes=[1, 2])
    options.baseline_option(parser, default="direct")


def measure(on: Stage, given: argparse.Namespace) -> report.Found:
    """Measure all cases."""
    on.set_latency(Latency(send_s=given.latency_ms / 1000))
    cases: dict[str, partial[report.Measured]] = {}
    turns: list[tuple[str, Contestant]] = [
        (f"{one.name}, {processes or 'default'} proc.", one)
        for processes in given.processes
        for one in options.checkouts(given, processes=processes)
    ]
    turns += [
        (f"{one.name}, {one.processes} proc.", one) for one in options.baselines(given, "direct", "ordinary")
    ]
    for name, contestant in turns:
        for connections in given.connections:
            cases[f"{name}, {connections} conn."] = partial(_accept, on, contestant, connections, given)
    return report.run(cases, rounds=given.rounds)


def _accept(
    on: Stage, contestant: Contestant, connections: int, given: argparse.Namespace
) -> report.Measured:
    numbers: Iterator[str] = options.fresh_numbers(given)
    with contestant.running(on, sends=False) as running:
        stage.warm(on, running, numbers, sends=False, connections=min(connections, 32))
        meter = running.meter(on)
        load = http1.closed(
            running.port, map(running.post, numbers), connections=connections, seconds=given.seconds
        )
        return accepted(load) | report.cpu_ms(meter.used() | {"load": load.cpu_s}, load.answered)


def accepted(load: http1.Load) -> dict[str, float]:
    """Return what a run of accepts came to."""
    return {
        "accepted/s": load.per_s,
        "p50 ms": load.ms(0.5),
        "p99 ms": load.ms(0.99),
        "not 202": float(sum(load.failed.values())),
    }
