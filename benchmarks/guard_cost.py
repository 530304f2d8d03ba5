"""What the pumping guard costs: statements and CPU time per code, at acceptance and after the claim.

    python -m benchmarks guard [--codes 640] [--rounds 3] [--batch 16]

Embedded engines (durable, as in production), one thread. Countries and known blocks have 14 days of history.

| blocks       |                                                                    |
|--------------|--------------------------------------------------------------------|
| known        | 100 blocks in which people verified                                |
| new, chances | each number is of a block never seen before, and there are chances |
| new, refused | the same, and there are none: all are refused, or would be         |

`accept` is a whole request, accepted or refused; `guard` is what follows the claim of a batch. The modes take
turns; figures are medians of the rounds, per code, CPU in ms: in this process, and in Postgres's backends.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import phonenumbers
import psycopg
from sqlalchemy import Engine, insert, text

from otpqueue import clock
from otpqueue.domain.errors import DestinationPaused
from otpqueue.domain.guard import GuardMode, truncate_to_hour
from otpqueue.domain.limits import LIMITS
from otpqueue.embedded import EngineHome, Postgres, Valkey
from otpqueue.operations.request import RequestedCode
from otpqueue.settings import load
from otpqueue.store import claims, clients, migrate
from otpqueue.store.engine import connection, run
from otpqueue.store.prepared import PreparedStatement
from otpqueue.store.schema import guard_tallies
from otpqueue.telemetry import logs
from otpqueue.wiring import Parts

KINDS = ("known", "new, chances", "new, refused")
MANY = 10**6
_KNOWN_BLOCKS = 100
_HISTORY_H = 14 * 24

Figures = tuple[float, float, float]
"""CPU ms here, CPU ms in Postgres, statements."""


class Meter:
    """Adds up what calls cost."""

    def __init__(self, engine: Engine) -> None:
        with connection(engine) as conn:
            backend = conn.execute(text("SELECT pg_backend_pid()")).scalar_one()
        # proc_pid_stat(5): the fourth field is the parent, the postmaster of all backends.
        self._postmaster = Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1]
        self._spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        self._statements = 0
        for kind in (psycopg.Cursor, PreparedStatement):
            kind.execute = self._counting(kind.execute)  # type: ignore[method-assign]

    def _counting(self, execute: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self._statements += 1
            return execute(*args, **kwargs)

        return counted

    def measure(self, name: str, call: Callable[[], Any]) -> Any:
        """Make a call and return what it returns."""
        before = self._now()
        result = call()
        spent = self._spent[name]
        for index, (was, now) in enumerate(zip(before, self._now(), strict=True)):
            spent[index] += now - was
        return result

    def take(self, name: str, *, codes: int) -> Figures:
        """Return the cost of one code since the last call."""
        here_s, there_s, statements = self._spent.pop(name, [0.0, 0.0, 0.0])
        return here_s * 1000 / codes, there_s * 1000 / codes, statements / codes

    def _now(self) -> Figures:
        # Nanoseconds: the ticks of /proc/PID/stat are too long for one batch.
        children = Path(f"/proc/{self._postmaster}/task/{self._postmaster}/children").read_text().split()
        there = sum(int(Path(f"/proc/{one}/schedstat").read_text().split()[0]) for one in children)
        return time.process_time(), there / 1e9, self._statements


@dataclass
class Bench:
    """One deployment in all modes."""

    parts: dict[GuardMode, Parts]
    client_id: UUID
    meter: Meter
    batch: int
    known: Iterator[str]
    new: Iterator[str]

    def turn(self, kind: str, mode: GuardMode, *, codes: int) -> tuple[Figures, Figures]:
        """Accept codes, claim them in batches, and let the guard decide; return what both cost."""
        parts, now = self.parts[mode], clock.now()
        _reset(parts.engine, now, chances=kind != "new, refused")
        request = replace(parts.request, wake=lambda: True)
        numbers = [next(self.known if kind == "known" else self.new) for _ in range(codes)]

        def accept() -> None:
            for number in numbers:
                with suppress(DestinationPaused):
                    request(RequestedCode(phone_number=number), client_id=self.client_id, now=now)

        def claim() -> list[claims.Claim]:
            return run(
                parts.engine,
                lambda conn: claims.claim(
                    conn, slots=self.batch, lease_s=60, worker="benchmark", now=now, vault=parts.vault
                ),
            )

        self.meter.measure("accept", accept)
        while claimed := claim():
            if mode is not GuardMode.OFF:
                self.meter.measure("guard", lambda found=claimed: parts.guard_claims.decide(found, now))
        return self.meter.take("accept", codes=codes), self.meter.take("guard", codes=codes)


def _reset(engine: Engine, now: datetime, *, chances: bool) -> None:
    """Empty the tables, and put in 14 days: all of it was verified, or of chances nothing."""
    chance = {"sent": MANY, "verified": MANY if chances else 0}
    known = {"sent": MANY, "verified": MANY}
    subjects = [(f"447400{block:02}", "GB", 6, known) for block in range(_KNOWN_BLOCKS)]
    subjects += [("GB", "GB", 1, chance), ("*", "ZZ", 1, chance)]
    rows = [
        {
            "subject": subject,
            "country": country,
            "hour": truncate_to_hour(now) - timedelta(hours=hours),
            **counts,
        }
        for subject, country, step, counts in subjects
        for hours in range(0, _HISTORY_H, step)
    ]
    tables = "otp_requests, guard_tallies, guard_addresses, guard_decisions"
    with connection(engine) as conn:
        conn.execute(text(f"TRUNCATE {tables} CASCADE"))
        conn.execute(insert(guard_tallies), rows)
        conn.execute(text("VACUUM ANALYZE otp_requests, guard_tallies"))


def _valid(pattern: Callable[[int], str], count: int) -> Iterator[str]:
    """Return numbers that may be, again and again."""
    numbers = (pattern(index) for index in range(count))
    return itertools.cycle([one for one in numbers if phonenumbers.is_valid_number(phonenumbers.parse(one))])


def measure(bench: Bench, *, codes: int, rounds: int) -> None:
    """Take turns, and print the medians."""
    found = defaultdict(list)
    for kind, mode in itertools.product(KINDS, GuardMode):
        bench.turn(kind, mode, codes=bench.batch * 8)
    for _ in range(rounds):
        for kind, mode in itertools.product(KINDS, GuardMode):
            found[kind, mode].append(bench.turn(kind, mode, codes=codes))
    print(f"{'per code':<24}{'accept: here':>14}{'Postgres':>10}{'statements':>12}", end="")
    print(f"{'guard: here':>14}{'Postgres':>10}{'statements':>12}")
    for (kind, mode), turns in found.items():
        accept, guard = (
            [statistics.median(turn[part][figure] for turn in turns) for figure in range(3)]
            for part in range(2)
        )
        print(f"{kind:<15}{mode.value:<9}{accept[0]:14.2f}{accept[1]:10.2f}{accept[2]:12.1f}", end="")
        print(f"{guard[0]:14.3f}{guard[1]:10.3f}{guard[2]:12.2f}", flush=True)


def main() -> None:
    """Start everything, measure, stop everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--codes", type=int, default=640, help="codes in each measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16, help="codes in each claim")
    given = parser.parse_args()
    logs.configure_logs(process="benchmark", style="readable", level="ERROR")
    with (
        tempfile.TemporaryDirectory() as folder,
        EngineHome(Path(folder)) as home,
        Postgres(home.path / "postgres") as postgres,
        Valkey(home.path / "valkey") as valkey,
    ):
        environment = {
            **os.environ,
            "DATABASE_URL": postgres.url,
            "REDIS_URL": valkey.url,
            "OTPQUEUE_SEAL_KEYS": "k1:" + base64.b64encode(b"s" * 32).decode(),
            "OTPQUEUE_HASH_KEY": base64.b64encode(b"h" * 32).decode(),
            **{limit.setting: "off" for limit in LIMITS.values()},
        }
        parts = {
            mode: Parts(load(environment | {"OTPQUEUE_GUARD": mode.value}, dotenv=None)) for mode in GuardMode
        }
        migrate.upgrade(parts[GuardMode.OFF].engine)
        with connection(parts[GuardMode.OFF].engine) as conn:
            client_id = clients.ensure_client(conn, "benchmark", now=clock.now())
        bench = Bench(
            parts=parts,
            client_id=client_id,
            meter=Meter(parts[GuardMode.OFF].engine),
            batch=given.batch,
            known=_valid(lambda index: f"+447400{index % 100:02}{index // 100:04}", 100_000),
            new=_valid(lambda index: f"+4474{1000 + index:04}0001", 9000),
        )
        measure(bench, codes=given.codes, rounds=given.rounds)
        for part in parts.values():
            part.close()


if __name__ == "__main__":
    main()
