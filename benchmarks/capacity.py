"""Capacity: predict how many codes a second this machine completes, from the cost of each operation.

A code's life is an accept, a send with its delivery report, some polls and a check. First each operation is
measured alone: CPU by kind of process, write-ahead log, rows, bytes, Redis commands. The model
(capacity_model.py) adds them up and predicts the rate and the CPU of whole lives. Then whole lives are
measured. The last table sizes deployments.

    python -m benchmarks capacity
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import os
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import redis

from benchmarks.capacity_model import Costs, Life, predict_rate, show_sizing, size_deployment
from benchmarks.harness import http1, numbers, stage
from benchmarks.harness.provider import CODE
from benchmarks.harness.stage import Latency, Otpqueue, Running, Stage

TOLERANCE = 0.25
CONNECTIONS = 32
LIVES_AT_ONCE = 512
CHECK_AFTER_S = 1.0
"""How long after its acceptance a code is checked."""
TOO_EARLY_S = 0.25
IDLE_S = 5.0
TABLES = ("otp_requests", "send_attempts", "checks", "receipts", "moves", "webhook_deliveries")
SIZES = (10, 1_000, 50_000)


@dataclass
class Measured:
    """One round: the costs of the operations, and what whole lives took."""

    costs: Costs
    per_s: float
    """Lives a second."""
    cpu_ms: dict[str, float]
    """CPU per life, by kind of process."""
    taken: float
    """Cores that programs other than the benchmark used meanwhile."""
    answers: dict[str, int]
    """Calls by kind and status."""


def main() -> None:
    """Measure, print prediction, measurement and deviation, and exit with 1 if they differ too much."""
    given = _parse()
    life = Life(polls=given.polls)
    rounds = []
    with Stage() as on:
        on.set_latency(Latency(send_s=given.latency_ms / 1000, verify_s=given.latency_ms / 1000))
        ours = Otpqueue("otpqueue", processes=given.processes)
        ours.workers = given.workers
        for number in range(1, given.rounds + 1):
            costs = _measure_costs(on, ours, given)
            rounds.append(_measure_lives(on, ours, given, costs))
            one = rounds[-1]
            predicted = _predict(given, costs, one.taken)
            print(
                f"round {number}: {predicted:.1f} codes/s predicted, {one.per_s:.1f} measured, "
                f"other programs used {one.taken:.2f} cores; {one.answers}",
                file=sys.stderr,
            )
    costs = _median_costs([one.costs for one in rounds])
    taken = statistics.median(one.taken for one in rounds)
    predicted = _predict(given, costs, taken)
    measured = statistics.median(one.per_s for one in rounds)
    cpu = {name: statistics.median(one.cpu_ms[name] for one in rounds) for name in rounds[0].cpu_ms}
    deviation = _show(costs, life, cpu, predicted=predicted, measured=measured, taken=taken)
    print(f"\nSizes, from these costs ({life.polls:g} polls and 1 check per code):\n")
    print(show_sizing([size_deployment(costs, life, per_s) for per_s in SIZES]))
    if given.json:
        given.json.write_text(json.dumps([asdict(one) for one in rounds], indent=2) + "\n")
    if abs(deviation) > TOLERANCE:
        raise SystemExit(f"the prediction deviates by more than {TOLERANCE:.0%}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--codes", type=int, default=2000, help="codes for the cost of each operation")
    parser.add_argument("--seconds", type=float, default=20, help="how long whole lives are measured")
    parser.add_argument("--polls", type=int, default=2, help="polls per code")
    parser.add_argument("--processes", type=int, default=2, help="API processes")
    parser.add_argument("--workers", type=int, default=1, help="processes that send")
    parser.add_argument("--latency-ms", type=float, default=20, help="how long the provider takes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rounds to a file")
    return parser.parse_args()


# --- The cost of each operation


def _measure_costs(on: Stage, ours: Otpqueue, given: argparse.Namespace) -> Costs:
    """Measure each operation alone. All processes run: periodic jobs belong to the cost of a code."""
    codes = given.codes
    with ours.running(on, sends=True, receipts=True) as running:
        stage.warm(on, running, numbers.ordinary(), sends=True)
        _wait_for_reports(running)
        meters = _Meters(on, running)
        before, begin = _read_totals(on, running), time.monotonic()
        wanted = itertools.islice(numbers.ordinary(), 50_000, None)
        senders = [pid for name, pid in running.pids.items() if name.startswith("worker")]

        stage.signal_families(senders, signal.SIGSTOP)
        paths: list[tuple[str, bytes]] = []

        def note(request: bytes, status: int, body: bytes, _sent_at: float, _answered_at: float) -> None:
            if status == 202:
                session = json.loads(request.partition(b"\r\n\r\n")[2])["session_id"]
                paths.append((f"/v1/otp-requests/{json.loads(body)['id']}", session.encode()))

        def call(requests: Iterable[bytes], expected: int = 200) -> http1.Load:
            load = http1.closed(
                running.port, iter(requests), connections=CONNECTIONS, expected=expected, on_answer=note
            )
            _require(load)
            return load

        meters.start()
        load = call(map(running.post, itertools.islice(wanted, codes)), 202)
        meters.stop("accept", load.answered, load)
        stage.signal_families(senders, signal.SIGCONT)
        _wait_for_reports(running)
        meters.start()
        load = call(http1.request("GET", path, b"", *running.headers) for path, _ in paths)
        meters.stop("poll", load.answered, load)
        meters.start()
        load = call(_check(path, session, running.headers) for path, session in paths)
        meters.stop("verify", load.answered, load)
        time.sleep(1)
        seconds = time.monotonic() - begin
        totals = {
            name: (value - before[name] - meters.idle_totals[name] * seconds) / len(paths)
            for name, value in _read_totals(on, running).items()
        }

        # A backlog is sent in larger batches than codes that arrive meanwhile, which therefore cost more.
        meters.start()
        load = call(map(running.post, itertools.islice(wanted, codes)), 202)
        _wait_for_reports(running)
        meters.stop("accept and send", load.answered, load)
        both, accept = meters.operations.pop("accept and send"), meters.operations["accept"]
        meters.operations["send"] = {kind: max(0.0, ms - accept.get(kind, 0)) for kind, ms in both.items()}
    return Costs(meters.operations, meters.background, **totals)


class _Meters:
    """Measures operations, less what the processes use while idle, which it measures first."""

    def __init__(self, on: Stage, running: Running) -> None:
        self._on, self._running = on, running
        self.operations: dict[str, dict[str, float]] = {}
        totals = _read_totals(on, running)
        self.start()
        time.sleep(IDLE_S)
        used = _by_kind(self._meter.used())
        self.background = {kind: cpu_s * 1000 / IDLE_S for kind, cpu_s in used.items()}
        self.idle_totals = {
            name: (value - totals[name]) / IDLE_S for name, value in _read_totals(on, running).items()
        }

    def start(self) -> None:
        """Begin an operation."""
        self._meter, self._begin = self._running.meter(self._on), time.monotonic()

    def stop(self, name: str, count: int, load: http1.Load | None = None) -> None:
        """End an operation that was executed `count` times, and keep its costs."""
        seconds = time.monotonic() - self._begin
        self.operations[name] = {
            kind: max(0.0, (cpu_s * 1000 - self.background[kind] * seconds) / count)
            for kind, cpu_s in _by_kind(self._meter.used()).items()
        } | {"load": (load.cpu_s if load else 0) * 1000 / count}


def _by_kind(used: Mapping[str, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, seconds in used.items():
        kind = name.split()[0]
        found[kind] = found.get(kind, 0) + seconds
    return found


def _predict(given: argparse.Namespace, costs: Costs, taken: float) -> float:
    return predict_rate(
        costs,
        Life(polls=given.polls),
        cores=_cores(),
        api_processes=given.processes,
        workers=given.workers,
        taken=taken,
    )


def _wait_for_reports(running: Running) -> None:
    """Wait until every code was sent and its delivery report was recorded."""
    waiting = "SELECT count(*) FROM otp_requests WHERE status IN ('queued', 'sent')"
    stage.until(lambda: stage.rows(running.database_url, waiting) == [(0,)], running.children, seconds=300)


def _read_totals(on: Stage, running: Running) -> dict[str, float]:
    counts = " + ".join(f"(SELECT count(*) FROM {table})" for table in TABLES)  # noqa: S608 - constants
    sizes = (
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    )
    statement = f"SELECT pg_current_wal_lsn() - '0/0', ({sizes} AND relkind = 'r'), {counts}"
    ((wal, stored, rows),) = stage.rows(running.database_url, statement)
    with redis.Redis.from_url(on.valkey.url) as client:
        commands = client.info("stats")["total_commands_processed"]
    return {
        "wal_bytes": float(str(wal)),
        "stored_bytes": float(str(stored)),
        "rows": float(str(rows)),
        "redis_commands": float(commands),
    }


def _check(path: str, session: bytes, headers: tuple[str, ...]) -> bytes:
    body = b'{"code":"%s","session_id":"%s"}' % (CODE.encode(), session)
    return http1.request("POST", path + "/verify", body, *headers)


def _require(load: http1.Load) -> None:
    """Stop if too few calls were answered as expected to be measured; a busy machine rejects some."""
    if load.answered < 0.8 * sum(load.statuses.values()):
        raise SystemExit(f"only {load.answered} calls were answered as expected; others: {load.failed}")


# --- Whole lives


@dataclass
class _Lives:
    """The calls of many codes, each in order: accept, polls, check."""

    running: Running
    polls: int
    numbers: Iterator[str]
    open: int = 0
    done_at: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    _due: list[tuple[float, int, bytes]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=itertools.count)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Return the next call. Raises StopIteration while all codes wait."""
        if self._due and self._due[0][0] <= time.monotonic():
            return heapq.heappop(self._due)[2]
        if self.open >= LIVES_AT_ONCE:
            raise StopIteration
        self.open += 1
        return self.running.post(next(self.numbers))

    def note(self, request: bytes, status: int, body: bytes, _sent_at: float, at: float) -> None:
        """Plan the next call of the code that was answered."""
        kind = "poll" if request.startswith(b"GET") else "verify" if b"/verify " in request[:80] else "accept"
        self.answers[f"{kind} {status}"] += 1
        if kind == "accept" and status == 202:
            path = f"/v1/otp-requests/{json.loads(body)['id']}"
            session = json.loads(request.partition(b"\r\n\r\n")[2])["session_id"].encode()
            for number in range(self.polls):
                poll = http1.request("GET", path, b"", *self.running.headers)
                self._plan(at + CHECK_AFTER_S * number / self.polls, poll)
            self._plan(at + CHECK_AFTER_S, _check(path, session, self.running.headers))
        elif kind == "verify" and status == 409:
            self._plan(at + TOO_EARLY_S, request)
        elif kind != "poll":
            self.open -= 1
            if status == 200:
                self.done_at.append(at)

    def _plan(self, at: float, request: bytes) -> None:
        heapq.heappush(self._due, (at, next(self._order), request))


def _measure_lives(on: Stage, ours: Otpqueue, given: argparse.Namespace, costs: Costs) -> Measured:
    with ours.running(on, sends=True, receipts=True) as running:
        stage.warm(on, running, numbers.ordinary(), sends=True)
        _wait_for_reports(running)
        lives = _Lives(running, given.polls, itertools.islice(numbers.ordinary(), 50_000, None))
        # Until as many codes end as begin.
        http1.driven(
            running.port, lives, connections=CONNECTIONS, seconds=3 * CHECK_AFTER_S, on_answer=lives.note
        )
        lives.answers.clear()
        meter, busy, begin = running.meter(on), _busy_s(), time.monotonic()
        load = http1.driven(
            running.port, lives, connections=CONNECTIONS, seconds=given.seconds, on_answer=lives.note
        )
        seconds = time.monotonic() - begin
        used = _by_kind(meter.used()) | {"load": load.cpu_s}
        taken = max(0.0, (_busy_s() - busy - sum(used.values())) / seconds)
        done = sum(1 for at in lives.done_at if at >= begin)
        cpu = {
            kind: (cpu_s * 1000 - costs.background.get(kind, 0) * seconds) / done
            for kind, cpu_s in used.items()
        }
    return Measured(costs, done / seconds, cpu, taken, dict(lives.answers))


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _busy_s() -> float:
    """Return the CPU seconds that all programs have used on this machine, with the hypervisor's share."""
    fields = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]))
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK")


# --- What is printed


def _median_costs(rounds: list[Costs]) -> Costs:
    def median(values: list[Mapping[str, float]]) -> dict[str, float]:
        return {name: statistics.median(one[name] for one in values) for name in values[0]}

    first = rounds[0]
    return Costs(
        operations={name: median([one.operations[name] for one in rounds]) for name in first.operations},
        background=median([one.background for one in rounds]),
        **{
            name: statistics.median(getattr(one, name) for one in rounds)
            for name in ("wal_bytes", "stored_bytes", "rows", "redis_commands")
        },
    )


def _show(
    costs: Costs, life: Life, cpu: Mapping[str, float], *, predicted: float, measured: float, taken: float
) -> float:
    """Print the tables and return the deviation of the prediction from the measurement."""
    kinds = ["api", "worker", "periodic", "beat", "postgres", "valkey", "provider", "load"]
    per_code = life.cpu_ms(costs)
    rows = {name: dict(one) for name, one in costs.operations.items()}
    rows |= {"a code, predicted": per_code, "a code, measured": dict(cpu)}
    print("\n" + "CPU, ms".ljust(20) + "".join(kind.rjust(10) for kind in [*kinds, "all"]))
    for name, row in rows.items():
        cells = [row.get(kind, 0) for kind in kinds]
        print(name.ljust(20) + "".join(f"{cell:10.2f}" for cell in [*cells, sum(cells)]))
    print("idle, ms/s".ljust(20) + "".join(f"{costs.background.get(kind, 0):10.1f}" for kind in kinds))
    print(
        f"\nper code: {costs.rows:.1f} rows, {costs.stored_bytes / 1000:.1f} kB in tables and indexes, "
        f"{costs.wal_bytes / 1000:.1f} kB of write-ahead log, {costs.redis_commands:.1f} Redis commands"
    )
    deviation = predicted / measured - 1
    whole, real = sum(per_code.values()), sum(cpu.values())
    print(f"other programs used {taken:.2f} of {_cores()} cores\n")
    print("".ljust(20) + "predicted".rjust(12) + "measured".rjust(12) + "deviation".rjust(12))
    print("codes a second".ljust(20) + f"{predicted:12.1f}{measured:12.1f}{deviation:12.0%}")
    print("CPU per code, ms".ljust(20) + f"{whole:12.2f}{real:12.2f}{whole / real - 1:12.0%}")
    return deviation
