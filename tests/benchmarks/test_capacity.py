"""The capacity model adds measured costs up as docs/scaling.md describes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from benchmarks.capacity_model import BUSY, POOL, Costs, Life, predict_rate, show_sizing, size_deployment

COSTS = Costs(
    operations={
        "accept": {"api": 2.0, "postgres": 1.0, "valkey": 0.1, "load": 0.1},
        "send": {"api": 0.5, "worker": 1.0, "periodic": 0.1, "postgres": 1.0, "valkey": 0.1, "provider": 0.1},
        "poll": {"api": 1.0, "postgres": 0.2, "valkey": 0.05},
        "verify": {"api": 3.0, "postgres": 2.0, "valkey": 0.1, "provider": 0.1},
    },
    background={"worker": 20.0, "periodic": 50.0, "beat": 30.0},
    wal_bytes=10_000,
    stored_bytes=4_000,
    rows=7,
    redis_commands=40,
)


def test_cost_of_a_code_is_the_sum_of_its_operations() -> None:
    """An accept, a send, and as many polls and checks as a code has."""
    cost = Life(polls=2, verifies=1).cpu_ms(COSTS)

    assert cost["api"] == pytest.approx(2 + 0.5 + 2 * 1 + 3)
    assert cost["postgres"] == pytest.approx(1 + 1 + 2 * 0.2 + 2)
    assert cost["worker"] == 1


def test_rate_is_limited_by_the_cores_that_are_free() -> None:
    """Idle processes and other programs take their part first."""
    per_code = sum(Life().cpu_ms(COSTS).values())

    rate = predict_rate(COSTS, Life(), cores=2, api_processes=2, workers=1)
    beside = predict_rate(COSTS, Life(), cores=2, api_processes=2, workers=1, taken=1)

    assert rate == pytest.approx((2 - 0.1) * 1000 / per_code)
    assert beside == pytest.approx((1 - 0.1) * 1000 / per_code)
    assert predict_rate(COSTS, Life(), cores=2, api_processes=2, workers=1, taken=3) == 0


@pytest.mark.parametrize(("api_processes", "workers", "rate"), [(1, 9, 1000 / 7.5), (99, 1, 1000 / 1)])
def test_rate_is_limited_by_processes_of_one_core(api_processes: int, workers: int, rate: float) -> None:
    """On a large machine, the API processes or the workers are the limit."""
    found = predict_rate(COSTS, Life(), cores=64, api_processes=api_processes, workers=workers)

    assert found == pytest.approx(rate)


def test_sizes_follow_from_the_costs() -> None:
    """Processes have reserve; connections, rows, disk and calls follow from the rate."""
    size = size_deployment(COSTS, Life(), 1000, latency_s=0.3)

    assert size.api_processes == math.ceil(7.5 / BUSY)
    assert size.send_workers == math.ceil(300 / 64 / BUSY)
    assert size.periodic_workers == 2
    assert size.connections == size.api_processes * (POOL + 5) + (size.send_workers + 2) * (POOL + 1) + 1
    assert size.rows_per_day == 7 * 1000 * 86_400
    assert size.stored_gb_per_day == pytest.approx(4_000 * 1000 * 86_400 / 1e9)
    assert size.infobip_calls_per_s == 2000
    assert size_deployment(COSTS, Life(), 0.1).api_processes == 2


def test_senders_are_enough_for_the_cpu_and_for_the_calls_in_progress() -> None:
    """A fast provider needs workers for their CPU, a slow one for their threads."""
    busy = replace(COSTS, operations={**COSTS.operations, "send": {"worker": 10.0}})

    assert size_deployment(busy, Life(), 1000, latency_s=0.01).send_workers == math.ceil(10 / BUSY)
    assert size_deployment(COSTS, Life(), 1000, latency_s=1).send_workers == math.ceil(1000 / 64 / BUSY)


def test_table_has_a_column_for_each_rate() -> None:
    """Numbers are short, and large ones have separators."""
    table = show_sizing([size_deployment(COSTS, Life(), per_s) for per_s in (10, 50_000)]).splitlines()

    assert table[0] == "| codes a second | 10 | 50,000 |"
    assert all(line.count("|") == 4 for line in table)
    assert "| rows a day | 6 million | 30,240 million |" in table
