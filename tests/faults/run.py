"""One run: the cluster, its callers, what goes wrong, and the history of it all."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg

from otpqueue.store.engine import make_engine
from tests.faults import chaos
from tests.faults.callers import Caller, Reach, Script, scripts, warm_up
from tests.faults.cluster import LIMITED, NUMBER_QUOTA, SETTINGS, Cluster
from tests.faults.history import (
    AttemptRow,
    Call,
    Disruption,
    History,
    Policy,
    RequestRow,
    Seen,
    Sent,
)
from tests.store.recounting import miscounted

_TICK_S = 0.02
_LOOK_EVERY_S = 0.5
_CALLERS = 150
"""Callers at the same time, at most; most of them wait."""

_CIRCUIT_EVENT = re.compile(r'"event": "circuit_(opened|probed|closed)".*?"timestamp": "([^"]+)"')
_CIRCUIT_EVENTS_WITHIN_S = 8.0
"""More than the longest pause of the circuit breaker and two calls of the provider that time out."""
_FLOOD = 200
_FLOOD_THREADS = 16
_MISCAPPED = """
    WITH found AS (
        SELECT (a.claimed_at AT TIME ZONE 'UTC')::date AS day, of.scope, of.subject, count(*) AS found
        FROM send_attempts AS a
        JOIN otp_requests AS r ON r.id = a.request_id
        CROSS JOIN LATERAL (
            VALUES ('all', ''), ('client', r.client_id::text), ('country', coalesce(r.country, '001'))
        ) AS of (scope, subject)
        WHERE coalesce(a.outcome, 'open') NOT IN ('refused', 'returned') AND NOT r.is_test
        GROUP BY 1, 2, 3
    ), counts AS (
        SELECT day, scope, subject, sum(taken) AS taken FROM send_counts GROUP BY 1, 2, 3
    )
    SELECT day, scope, subject, coalesce(c.taken, 0)::integer AS counted, coalesce(found.found, 0) AS found
    FROM found FULL JOIN counts AS c USING (day, scope, subject)
    WHERE coalesce(c.taken, 0) <> coalesce(found.found, 0)
"""
"""What the daily caps have counted, and what left or may have left."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run is to be; the same plan orders the same calls and faults."""

    seed: int
    requests: int = 2000
    kills: int = 30
    rate: float = 10.0
    """Requests a second."""
    long: bool = True
    """Whether callers may wait for a cool-down, or for a code to expire."""
    kinds: Sequence[str] | None = None
    """What may go wrong, of `chaos.KINDS`; all unless given."""
    stories: Sequence[str] | None = None
    """What callers do, of `callers.STORIES`; all unless given."""
    provider: Sequence[str] | None = None
    """What may go wrong with single numbers, of `chaos.PROVIDER_FAULTS`; all unless given."""
    pause_s: tuple[float, float] | None = None
    """Between which lengths of time a sender is paused; as in `chaos` unless given."""
    broker_url: str | None = None
    settings: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        """For how long requests come."""
        return self.requests / self.rate

    @property
    def in_force(self) -> dict[str, str | None]:
        """The settings of the cluster. A code lives for a minute, so that a run sees some expire."""
        return {**SETTINGS, **LIMITED, "OTPQUEUE_CODE_LIFETIME_S": "60", **self.settings}


def run(plan: Plan, folder: Path, *, say: Callable[[str], None] = lambda _text: None) -> History:
    """Carry a plan out in `folder`, on the main thread, and return what was seen."""
    with Cluster(folder, broker_url=plan.broker_url, settings=plan.in_force) as cluster:
        say(f"everything is up: {len(cluster.api_urls)} APIs, simulator at {cluster.simulator.url}")
        steps = chaos.schedule(
            plan.seed,
            duration_s=plan.duration_s,
            count=plan.kills,
            kinds=plan.kinds,
            broker=plan.broker_url is not None,
            pause_s=plan.pause_s,
        )
        cast = scripts(
            plan.seed,
            count=plan.requests,
            duration_s=plan.duration_s,
            long=plan.long,
            only=plan.stories,
        )
        calls: list[Call] = []
        reach = Reach(
            api_urls=cluster.api_urls,
            key=cluster.api_key,
            stranger_key=cluster.other_api_key,
            flood_key=cluster.flood_api_key,
            simulator=cluster.simulator,
            send_within_s=float(plan.in_force["OTPQUEUE_SEND_WITHIN_S"] or 0),
            note=calls.append,
            provider=plan.provider,
        )
        first = [warm_up(flood=False), warm_up(flood=True)]
        for script in first:
            Caller(script, reach).be_verified()
        watcher = _Watcher(cluster)
        watcher.start()
        flood = _Flood(reach)
        conductor = chaos.Conductor(cluster, steps, flood.begin)
        _act(cast, reach, conductor, say)
        flood.wait()
        say("all callers are done; waiting until nothing is left to do")
        conductor.count_struck()
        _settle(cluster, float(plan.in_force["OTPQUEUE_SEND_WITHIN_S"] or 0))
        watcher.stop()
        return _gather(plan, cluster, [*first, *cast, *flood.scripts], calls, watcher.seen, conductor)


class _Flood:
    """Another client that asks for many codes at once, each time `begin` is called."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._pool = ThreadPoolExecutor(_FLOOD_THREADS, thread_name_prefix="flood")
        self._acts: list[Future[None]] = []
        self.scripts: list[Script] = []

    def begin(self) -> None:
        """Begin to ask; returns at once."""
        made = len(self.scripts)
        for number in range(made, made + _FLOOD):
            script = Script(number=number, at=0.0, story="leave", seed=f"flood/{number}", flood=True)
            self.scripts.append(script)
            self._acts.append(self._pool.submit(Caller(script, self._reach).run))

    def wait(self) -> None:
        """Wait until all has been asked for."""
        for act in self._acts:
            act.result()
        self._pool.shutdown()


def _act(
    cast: Sequence[Script], reach: Reach, conductor: chaos.Conductor, say: Callable[[str], None]
) -> None:
    began = time.monotonic()

    def act(script: Script) -> None:
        time.sleep(max(0.0, began + script.at - time.monotonic()))
        Caller(script, reach).run()

    with ThreadPoolExecutor(_CALLERS, thread_name_prefix="caller") as pool:
        acts: set[Future[None]] = {pool.submit(act, script) for script in cast}
        said_at = began
        while acts or not conductor.finished:
            conductor.step()
            for done in [one for one in acts if one.done()]:
                done.result()
                acts.remove(done)
            if time.monotonic() > said_at + 15:
                said_at = time.monotonic()
                done_by_now = len(cast) - len(acts)
                say(f"{said_at - began:4.0f} s: {done_by_now} callers done, {conductor.done.total()} faults")
            time.sleep(_TICK_S)


def _settle(cluster: Cluster, send_within_s: float) -> None:
    """Wait until every node works and nothing is under way, or the last deadline has passed."""
    give_up = time.monotonic() + send_within_s + 20
    busy = (
        "SELECT count(*) AS left FROM otp_requests "
        "WHERE send_state <> 'idle' OR check_lease_until IS NOT NULL "
        "OR (finished_at IS NULL AND expires_at < now() - interval '3 s')"
    )
    while time.monotonic() < give_up:
        if cluster.whole() and cluster.rows(busy)[0]["left"] == 0:
            break
        time.sleep(0.2)
    # Reports of delivery still come in, and must move nothing that has ended.
    time.sleep(3)


class _Watcher:
    """Reads every request's state twice a second, and keeps what changed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self.seen: list[Seen] = []

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        last: dict[str, tuple[str, str | None]] = {}
        while not self._over.wait(_LOOK_EVERY_S):
            began = time.time()
            try:
                rows = self._cluster.rows("SELECT id, status, reason FROM otp_requests")
            except psycopg.OperationalError:
                continue  # It is down: that is what this is all about.
            ended = time.time()
            for row in rows:
                state = row["status"], row["reason"]
                if last.get(row["id"]) != state:
                    last[row["id"]] = state
                    self.seen.append(
                        Seen(
                            request=str(row["id"]), began=began, ended=ended, status=state[0], reason=state[1]
                        )
                    )


def _gather(
    plan: Plan,
    cluster: Cluster,
    cast: Sequence[Script],
    calls: Sequence[Call],
    seen: Sequence[Seen],
    conductor: chaos.Conductor,
) -> History:
    ended = time.time()
    by_name = {script.name: script for script in cast}
    requests = tuple(
        _request(row, by_name) for row in cluster.rows("SELECT * FROM otp_requests ORDER BY created_at, id")
    )
    rows = cluster.rows("SELECT * FROM send_attempts ORDER BY request_id, number")
    settings = plan.in_force
    return History(
        calls=tuple(calls),
        seen=tuple(seen),
        sent=tuple(map(_sent, cluster.simulator.messages())),
        requests=requests,
        attempts=tuple(map(_attempt, rows)),
        disruptions=tuple(
            Disruption(
                node=one.node,
                role=one.role,
                how=one.how,
                pid=one.pid,
                began=one.began,
                ended=one.ended if one.ended is not None else ended,
            )
            for one in cluster.outages
        ),
        faults=dict(conductor.done),
        locks=tuple(conductor.locks),
        open_circuit=_read_open_circuit(cluster),
        emptied=tuple(conductor.emptied),
        misbehaved=tuple(cluster.misbehaved),
        miscapped=_miscapped(cluster),
        policy=Policy(
            send_lease_s=float(settings["OTPQUEUE_TUNING_SEND_LEASE_S"] or 0),
            unknown_resends=int(settings.get("OTPQUEUE_UNKNOWN_RESENDS") or 1),
            provider_timeout_s=float(settings["OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S"] or 0),
            expire_every_s=float(settings["OTPQUEUE_TUNING_EXPIRE_EVERY_S"] or 0),
            senders=len(cluster.names("send")),
            number_quota=NUMBER_QUOTA,
        ),
        miscounted=_miscounted(cluster),
        ended=ended,
    )


def _read_open_circuit(cluster: Cluster) -> tuple[tuple[float, float], ...]:
    """Return when the circuit breaker was open, by the logs of the senders.

    Each of its events lasts until the next one. If none follows soon, Redis has lost its state.
    """
    logs = "\n".join(cluster.log(name) for name in cluster.names("send"))
    events = sorted(
        (datetime.fromisoformat(at).timestamp(), event) for event, at in _CIRCUIT_EVENT.findall(logs)
    )
    return tuple(
        (at, following)
        for (at, event), (following, _) in pairwise(events)
        if event != "closed" and following - at <= _CIRCUIT_EVENTS_WITHIN_S
    )


def _miscounted(cluster: Cluster) -> tuple[str, ...]:
    engine = make_engine(cluster.database_url, pool_size=1)
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as conn:
        found = miscounted(conn)
    engine.dispose()
    return tuple(found)


def _miscapped(cluster: Cluster) -> tuple[str, ...]:
    return tuple(
        f"{row['day']} {row['scope']} {row['subject']}: counted {row['counted']}, the rows say {row['found']}"
        for row in cluster.rows(_MISCAPPED)
    )


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None


def _request(row: Mapping[str, Any], by_name: Mapping[str, Script]) -> RequestRow:
    script = by_name[row["client_reference"].partition(".")[0]]
    return RequestRow(
        id=str(row["id"]),
        number=script.phone_number,
        flood=script.flood,
        status=row["status"],
        send_state=row["send_state"],
        created_at=row["created_at"].timestamp(),
        send_by=row["send_by"].timestamp(),
        reason=row["reason"],
        reference=row["client_reference"],
        sends=row["sends"],
        pin_id=row["pin_id"],
        lease_until=_seconds(row["lease_until"]),
        check_lease_until=_seconds(row["check_lease_until"]),
        expires_at=_seconds(row["expires_at"]),
        finished_at=_seconds(row["finished_at"]),
    )


def _attempt(row: Mapping[str, Any]) -> AttemptRow:
    return AttemptRow(
        request=str(row["request_id"]),
        number=row["number"],
        worker=row["worker"],
        claimed_at=row["claimed_at"].timestamp(),
        started_at=_seconds(row["started_at"]),
        finished_at=_seconds(row["finished_at"]),
        outcome=row["outcome"],
        code=row["code"],
        pin_id=row["pin_id"],
        kind=row["kind"],
    )


def _sent(message: Mapping[str, Any]) -> Sent:
    return Sent(
        number=f"+{message['to']}",
        at=datetime.fromisoformat(message["sentAt"]).timestamp(),
        pin=message["pin"],
        pin_id=message["pinId"],
    )
