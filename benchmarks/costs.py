"""What single features cost: CPU of each process per code, accept to delivered, with and without a feature.

`as it is` has everything on that production has. The other cases differ from it in one feature: one that is
on by default is off (limits, guard, caps, logs, statistics), or one that is off by default is on (traces, a
webhook, Idempotency-Key). All numbers are in blocks in which codes were verified, so the guard refuses none.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from benchmarks.harness import http1, options, report, stage
from benchmarks.harness.stage import Latency, Otpqueue, Running, Stage

_OFF = ("NUMBER_15M", "NUMBER_DAY", "NUMBER_DAY_ALL", "CLIENT_IP_15M", "KEY_RATE")
# Two weeks of codes that were verified in each block of `numbers.ordinary`.
_KNOWN_BLOCKS = """
INSERT INTO guard_tallies (subject, hour, country, sent, verified)
SELECT '491511' || lpad(block::text, 3, '0'), date_trunc('hour', now()) - hours * interval '1 hour', 'DE',
       10000, 9000
FROM generate_series(0, 99) AS block, generate_series(1, 14 * 24) AS hours;
"""
_NO_STATISTICS = """
DO $$
DECLARE one record;
BEGIN
    FOR one IN
        SELECT tgrelid::regclass AS of, tgname AS name FROM pg_trigger WHERE tgname LIKE '%statistics'
    LOOP
        EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', one.of, one.name);
    END LOOP;
END
$$
"""


@dataclass(frozen=True)
class Feature:
    """How a case differs from `as it is`."""

    settings: dict[str, str] = field(default_factory=dict)
    statement: str = ""
    """What is run once on its database."""
    webhook: bool = False
    keyed: bool = False
    """Whether each request has an Idempotency-Key."""


FEATURES = {
    "limits": {"limits off": Feature({f"OTPQUEUE_LIMIT_{name}": "off" for name in _OFF})},
    "guard": {
        "guard off": Feature({"OTPQUEUE_GUARD": "off"}),
        "guard enforce": Feature({"OTPQUEUE_GUARD": "enforce"}),
    },
    "caps": {
        "caps off": Feature(
            {
                "OTPQUEUE_DAILY_CAP": "none",
                "OTPQUEUE_DAILY_CAP_PER_CLIENT": "",
                "OTPQUEUE_DAILY_CAPS_BY_COUNTRY": "{}",
            }
        )
    },
    "logs": {"logs: errors only": Feature({"OTPQUEUE_LOG_LEVEL": "ERROR"})},
    "traces": {"traces on": Feature({"OTPQUEUE_TRACES": "true"})},
    "webhooks": {"a webhook": Feature({"OTPQUEUE_WEBHOOK_ALLOW_PRIVATE": "true"}, webhook=True)},
    "statistics": {"statistics off": Feature(statement=_NO_STATISTICS)},
    "idempotency": {"Idempotency-Key": Feature(keyed=True)},
}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.common(parser, seconds=8, connections="8")
    parser.add_argument(
        "features", nargs="*", metavar="FEATURE", help=f"{', '.join(FEATURES)}; all unless given"
    )


def measure(on: Stage, given: argparse.Namespace) -> report.Found:
    """Measure all cases."""
    unknown = set(given.features) - FEATURES.keys()
    if unknown:
        raise SystemExit(f"unknown feature: {', '.join(sorted(unknown))}; known: {', '.join(FEATURES)}")
    on.set_latency(Latency(send_s=given.latency_ms / 1000))
    wanted = {"as it is": Feature()}
    for name in given.features or FEATURES:
        wanted |= FEATURES[name]
    cases: dict[str, partial[report.Measured]] = {}
    for ours in options.checkouts(given, processes=given.processes[0]):
        for name, feature in wanted.items():
            changed = Otpqueue(
                name=ours.name,
                checkout=ours.checkout,
                processes=ours.processes,
                settings={
                    **ours.settings,
                    **feature.settings,
                    "OTEL_EXPORTER_OTLP_ENDPOINT": on.provider_url,
                },
                receipts=True,
                webhook=f"{on.provider_url}/_webhook" if feature.webhook else None,
                prepared_with=_KNOWN_BLOCKS + feature.statement,
            )
            cases[f"{ours.name}, {name}"] = partial(_cost, on, changed, feature, given)
    return report.run(cases, rounds=given.rounds)


def _cost(on: Stage, ours: Otpqueue, feature: Feature, given: argparse.Namespace) -> report.Measured:
    numbers = options.fresh_numbers(given)
    with ours.running(on, sends=True) as running:
        stage.warm(on, running, numbers, sends=True)
        on.reset_provider()
        meter = running.meter(on)
        requests = _keyed(running, numbers) if feature.keyed else map(running.post, numbers)
        load = http1.closed(running.port, requests, connections=given.connections[0], seconds=given.seconds)
        stage.sent_all(on, running)
        used = report.cpu_ms(meter.used() | {"load": load.cpu_s}, load.answered)
        found = {"accepted/s": load.per_s, "not 202": float(sum(load.failed.values()))}
        own = ("api", "worker", "periodic", "beat", "postgres", "valkey")
        return found | {"cpu in all": sum(used.get(f"cpu {name}", 0) for name in own)} | used


def _keyed(running: Running, numbers: Iterator[str]) -> Iterator[bytes]:
    for number in numbers:
        yield with_key(running.post(number), number)


def with_key(request: bytes, key: str) -> bytes:
    """Return a request with an Idempotency-Key."""
    return request.replace(b"\r\n", b"\r\nIdempotency-Key: k-%s\r\n" % key.lstrip("+").encode(), 1)
