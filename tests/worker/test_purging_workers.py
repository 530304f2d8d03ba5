"""Purges by real workers, started by beat."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import Connection, text

from otpqueue import clock
from otpqueue.store.engine import allow_time, connection, transaction
from otpqueue.wiring import Parts
from tests.conftest import Ask
from tests.operations.looking import Rows, numbers, until
from tests.worker.conftest import Start
from tests.worker.test_workers import BEAT, until_served

SLOW = ("worker", "--queues=slow")
OFTEN = {"OTPQUEUE_TUNING_PURGE_EVERY_S": "1"}

MANY = text(
    """
    INSERT INTO otp_requests (id, client_id, number_sealed, seal_key_id, number_hash, channel, status, reason,
                              send_state, checks_allowed, created_at, updated_at, send_by, finished_at)
    SELECT gen_random_uuid(), client_id, number_sealed, seal_key_id, number_hash, 'sms', 'expired',
           'code_lifetime', 'idle', 5, created_at, created_at, created_at, :ended
    FROM otp_requests, generate_series(1, :count)
    """
)


def test_beat_has_old_requests_deleted(start: Start, parts: Parts, ask: Ask, rows: Rows) -> None:
    """With two beats and two workers everything old goes, and what is live stays."""
    for command in (SLOW, SLOW, BEAT, BEAT):
        start(*command, **OFTEN)
    until_served(parts, "slow")
    live = ask(numbers(1)[0])
    with connection(parts.engine) as conn:
        conn.execute(MANY, {"ended": clock.now() - timedelta(days=31), "count": 2000})

    until(lambda: len(rows.requests()) == 1, within_s=60)

    assert [row["id"] for row in rows.requests()] == [live.id]


def test_stopping_worker_leaves_the_rest(
    start: Start, parts: Parts, ask: Ask, rows: Rows, logged: Callable[[], str]
) -> None:
    """A long purge ends after the current batch when the worker stops, with exit code 0."""
    ask(numbers(1)[0])

    def fill(conn: Connection) -> None:
        allow_time(conn, 60)
        conn.execute(MANY, {"ended": clock.now() - timedelta(days=31), "count": 60_000})

    transaction(parts.engine, fill)
    worker = start(*SLOW)
    start(*BEAT, **OFTEN)
    until(lambda: _count(parts) < 60_001, within_s=60)

    os.kill(worker.pid, signal.SIGTERM)
    code = worker.wait(20)

    assert code == 0
    assert 1 < _count(parts) < 60_001
    assert "purge_put_off" in logged()


def _count(parts: Parts) -> int:
    with connection(parts.engine) as conn:
        found: int = conn.execute(text("SELECT count(*) FROM otp_requests")).scalar_one()
        return found
