"""Growth: accept, send, poll and verify with 10 000 and with 1 000 000 or more ended requests in the tables.

Each size has a database of its own, filled once. `N rows / 10000` is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import statistics
import time
from functools import partial

from benchmarks import verify
from benchmarks.harness import history, http1, options, report, stage
from benchmarks.harness.stage import Latency, Otpqueue, Running, Stage

_BASE = 10_000


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.common(parser, seconds=6, connections="16")
    options.history_options(parser)
    parser.add_argument(
        "--requests", type=int, default=400, help="codes that are sent and checked in each case"
    )


def measure(on: Stage, given: argparse.Namespace) -> report.Found:
    """Fill the databases and measure all cases."""
    sizes = sorted({_BASE, min(given.rows, 1_000_000), given.rows})
    cases: dict[str, partial[report.Measured]] = {}
    for ours in options.checkouts(given, processes=given.processes[0]):
        for size in sizes:
            url = history.make(on, ours, size)
            cases[f"{ours.name}, {size} rows"] = partial(_grown, on, ours, url, given)
    found = report.run(cases, rounds=given.rounds)
    for ours in options.checkouts(given):
        small, *larger = (name for name in found if name.startswith(f"{ours.name}, "))
        for name in larger:
            found[f"{name} / {_BASE}"] = [_ratios(found[small], found[name])]
    return found


def _ratios(small: list[report.Measured], large: list[report.Measured]) -> report.Measured:
    return {
        metric: statistics.median(one[metric] for one in large) / base
        for metric in small[0]
        if (base := statistics.median(one[metric] for one in small))
    }


def _grown(on: Stage, ours: Otpqueue, url: str, given: argparse.Namespace) -> report.Measured:
    numbers = options.fresh_numbers(given)
    on.set_latency(Latency(send_s=0.02, verify_s=0.02))
    (connections,) = given.connections[:1]
    found: dict[str, float] = {}
    with ours.running(on, sends=True, database_url=url) as running:
        stage.warm(on, running, numbers, sends=True)
        senders = [pid for name, pid in running.pids.items() if name != "api"]
        stage.signal_families(senders, signal.SIGSTOP)
        on.reset_provider()

        meter = running.meter(on)
        load = http1.closed(
            running.port, map(running.post, numbers), connections=connections, seconds=given.seconds
        )
        found["accepted/s"] = load.per_s
        found |= _cpu("accept", meter.used(), load.answered)
        backlog = load.answered

        meter = running.meter(on)
        stage.signal_families(senders, signal.SIGCONT)
        wait_for(on, running, backlog)
        time.sleep(0.5)
        at = sorted(on.arrivals().values())
        found["sent/s"] = (len(at) - 1) / (at[-1] - at[0])
        found |= _cpu("send", meter.used(), backlog)

        checks = verify.sent_codes(on, running, numbers, given.requests)
        running.stop(*(name for name in list(running.children) if name != "api"))
        polls = [
            http1.request("GET", one.split(b" ")[1].decode().removesuffix("/verify"), b"", *running.headers)
            for one in checks
        ]
        meter = running.meter(on)
        load = http1.closed(
            running.port,
            itertools.cycle(polls),
            connections=connections,
            seconds=given.seconds / 2,
            expected=200,
        )
        found["polls/s"] = load.per_s
        found |= _cpu("poll", meter.used(), load.answered)

        meter = running.meter(on)
        load = http1.closed(running.port, iter(checks), connections=connections, expected=200)
        found["verify p50 ms"] = load.ms(0.5)
        found |= _cpu("verify", meter.used(), load.answered)
        found["failed"] = float(sum(load.failed.values()))
    return found


def wait_for(on: Stage, running: Running, count: int) -> None:
    """Wait until the provider has received requests for this many codes."""
    stage.until(lambda: on.counts()["sent"] >= count, running.children, seconds=300)


def _cpu(operation: str, used: dict[str, float], count: int) -> dict[str, float]:
    of = report.cpu_ms(used, count)
    own = sum(of.get(f"cpu {name}", 0) for name in ("api", "worker"))
    return {f"cpu {operation}": own, f"cpu {operation} pg": of["cpu postgres"]}
