"""The table of docs/performance.md, from the reports of all benchmarks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

Report = Mapping[str, Any]

_BUSY = "otpqueue, 2 proc., 32 conn."
_OPERATIONS = ("accept", "send", "poll", "verify")
_MISSING = math.nan


def table(reports: Iterable[Report]) -> str:
    """Return a table in Markdown; `-` where a benchmark is not among the reports."""
    medians = _Medians(reports)
    lines = ["| | |", "|---|---|"]
    lines += [
        f"| {what} | {' / '.join(map(_short, values))}{unit} |" for what, values, unit in _rows(medians)
    ]
    return "\n".join(lines)


class _Medians:
    """Medians of all cases, those of `accept --new-blocks` under `new blocks`."""

    def __init__(self, reports: Iterable[Report]) -> None:
        self._found: dict[str, dict[str, dict[str, float]]] = {}
        for report in reports:
            name = "new blocks" if report["arguments"].get("new_blocks") else report["benchmark"]
            self._found[name] = report["medians"]

    def of(self, benchmark: str, case: str, *metrics: str) -> list[float]:
        """Return metrics of a case."""
        found = self._found.get(benchmark, {}).get(case, {})
        return [found.get(metric, _MISSING) for metric in metrics]

    def one(self, benchmark: str, case: str, *metrics: str) -> float:
        """Return the sum of metrics of a case."""
        return sum(self.of(benchmark, case, *metrics))

    def best(self, benchmark: str, baseline: str, metric: str) -> float:
        """Return the best of a baseline's cases."""
        cases = self._found.get(benchmark, {})
        found = [medians[metric] for case, medians in cases.items() if case.startswith(f"{baseline}, ")]
        return max(found, default=_MISSING)

    def last(self, benchmark: str) -> dict[str, float]:
        """Return the last case."""
        cases = list(self._found.get(benchmark, {}).values())
        return cases[-1] if cases else {}


def _rows(of: _Medians) -> list[tuple[str, list[float], str]]:
    accepted, direct = (of.one("accept", case, "accepted/s") for case in (_BUSY, "direct, 2 proc., 32 conn."))
    sent = of.one("endtoend", _BUSY, "sent/s")
    best, ordinary = (of.best("endtoend", name, "sent/s") for name in ("direct", "ordinary"))
    new, known = (
        of.one(name, _BUSY, "cpu api", "cpu postgres", "cpu valkey") for name in ("new blocks", "accept")
    )
    verified = [f"otpqueue, 2 proc., {connections} conn." for connections in (1, 64)]
    alone, beside = (
        of.one("purge", f"otpqueue, {name}", "p99 ms") for name in ("no purge", "beside a purge")
    )
    grown = of.last("growth")
    return [
        (
            "round trips per accept to Postgres / Redis",
            of.of("counts", "accept", "PG round trips", "Redis round trips"),
            "",
        ),
        (
            "messages published per accept under steady load",
            of.of("counts", "steady load, per accept", "publishes"),
            "",
        ),
        (
            "API CPU per accept / poll / verify",
            [
                of.one("accept", _BUSY, "cpu api"),
                of.one("poll", _BUSY, "cpu api"),
                of.one("verify", verified[1], "cpu api"),
            ],
            " ms",
        ),
        (
            "Postgres CPU per code, accept to delivered",
            of.of("costs", "otpqueue, as it is", "cpu postgres"),
            " ms",
        ),
        ("worker CPU per code", of.of("costs", "otpqueue, as it is", "cpu worker"), " ms"),
        ("CPU per accept, to blocks never seen before: to others", [new / known], " x"),
        ("accepted per second, 32 connections, API alone, 2 processes", [accepted], " /s"),
        ("the same, `direct`", [direct], " /s"),
        ("accepted and sent per second", [sent], " /s"),
        ("the same, the best of `direct` / `ordinary`", [best, ordinary], " /s"),
        (
            "open loop, 100/s, provider at 300 ms: accept p50 / p99",
            of.of("open", "otpqueue, 2 proc.", "p50 ms", "p99 ms"),
            " ms",
        ),
        ("the same: accept to provider p95", of.of("open", "otpqueue, 2 proc.", "to provider p95"), " ms"),
        (
            "verify, added to the provider's time: p50 at 1 / 64 connections",
            [of.one("verify", case, "added p50 ms") for case in verified],
            " ms",
        ),
        (
            "backlog of 1000: one sender / two / `ordinary`",
            [
                of.one("send", case, "sent/s")
                for case in ("otpqueue, 1 sender", "otpqueue, 2 senders", "ordinary, threads")
            ],
            " /s",
        ),
        (
            "202 to provider, others in flight: p50 / p95",
            of.of("send", "otpqueue, in flight", "202 to provider p50", "202 to provider p95"),
            " ms",
        ),
        (
            "growth to the largest tables, CPU of accept / send / poll / verify",
            [grown.get(f"cpu {name}", _MISSING) for name in _OPERATIONS],
            " x",
        ),
        ("the same, of Postgres", [grown.get(f"cpu {name} pg", _MISSING) for name in _OPERATIONS], " x"),
        ("accept p99 beside a purge: without", [beside / alone], " x"),
        ("`otpqueue dev` to ready: cold / warm", of.of("cold", "otpqueue", "cold s", "warm s"), " s"),
        ("`otpqueue dev`, idle: memory (PSS)", of.of("cold", "otpqueue", "PSS MB"), " MB"),
        ("`otpqueue dev`, idle: CPU of a core", of.of("cold", "otpqueue", "idle CPU %"), " %"),
    ]


def _short(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
