"""Accepted and sent per second: API, workers, beat and provider together, under as much load as they take."""

from __future__ import annotations

import argparse
import math
import time
from functools import partial

from benchmarks.accept import accepted
from benchmarks.harness import http1, options, report, stage
from benchmarks.harness.stage import Baseline, Contestant, Latency, Stage


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.common(parser, seconds=20)
    options.baseline_option(parser, default="direct,ordinary")
    parser.add_argument(
        "--direct-connections",
        type=options.integers,
        default="32,64,128,256",
        metavar="N,N",
        help="requests in flight at `direct`, which is as fast as its callers are many",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes of otpqueue that send")


def measure(on: Stage, given: argparse.Namespace) -> report.Found:
    """Measure all cases."""
    on.set_latency(Latency(send_s=given.latency_ms / 1000))
    cases: dict[str, partial[report.Measured]] = {}
    for processes in given.processes:
        for ours in options.checkouts(given, processes=processes):
            ours.workers = given.workers
            for connections in given.connections:
                name = f"{ours.name}, {processes or 'default'} proc., {connections} conn."
                cases[name] = partial(_endtoend, on, ours, connections, given)
    for baseline in options.baselines(given, "direct", "ordinary"):
        in_flight = given.direct_connections if baseline.module == "direct" else given.connections
        for connections in in_flight:
            name = f"{baseline.name}, {baseline.processes} proc., {connections} conn."
            cases[name] = partial(_endtoend, on, baseline, connections, given)
    return report.run(cases, rounds=given.rounds)


def _endtoend(
    on: Stage, contestant: Contestant, connections: int, given: argparse.Namespace
) -> report.Measured:
    numbers = options.fresh_numbers(given)
    with contestant.running(on, sends=True) as running:
        stage.warm(on, running, numbers, sends=True)
        on.reset_provider()
        meter, begin = running.meter(on), time.monotonic()
        load = http1.closed(
            running.port, map(running.post, numbers), connections=connections, seconds=given.seconds
        )
        # What is still waiting is sent after the measured time: its CPU counts, it does not count as sent.
        stage.sent_all(on, running, seconds=600)
        used = meter.used()
        arrivals = on.arrivals()
        sent = sum(1 for at in arrivals.values() if at <= begin + given.seconds)
        found = {"sent/s": sent / given.seconds, **accepted(load)}
        if not isinstance(contestant, Baseline):
            found["left s"] = max(arrivals.values(), default=math.nan) - begin - given.seconds
        found["not sent"] = float(load.answered - len(arrivals))
        found["doubles"] = float(on.counts()["doubles"])
        return found | report.cpu_ms(used | {"load": load.cpu_s}, load.answered)
