"""Sending: drain a backlog with one and two senders; time from 202 to provider while others are in flight.

`in flight`: requests arrive at a fixed, low rate, so some are always at the provider. This measures how soon
the sender picks up one more.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import time
from functools import partial

from benchmarks.harness import http1, options, report, stage
from benchmarks.harness.stage import Contestant, Latency, Stage
from benchmarks.open_loop import steady


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.common(parser)
    options.baseline_option(parser, default="ordinary")
    parser.add_argument("--backlog", type=int, default=1000, help="codes that wait when the senders begin")
    parser.add_argument(
        "--workers", type=options.integers, default="1,2", metavar="N,N", help="processes that send"
    )
    parser.add_argument("--per-second", type=float, default=25, help="requests a second of `in flight`")


def measure(on: Stage, given: argparse.Namespace) -> report.Found:
    """Measure all cases."""
    cases: dict[str, partial[report.Measured]] = {}
    for workers in given.workers:
        for ours in options.checkouts(given, processes=given.processes[0]):
            ours.workers = workers
            name = f"{ours.name}, {workers} sender{'s' if workers > 1 else ''}"
            cases[name] = partial(_drain, on, ours, given)
    for baseline in options.baselines(given, "ordinary"):
        cases[f"{baseline.name}, {baseline.pool}"] = partial(_drain, on, baseline, given)
    for ours in options.checkouts(given, processes=given.processes[0]):
        cases[f"{ours.name}, in flight"] = partial(steady, on, ours, given)
    return report.run(cases, rounds=given.rounds)


def _drain(on: Stage, contestant: Contestant, given: argparse.Namespace) -> report.Measured:
    numbers = options.fresh_numbers(given)
    on.set_latency(Latency(send_s=given.latency_ms / 1000))
    with contestant.running(on, sends=True) as running:
        stage.warm(on, running, numbers, sends=True)
        on.reset_provider()
        senders = [pid for name, pid in running.pids.items() if name != "api"]
        stage.signal_families(senders, signal.SIGSTOP)
        load = http1.closed(
            running.port, map(running.post, itertools.islice(numbers, given.backlog)), connections=16
        )
        if load.failed:
            raise SystemExit(f"requests for codes were not accepted: {load.failed}")
        meter, begin = running.meter(on), time.monotonic()
        stage.signal_families(senders, signal.SIGCONT)
        stage.until(lambda: on.counts()["sent"] >= given.backlog, running.children, seconds=300)
        time.sleep(given.latency_ms / 1000 + 0.3)  # the last outcomes are recorded
        used = meter.used()
        at = sorted(on.arrivals().values())
        # From the first to the last: how soon the senders notice that they may go on is chance.
        found = {
            "sent/s": (len(at) - 1) / (at[-1] - at[0]),
            "first after ms": (at[0] - begin) * 1000,
            "doubles": float(on.counts()["doubles"]),
        }
        return found | report.cpu_ms(used, given.backlog)
