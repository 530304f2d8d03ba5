"""What an operation reads does not depend on how many requests have ended: pages are counted, not time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from benchmarks.harness.pages import PageCount, counted
from benchmarks.pages import receive_report
from otpqueue import clock
from otpqueue.domain.errors import CodeIncorrect
from otpqueue.domain.request import OtpRequest
from otpqueue.domain.search import SearchFilters
from otpqueue.operations.stats import gauges
from otpqueue.operations.verify import TypedCode
from otpqueue.store import checks, expiring
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.conftest import TEMPLATE, Ask, Engines

ENDED = 20_000
MOST_PAGES = 700
"""Of one statement. A scan of all requests would be some 1 100."""

CHILDREN = ("send_attempts", "checks", "receipts", "moves", "webhook_deliveries", "idempotency_keys")

# Requests that ended over 40 days, ids in the order of their times, each with what belongs to requests.
FILL = (
    """
    INSERT INTO otp_requests (id, client_id, number_sealed, seal_key_id, number_hash, country, channel,
                              status, reason, send_state, checks_allowed, created_at, updated_at, send_by,
                              finished_at)
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
            || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
           :client_id, '\\x00', 'gone', sha256(n::text::bytea), 'GB', 'sms',
           'verified', 'code_correct', 'idle', 5, at, at, at, at
    FROM (SELECT n, CAST(:now AS timestamptz) - (1 - n::float / :ended) * interval '40 days' AS at
          FROM generate_series(1, :ended) AS n) AS moments
    """,
    """
    INSERT INTO send_attempts (request_id, number, worker, claimed_at, started_at, finished_at, outcome,
                               external_message_id, delivery, done_at, latency_ms)
    SELECT id, 1, 'w', created_at, created_at, created_at, 'accepted', id::text, 'delivered', created_at, 100
    FROM otp_requests
    """,
    """
    INSERT INTO checks (request_id, number, client_ip_hash, started_at, finished_at, verdict)
    SELECT id, 1, sha256('a'), created_at, created_at, 'correct' FROM otp_requests
    """,
    """
    INSERT INTO receipts (id, message_id, delivery, status, received_at, request_id, attempt)
    SELECT id, id::text, 'delivered', 'DELIVERED_TO_HANDSET', created_at, id, 1 FROM otp_requests
    """,
    """
    INSERT INTO moves (request_id, at, of, was, became)
    SELECT id, created_at, 'status', was, became FROM otp_requests, (
        VALUES ('queued', 'sent'), ('sent', 'delivered'), ('delivered', 'verified')
    ) AS t (was, became)
    """,
    """
    INSERT INTO webhook_deliveries (request_id, client_id, event, at, state)
    SELECT id, client_id, 'otp_request.verified', created_at, 'delivered' FROM otp_requests
    """,
    """
    INSERT INTO idempotency_keys (client_id, key_hash, fingerprint, request_id, created_at, expires_at)
    SELECT client_id, sha256(id::text::bytea), '', id, created_at, :now FROM otp_requests
    """,
)


def fill(parts: Parts, client_id: UUID, *statements: str) -> None:
    """Fill tables, and have them analysed as autovacuum would."""
    about = {"client_id": client_id, "now": clock.now(), "ended": ENDED}
    with connection(parts.engine) as conn:
        conn.execute(text("SET statement_timeout = '120s'"))
        conn.execute(text("SET session_replication_role = replica"))  # no triggers, no foreign keys
        for statement in (*statements, "ANALYZE"):
            used = {name: value for name, value in about.items() if f":{name}" in statement}
            conn.execute(text(statement), used)
        conn.execute(text("RESET session_replication_role"))
        conn.execute(text("RESET statement_timeout"))


@pytest.fixture
def database_url(engines: Engines) -> Iterator[str]:
    """Yield a database, in which nothing looks for secrets: its rows are many, and made here."""
    name = f"growing_{uuid4().hex}"
    yield engines.postgres.create_database(name, template=TEMPLATE)
    engines.postgres.drop_database(name)


@pytest.fixture
def grown(parts: Parts, client_id: UUID) -> Parts:
    """Return parts with large tables."""
    fill(parts, client_id, *FILL)
    return parts


def check(parts: Parts, request: OtpRequest, code: str) -> None:
    """Check a code, right or wrong."""
    with suppress(CodeIncorrect):
        parts.verify(request.id, TypedCode(code=code), client_id=request.client_id, now=clock.now())


def too_large(found: dict[str, PageCount]) -> list[str]:
    """Return the statements that read too many pages, or one of the large tables as a whole."""
    large = {"otp_requests", *CHILDREN}
    return [
        f"{count.pages / count.executions:.0f} pages, scans of {sorted(count.scanned & large)}: {statement}"
        for statement, count in found.items()
        if count.pages > (10 if count.scanned & large else MOST_PAGES) * count.executions
    ]


def test_operations_read_what_they_are_about(grown: Parts, ask: Ask, client_id: UUID) -> None:
    """From the request for a code to its erasure, with all that runs beside it, and a step of the purge."""
    parts, now = grown, clock.now
    seen: dict[str, list[list[str]]] = {}

    def measure(name: str, work: Callable[[], object]) -> None:
        with counted() as found:
            work()
        assert found, f"{name} has asked Postgres nothing"
        seen.setdefault(name, []).append(too_large(dict(found)))

    # The first execution in each connection also reads the catalogue: what is too large each time counts.
    for number in ("+447700900321", "+447700900322", "+447700900323"):
        sent = ask()
        measure("accept", partial(ask, number, client_ip="203.0.113.9"))
        measure("send", parts.pump.run)
        measure("poll", partial(parts.status, sent.id, client_id=client_id))
        measure("verify", partial(check, parts, sent, "000000"))
        measure("receive a report", partial(receive_report, parts))
        measure("cancel", partial(parts.cancel, sent.id, client_id=client_id, now=now()))
        measure("sweep", partial(parts.sweep, now=now()))
        measure("expire", partial(parts.expire, now=now()))
        measure("evaluate alerts", partial(parts.evaluate_alerts, now=now() + timedelta(minutes=1)))
        measure("read metrics", partial(gauges.of_database, parts.engine, now=now()))
        measure("send webhooks", parts.webhook_pump.run)
        measure("read the history", partial(parts.history, sent.id))
        measure("list", partial(parts.search, SearchFilters(), reader=client_id, cursor=None, limit=50))
        measure("numbers", partial(parts.numbers.status, number, now=now()))
        measure("erase", partial(parts.erase, number, country=None, client_id=None, now=now()))

    assert {name: rounds for name, rounds in seen.items() if all(rounds)} == {}
    check_step_of_a_purge(parts)


def check_step_of_a_purge(grown: Parts) -> None:
    """Check that a step finds old requests by the time they ended, and what belongs to them by their ids."""
    with counted() as found:
        grown.purge(now=clock.now() - timedelta(days=9))

    deletes = [one for statement, one in found.items() if "DELETE FROM otp_requests" in statement]
    assert [one.scanned for one in deletes] == [set()] * len(deletes)
    # Some 1 000 requests and 8 000 rows that belong to them, each found by an index of three levels at most.
    assert 1000 < sum(one.pages for one in deletes) < 100 * 1000


BACKLOGS = {
    expiring.expire_codes: "status = 'sent', expires_at = created_at",
    expiring.expire_unsent: "status = 'queued', send_state = 'due', next_attempt_at = created_at",
    checks.sweep: "status = 'sent', check_lease_until = created_at",
}


def test_statistics_of_a_backlog_that_is_gone(parts: Parts, client_id: UUID) -> None:
    """Statistics that were taken while many requests waited mislead no statement after those ended."""
    waiting = "get_byte(number_hash, 0) < 64"
    ended = (
        "UPDATE otp_requests SET status = 'expired', send_state = 'idle', next_attempt_at = NULL,"
        f" expires_at = NULL, check_lease_until = NULL WHERE {waiting}"
    )
    fill(parts, client_id, FILL[0])
    misled = {}
    for find, backlog in BACKLOGS.items():
        fill(parts, client_id, f"UPDATE otp_requests SET {backlog} WHERE {waiting}")
        with connection(parts.engine) as conn:
            conn.execute(text("SET statement_timeout = '120s'"))
            conn.execute(text("SET session_replication_role = replica"))
            conn.execute(text(ended))
            conn.execute(text("VACUUM (INDEX_CLEANUP on) otp_requests"))
            conn.execute(text("RESET session_replication_role"))
            with counted() as found:
                find(conn, now=clock.now(), limit=20)
        misled[find.__name__] = too_large(dict(found))

    assert misled == {"expire_codes": [], "expire_unsent": [], "sweep": []}
