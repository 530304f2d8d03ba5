"""The capacity model: what each kind of process, Postgres, Redis and the disk need at a rate of codes.

Everything is per code, measured: CPU of each operation, messages, bytes and rows. The rest is arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

OTPQUEUE = ("api", "worker", "periodic", "beat")
"""Processes of otpqueue."""
ENGINES = ("postgres", "valkey")
HARNESS = ("provider", "load")
"""What a benchmark adds on its own machine."""

POOL = 8
"""OTPQUEUE_DATABASE_POOL."""
BUSY = 0.65
"""Share of a core that a process may use on average: above it, the queue before it grows with every burst."""
SENDER_THREADS = 64
"""OTPQUEUE_SENDER_THREADS."""
SERVER_CORES = 32
"""Of one Postgres server, to count servers in."""
DAY_S = 86_400

Cpu = Mapping[str, float]
"""CPU by kind of process, in milliseconds per operation, or per second for the background."""


@dataclass(frozen=True)
class Costs:
    """What was measured."""

    operations: Mapping[str, Cpu]
    """CPU of `accept`, `send` (with its delivery report), `poll` and `verify`."""
    background: Cpu
    """CPU per second of idle processes, one API process and one worker of each kind."""
    wal_bytes: float
    """Write-ahead log of Postgres per code."""
    stored_bytes: float
    """Tables and indexes per code."""
    rows: float
    """Rows per code, in all tables."""
    redis_commands: float
    """Commands per code."""


@dataclass(frozen=True)
class Life:
    """How often each operation is executed per code."""

    polls: float = 2
    verifies: float = 1

    def cpu_ms(self, costs: Costs) -> dict[str, float]:
        """Return the CPU of one code by kind of process, in milliseconds."""
        times = {"accept": 1.0, "send": 1.0, "poll": self.polls, "verify": self.verifies}
        total: dict[str, float] = {}
        for operation, often in times.items():
            for process, ms in costs.operations[operation].items():
                total[process] = total.get(process, 0) + often * ms
        return total


def predict_rate(
    costs: Costs, life: Life, *, cores: float, api_processes: int, workers: int, taken: float = 0
) -> float:
    """Return how many codes a second one machine completes that runs everything, the benchmark included.

    cores  Of the machine.
    taken  Cores that other programs use meanwhile.

    The slowest part limits: all cores together, or the processes that use at most one core each.
    """
    per_code = life.cpu_ms(costs)
    idle_cores = sum(costs.background.values()) / 1000
    limits = [(cores - taken - idle_cores) * 1000 / sum(per_code.values())]
    limits.append(api_processes * 1000 / per_code["api"])
    limits.append(workers * 1000 / per_code["worker"])
    return max(0.0, min(limits))


@dataclass(frozen=True)
class Sizing:
    """What a deployment needs at a rate of codes, in the long run and with reserve."""

    per_s: float
    api_processes: int
    send_workers: int
    periodic_workers: int
    postgres_cores: float
    redis_cores: float
    connections: int
    """To Postgres."""
    redis_commands_per_s: float
    wal_mb_per_s: float
    rows_per_day: float
    stored_gb_per_day: float
    infobip_calls_per_s: float
    """Sends and checks."""
    infobip_connections: float
    """Sends in progress, if Infobip takes `latency_s`."""


def size_deployment(costs: Costs, life: Life, per_s: float, *, latency_s: float = 0.3) -> Sizing:
    """Return what a rate of codes per second needs.

    latency_s  How long Infobip takes to accept a code.
    """
    per_code = life.cpu_ms(costs)

    def processes(kind: str) -> int:
        return max(1, math.ceil(per_s * per_code.get(kind, 0) / 1000 / BUSY))

    in_flight = per_s * latency_s
    api, periodic = max(2, processes("api")), max(2, processes("periodic"))
    senders = max(2, processes("worker"), math.ceil(in_flight / SENDER_THREADS / BUSY))
    return Sizing(
        per_s=per_s,
        api_processes=api,
        send_workers=senders,
        periodic_workers=periodic,
        postgres_cores=per_s * per_code["postgres"] / 1000 / BUSY,
        redis_cores=per_s * per_code["valkey"] / 1000 / BUSY,
        connections=api * (POOL + 5) + (senders + periodic) * (POOL + 1) + 1,
        redis_commands_per_s=per_s * costs.redis_commands,
        wal_mb_per_s=per_s * costs.wal_bytes / 1e6,
        rows_per_day=per_s * DAY_S * costs.rows,
        stored_gb_per_day=per_s * DAY_S * costs.stored_bytes / 1e9,
        infobip_calls_per_s=per_s * (1 + life.verifies),
        infobip_connections=in_flight,
    )


def show_sizing(sizings: list[Sizing]) -> str:
    """Return a table in Markdown, one column for each rate."""
    lines = {
        "API processes (a core each)": [f"{one.api_processes}" for one in sizings],
        "`worker --queues=send`": [f"{one.send_workers}" for one in sizings],
        "`worker --queues=periodic,slow`": [f"{one.periodic_workers}" for one in sizings],
        "Postgres, cores": [_number(one.postgres_cores) for one in sizings],
        f"Postgres, servers of {SERVER_CORES} cores": [
            f"{math.ceil(one.postgres_cores / SERVER_CORES)}" for one in sizings
        ],
        "Postgres, connections": [f"{one.connections:,}" for one in sizings],
        "Postgres, write-ahead log": [f"{_number(one.wal_mb_per_s)} MB/s" for one in sizings],
        "rows a day": [_million(one.rows_per_day) for one in sizings],
        "disk a day": [f"{_number(one.stored_gb_per_day)} GB" for one in sizings],
        "Redis, cores": [_number(one.redis_cores) for one in sizings],
        "Redis, commands a second, in scripts too": [_number(one.redis_commands_per_s) for one in sizings],
        "Infobip, calls a second": [f"{one.infobip_calls_per_s:,.0f}" for one in sizings],
        "Infobip, sends in progress": [f"{one.infobip_connections:,.0f}" for one in sizings],
    }
    head = ["codes a second", *(f"{one.per_s:,.0f}" for one in sizings)]
    rows = [head, ["---"] * len(head), *([label, *cells] for label, cells in lines.items())]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _million(value: float) -> str:
    return f"{value / 1e6:,.0f} million" if value >= 1e6 else f"{value:,.0f}"
