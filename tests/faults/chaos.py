"""A schedule of faults, derived from a seed, and its execution.

The same seed injects the same faults at the same times. The affected requests differ from run to run.
"""

from __future__ import annotations

import heapq
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import psycopg
from redis.exceptions import RedisError

from tests.faults.cluster import REFUSALS, Cluster
from tests.faults.history import LockedRows

Body = dict[str, Any]

SENDS, CHECKS = "*/pin", "*/verify"
"""Paths at the provider, as patterns of the whole path."""

_LATE: Mapping[str, Body] = {"slow answer": {"latency_ms": 900}, "answer too late": {"latency_ms": 2600}}
_SILENT: Mapping[str, Body] = {
    "cut before": {"drop": "before"},
    "cut after": {"drop": "after"},
    "cut late after": {"drop": "after", "latency_ms": 700},
    "html body": {"form": "html"},
    "empty body": {"form": "empty"},
    "broken body": {"form": "broken"},
    "truncated body": {"form": "truncated"},
    "huge body": {"form": "huge", "size_bytes": 300_000},
    "dripping body": {"form": "slow", "byte_ms": 100},
}
_REFUSING: Mapping[str, Body] = {
    "429": {"status": 429},
    "429 Retry-After": {"status": 429, "headers": {"Retry-After": "1"}},
    "500 old envelope": {"status": 500, "envelope": "old"},
    "500 new envelope": {"status": 500, "envelope": "new"},
    "500 empty": {"status": 500, "envelope": "empty"},
    "502 html": {"status": 502, "envelope": "html"},
    "503 old envelope": {"status": 503, "envelope": "old"},
    "503 html": {"status": 503, "envelope": "html"},
    "504 empty": {"status": 504, "envelope": "empty"},
}
_FINAL: Mapping[str, Body] = {"400": {"status": 400}}
_GATEWAY: Mapping[str, Body] = {
    # From a proxy or gateway: it says nothing about the code.
    "404 html": {"status": 404, "envelope": "html"},
    "404 empty": {"status": 404, "envelope": "empty"},
}

PROVIDER_FAULTS: Mapping[str, Body] = {**_LATE, **_SILENT, **_REFUSING, **_FINAL, **_GATEWAY}
_SEND_FAULTS = tuple(PROVIDER_FAULTS)
# A check refused with 400 would say nothing of the code; it is no fault that Infobip is known to have.
_CHECK_FAULTS = tuple(name for name in PROVIDER_FAULTS if name not in _FINAL)


def provider_faults(draw: random.Random, number: str, *, only: Sequence[str] | None = None) -> list[Body]:
    """Return what goes wrong at the provider with one number: often nothing. `only` names what may."""
    faults = []
    for path, names, share in ((SENDS, _SEND_FAULTS, 0.35), (CHECKS, _CHECK_FAULTS, 0.2)):
        if draw.random() < share:
            fault = PROVIDER_FAULTS[draw.choice(only or names)]
            times = draw.choices((1, 2, 3), (7, 2, 1))[0]
            faults.append({"match": {"to": number.removeprefix("+"), "path": path}, "times": times, **fault})
    return faults


def receipts_rule(draw: random.Random, number: str) -> Body | None:
    """Return how delivery reports for a number misbehave; None if they do not."""
    if draw.random() < 0.4:
        return None
    outcome = draw.choice(
        ("delivered", "delivered", "undelivered", "rejected", "expired", "operator", "none")
    )
    rule: Body = {
        "match": {"to": number.removeprefix("+")},
        "outcome": outcome,
        "delay_ms": draw.randrange(0, 5000),
        "duplicate": draw.choice((0, 0, 1, 3)),
        "reorder": draw.random() < 0.3,
        "before_answer": draw.random() < 0.2,
    }
    if outcome != "none" and draw.random() < 0.3:
        rule |= {"then": draw.choice(("delivered", "undelivered")), "then_delay_ms": draw.randrange(0, 3000)}
    return rule


def fault_name(shown: Body) -> str:
    """Return the name of a fault as the simulator shows it."""
    body = {name: value for name, value in shown.items() if name not in {"id", "used", "match", "times"}}
    return next((name for name, known in PROVIDER_FAULTS.items() if known == body), "slow answer")


KINDS: Mapping[str, int] = {
    "kill-send": 3,
    "kill-periodic": 1,
    "kill-beat": 1,
    "kill-api": 2,
    "terminate-send": 1,
    "terminate-periodic": 1,
    "terminate-beat": 1,
    "terminate-api": 1,
    "pause-send": 2,
    "pause-periodic": 1,
    "pause-beat": 1,
    "pause-api": 1,
    "pause-simulator": 1,
    "terminate-simulator": 1,
    "kill-redis": 1,
    "terminate-redis": 1,
    "flush-redis": 1,
    "kill-postgres": 1,
    "terminate-postgres": 1,
    "drop-wakes": 2,
    "storm": 2,
    "slow": 1,
    "lock-rows": 2,
    "outage-postgres": 1,
    "refuse-redis": 2,
    "flood-requests": 1,
    "orphan-api": 1,
}
"""What can be done, and how many of each stand in a deck."""

_DOWN_S: Mapping[str, tuple[float, float]] = {
    # A pause longer than the lease lets others take over what the paused one believes it holds.
    "pause-send": (1.0, 10.0),
    "pause-api": (0.5, 6.0),
    "pause-simulator": (1.0, 3.5),
    "kill-postgres": (0.0, 2.0),
    "terminate-postgres": (0.0, 7.0),
    "drop-wakes": (1.5, 4.0),
    # Longer than the product waits for a lock (2 s), at times than it waits for a statement (5 s).
    "lock-rows": (3.0, 8.0),
    # Longer than the lease of a send (6 s).
    "outage-postgres": (7.5, 9.5),
    "refuse-redis": (2.0, 6.0),
    # As long as children may take to notice that their main process is gone, and to finish.
    "orphan-api": (8.0, 8.0),
}
_USUAL_DOWN_S = (0.2, 4.0)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that is done. Times in seconds from the start of the run."""

    at: float
    kind: str
    index: int
    """Which of the nodes of the role."""
    down_s: float
    storm: Body = field(default_factory=dict)
    patience: int = 40
    """How often it is postponed until there is a node to disturb, such as a sender with claims."""


def schedule(
    seed: int,
    *,
    duration_s: float,
    count: int,
    kinds: Sequence[str] | None = None,
    broker: bool = False,
    pause_s: tuple[float, float] | None = None,
) -> list[Step]:
    """Return `count` steps spread over a run; each kind comes before any comes again.

    `kinds` restricts them; with a broker of its own there are no wake-ups in Redis to drop. `pause_s` says
    between which lengths of time a sender is paused.
    """
    draw = random.Random(f"{seed}/schedule")
    lengths = {**_DOWN_S, "pause-send": pause_s or _DOWN_S["pause-send"]}
    allowed = [kind for kind in (kinds or KINDS) if not (broker and kind == "drop-wakes")]
    steps: list[Step] = []
    deck: list[str] = []
    for place in range(count):
        if not deck:
            rest = [kind for kind in allowed for _ in range(KINDS[kind] - 1)]
            draw.shuffle(rest)
            once = list(allowed)
            draw.shuffle(once)
            deck = rest + once  # taken from its end
        kind = deck.pop()
        steps.append(
            Step(
                at=(place + draw.random()) / count * duration_s,
                kind=kind,
                index=draw.randrange(100),
                down_s=draw.uniform(*lengths.get(kind, _USUAL_DOWN_S)),
                storm=_storm(draw) if kind == "storm" else {},
            )
        )
    return steps


def _storm(draw: random.Random) -> Body:
    fault = PROVIDER_FAULTS[draw.choice([name for name in _SEND_FAULTS if name != "400"])]
    path = draw.choice((SENDS, SENDS, CHECKS))
    return {"match": {"path": path}, "times": draw.randrange(5, 30), **fault}


_STRIKES_SENDS = frozenset({"kill-send", "pause-send", "outage-postgres", "lock-rows"})
_IN_FLIGHT_S = 0.7
"""How long before one of these faults the provider becomes slow, so that sends are in flight."""

_LOCKED_ROWS = 4
"""How many requests a foreign session locks."""

_PATIENCE_S = 0.3
_HELD = (
    "SELECT worker, count(*) AS held FROM send_attempts WHERE outcome IS NULL "
    "AND claimed_at > now() - interval '5 s' GROUP BY worker"
)


class Conductor:
    """Carries a schedule out, on the main thread: `step` does what is due by now."""

    def __init__(self, cluster: Cluster, steps: Sequence[Step], flood: Callable[[], None]) -> None:
        """`flood` has another client ask for many codes at once; it must return at once."""
        self._cluster, self._flood = cluster, flood
        self.locks: list[LockedRows] = []
        self.emptied: list[float] = []
        """When Redis may have lost what it counted."""
        self.done: Counter[str] = Counter()
        """How often what was done, and struck at the provider."""
        self._began = time.monotonic()
        self._places = 0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._dropping_until = 0.0
        for step in steps:
            if step.kind in _STRIKES_SENDS:
                self._at(step.at, self._slow_down)
                self._at(step.at + _IN_FLIGHT_S, partial(self._do, step))
            else:
                self._at(step.at, partial(self._do, step))

    @property
    def finished(self) -> bool:
        """Whether every step has been done and undone."""
        return not self._due

    def step(self) -> None:
        """Do what is due, and restart processes that ended unasked."""
        self._cluster.restart_ended()
        while self._due and self._due[0][0] <= self._now():
            heapq.heappop(self._due)[2]()
        if self._now() < self._dropping_until:
            self._drop_wakes()

    def count_struck(self) -> None:
        """Add up how often each fault ordered so far has struck, and take them all back."""
        for fault in self._cluster.simulator.faults():
            self.done[f"provider: {fault_name(fault)}"] += fault["used"]
        self._cluster.simulator.clear_faults()

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _at(self, when: float, action: Callable[[], None]) -> None:
        self._places += 1
        heapq.heappush(self._due, (when, self._places, action))

    def _do(self, step: Step) -> None:
        how, _, role = step.kind.partition("-")
        if step.kind == "storm":
            self._order(step.storm)
        elif step.kind == "slow":
            # Others take over what a paused sender holds, and are still at it when that one goes on.
            self._order({"match": {"path": SENDS}, "latency_ms": 1600, "times": 100})
        elif step.kind == "drop-wakes":
            self._dropping_until = self._now() + step.down_s
        elif step.kind == "flush-redis":
            self.emptied.append(time.time())
            with suppress(RedisError):
                self._cluster.redis.flushall()
        elif step.kind == "flood-requests":
            self._flood()
        elif step.kind == "lock-rows":
            self._lock_rows(step)
            return
        else:
            self._disrupt(step, how, role)
            return
        self.done[step.kind] += 1

    def _disrupt(self, step: Step, how: str, role: str) -> None:
        names = [name for name in self._cluster.names(role) if name not in self._down()]
        name = self._choose(step, names, held=role == "send" and how in {"kill", "pause"})
        if name is None:
            self._put_off(step)
            return
        self.done[step.kind] += 1
        if step.kind == "terminate-simulator":
            self.count_struck()  # It keeps what it has sent, but not its faults.
        if role == "redis":
            self.emptied.append(time.time())
        self._at(self._now() + step.down_s, self._strike(step, how, name))

    def _strike(self, step: Step, how: str, name: str) -> Callable[[], None]:
        """Do it, and return what undoes it."""
        cluster = self._cluster
        if how == "refuse":
            refusal = list(REFUSALS)[step.index % len(REFUSALS)]
            with suppress(RedisError):
                cluster.refuse(refusal)
            return partial(self._obey, refusal)
        if how == "orphan":
            cluster.kill_parent(name)

            def restart() -> None:
                cluster.count_children(name)
                cluster.start(name)

            return restart
        strike = {"outage": cluster.terminate}.get(how) or getattr(cluster, how)
        strike(name)
        return partial(cluster.resume if how == "pause" else cluster.start, name)

    def _obey(self, refusal: str) -> None:
        try:
            self._cluster.obey(refusal)
        except RedisError:
            self._at(self._now() + _PATIENCE_S, partial(self._obey, refusal))

    def _put_off(self, step: Step) -> None:
        if step.patience:
            later = replace(step, patience=step.patience - 1)
            self._at(self._now() + _PATIENCE_S, partial(self._do, later))

    def _lock_rows(self, step: Step) -> None:
        try:
            lock = self._cluster.lock_requests(_LOCKED_ROWS)
        except psycopg.OperationalError:
            self._put_off(step)
            return
        if not lock.requests:
            lock.release()
            self._put_off(step)
            return
        self.done[step.kind] += 1

        def release() -> None:
            self.locks.append(LockedRows(began=lock.began, ended=lock.release(), requests=lock.requests))

        self._at(self._now() + step.down_s, release)

    def _choose(self, step: Step, names: Sequence[str], *, held: bool) -> str | None:
        """Return the node to disturb; None if there is none, or only a sender without claims."""
        if not names:
            return None
        name = self._busiest(names) if held else None
        if held and name is None and step.patience:
            self._order({"match": {"path": SENDS}, "latency_ms": 1500, "times": 1})
            return None
        return name or names[step.index % len(names)]

    def _down(self) -> set[str]:
        return {outage.node for outage in self._cluster.outages if outage.ended is None}

    def _busiest(self, names: Sequence[str]) -> str | None:
        """Return the sender with the most claims; None if no sender has claims, or if Postgres is down."""
        try:
            rows = self._cluster.rows(_HELD)
        except psycopg.OperationalError:
            return None
        held = {int(row["worker"].rpartition(":")[2]): row["held"] for row in rows}
        found = max(names, key=lambda name: held.get(self._cluster.pid(name), 0))
        return found if held.get(self._cluster.pid(found)) else None

    def _slow_down(self) -> None:
        self._order({"match": {"path": SENDS}, "latency_ms": 1500, "times": 8})

    def _order(self, fault: Body) -> None:
        """Order a fault; later, if the simulator is away: to wait for it here would be to wait for us."""
        if "simulator" in self._down():
            self._at(self._now() + 1.0, partial(self._order, fault))
        else:
            self._cluster.simulator.fault(**fault)

    def _drop_wakes(self) -> None:
        with suppress(RedisError):
            # The flag says that a wake-up is under way, the list would hold it.
            self._cluster.redis.set("otpqueue:wake:send_codes", "1", px=1000)
            self._cluster.redis.ltrim("send", 1, 0)
