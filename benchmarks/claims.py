"""Claims: how many codes per second the counts of the day's sends bear, with one shard and with eight.

Each session only counts and commits. With one shard, claims wait for each other to commit.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from benchmarks.harness import report
from benchmarks.harness.options import integers
from benchmarks.harness.stage import plain
from otpqueue.embedded import EngineHome, Postgres
from otpqueue.store import migrate
from otpqueue.store.engine import make_engine
from otpqueue.store.functions import create_statements

_CAP = 1_000_000_000
_COUNT = """
SELECT * FROM {function}(
    current_date, ARRAY['all', 'client', 'country'], ARRAY['', 'a', 'GB'],
    array_fill(%(number)s::bigint, ARRAY[3]), array_fill(%(cap)s::bigint, ARRAY[3])
)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--sessions", type=integers, default="1,4,8,16")
    parser.add_argument("--requests", type=integers, default="4,64", help="of each claim")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="otpqueue-bench-") as folder,
        EngineHome(Path(folder) / "engines") as home,
        Postgres(home.path / "postgres") as postgres,
    ):
        engine = make_engine(postgres.create_database("counts"), pool_size=2)
        migrate.upgrade(engine)
        url = plain(engine.url.render_as_string(hide_password=False))
        engine.dispose()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_with_one_shard().encode())
        cases = {
            f"{sessions} sessions, {requests} requests, {shards} shards": _case(
                url, sessions, requests, function, given.seconds
            )
            for sessions in given.sessions
            for requests in given.requests
            for shards, function in ((1, "count_sends_in_one"), (8, "count_sends"))
        }
        report.show("claims", report.run(cases, rounds=given.rounds))


def _with_one_shard() -> str:
    (function,) = (one for one in create_statements() if "FUNCTION count_sends(" in one)
    renamed = function.replace("count_sends", "count_sends_in_one")
    return renamed.replace("shards CONSTANT smallint := 8", "shards CONSTANT smallint := 1")


def _case(
    url: str, sessions: int, requests: int, function: str, seconds: float
) -> Callable[[], report.Measured]:
    def measure() -> report.Measured:
        counted = [0] * sessions
        end = time.monotonic() + seconds

        def work(place: int) -> None:
            with psycopg.connect(url, autocommit=True) as connection:
                statement = _COUNT.format(function=function).encode()
                while time.monotonic() < end:
                    connection.execute(statement, {"number": requests, "cap": _CAP})
                    counted[place] += 1

        threads = [threading.Thread(target=work, args=(place,)) for place in range(sessions)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        claims = sum(counted) / seconds
        return {"claims/s": claims, "codes/s": claims * requests}

    return measure


if __name__ == "__main__":
    main()
