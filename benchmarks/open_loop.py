"""Open loop: requests arrive at a fixed rate, whether or not earlier ones were answered.

Prints the time to the 202, and the time until the request reaches the provider: from the moment it was made
(`to provider`) and from its 202 (`202 to provider`).
"""

from __future__ import annotations

import argparse
import re
from functools import partial

from benchmarks.accept import accepted
from benchmarks.harness import http1, options, report, stage
from benchmarks.harness.http1 import quantile_of
from benchmarks.harness.stage import Contestant, Latency, Stage

_NUMBER = re.compile(rb'"phone_?[nN]umber":"(\+[0-9]+)"')


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.common(parser, seconds=20)
    parser.set_defaults(latency_ms=300)
    options.baseline_option(parser, default="")
    parser.add_argument("--per-second", type=float, default=100, help="requests a second")
    parser.add_argument("--workers", type=int, default=1, help="processes of otpqueue that send")


def measure(on: Stage, given: argparse.Namespace) -> report.Found:
    """Measure all cases."""
    cases: dict[str, partial[report.Measured]] = {}
    for processes in given.processes:
        for ours in options.checkouts(given, processes=processes):
            ours.workers = given.workers
            cases[f"{ours.name}, {processes or 'default'} proc."] = partial(steady, on, ours, given)
    for baseline in options.baselines(given, "direct", "ordinary"):
        cases[f"{baseline.name}, {baseline.processes} proc."] = partial(steady, on, baseline, given)
    return report.run(cases, rounds=given.rounds)


def steady(on: Stage, contestant: Contestant, given: argparse.Namespace) -> report.Measured:
    """Measure one contestant at a fixed rate."""
    numbers = options.fresh_numbers(given)
    on.set_latency(Latency(send_s=0.02))
    with contestant.running(on, sends=True) as running:
        stage.warm(on, running, numbers, sends=True)
        on.set_latency(Latency(send_s=given.latency_ms / 1000))
        on.reset_provider()
        meter = running.meter(on)
        moments: dict[str, tuple[float, float]] = {}

        def note(request: bytes, status: int, _body: bytes, sent_at: float, answered_at: float) -> None:
            if status == 202 and (found := _NUMBER.search(request)):
                moments[found[1].decode()] = (sent_at, answered_at)

        load = http1.scheduled(
            running.port,
            map(running.post, numbers),
            per_s=given.per_second,
            seconds=given.seconds,
            on_answer=note,
        )
        stage.sent_all(on, running, seconds=600)
        used = meter.used()
        arrivals = on.arrivals()
        reached = [(arrivals[number], *moment) for number, moment in moments.items() if number in arrivals]
        found = accepted(load) | _quantiles("to provider", [at - asked for at, asked, _ in reached])
        found |= _quantiles("202 to provider", [at - taken for at, _, taken in reached])
        found["not sent"] = float(load.answered - len(arrivals))
        found["doubles"] = float(on.counts()["doubles"])
        return found | report.cpu_ms(used | {"load": load.cpu_s}, load.answered)


def _quantiles(name: str, values: list[float]) -> dict[str, float]:
    return {f"{name} p{round(share * 100)}": quantile_of(values, share) * 1000 for share in (0.5, 0.95)}
