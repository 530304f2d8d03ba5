"""Round trips, statements, commands and messages of one call: figures that do not depend on the machine.

One API process and one sender, each behind proxies that read what it sends to Postgres and Redis. The counts
of a call are medians of many calls, which leaves out what a process does by itself every few seconds. A test
compares them with a table.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from benchmarks import verify
from benchmarks.costs import with_key
from benchmarks.harness import http1, numbers, options, report, stage
from benchmarks.harness.provider import CODE
from benchmarks.harness.stage import Latency, Otpqueue, Running, Stage
from benchmarks.harness.wiretap import PostgresTap, RedisTap, Traffic

Counts = dict[str, float]

_WARMING = 10
"""Calls before those that count: a connection prepares a statement when it sees it for the fifth time."""

_TIMES = 9
_ALONE = 5
_STEADY = 40
_STEADY_PAUSE_S = 0.03
_QUIET_S = 0.02
"""After an answer: what follows it belongs to the call, too."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.checkout_options(parser)


def measure(on: Stage, given: argparse.Namespace) -> report.Found:
    """Count `rounds` times."""
    found: report.Found = {}
    ours, *others = options.checkouts(given, processes=1)
    for _ in range(given.rounds):
        for checkout in (ours, *others):
            for name, counts in count(on, checkout).items():
                label = name if checkout is ours else f"{checkout.name}: {name}"
                found.setdefault(label, []).append(counts)
    return found


def count(
    on: Stage, ours: Otpqueue, *, show: Callable[[str, Traffic], None] = lambda *_: None
) -> dict[str, Counts]:
    """Return the counts of each kind of call; `show` receives the traffic of the last call of each kind."""
    on.set_latency(Latency(send_s=0.02, verify_s=0.005))
    with ExitStack() as stack:
        taps = {
            name: (
                stack.enter_context(PostgresTap(on.postgres.port)),
                stack.enter_context(RedisTap(on.valkey.port)),
            )
            for name in ("api", "worker 1")
        }

        def rewire(name: str, environment: dict[str, str]) -> dict[str, str]:
            if name not in taps:
                return environment
            postgres, redis = taps[name]
            return environment | {
                "DATABASE_URL": stage.moved_to(environment["DATABASE_URL"], postgres.port)
                + "?sslmode=disable",
                "REDIS_URL": stage.moved_to(environment["REDIS_URL"], redis.port),
            }

        running = stack.enter_context(ours.running(on, sends=True, parts=("api", "worker 1"), rewire=rewire))
        return _Counting(on, running, taps, show).all()


class _Counting:
    def __init__(
        self,
        on: Stage,
        running: Running,
        taps: dict[str, tuple[PostgresTap, RedisTap]],
        show: Callable[[str, Traffic], None],
    ) -> None:
        self._on, self._running, self._taps, self._show = on, running, taps, show
        self._numbers: Iterator[str] = numbers.ordinary()
        self._new_blocks = numbers.new_blocks()

    def all(self) -> dict[str, Counts]:
        """Count everything, in an order in which one thing prepares the next."""
        # On one connection, so that few of the pool's are used and all of those are warm.
        codes = 2 * (_WARMING + _TIMES)
        checks = verify.sent_codes(self._on, self._running, self._numbers, codes, connections=1)
        polls = [self._get(one) for one in checks]
        right, wrong = checks[: codes // 2], [_mistaken(one) for one in checks[codes // 2 :]]
        found: dict[str, Counts] = {"steady load, per accept": self._steady()}
        sender = [self._running.pids["worker 1"]]
        stage.signal_families(sender, signal.SIGSTOP)
        self._on.reset_provider()
        kinds = {
            "accept": map(self._running.post, self._numbers),
            "accept, Idempotency-Key": self._idempotent(),
            "accept, new block": map(self._running.post, self._new_blocks),
        }
        for name, requests in kinds.items():
            found[name] = self._calls(name, requests, 202)
        backlog = len(kinds) * (_WARMING + _TIMES)
        found["poll"] = self._calls("poll", itertools.cycle(polls), 200)
        found["send, per code of a backlog"] = self._drain(sender, backlog)
        found["verify"] = self._calls("verify", iter(right), 200)
        found["verify, wrong code"] = self._calls("verify, wrong code", iter(wrong), 422)
        found["send, a code alone"] = self._alone()
        return found

    def _get(self, check: bytes) -> bytes:
        path = check.split(b" ")[1].decode().removesuffix("/verify")
        return http1.request("GET", path, b"", *self._running.headers)

    def _idempotent(self) -> Iterator[bytes]:
        for number in self._numbers:
            yield with_key(self._running.post(number), number)

    def _calls(self, name: str, requests: Iterator[bytes], status: int) -> Counts:
        """Return the medians of single calls, one after the other."""
        self._call(itertools.islice(requests, _WARMING), status)
        postgres, redis = self._taps["api"]
        time.sleep(_QUIET_S)
        seen: list[Counts] = []
        for one in itertools.islice(requests, _TIMES):
            postgres.take(), redis.take()
            self._call(iter([one]), status)
            time.sleep(_QUIET_S)
            sent_to_postgres, sent_to_redis = postgres.take(), redis.take()
            seen.append(_counts(sent_to_postgres, sent_to_redis))
        self._show(f"{name}, Postgres", sent_to_postgres)
        self._show(f"{name}, Redis", sent_to_redis)
        return {metric: statistics.median(each[metric] for each in seen) for metric in seen[0]}

    def _steady(self) -> Counts:
        """Return what the API says per accept while a sender works beside it."""
        postgres, redis = self._taps["api"]
        postgres.take(), redis.take()
        for request in itertools.islice(map(self._running.post, self._numbers), _STEADY):
            self._call(iter([request]), 202)
            time.sleep(_STEADY_PAUSE_S)
        sent_to_postgres, sent_to_redis = postgres.take(), redis.take()
        stage.sent_all(self._on, self._running)
        return {
            "publishes": sent_to_redis.publishes / _STEADY,
            "PG round trips": sent_to_postgres.round_trips / _STEADY,
        }

    def _drain(self, sender: list[int], backlog: int) -> Counts:
        """Return what a sender says per code while it empties a backlog."""
        postgres, redis = self._taps["worker 1"]
        postgres.take(), redis.take()
        stage.signal_families(sender, signal.SIGCONT)
        stage.until(lambda: self._on.counts()["sent"] >= backlog, self._running.children)
        time.sleep(0.2)
        sent_to_postgres, sent_to_redis = postgres.take(), redis.take()
        self._show("send, per code of a backlog, Postgres", sent_to_postgres)
        return {metric: value / backlog for metric, value in _counts(sent_to_postgres, sent_to_redis).items()}

    def _alone(self) -> Counts:
        """Return what a sender says for a code that comes after a pause: the least of a few."""
        postgres, redis = self._taps["worker 1"]
        seen = []
        for request in itertools.islice(map(self._running.post, self._numbers), _ALONE):
            time.sleep(1.3)
            postgres.take(), redis.take()
            self._call(iter([request]), 202)
            time.sleep(0.3)
            sent_to_postgres, sent_to_redis = postgres.take(), redis.take()
            seen.append(_counts(sent_to_postgres, sent_to_redis))
        self._show("send, a code alone, Postgres", sent_to_postgres)
        self._show("send, a code alone, Redis", sent_to_redis)
        return {metric: min(each[metric] for each in seen) for metric in seen[0]}

    def _call(self, requests: Iterator[bytes], status: int) -> None:
        load = http1.closed(self._running.port, requests, connections=1, expected=status)
        if load.failed:
            raise SystemExit(f"calls were not answered with {status}: {load.failed}")


def _mistaken(check: bytes) -> bytes:
    return check.replace(CODE.encode(), CODE[::-1].encode())


def _counts(postgres: Traffic, redis: Traffic) -> Counts:
    return {
        "PG round trips": postgres.round_trips,
        "PG statements": len(postgres.said),
        "PG transactions": postgres.transactions,
        "Redis round trips": redis.round_trips,
        "Redis commands": len(redis.said),
        "publishes": redis.publishes,
    }
