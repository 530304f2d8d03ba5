"""The heart of a process: it beats whatever happens, and says what its process hears."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from freezegun import freeze_time
from sqlalchemy import text

from otpqueue import clock
from otpqueue.domain.heartbeats import Heartbeat, ProcessKind
from otpqueue.operations.heartbeat import HeartbeatReporter
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.conftest import MakeParts
from tests.operations.looking import heartbeats, show_life, until


def make(
    parts: Parts, *, in_touch_for_s: float | None = None, clock: Callable[[], datetime] = clock.now
) -> HeartbeatReporter:
    """Return the heart of a worker."""
    return HeartbeatReporter(
        engine=parts.health_engine,
        kind=ProcessKind.WORKER,
        name="host:1",
        version="1.2",
        clock=clock,
        in_touch_for_s=in_touch_for_s,
    )


def only(parts: Parts) -> Heartbeat:
    """Return the one sign of life."""
    (one,) = heartbeats(parts)
    return one


def test_beat_is_written(parts: Parts) -> None:
    """A beat says what the process is; the next one takes its place."""
    heart = make(parts)
    heart.serve(("periodic", "slow"))

    assert heart.beat()
    first = only(parts)
    assert heart.beat()
    second = only(parts)

    assert (first.process, first.kind, first.version) == ("worker|host:1", ProcessKind.WORKER, "1.2")
    assert first.queues == ("periodic", "slow")
    assert first.is_alive
    assert first.is_connected
    assert second.seen_at > first.seen_at
    assert abs(second.started_at - first.started_at) < timedelta(seconds=1)


def test_process_without_its_broker_lives(parts: Parts) -> None:
    """A process that has not heard the broker lately says so, and goes on beating."""
    with freeze_time(clock.now(), ignore=["asyncio"]) as frozen:
        heart = make(parts, in_touch_for_s=10)
        heart.beat()
        before = only(parts)
        heart.touch()
        heart.beat()
        after = only(parts)
        frozen.tick(11)
        heart.beat()
        later = only(parts)

    assert [one.is_connected for one in (before, after, later)] == [False, True, False]
    # Silent only to those who wait for work.
    assert later.idle_s >= 11 > later.age_s
    assert after.idle_s < 11
    assert [one.is_alive for one in (before, after, later)] == [True, True, True]


def test_skew_is_measured(parts: Parts) -> None:
    """From the second beat on it is known how far this host's clock is ahead of Postgres's."""
    heart = make(parts, clock=lambda: clock.now() + timedelta(seconds=7200))

    heart.beat()
    unknown = only(parts).skew_s
    heart.beat()
    known = only(parts).skew_s

    assert unknown is None
    assert known is not None
    assert round(known / 3600) == 2


def test_heart_beats_by_itself_until_it_is_stopped(parts: Parts) -> None:
    """Its thread shows life at once, and again as soon as the broker is heard; the end takes the row away."""
    heart = make(parts, in_touch_for_s=60)

    heart.start()
    until(lambda: heartbeats(parts))
    heart.touch()
    until(lambda: only(parts).is_connected)
    heart.stop()

    assert heartbeats(parts) == []


def test_heart_survives_postgres(make_parts: MakeParts, closed_port: int) -> None:
    """Without Postgres it beats in vain, says so once, and ends as it should."""
    heart = make(make_parts(DATABASE_URL=f"postgresql://app@127.0.0.1:{closed_port}/app"))

    with structlog.testing.capture_logs() as logged:
        beats = [heart.beat(), heart.beat()]
        heart.stop()

    assert beats == [False, False]
    assert [record["event"] for record in logged] == ["heartbeat_failed", "heartbeat_not_taken_away"]
    assert logged[0]["error"] == "database_unavailable"


def test_heart_survives_a_missing_table(parts: Parts) -> None:
    """A database of another version does not kill the process either; when it is migrated all is well."""
    heart = make(parts)

    with connection(parts.engine) as conn:
        conn.execute(text("ALTER TABLE heartbeats RENAME TO away"))
    try:
        without = heart.beat()
    finally:
        with connection(parts.engine) as conn:
            conn.execute(text("ALTER TABLE away RENAME TO heartbeats"))

    assert (without, heart.beat()) == (False, True)


def test_killed_processes_are_forgotten(parts: Parts) -> None:
    """A killed process is shown as silent for an hour; then the first beat of another one forgets it."""
    show_life(parts, "killed:1", "send", ago_s=3500)
    show_life(parts, "killed:2", "send", ago_s=3700)

    make(parts).beat()

    assert [(one.process, one.is_alive) for one in heartbeats(parts)] == [
        ("worker|host:1", True),
        ("worker|killed:1", False),
    ]
