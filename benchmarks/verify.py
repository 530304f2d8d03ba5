"""Checks of codes: time beyond the provider's own, and CPU of each process."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator

from benchmarks.harness import http1, options, report, stage
from benchmarks.harness.provider import CODE
from benchmarks.harness.stage import Latency, Otpqueue, Running, Stage


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.common(parser, connections="1,64")
    parser.add_argument(
        "--verify-latency-ms", type=float, default=20, help="how long the provider takes to check"
    )
    parser.add_argument(
        "--requests", type=int, default=800, help="codes that are checked in each case, once each"
    )


def measure(on: Stage, given: argparse.Namespace) -> report.Found:
    """Measure all cases."""
    on.set_latency(Latency(send_s=0.005, verify_s=given.verify_latency_ms / 1000))
    cases = options.cases(given, lambda ours, connections: _verify(on, ours, connections, given))
    return report.run(cases, rounds=given.rounds)


def _verify(on: Stage, ours: Otpqueue, connections: int, given: argparse.Namespace) -> report.Measured:
    numbers = options.fresh_numbers(given)
    # Sequential calls take longer, and a few are enough.
    count = given.requests if connections > 1 else min(given.requests, 200)
    with ours.running(on, sends=True) as running:
        warming, measured = 100, count
        checks = iter(sent_codes(on, running, numbers, warming + measured))
        # Nothing else is to be done now: what is measured is the checks alone.
        running.stop(*(name for name in list(running.children) if name != "api"))
        http1.closed(running.port, itertools.islice(checks, warming), connections=16, expected=200)
        meter = running.meter(on)
        load = http1.closed(running.port, checks, connections=connections, expected=200)
        found = {
            "verified/s": load.per_s,
            "p50 ms": load.ms(0.5),
            "added p50 ms": load.ms(0.5) - given.verify_latency_ms,
            "added p99 ms": load.ms(0.99) - given.verify_latency_ms,
            "not 200": float(sum(load.failed.values())),
        }
        return found | report.cpu_ms(meter.used() | {"load": load.cpu_s}, load.answered)


def sent_codes(
    on: Stage, running: Running, numbers: Iterator[str], count: int, *, connections: int = 16
) -> list[bytes]:
    """Request this many codes, wait until they are sent, and return the HTTP requests that verify them."""
    paths = accepted_paths(running, numbers, count, connections=connections)
    stage.sent_all(on, running)
    body = {path: b'{"code":"%s","session_id":"%s"}' % (CODE.encode(), session) for path, session in paths}
    wait_until_sent(running, paths[-1][0])
    return [http1.request("POST", path + "/verify", text, *running.headers) for path, text in body.items()]


def accepted_paths(
    running: Running, numbers: Iterator[str], count: int, *, connections: int = 16
) -> list[tuple[str, bytes]]:
    """Request this many codes and return their paths with their sessions."""
    found: list[tuple[str, bytes]] = []

    def note(request: bytes, status: int, body: bytes, _sent_at: float, _answered_at: float) -> None:
        if status == 202:
            session = json.loads(request.partition(b"\r\n\r\n")[2])["session_id"]
            found.append((f"/v1/otp-requests/{json.loads(body)['id']}", session.encode()))

    wanted = map(running.post, itertools.islice(numbers, count))
    load = http1.closed(running.port, wanted, connections=connections, on_answer=note)
    if load.failed:
        raise SystemExit(f"requests for codes were not accepted: {load.failed}")
    return found


def wait_until_sent(running: Running, path: str) -> None:
    """Wait until a request says that its code was sent."""

    def was_sent() -> bool:
        status, body = http1.call(running.port, "GET", path, b"", *running.headers)
        return status == 200 and json.loads(body)["status"] in {"sent", "delivered"}

    stage.until(was_sent, running.children)
