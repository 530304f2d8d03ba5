"""The heartbeat of a process: it continues through failures, and reports contact with the broker."""

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
    """Return the heartbeat reporter of a worker."""
    return HeartbeatReporter(
        engine=parts.health_engine,
        kind=ProcessKind.WORKER,
        name="host:1",
        version="1.2",
        clock=clock,
        in_touch_for_s=in_touch_for_s,
    )


def only(parts: Parts) -> Heartbeat:
    """Return the only heartbeat."""
    (one,) = heartbeats(parts)
    return one


def test_beat_is_written(parts: Parts) -> None:
    """A heartbeat describes the process. The next one replaces it."""
    reporter = make(parts)
    reporter.serve(("periodic", "slow"))

    assert reporter.beat()
    first = only(parts)
    assert reporter.beat()
    second = only(parts)

    assert (first.process, first.kind, first.version) == ("worker|host:1", ProcessKind.WORKER, "1.2")
    assert first.queues == ("periodic", "slow")
    assert first.is_alive
    assert first.is_connected
    assert second.seen_at > first.seen_at
    assert abs(second.started_at - first.started_at) < timedelta(seconds=1)


def test_process_without_its_broker_lives(parts: Parts) -> None:
    """A process that has lost the broker reports so, and continues its heartbeats."""
    with freeze_time(clock.now(), ignore=["asyncio"]) as frozen:
        reporter = make(parts, in_touch_for_s=10)
        reporter.beat()
        before = only(parts)
        reporter.touch()
        reporter.beat()
        after = only(parts)
        frozen.tick(11)
        reporter.beat()
        later = only(parts)

    assert [one.is_connected for one in (before, after, later)] == [False, True, False]
    # Silent only for those who wait for its work.
    assert later.idle_s >= 11 > later.age_s
    assert after.idle_s < 11
    assert [one.is_alive for one in (before, after, later)] == [True, True, True]


def test_skew_is_measured(parts: Parts) -> None:
    """From the second heartbeat on the skew between this host's clock and Postgres's is known."""
    reporter = make(parts, clock=lambda: clock.now() + timedelta(seconds=7200))

    reporter.beat()
    unknown = only(parts).skew_s
    reporter.beat()
    known = only(parts).skew_s

    assert unknown is None
    assert known is not None
    assert round(known / 3600) == 2


def test_heartbeats_until_stopped(parts: Parts) -> None:
    """The thread writes a heartbeat at once, and again when the broker is heard. `stop` deletes the row."""
    reporter = make(parts, in_touch_for_s=60)

    reporter.start()
    until(lambda: heartbeats(parts))
    reporter.touch()
    until(lambda: only(parts).is_connected)
    reporter.stop()

    assert heartbeats(parts) == []


def test_reporter_survives_postgres(make_parts: MakeParts, closed_port: int) -> None:
    """Without Postgres the heartbeat fails, logs this once, and stops cleanly."""
    reporter = make(make_parts(DATABASE_URL=f"postgresql://app@127.0.0.1:{closed_port}/app"))

    with structlog.testing.capture_logs() as logged:
        beats = [reporter.beat(), reporter.beat()]
        reporter.stop()

    assert beats == [False, False]
    assert [record["event"] for record in logged] == ["heartbeat_failed", "heartbeat_not_taken_away"]
    assert logged[0]["error"] == "database_unavailable"


def test_reporter_survives_a_missing_table(parts: Parts) -> None:
    """A missing table does not end the process, and heartbeats succeed once it is migrated."""
    reporter = make(parts)

    with connection(parts.engine) as conn:
        conn.execute(text("ALTER TABLE heartbeats RENAME TO away"))
    try:
        without = reporter.beat()
    finally:
        with connection(parts.engine) as conn:
            conn.execute(text("ALTER TABLE away RENAME TO heartbeats"))

    assert (without, reporter.beat()) == (False, True)


def test_killed_processes_are_deleted(parts: Parts) -> None:
    """A killed process counts as silent for an hour.

    Then the first heartbeat of another process deletes its row.
    """
    show_life(parts, "killed:1", "send", ago_s=3500)
    show_life(parts, "killed:2", "send", ago_s=3700)

    make(parts).beat()

    assert [(one.process, one.is_alive) for one in heartbeats(parts)] == [
        ("worker|host:1", True),
        ("worker|killed:1", False),
    ]
