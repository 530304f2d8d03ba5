"""Periodic jobs read only open requests, not the whole table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, text

from otpqueue import clock
from otpqueue.operations.stats.gauges import of_database
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.conftest import Ask, Provider
from tests.operations.looking import numbers

ENDED = 30_000

# The ended requests of a day or two, beside a few open ones.
FILL = text(
    """
    INSERT INTO otp_requests (id, client_id, number_sealed, seal_key_id, number_hash, channel, status, reason,
                              send_state, checks_allowed, created_at, updated_at, send_by, finished_at)
    SELECT gen_random_uuid(), :client_id, '\\x00', 'k1', decode(md5(n::text), 'hex'), 'sms', 'expired',
           'code_lifetime', 'idle', 5, :now, :now, :now, :now
    FROM generate_series(1, :ended) AS n
    """
)


@pytest.fixture
def explained(parts: Parts) -> Iterator[list[tuple[str, str]]]:
    """Yield a list that grows with each executed statement and its plan."""
    seen: list[tuple[str, str]] = []

    def explain(_conn: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "otp_requests" in statement and not statement.startswith("ANALYZE"):
            cursor.execute(f"EXPLAIN {statement}", parameters)
            seen.append((statement, "\n".join(line for (line,) in cursor.fetchall())))

    event.listen(parts.engine, "before_cursor_execute", explain)
    yield seen
    event.remove(parts.engine, "before_cursor_execute", explain)


def test_nothing_periodic_reads_the_whole_table(
    parts: Parts, client_id: UUID, ask: Ask, provider: Provider, explained: list[tuple[str, str]]
) -> None:
    """Claims, sweeps, expiry, purges and scrapes use an index, for any number of ended requests."""
    with connection(parts.engine) as conn:
        conn.execute(FILL, {"client_id": client_id, "now": clock.now(), "ended": ENDED})
        conn.execute(text("ANALYZE otp_requests"))
    for number in numbers(20):
        ask(number)
    explained.clear()

    def scrape(*, now: datetime) -> object:
        return of_database(parts.engine, now=now)

    jobs: list[Callable[..., object]] = [parts.sweep, parts.expire, parts.purge, scrape]
    for job in jobs:
        job(now=clock.now())
    parts.pump.run()

    assert len(explained) > 6
    for statement, plan in explained:
        assert "Seq Scan on otp_requests" not in plan, f"{statement}\n{plan}"
