"""The purge deletes only what is past its retention, in batches, beside the traffic."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, select, text

from otpqueue import clock
from otpqueue.domain.request import FINAL, LIVE
from otpqueue.operations.privacy.purge import Purge
from otpqueue.store import refusals
from otpqueue.store.engine import connection
from otpqueue.store.privacy import erasing, purging
from otpqueue.store.privacy.holdings import HOLDINGS
from otpqueue.store.schema import otp_requests
from otpqueue.wiring import Parts
from tests.conftest import NUMBER, Ask, MakeParts
from tests.operations.conftest import AskSent
from tests.operations.looking import Rows, numbers

DAY = timedelta(days=1)
NOTHING = {holding.table.name: 0 for holding in HOLDINGS if holding.age is not None}


@pytest.fixture
def make_purge(parts: Parts) -> Callable[..., Purge]:
    """Return a function that creates a purge with small batches and no pauses, with `differing` changed."""

    def make(**differing: Any) -> Purge:
        given = {"engine": parts.engine, "retention": 30 * DAY, "batch": 10, "pause_s": 0} | differing
        return Purge(**given)

    return make


@pytest.fixture
def old(parts: Parts, client_id: UUID, rows: Rows) -> Callable[..., list[UUID]]:
    """Return a function that stores requests that ended long ago, each with an attempt."""

    def old(count: int, *, ended: datetime, status: str = "expired") -> list[UUID]:
        row = {
            "client_id": client_id,
            "number_sealed": b"",
            "seal_key_id": "k1",
            "channel": "sms",
            "status": status,
            "send_state": "idle",
            "checks_allowed": 5,
            "created_at": ended,
            "updated_at": ended,
            "send_by": ended,
            "finished_at": ended,
        }
        made = [row | {"id": uuid4(), "number_hash": uuid4().bytes} for _ in range(count)]
        with connection(parts.engine) as conn:
            conn.execute(insert(otp_requests), made)
            conn.execute(
                text(
                    "INSERT INTO send_attempts (request_id, number, worker, claimed_at)"
                    " SELECT id, 1, 'w', created_at FROM otp_requests WHERE id = ANY(:ids)"
                ),
                {"ids": [one["id"] for one in made]},
            )
        return [one["id"] for one in made]

    return old


def remaining(rows: Rows) -> set[UUID]:
    """Return the ids of the stored requests."""
    return {row["id"] for row in rows.requests()}


def test_old_requests_go_with_all_that_belongs_to_them(
    parts: Parts, ask_sent: AskSent, rows: Rows, old: Callable[..., list[UUID]]
) -> None:
    """Requests are deleted after the retention, with all dependent rows, and not an hour earlier."""
    now = clock.now()
    gone = old(3, ended=now - 30 * DAY - timedelta(hours=1))
    kept = old(2, ended=now - 30 * DAY + timedelta(hours=1))
    live = ask_sent()

    due = parts.purge.due(now=now)
    deleted = parts.purge(now=now)

    assert due == deleted == NOTHING | {"otp_requests": 3}
    assert remaining(rows) == {*kept, live.id}
    assert {row["request_id"] for row in rows.attempts()} == {*kept, live.id}
    assert not remaining(rows).intersection(gone)
    assert parts.purge(now=now) == parts.purge.due(now=now) == NOTHING


def test_purge_takes_ended_requests_alone(parts: Parts, rows: Rows, old: Callable[..., list[UUID]]) -> None:
    """Every final status is purged, and no live request is, even with a wrong `finished_at`."""
    made = {status: old(1, ended=clock.now() - 900 * DAY, status=status)[0] for status in [*LIVE, *FINAL]}

    assert parts.purge(now=clock.now()) == NOTHING | {"otp_requests": len(FINAL)}

    assert {status for status, one in made.items() if one in remaining(rows)} == set(LIVE)


def test_every_way_to_end_sets_the_time(
    parts: Parts, ask: Ask, ask_sent: AskSent, rows: Rows, client_id: UUID
) -> None:
    """Each way to end a request sets `finished_at`, without which it would never be purged."""
    replaced, cancelled = ask(), ask()
    parts.cancel(cancelled.id, client_id=client_id, now=clock.now())
    ask_sent("+447700900125")
    parts.expire(now=clock.now() + timedelta(hours=1))
    ask("+447700900126")
    parts.sweep(now=clock.now() + timedelta(hours=1))

    ended = {row["id"]: (row["status"], row["finished_at"]) for row in rows.requests()}

    assert replaced.id in ended
    assert sorted(status for status, _ in ended.values()) == ["cancelled"] * 2 + ["expired"] * 2
    assert all(finished_at for _, finished_at in ended.values())
    assert parts.purge(now=clock.now() + 31 * DAY)["otp_requests"] == 4


def test_other_tables_have_times_of_their_own(
    parts: Parts, make_parts: MakeParts, client_id: UUID, rows: Rows
) -> None:
    """Refusals go after a week, or earlier with a shorter retention. Erasures stay for years."""
    now = clock.now()
    with connection(parts.engine) as conn:
        for days in (8, 6, 1):
            refusals.add(
                conn,
                client_id=client_id,
                reason=f"{days}",
                number_hash=None,
                client_ip_hash=None,
                now=now - days * DAY,
            )
        for days in (1095, 1097):
            erasing.record_erasure(conn, client_id=None, counts={}, now=now - days * DAY)

    assert parts.purge(now=now) == NOTHING | {"refusals": 1, "erasures": 1}
    assert [row["reason"] for row in rows.refusals()] == ["6", "1"]
    shorter = make_parts(OTPQUEUE_RETENTION_DAYS="2")
    assert shorter.purge(now=now) == NOTHING | {"refusals": 1}


def test_steps_are_small_and_each_is_kept(
    make_purge: Callable[..., Purge], old: Callable[..., list[UUID]], rows: Rows
) -> None:
    """Each batch is a transaction. A purge that runs out of time ends, and the next one continues."""
    old(25, ended=clock.now() - 31 * DAY)
    in_time = make_purge(budget_s=0)(now=clock.now())
    left = len(rows.requests())
    rest = make_purge()(now=clock.now())

    assert (in_time["otp_requests"], left, rest["otp_requests"]) == (10, 15, 15)
    assert rows.requests() == rows.attempts() == []


def test_stopped_purge(make_purge: Callable[..., Purge], old: Callable[..., list[UUID]], rows: Rows) -> None:
    """A stopped purge ends after the current batch, without its pause."""
    old(25, ended=clock.now() - 31 * DAY)
    purge = make_purge(pause_s=60)
    purge.stop()

    assert purge(now=clock.now()) == {"otp_requests": 10}
    assert len(rows.requests()) == 15


def test_two_at_once(
    make_purge: Callable[..., Purge],
    old: Callable[..., list[UUID]],
    rows: Rows,
    background: ThreadPoolExecutor,
) -> None:
    """Concurrent purges delete each row once, and none fails."""
    old(200, ended=clock.now() - 31 * DAY)

    at_once = [background.submit(make_purge(), now=clock.now()) for _ in range(4)]
    total = sum(done.result().get("otp_requests", 0) for done in at_once)
    rest = make_purge()(now=clock.now())["otp_requests"]

    assert total + rest == 200
    assert rows.requests() == []


def test_other_purge_has_its_turn(
    parts: Parts, make_purge: Callable[..., Purge], old: Callable[..., list[UUID]], rows: Rows
) -> None:
    """While another purge runs, a purge returns at once."""
    old(5, ended=clock.now() - 31 * DAY)

    with parts.engine.connect().execution_options(isolation_level="READ COMMITTED") as conn, conn.begin():
        assert purging.try_lock_purging(conn)
        meanwhile = make_purge()(now=clock.now())
    afterwards = make_purge()(now=clock.now())

    assert (meanwhile["otp_requests"], afterwards["otp_requests"]) == (0, 5)


def test_row_that_is_held_is_passed_over(
    parts: Parts, make_purge: Callable[..., Purge], old: Callable[..., list[UUID]], rows: Rows
) -> None:
    """A locked row is left to the next purge. The others are deleted."""
    held, *_others = old(12, ended=clock.now() - 31 * DAY)

    with parts.engine.connect().execution_options(isolation_level="READ COMMITTED") as conn, conn.begin():
        conn.execute(select(otp_requests.c.id).where(otp_requests.c.id == held).with_for_update())
        deleted = make_purge()(now=clock.now())

    assert deleted["otp_requests"] == 11
    assert remaining(rows) == {held}


def test_traffic_goes_on_beside_a_purge(
    parts: Parts,
    ask: Ask,
    make_purge: Callable[..., Purge],
    old: Callable[..., list[UUID]],
    rows: Rows,
    background: ThreadPoolExecutor,
) -> None:
    """Requests are accepted, sent and erased while the purge deletes hundreds of rows."""
    old(2000, ended=clock.now() - 31 * DAY)
    done = background.submit(make_purge(batch=100), now=clock.now())

    asked = [ask(number).id for number in numbers(40)]
    parts.pump.run()
    parts.erase(NUMBER, country=None, client_id=None, now=clock.now())

    assert done.result()["otp_requests"] == 2000
    sent = {row["id"]: row["status"] for row in rows.requests()}
    assert set(sent) <= set(asked)
    assert set(sent.values()) == {"sent"}


def test_steps_continue_where_the_last_one_ended(
    parts: Parts, make_purge: Callable[..., Purge], old: Callable[..., list[UUID]]
) -> None:
    """No batch reads rows that earlier ones deleted, even while an old transaction keeps them."""
    count, step = 3000, 100
    for day in range(count // step):
        old(step, ended=clock.now() - (31 + day) * DAY)
    with connection(parts.engine) as conn:
        conn.execute(text("ANALYZE otp_requests"))
    before = entries_read(parts)
    engine = parts.engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as reader, reader.begin():
        reader.execute(text("SELECT count(*) FROM otp_requests"))
        deleted = make_purge(batch=step)(now=clock.now())

    assert deleted["otp_requests"] == count
    # Each entry is read once or twice. Reading all deleted ones again would be 45 000.
    assert entries_read(parts) - before < 4 * count


def entries_read(parts: Parts) -> int:
    """Return how many entries of the index on `finished_at` were read so far, by all sessions."""
    with connection(parts.engine) as conn:
        conn.execute(text("SELECT pg_stat_force_next_flush()"))
        found = conn.execute(
            text("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'otp_requests_ended'")
        )
        return int(found.scalar_one())
